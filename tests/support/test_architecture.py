"""The rooms of the tree: includes go down only, through doors; each foreign library has one home."""

import os
import pathlib
import re
import unittest

SOURCE = pathlib.Path(os.environ.get("SKYVOL_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
ROOMS = ["mount", "fs", "cache", "s3", "base"]  # from the top

# What a room shows to those above it. base is words: all of its headers are doors.
DOORS = {
    "fs": {"fs/fs.h"},
    "cache": {"cache/cache.h"},
    "s3": {"s3/store.h", "s3/credentials.h", "s3/http.h", "s3/signed.h"},
}

# Foreign headers and the only files that may include them.
HOMES = {
    r"curl/.*": r"s3/http[a-z_]*\.[ch]",
    r"openssl/.*": r"base/(digest|rsa)\.c",
    r"libxml/.*": r"base/xml\.c",
    r"lmdb\.h": r"cache/lmdb[a-z_]*\.c",
    r"fuse(3/)?.*\.h|fuse_lowlevel\.h|linux/fuse\.h": r"fs/libfuse\.h",
    r"jansson\.h": r"base/json\.c",
    r"toml\+\+/.*": r"mount/toml\.cc",
    r"systemd/.*": r"base/log[a-z_]*\.c",
}

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)


def includes_of(path):
    return INCLUDE.findall(path.read_text(encoding="utf-8"))


def sources(root):
    for room in ROOMS:
        for path in sorted((root / room).rglob("*")):
            if path.suffix in (".c", ".h", ".cc"):
                yield room, path


def faults_of_arrows(root):
    faults = []
    for room, path in sources(root):
        name = path.relative_to(root).as_posix()
        for quote, target in includes_of(path):
            other = target.split("/")[0]
            if quote != '"' or other == room:
                continue
            if other not in ROOMS:
                faults.append(f"{name}: {target} is in no room")
            elif ROOMS.index(other) < ROOMS.index(room):
                faults.append(f"{name}: {target} is above it")
            elif other in DOORS and target not in DOORS[other]:
                faults.append(f"{name}: {target} is not a door of {other}/")
    return faults


def faults_of_homes(root):
    faults = []
    for _, path in sources(root):
        name = path.relative_to(root).as_posix()
        for quote, target in includes_of(path):
            if quote != "<":
                continue
            for header, home in HOMES.items():
                if re.fullmatch(header, target) and not re.fullmatch(home, name):
                    faults.append(f"{name}: <{target}> belongs in {home} only")
    return faults


class Architecture(unittest.TestCase):
    def test_includes_go_down_and_through_doors(self):
        self.assertEqual(faults_of_arrows(SOURCE), [])

    def test_each_foreign_library_has_one_home(self):
        self.assertEqual(faults_of_homes(SOURCE), [])

    def test_every_room_is_looked_at(self):
        seen = {room for room, _ in sources(SOURCE)}
        self.assertEqual(seen, set(ROOMS))

    def test_files_stay_under_a_thousand_lines(self):
        long = [str(p) for _, p in sources(SOURCE) if len(p.read_text().splitlines()) > 1000]
        self.assertEqual(long, [])


class TheAlarmRings(unittest.TestCase):
    """The same checks on small trees that break each rule."""

    def tree(self, files):
        import tempfile

        held = tempfile.TemporaryDirectory()
        self.addCleanup(held.cleanup)
        root = pathlib.Path(held.name)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root

    def test_an_arrow_upward_is_red(self):
        root = self.tree({"s3/a.c": '#include "cache/cache.h"\n'})
        self.assertEqual(faults_of_arrows(root), ["s3/a.c: cache/cache.h is above it"])

    def test_a_way_around_a_door_is_red(self):
        root = self.tree({"cache/a.c": '#include "s3/sign.h"\n'})
        self.assertEqual(faults_of_arrows(root), ["cache/a.c: s3/sign.h is not a door of s3/"])

    def test_a_library_outside_its_home_is_red(self):
        for header, file in [("curl/curl.h", "s3/store_s3.c"), ("openssl/evp.h", "s3/sign.c"),
                             ("libxml/parser.h", "s3/answer.c"), ("lmdb.h", "cache/names.c"),
                             ("fuse_lowlevel.h", "fs/session.c"), ("jansson.h", "mount/plan.c"),
                             ("toml++/toml.h", "mount/option.c")]:
            root = self.tree({file: f"#include <{header}>\n"})
            self.assertEqual(len(faults_of_homes(root)), 1, header)

    def test_a_library_at_home_is_green(self):
        root = self.tree({"s3/http.c": "#include <curl/curl.h>\n", "base/digest.c": "#include <openssl/evp.h>\n"})
        self.assertEqual(faults_of_homes(root), [])


if __name__ == "__main__":
    unittest.main()
