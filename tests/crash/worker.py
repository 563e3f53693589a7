"""One thread of the load: system calls in a directory of its own, each written down in its Tree the moment it returned.

A call that returned is a promise. A call that failed because the daemon is gone is a doubt, and the last one of this thread; one
that failed while the server was away is a doubt too, and the thread goes on with other names. Any other error is a finding.
"""

import ctypes
import errno
import http.client
import os
import random
import stat
import threading
import time

from content import Content, difference, pattern
from model import Directory, File, Special, Symlink
from s3 import S3Error

MIB = 1 << 20
GONE = {errno.ENOTCONN, errno.ECONNABORTED, errno.ESHUTDOWN}
AWAY = {errno.EIO, errno.ETIMEDOUT, errno.EINTR, errno.ESTALE}  # what a call may end with while the server is stopped
SIZES = [0, 1, 100, 4095, 4096, 4097, 12288, 32768, 32769, 40000, 65536, 131072, 200000, 600000]
FILES_MAX, DIRECTORIES_MAX, BIG_MAX, HANDLES_MAX = 24, 6, 2, 3
BIG = 16 * MIB
PUNCH_KEEPING_SIZE = 3


def punch_hole(fd, start, length):
    if ctypes.CDLL(None, use_errno=True).fallocate(fd, PUNCH_KEEPING_SIZE, ctypes.c_long(start), ctypes.c_long(length)) < 0:
        raise OSError(ctypes.get_errno(), "fallocate")


class Gone(Exception):
    """The daemon was killed."""


class Refused(Exception):
    """The server was away."""


class Surprise(Exception):
    """An error that nothing explains."""


class Handle:
    def __init__(self, fd, node, append):
        self.fd, self.node, self.append = fd, node, append


class Worker(threading.Thread):
    def __init__(self, number, tree, place, options, seed):
        super().__init__(daemon=True, name=f"worker {number}")
        self.tree, self.root, self.options = tree, os.path.join(place, tree.name), options
        self.random = random.Random(seed)
        self.stop, self.kill_seen = threading.Event(), threading.Event()
        self.is_ghost = lambda path: False  # Server.shows_empty()
        self.faulty = threading.Event()  # the server may be away: errors are allowed
        self.handles, self.calls, self.failure = [], 0, None
        self.started = time.monotonic()

    # ---- The thread. ----

    def run(self):
        try:
            while not self.stop.is_set():
                try:
                    self.step()
                except Refused:
                    pass
        except Gone:
            pass
        except Exception as error:  # pylint: disable=broad-except
            self.failure = error

    def step(self):
        # Ended while it copies an object onto itself, MinIO loses it: its metadata are written in place.
        spared = ("op_chmod", "op_utimens") if self.faulty.is_set() else ()
        names = [name for name in self.OPERATIONS if name not in spared]
        name = self.random.choices(names, [self.OPERATIONS[n] for n in names])[0]
        getattr(self, name)()

    def last_words(self):
        """What led to a failure: the last calls on what the very last one was about."""
        text, marks = self.tree.history[-1]
        about = [line for line, touched in self.tree.history if touched & marks]
        return "\n".join(["what came before it:"] + ["  " + line for line in about[-30:]])

    def close_all(self):
        """At the end of an orderly cycle, by the main thread, after this one has ended."""
        while self.handles:
            self.close(self.handles[-1])

    def forget_handles(self):
        """After a kill: they lead nowhere."""
        for handle in self.handles:
            try:
                os.close(handle.fd)
            except OSError:
                pass
        self.handles = []

    # ---- One system call. ----

    def path(self, name):
        return os.path.join(self.root, name) if name else self.root

    def call(self, text, involved, work, outcomes=None, renames=None):
        """work() is one system call; outcomes: what may be found when it does not return well, None: nothing changes."""
        begun = time.monotonic() - self.started
        try:
            value = work()
        except OSError as error:
            word = errno.errorcode.get(error.errno, error.errno)
            self.tree.note(f"{begun:8.3f} {text} -> {word} after {time.monotonic() - self.started - begun:.3f} s", *involved)
            possible = outcomes() if outcomes else []
            if possible:
                self.tree.doubt(f"{text} -> {word}", possible, renames)
            if error.errno in GONE:
                raise Gone from error
            if error.errno in AWAY and self.faulty.is_set() or self.is_known(error, involved):
                raise Refused from error
            raise Surprise(f"{text}: {error}") from error
        self.calls += 1
        took = time.monotonic() - self.started - begun
        self.tree.note(f"{begun:8.3f} {text} -> {value if isinstance(value, int) else 'ok'}" +
                       (f" after {took:.3f} s" if took > 0.1 else ""), *involved)
        return value

    def is_known(self, error, involved):
        if error.errno not in (errno.EISDIR, errno.EEXIST, errno.ENOTDIR, errno.ENOTEMPTY):
            return False
        try:
            return any(isinstance(item, str) and self.is_ghost(f"{self.tree.name}/{item}") for item in involved)
        except (OSError, http.client.HTTPException, S3Error):
            return self.faulty.is_set()  # the server was stopped just now: nobody can tell

    # ---- Names. ----

    def make_root(self):
        root = Directory(0o755)
        self.call("mkdir .", [], lambda: os.mkdir(self.root, 0o755))
        self.tree.add("", root)

    def directories(self):
        return [path for path in self.tree.pick("directory")]

    def new_name(self, directory=None):
        """One that is not in use, in a directory that is."""
        if directory is None:
            directory = self.random.choice(self.directories())
        while True:
            name = f"{self.random.choice('abcdef')}{self.random.randrange(12)}"
            path = f"{directory}/{name}" if directory else name
            if path not in self.tree.nodes and self.tree.is_free(path):
                return path

    def some_file(self, big=False):
        """A free path of a file, or None."""
        found = [path for path in self.tree.pick("file") if (self.tree.nodes[path].content.size >= BIG) == big]
        return self.random.choice(found) if found else None

    def unland(self, node):
        if node.kind == "file":
            if not node.landed and node.path is not None:
                self.tree.loose.add(node.path)
            node.landed = False

    def is_open(self, node):
        return any(handle.node is node for handle in self.handles)

    def rename(self, old, new):
        node, there = self.tree.nodes[old], self.tree.nodes.get(new)
        moved = {old: node} | {path: self.tree.nodes[path] for path in self.tree.below(old)}
        stays = moved | {new + path[len(old):]: None for path in moved} | ({new: there} if there else {})
        goes = {path: None for path in moved} | {new + path[len(old):]: item for path, item in moved.items()}
        self.call(f"rename {old} -> {new}", [node, there, old, new, *moved, *moved.values()],
                  lambda: os.rename(self.path(old), self.path(new)), lambda: [stays, goes],
                  {path: new + path[len(old):] for path in moved})
        for path, item in moved.items():
            if item.kind == "file" and (not item.landed or self.is_open(item)):
                self.tree.loose.add(path)
            if item.kind == "file" and self.options.durability != "sync":
                item.landed = False
        if there is not None and self.is_open(there):
            self.tree.loose.add(new)
        self.tree.loose.discard(new)
        self.tree.loose |= {new + path[len(old):] for path in self.tree.loose if path.startswith(old + "/")}
        self.tree.move(old, new)

    def unlink(self, path):
        node = self.tree.nodes[path]
        self.call(f"unlink {path}{' (open)' if self.is_open(node) else ''}, {node.kind} {node.id}", [node, path],
                  lambda: os.unlink(self.path(path)), lambda: [{path: node}, {path: None}])
        if node.kind == "file" and (self.is_open(node) or not node.landed):
            self.tree.loose.add(path)
        self.tree.drop(path)

    def mkdir(self, path):
        node = Directory(0o755)
        self.call(f"mkdir {path}", [node, path], lambda: os.mkdir(self.path(path), 0o755),
                  lambda: [{path: None}, {path: node}])
        self.tree.add(path, node)

    def rmdir(self, path):
        node = self.tree.nodes[path]
        self.call(f"rmdir {path}", [node, path], lambda: os.rmdir(self.path(path)), lambda: [{path: node}, {path: None}])
        self.tree.drop(path)

    def symlink(self, path, target):
        node = Symlink(target)
        self.call(f"symlink {path} = {target}", [node, path], lambda: os.symlink(target, self.path(path)),
                  lambda: [{path: None}, {path: node}])
        self.tree.add(path, node)

    def mknod(self, path, kind, mode):
        node = Special(kind, mode, (self.random.randrange(1, 4096), self.random.randrange(1 << 20)) if kind == "device" else None)
        kinds = {"fifo": stat.S_IFIFO, "socket": stat.S_IFSOCK, "device": stat.S_IFCHR}
        self.call(f"mknod {path} = {node}", [node, path],
                  lambda: os.mknod(self.path(path), kinds[kind] | mode, os.makedev(*node.device) if node.device else 0),
                  lambda: [{path: None}, {path: node}])
        self.tree.add(path, node)

    def changed_to(self, node, change):
        """A copy of node with the change made; outcomes of a call that has one."""
        after = node.copy()
        change(after)
        return lambda: [{node.path: node}, {node.path: after}] if node.path is not None else []

    def chmod(self, path, mode):
        node = self.tree.nodes[path]
        outcomes = self.changed_to(node, lambda after: setattr(after, "mode", mode))
        self.call(f"chmod {mode:o} {path}", [node, path], lambda: os.chmod(self.path(path), mode), outcomes)
        node.mode = mode

    def utimens(self, path, mtime_ns):
        node = self.tree.nodes[path]
        outcomes = self.changed_to(node, lambda after: setattr(after, "mtime_ns", mtime_ns))
        self.call(f"utimens {mtime_ns} {path}", [node, path],
                  lambda: os.utime(self.path(path), ns=(mtime_ns, mtime_ns)), outcomes)
        node.mtime_ns = mtime_ns

    # ---- Contents. ----

    def create(self, path, flags=0, mode=0o644):
        node = File(mode)
        fd = self.call(f"create {path} mode {mode:o}{' excl' if flags & os.O_EXCL else ''}", [node, path],
                       lambda: os.open(self.path(path), os.O_CREAT | os.O_RDWR | flags, mode),
                       lambda: [{path: None}, {path: node}])
        self.tree.add(path, node)
        handle = Handle(fd, node, bool(flags & os.O_APPEND))
        self.handles.append(handle)
        return handle

    def open(self, path, flags):
        node = self.tree.nodes[path]
        outcomes = self.changed_to(node, empty) if flags & os.O_TRUNC else None
        words = "".join(f" {name}" for name in ("O_TRUNC", "O_APPEND") if flags & getattr(os, name))
        fd = self.call(f"open {path}{words}", [node, path], lambda: os.open(self.path(path), flags), outcomes)
        if flags & os.O_TRUNC:
            self.unland(node)
            empty(node)
        handle = Handle(fd, node, bool(flags & os.O_APPEND))
        self.handles.append(handle)
        return handle

    def write(self, handle, start, length):
        """All of it, in as many calls as it takes; each that returned is a promise."""
        node = handle.node
        if handle.append:
            start = node.content.size
        node.version += 1
        version, end = node.version, start + length
        data = pattern(node.id, version, start, end)
        while start < end:
            after = node.copy()
            after.content.write(start, end, version)
            after.before, after.mtime_ns = node.content.copy(), None
            outcomes = (lambda: [{node.path: after}]) if node.path is not None else None
            piece = data[len(data) - (end - start):]
            at = start
            done = self.call(f"write version {version} of file {node.id} at [{start}, {end})", [node],
                             (lambda: os.write(handle.fd, piece)) if handle.append else
                             (lambda: os.pwrite(handle.fd, piece, at)), outcomes)
            self.unland(node)
            node.content.write(start, start + done, version)
            node.mtime_ns = None
            start += done

    def punch(self, handle, start, length):
        node = handle.node
        end = min(start + length, node.content.size)
        if start >= end:
            return
        after = node.copy()
        after.content.write(start, end, 0)
        after.before, after.mtime_ns = node.content.copy(), None
        self.call(f"punch file {node.id} at [{start}, {end})", [node], lambda: punch_hole(handle.fd, start, end - start),
                  (lambda: [{node.path: after}]) if node.path is not None else None)
        self.unland(node)
        node.content.write(start, end, 0)
        node.mtime_ns = None

    def truncate(self, node, size, fd=None):
        def cut(file):
            file.content.cut(size)
            file.mtime_ns = None
        path = node.path
        self.call(f"{'ftruncate' if fd is not None else 'truncate'} file {node.id} to {size}", [node],
                  lambda: os.truncate(fd if fd is not None else self.path(path), size), self.changed_to(node, cut))
        self.unland(node)
        cut(node)

    def fsync(self, handle):
        self.call(f"fsync file {handle.node.id}", [handle.node], lambda: os.fsync(handle.fd))
        if handle.node.path is not None and self.tree.is_free(handle.node.path):
            handle.node.landed = True

    def close(self, handle):
        node = handle.node
        self.handles.remove(handle)
        self.call(f"close file {node.id}", [node], lambda: os.close(handle.fd))
        if self.options.durability == "sync" and node.path is not None and self.tree.is_free(node.path):
            node.landed = True

    def check_read(self, handle):
        """What is read now is what was written: no doubt stands against an open file of ours."""
        node = handle.node
        size = node.content.size
        start = self.random.randrange(size + 1)
        length = min(size - start, self.random.choice([100, 4096, 70000, MIB]))
        found = b""
        while len(found) < length:  # a read may be short, also when the daemon dies in the middle
            at, rest = start + len(found), length - len(found)
            piece = self.call(f"read file {node.id} at [{at}, {at + rest})", [node], lambda: os.pread(handle.fd, rest, at))
            found += piece
            if not piece:
                break
        if found != node.content.bytes(node.id, start, start + length):
            whole = os.pread(handle.fd, size + 1, 0)
            raise Surprise(f"read file {node.id} at [{start}, {start + length}) of {node.path}: " +
                           (difference(whole, node.content, node.id) or "wrong once, right when read again"))

    # ---- Operations: what users do. ----

    def size(self):
        return self.random.choice(SIZES) if self.random.random() < 0.7 else self.random.randrange(150000)

    def mode(self):
        return self.random.choice([0o644, 0o600, 0o640, 0o755])

    def fill(self, handle, length, start=0):
        """In several writes."""
        while length > 0:
            piece = min(length, self.random.choice([1000, 4096, 65536, 131072, MIB, 3 * MIB]))
            self.write(handle, start, piece)
            start, length = start + piece, length - piece

    def make_room(self):
        while len(self.tree.pick("file")) >= FILES_MAX:
            self.unlink(self.some_file() or self.some_file(big=True))

    def op_create(self):
        self.make_room()
        path = self.new_name()
        handle = self.create(path, self.random.choice([0, os.O_EXCL, os.O_APPEND]), self.mode())
        self.fill(handle, self.size())
        self.end(handle)

    def end(self, handle):
        """Close, sometimes after an fsync; or keep it open."""
        if self.random.random() < 0.2:
            self.fsync(handle)
        if self.random.random() < 0.15 and len(self.handles) < HANDLES_MAX:
            return
        self.close(handle)

    def op_overwrite(self):
        path = self.some_file()
        if path:
            handle = self.open(path, os.O_RDWR | os.O_TRUNC)
            self.fill(handle, self.size())
            self.end(handle)

    def op_patch(self):
        path = self.some_file(big=self.random.random() < 0.1)
        if path:
            handle = self.open(path, os.O_RDWR)
            for _ in range(self.random.randrange(1, 4)):
                start = self.random.randrange(handle.node.content.size + 5000)
                if self.random.random() < 0.25:
                    self.punch(handle, start, self.random.choice([1, 4096, 70000, BIG]))
                self.write(handle, start, self.random.choice([1, 100, 4096, 10000, 70000]))
            self.end(handle)

    def op_append(self):
        path = self.some_file(big=self.random.random() < 0.1)
        if path:
            handle = self.open(path, os.O_RDWR | os.O_APPEND)
            for _ in range(self.random.randrange(1, 6)):
                self.write(handle, 0, self.random.choice([10, 300, 4096, 50000]))
            self.end(handle)

    def op_truncate(self):
        path = self.some_file(big=self.random.random() < 0.1)
        if path:
            node = self.tree.nodes[path]
            landed = node.landed and not self.is_open(node)
            self.truncate(node, self.random.choice([0, node.content.size // 2, node.content.size + self.size()]))
            node.landed = landed and self.options.durability == "sync" and "late-attributes" not in self.tree.tolerate

    def op_rename(self):
        kinds = self.random.choice([["file"], ["file"], ["file"], ["symlink"], Special.KINDS])
        paths = self.tree.pick(*kinds)
        if not paths:
            return
        old = self.random.choice(paths)
        others = [path for path in self.tree.pick("file", "symlink", *Special.KINDS) if path != old]
        over = others and self.random.random() < 0.4
        new = self.random.choice(others) if over else self.new_name()
        self.spare(new)
        self.rename(old, new)

    def spare(self, path):
        """A rename that is killed loses what its target had unsent, as long as that is a known fault: it is sent before."""
        if "both-names" in self.tree.tolerate and path in self.tree.nodes and self.tree.nodes[path].kind == "file":
            handle = self.open(path, os.O_RDONLY)
            self.fsync(handle)
            self.close(handle)

    def op_rename_directory(self):
        paths = [path for path in self.directories() if path]
        if not paths:
            return
        old = self.random.choice(paths)
        targets = [path for path in self.directories() if path != old and not path.startswith(old + "/")]
        self.rename(old, self.new_name(self.random.choice(targets)))

    def op_unlink(self):
        paths = self.tree.pick("file", "symlink", *Special.KINDS)
        if len(paths) > 4:
            self.unlink(self.random.choice(paths))

    def op_mkdir(self):
        if len(self.directories()) < DIRECTORIES_MAX:
            self.mkdir(self.new_name())

    def op_rmdir(self):
        paths = [path for path in self.directories() if path and not self.tree.below(path)]
        if paths:
            self.rmdir(self.random.choice(paths))

    def op_symlink(self):
        if len(self.tree.pick("symlink")) < 4:
            self.symlink(self.new_name(), self.random.choice(["a1", "../x", "nowhere/" + "n" * 200]))

    def op_mknod(self):
        if len(self.tree.pick(*Special.KINDS)) < 4:
            self.mknod(self.new_name(), self.random.choice(Special.KINDS), self.mode())

    def op_chmod(self):
        paths = self.tree.pick("file", *Special.KINDS) + [path for path in self.directories() if path]
        if paths:
            path = self.random.choice(paths)
            self.chmod(path, self.random.choice([0o700, 0o750, 0o755]) if self.tree.nodes[path].kind == "directory"
                       else self.mode())

    def op_utimens(self):
        path = self.some_file(big=self.random.random() < 0.1)
        if path:
            self.utimens(path, self.random.randrange(10**9, 2 * 10**9) * 10**9 + self.random.randrange(10**9))

    def op_replace(self):
        """As editors and checkpoints do: a new file beside it, fsync, rename over it."""
        path = self.some_file()
        if path:
            self.make_room()
            new = self.new_name(path.rpartition("/")[0])
            handle = self.create(new, os.O_EXCL, self.mode())
            self.fill(handle, self.size())
            self.fsync(handle)
            if self.random.random() < 0.8:
                self.close(handle)
            if path in self.tree.nodes and path != new:  # making room may have taken it
                self.spare(path)
                self.rename(new, path)
            if handle in self.handles:
                self.close(handle)

    def op_held(self):
        """Something with a file that stays open."""
        handles = [handle for handle in self.handles if handle.node.path is None or self.tree.is_free(handle.node.path)]
        if not handles:
            return
        handle = self.random.choice(handles)
        size, dice = handle.node.content.size, self.random.random()
        if dice < 0.4:
            self.write(handle, self.random.randrange(size + 1), self.size() or 1)
        elif dice < 0.5 and not handle.append:
            self.truncate(handle.node, self.random.randrange(size + 1), handle.fd)
        elif dice < 0.55:
            self.punch(handle, self.random.randrange(size + 1), self.size())
        elif dice < 0.6:
            self.fsync(handle)
        elif dice < 0.7:
            self.check_read(handle)
        else:
            self.close(handle)

    def op_big(self):
        """Twenty to forty MiB: several parts."""
        path = self.some_file(big=True)
        if path and len([p for p in self.tree.pick("file") if self.tree.nodes[p].content.size >= BIG]) >= BIG_MAX:
            self.unlink(path)
        self.make_room()
        handle = self.create(self.new_name())
        start, end = 0, self.random.randrange(20 * MIB, 40 * MIB)
        while start < end and not self.stop.is_set():
            piece = min(end - start, self.random.choice([131072, MIB, 4 * MIB]))
            self.write(handle, start, piece)
            start += piece
            if self.random.random() < 0.03:
                self.write(handle, self.random.randrange(start), 5000)
        self.end(handle)

    def op_read(self):
        path = self.some_file(big=self.random.random() < 0.1)
        if path:
            handle = self.open(path, os.O_RDONLY)
            try:
                self.check_read(handle)
            finally:
                self.handles.remove(handle)
                os.close(handle.fd)

    OPERATIONS = {"op_create": 14, "op_overwrite": 8, "op_patch": 10, "op_append": 10, "op_truncate": 5, "op_rename": 10,
                  "op_rename_directory": 2, "op_unlink": 5, "op_mkdir": 3, "op_rmdir": 1, "op_symlink": 2, "op_mknod": 2, "op_chmod": 4,
                  "op_utimens": 4, "op_replace": 6, "op_held": 12, "op_big": 1, "op_read": 6}


def empty(file):
    file.content, file.mtime_ns = Content(), None
