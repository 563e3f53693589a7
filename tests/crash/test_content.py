"""What the crash test judges with: that it sees a wrong byte, names it, and takes of a torn write what may be and nothing else."""

import random
import unittest

from check import compare
from content import PAGE, Content, difference, pattern, runs_of, torn
from model import File, Tree

FILE = 7


def written(*parts):
    content = Content()
    for start, end, version in parts:
        content.write(start, end, version)
    return content


class TestContent(unittest.TestCase):
    def test_every_sixteen_bytes_name_their_write(self):
        self.assertEqual(runs_of(pattern(FILE, 3, 0, 10000), FILE), [(0, 10000, 3)])
        self.assertEqual(runs_of(pattern(FILE, 3, 4096, 8192), FILE), [(0, 4096, "version 3 of this file, moved by -4096")])
        self.assertEqual(runs_of(pattern(8, 3, 0, 64), FILE), [(0, 64, "version 3 of file 8")])
        self.assertEqual(runs_of(bytes(64), FILE), [(0, 64, 0)])

    def test_it_is_what_a_plain_file_holds(self):
        choose = random.Random(1)
        for _ in range(200):
            content, plain = Content(), bytearray()
            for version in range(1, 12):
                start, length = choose.randrange(20000), choose.randrange(1, 9000)
                if choose.random() < 0.3:
                    content.cut(start)
                    plain = plain[:start] + bytes(max(0, start - len(plain)))
                else:
                    content.write(start, start + length, version)
                    plain += bytes(max(0, start + length - len(plain)))
                    plain[start:start + length] = pattern(FILE, version, start, start + length)
            self.assertEqual(content.bytes(FILE), plain)
            self.assertEqual(content.size, len(plain))

    def test_one_wrong_byte_is_seen(self):
        content = written((0, 30000, 1), (5000, 6000, 2))
        good = content.bytes(FILE)
        self.assertIsNone(difference(good, content, FILE))
        choose = random.Random(2)
        for at in [0, 4999, 5000, 29999] + [choose.randrange(30000) for _ in range(50)]:
            bad = bytearray(good)
            bad[at] ^= 1
            self.assertIn(f"offset {at}\n", difference(bytes(bad), content, FILE))
        self.assertIn("offset 29999\n", difference(good[:-1], content, FILE))
        self.assertIn("zeros", difference(bytes(30000), content, FILE))
        self.assertIn("version 1", difference(pattern(FILE, 1, 0, 30000), content, FILE))


class TestTorn(unittest.TestCase):
    def setUp(self):
        self.before = written((0, 3 * PAGE, 1))
        self.after = written((0, 3 * PAGE, 1), (100, 5 * PAGE + 7, 2))
        self.old, self.new = self.before.bytes(FILE), self.after.bytes(FILE)

    def settled(self, found):
        content = torn(found, self.before, self.after, FILE)
        if content is not None:
            self.assertEqual(content.bytes(FILE), found)
        return content is not None

    def test_old_new_and_each_page_of_either_are_taken(self):
        for found in (self.old, self.new, self.new[:PAGE] + self.old[PAGE:], self.old[:PAGE] + self.new[PAGE:3 * PAGE]):
            self.assertTrue(self.settled(found))

    def test_a_request_that_ended_at_a_page_is_taken(self):
        self.assertTrue(self.settled(self.new[:4 * PAGE]))
        self.assertTrue(self.settled(self.old[:PAGE] + self.new[PAGE:4 * PAGE]))

    def test_nothing_else_is(self):
        for found in (self.old[:-1], self.new[:-1], self.new[:4 * PAGE + 1], bytes(len(self.new)), self.new + b"x",
                      self.old + bytes(PAGE), self.old + bytes(2 * PAGE + 7), self.new[:PAGE + 50] + self.old[PAGE + 50:]):
            self.assertFalse(self.settled(found))


class View:
    """A server with one file."""

    def __init__(self, found):
        self.found = found

    def look(self, _path):
        return self.found

    def is_ghost(self, _path):
        return False

    def unseen(self, _path, _node):
        return True

    def seen(self, path, node):
        pass


class TestDoubt(unittest.TestCase):
    def test_a_rename_leaves_one_name_or_the_other(self):
        from check import Found, settle
        tree, node = Tree("w"), File(0o644)
        node.content = written((0, 10, 1))
        data = node.content.bytes(node.id)
        for there, fine in (({"a"}, True), ({"b"}, True), (set(), False), ({"a", "b"}, False)):
            tree.nodes, tree.doubts = {}, []
            tree.add("a", node)
            tree.doubt("rename a -> b", [{"a": node, "b": None}, {"a": None, "b": node}])
            view = View(None)
            view.look = lambda path, there=there: Found("file", 0o644, None, lambda: data) if path[2:] in there else None
            self.assertEqual(not settle(tree, view), fine, there)
            if fine:
                self.assertEqual(set(tree.nodes), there)

    def test_mode_and_explicit_mtime_count(self):
        from check import Found
        node = File(0o600)
        node.mtime_ns = 5
        self.assertIsNone(compare(View(Found("file", 0o600, 5, lambda: b"")), "w/a", node))
        self.assertIn("mode", compare(View(Found("file", 0o644, 5, lambda: b"")), "w/a", node))
        self.assertIn("mtime", compare(View(Found("file", 0o600, None, lambda: b"")), "w/a", node))
        self.assertIn("nothing", compare(View(None), "w/a", node))


if __name__ == "__main__":
    unittest.main()
