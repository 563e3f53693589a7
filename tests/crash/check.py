"""What is there, from the server by another client and through the mount, against what was promised."""

import os
import random
import stat
import threading

from content import difference, torn
from model import Directory, File, Special

MOST = 6  # differences that are told
DEFAULT_MODES = {"file": 0o644, "directory": 0o755}  # of what does not say it


class Finding(Exception):
    """Something promised is not so."""


class Found:
    """One name as somebody sees it. mode, mtime_ns: None when not told."""

    def __init__(self, kind, mode=None, mtime_ns=None, read=None, target=None, device=None):
        self.kind, self.mode, self.mtime_ns, self.target, self.device = kind, mode, mtime_ns, target, device
        self.reader, self.bytes = read, None

    def read(self):
        if self.bytes is None:
            self.bytes = self.reader()
        return self.bytes


def special(mode, size, device):
    """Found, or None: it is none of these."""
    kinds = {stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "device"}
    kind = kinds.get(stat.S_IFMT(mode))
    if kind is None:
        return None
    return Found(kind if size == 0 else f"{kind} with bytes", stat.S_IMODE(mode), device=device if kind == "device" else None)


def nanoseconds(text):
    seconds, _, rest = text.partition(".")
    return int(seconds) * 10**9 + int(rest.ljust(9, "0")[:9] or 0)


class Server:
    """The bucket below the mount's prefix, as another client sees it."""

    def __init__(self, s3, bucket, prefix, known):
        self.s3, self.bucket, self.prefix = s3, bucket, prefix
        self.known = known  # {(key, etag): bytes' owner}, so that nothing is fetched twice
        self.objects = {key[len(prefix) + 1:]: (size, etag) for key, size, etag in s3.list(bucket, prefix + "/")}
        self.names = {}
        for key in self.objects:
            parts = key.rstrip("/").split("/")
            for depth in range(1, len(parts) + 1):
                self.names.setdefault("/".join(parts[:depth]), None)

    def head(self, key):
        return self.s3.head(self.bucket, f"{self.prefix}/{key}") or {}

    def look(self, path):
        """Found, or None."""
        if path in self.objects:
            head = self.head(path)
            mode = int(head.get("x-amz-meta-mode", 0))
            mtime = head.get("x-amz-meta-mtime")
            read = lambda: self.s3.get(self.bucket, f"{self.prefix}/{path}")
            if stat.S_ISLNK(mode):
                return Found("symlink", target=read().decode())
            device = tuple(int(number) for number in head.get("x-amz-meta-rdev", "0:0").split(":"))
            found = special(mode, self.objects[path][0], device)
            if found:
                return found
            return Found("file", stat.S_IMODE(mode) if mode else None, nanoseconds(mtime) if mtime else None, read)
        if path not in self.names:
            return None
        mode = int(self.head(path + "/").get("x-amz-meta-mode", 0)) if path + "/" in self.objects else 0
        return Found("directory", stat.S_IMODE(mode) if mode else None)

    def is_ghost(self, _name):
        return False

    def shows_empty(self, name):
        """True when a LIST with a delimiter tells of name/, and one without of no key there."""
        key = f"{self.prefix}/{name}"
        query = {"list-type": "2", "prefix": key, "delimiter": "/"}
        told = f"<Prefix>{key}/</Prefix>".encode() in self.s3.request("GET", self.bucket, query=query)[2]
        return told and not self.s3.list(self.bucket, key + "/")

    def describe(self, key):
        return f"{self.objects[key][0]} bytes, {self.objects[key][1]}"

    def unseen(self, path, node):
        """True when these very bytes were not compared before."""
        return self.known.get((path, self.objects[path][1])) != (node.id, tuple(node.content.parts))

    def seen(self, path, node):
        self.known[path, self.objects[path][1]] = (node.id, tuple(node.content.parts))

    def strays(self, nodes):
        """Keys that no name of `nodes` explains."""
        return sorted(key for key in self.objects if not (
            key.endswith("/") and getattr(nodes.get(key[:-1]), "kind", None) == "directory" or
            key in nodes and nodes[key].kind != "directory"))


class Mounted:
    """The same through the mount."""

    def __init__(self, place, server):
        self.place, self.server = place, server  # the server as it is now, for what only it can know
        self.names = set()
        for base, directories, files in os.walk(place, onerror=self.fail):
            below = os.path.relpath(base, place)
            self.names |= {os.path.normpath(os.path.join(below, name)) for name in directories + files}

    def fail(self, error):
        if isinstance(error, FileNotFoundError) and self.is_ghost(os.path.relpath(error.filename, self.place)):
            return
        raise Finding(f"a directory cannot be read through the mount: {error}")

    def look(self, path):
        whole = os.path.join(self.place, path)
        try:
            status = os.lstat(whole)
        except FileNotFoundError:
            return None
        if stat.S_ISLNK(status.st_mode):
            return Found("symlink", target=os.readlink(whole))
        found = special(status.st_mode, status.st_size, (os.major(status.st_rdev), os.minor(status.st_rdev)))
        if found:
            return found
        kind = "directory" if stat.S_ISDIR(status.st_mode) else "file"
        return Found(kind, stat.S_IMODE(status.st_mode), status.st_mtime_ns, lambda: read_file(whole))

    def unseen(self, _path, _node):
        return True

    def seen(self, path, node):
        pass

    def strays(self, nodes):
        return sorted(name for name in self.names - set(nodes) if not self.is_ghost(name))

    def is_ghost(self, name):
        """MinIO keeps an empty directory of a deleted object when a PUT over it was cut, and shows it as a common prefix."""
        return not os.path.isfile(os.path.join(self.place, name)) and self.server.shows_empty(name)

    def describe(self, name):
        try:
            status = os.lstat(os.path.join(self.place, name))
        except OSError as error:
            return f"listed, but {error.strerror}"
        return f"mode {status.st_mode:o}, {status.st_size} bytes, number {status.st_ino}"


def read_file(path):
    with open(path, "rb", buffering=0) as file:
        return file.read()


def compare(view, path, node):
    """None when `view` shows `node` at `path`; else words. A write in doubt leaves in node.content what is there."""
    try:
        return compare_found(view, path, node)
    except OSError as error:
        return f"expected {node or 'nothing'}, and looking at it ended in {error}"


def compare_found(view, path, node):
    found = view.look(path)
    if found and found.kind == "directory" and not (node and node.kind == found.kind) and view.is_ghost(path):
        found = None
    if node is None or found is None:
        return None if node is found else f"expected {node or 'nothing'}, found {found.kind if found else 'nothing'}"
    if found.kind != node.kind:
        return f"expected {node}, found a {found.kind}"
    if node.kind == "symlink":
        return None if found.target == node.target else f"expected {node}, found {found.target!r}"
    mode = DEFAULT_MODES[node.kind] if found.mode is None else found.mode
    if node.mode is not None and mode != node.mode:
        return f"expected {node}, found mode {mode:o}"
    if isinstance(node, Special):
        return None if found.device == node.device else f"expected {node}, found device {found.device}"
    if node.kind == "directory":
        return None
    if node.mtime_ns is not None and found.mtime_ns != node.mtime_ns:
        return f"expected {node}, found mtime {found.mtime_ns}"
    return compare_content(view, path, node, found)


def compare_content(view, path, node, found):
    if not view.unseen(path, node):
        return None
    if node.before is not None:
        content = torn(found.read(), node.before, node.content, node.id)
        if content is None:
            return (f"a write in doubt left what it cannot leave\n      before   {node.before}\n      "
                    f"{difference(found.read(), node.content, node.id)}")
        node.content, node.before = content, None
        return None
    words = difference(found.read(), node.content, node.id)
    if words is None:
        view.seen(path, node)
    return words


def whole(tree, path):
    return f"{tree.name}/{path}" if path else tree.name


def report(tree, path, node, words):
    lines = [f"{whole(tree, path)}: {words}", "      its last operations:"]
    return "\n".join(lines + ["        " + line for line in tree.told(path, node)])


def outcome_there(tree, doubt, view):
    """(the outcome of a doubt that is there, None) or (None, why it is none of them)."""
    reasons = []
    for outcome in doubt.outcomes:
        words = [(path, compare(view, whole(tree, path), node)) for path, node in sorted(outcome.items())]
        bad = [f"{path}: {reason}" for path, reason in words if reason]
        if not bad:
            return outcome, None
        reasons.append("\n    ".join(bad[:3]))
    if doubt.renames and "both-names" in tree.tolerate:
        outcome = half_renamed(tree, doubt, view)
        if outcome is not None:
            return outcome, None
    return None, f"no outcome of '{doubt.what}' is there:\n    not " + "\n    nor ".join(reasons)


def half_renamed(tree, doubt, view):
    """The mixture that is there: each name as before or as after the rename, and each thing whole under one name at least; or None.

    The other name may hold an older version, which is debris: it goes when all has been looked at.
    """
    there, debris = {}, []
    for path in doubt.paths:
        choices = [outcome[path] and outcome[path].copy() for outcome in doubt.outcomes]
        for node in choices:
            if node and node.kind == "directory":
                node.mode = None  # its marker may not have come along
        matches = [node for node in choices if compare(view, whole(tree, path), node) is None]
        if not matches:
            debris.append(path)
        there[path] = matches[0] if matches else None
    ids = {node.id for node in there.values() if node}
    if not all(doubt.outcomes[0][old].id in ids for old in doubt.renames):
        return None
    tree.debris += debris
    return there


def settle(tree, view):
    """Each doubt becomes the outcome that is there; words for those where none is."""
    wrong = []
    for doubt in tree.doubts:
        outcome, words = outcome_there(tree, doubt, view)
        if words:
            path = sorted(doubt.paths)[0]
            wrong.append(report(tree, path, tree.nodes.get(path), words))
            continue
        for path in doubt.paths:
            tree.nodes.pop(path, None)
        for path, node in outcome.items():
            if node:
                tree.add(path, node)
    if not wrong:
        tree.doubts = []
    return wrong


def check_tree(tree, view):
    wrong = settle(tree, view)
    doubtful = {path for doubt in tree.doubts for path in doubt.paths}
    for path, node in sorted(tree.nodes.items()):
        if path in doubtful:
            continue
        words = compare(view, whole(tree, path), node)
        if words:
            wrong.append(report(tree, path, node, words))
    return wrong


def check_all(trees, view, who):
    """Everything; trees have no doubts afterwards."""
    results = in_parallel(lambda tree: check_tree(tree, view), trees)
    wrong = [words for words in results for words in words]
    if not wrong:
        nodes = {whole(tree, path): node for tree in trees for path, node in tree.nodes.items()}
        for path in view.strays(nodes):
            if path in {whole(tree, name) for tree in trees for name in tree.debris}:
                continue
            if path.startswith(".skyvol-probe-") and "probes" in trees[0].tolerate:
                continue
            tree = next((tree for tree in trees if path.startswith(tree.name + "/")), None)
            words = f"no name explains it: {view.describe(path)}"
            wrong.append(report(tree, path.rstrip("/")[len(tree.name) + 1:], None, words) if tree else f"{path}: {words}")
    complain(wrong, who)
    return sum(len(tree.nodes) for tree in trees)


def complain(wrong, who):
    if wrong:
        more = f"\n... and {len(wrong) - MOST} more" if len(wrong) > MOST else ""
        raise Finding(f"{len(wrong)} wrong {who}:\n" + "\n".join(wrong[:MOST]) + more)


def in_parallel(work, items, threads=6):
    """[work(item)], the first error is raised."""
    results, errors, waiting = [None] * len(items), [], list(enumerate(items))

    def run():
        while waiting and not errors:
            try:
                index, item = waiting.pop()
            except IndexError:
                return
            try:
                results[index] = work(item)
            except Exception as error:  # pylint: disable=broad-except
                errors.append(error)

    pool = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    if errors:
        raise errors[0]
    return results


def check_landed(trees, view, durability, seed, most=40):
    """At the kill: what the server was promised to have at that moment. Returns how many files were compared."""
    wrong, chosen = [], []
    for tree in trees:
        sure = [(path, node) for path, node in tree.nodes.items() if tree.is_free(path)]
        chosen += [(tree, path, node) for path, node in sure if isinstance(node, File) and node.landed]
        if durability != "sync":
            continue
        wrong += [report(tree, path, node, "the directory is not on the server")
                  for path, node in sure if isinstance(node, Directory) and whole(tree, path) not in view.names]
        for key in view.objects:
            path = key[len(tree.name) + 1:].rstrip("/")
            if key.startswith(tree.name + "/") and path and path not in tree.nodes and tree.is_free(path) and \
                    path not in tree.loose and not path.rpartition("/")[2].startswith("."):
                wrong.append(report(tree, path, None, f"the server still has {key}"))
    random.Random(seed).shuffle(chosen)
    results = in_parallel(lambda item: compare(view, whole(item[0], item[1]), item[2]), chosen[:most])
    if durability != "sync" or any("late-attributes" in tree.tolerate for tree in trees):
        results = [None if words and (", found mode " in words or ", found mtime " in words) else words for words in results]
    wrong += [report(tree, path, node, words) for (tree, path, node), words in zip(chosen, results) if words]
    complain(wrong, "on the server at the moment of the kill")
    return min(len(chosen), most)
