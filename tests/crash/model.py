"""What was promised: the tree of one worker after every operation that was acknowledged, and what is in doubt.

A doubt is an operation that was on its way when the daemon was killed, or that ended in an error while the server was away: it
may have happened or not. Its names are left alone until the next check, which settles it by what is found.
"""

import collections
import itertools

from content import Content

ids = itertools.count(1)
HISTORY = 3000  # operations of one worker that are remembered


class Node:
    def __init__(self, mode):
        self.id, self.mode, self.mtime_ns = next(ids), mode, None  # mtime_ns: set by hand, and nothing written since
        self.path = None  # below the worker's directory; None: unlinked

    def copy(self):
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        return other


class Directory(Node):
    kind = "directory"

    def __str__(self):
        return f"directory {self.id}" + ("" if self.mode is None else f", mode {self.mode:o}")


class Symlink(Node):
    kind = "symlink"

    def __init__(self, target):
        super().__init__(0o777)
        self.target = target

    def __str__(self):
        return f"symlink {self.id} to {self.target}"


class Special(Node):
    KINDS = ["fifo", "socket", "device"]

    def __init__(self, kind, mode, device):
        super().__init__(mode)
        self.kind, self.device = kind, device  # (major, minor) of a device, else None

    def __str__(self):
        return f"{self.kind} {self.id}, mode {self.mode:o}" + (f", device {self.device}" if self.device else "")


class File(Node):
    kind = "file"

    def __init__(self, mode):
        super().__init__(mode)
        self.content, self.version = Content(), 0
        self.landed = False  # the server is promised to have all of it, under this name, at this moment
        self.before = None   # of a write in doubt: the Content without it

    def copy(self):
        other = super().copy()
        other.content = self.content.copy()
        return other

    def __str__(self):
        return f"file {self.id}, mode {self.mode:o}, mtime {self.mtime_ns or 'any'}, {self.content}"


class Doubt:
    """outcomes: [{path: Node or None}], the same paths in each: one of them is found afterwards."""

    def __init__(self, what, outcomes):
        self.what, self.outcomes = what, outcomes
        self.paths = set(outcomes[0])
        self.renames = {}  # {old path: new path}, of a rename

    def touches(self, path):
        return any(path == mine or path.startswith(mine + "/") or mine.startswith(path + "/") for mine in self.paths)


class Tree:
    """Paths are below the worker's own directory; "" is that directory."""

    def __init__(self, name):
        self.name = name
        self.nodes = {}
        self.doubts = []
        self.loose = set()  # names that the server may still hold at a kill: their file was open or unsent when they went
        self.history = collections.deque(maxlen=HISTORY)
        self.tolerate = []  # known faults, by name (crash.py)
        self.debris = []    # names that such a fault left behind, taken away at the end of the cycle

    def note(self, text, *involved):
        """involved: nodes and paths."""
        marks = {item if isinstance(item, str) else item.id for item in involved if item is not None}
        marks |= {item.path for item in involved if isinstance(item, Node) and item.path is not None}
        self.history.append((text, marks))

    def told(self, path, node=None, most=30):
        marks = {path} | {above for above in parents(path)} | ({node.id} if node else set())
        lines = [text for text, touched in self.history if touched & marks]
        return lines[-most:]

    def add(self, path, node):
        node.path = path
        self.nodes[path] = node

    def below(self, path):
        return [name for name in self.nodes if name.startswith(path + "/")]

    def drop(self, path):
        node = self.nodes.pop(path)
        node.path = None
        return node

    def move(self, old, new):
        replaced = self.drop(new) if new in self.nodes else None
        for name in [old] + self.below(old):
            node = self.nodes.pop(name)
            self.add(new + name[len(old):], node)
        return replaced

    def is_free(self, path):
        return not any(doubt.touches(path) for doubt in self.doubts)

    def pick(self, *kinds):
        return [path for path, node in self.nodes.items() if node.kind in kinds and self.is_free(path)]

    def doubt(self, what, outcomes, renames=None):
        copies = [{path: node.copy() if node else None for path, node in outcome.items()} for outcome in outcomes]
        self.doubts.append(Doubt(what, copies))
        self.doubts[-1].renames = renames or {}


def parents(path):
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
