"""A data set that never changes: the kernel opens by itself, a warm catalog asks the server for nothing, and contents are right."""

import concurrent.futures
import ctypes
import errno
import mmap
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

MIB = 1 << 20


def asked(mount):
    """Requests of the server so far, by kind."""
    return mount.status()["server_requests"]


def opcodes(mount, since=0):
    """How often the kernel asked what, from that place of the log on."""
    found = {}
    for word in re.findall(r"opcode: (\w+)", mount.log.read_text()[since:]):
        found[word] = found.get(word, 0) + 1
    return found


def walk(place):
    """What ls -lR tells."""
    found = {}
    for path, directories, files in os.walk(place):
        for name in directories + files:
            facts = os.lstat(os.path.join(path, name))
            found[os.path.relpath(os.path.join(path, name), place)] = (facts.st_mode, facts.st_size, facts.st_ino)
    return found


class Directory:
    """opendir(3) and its kin, whose cookies Python does not show."""

    libc = ctypes.CDLL(None, use_errno=True)
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    libc.telldir.argtypes = libc.readdir.argtypes = libc.closedir.argtypes = libc.rewinddir.argtypes = [ctypes.c_void_p]
    libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]

    def __init__(self, path):
        self.stream = self.libc.opendir(os.fsencode(path))
        assert self.stream

    def read(self):
        entry = self.libc.readdir(self.stream)
        return ctypes.string_at(entry + 19).decode() if entry else None  # d_name of struct dirent, 64 bits

    def rest(self):
        return list(iter(self.read, None))

    def tell(self):
        return self.libc.telldir(self.stream)

    def seek(self, place):
        self.libc.seekdir(self.stream, place)

    def close(self):
        self.libc.closedir(self.stream)


class TestImmutable(harness.Workshop):
    def put(self, name, body):
        self.s3.put(self.bucket, self.key(name), body)

    def mount_it(self, **options):
        return self.mount(immutable=True, durability=None, **options)

    def drop_caches(self, what=1):
        if os.geteuid() != 0:
            self.skipTest("only root may drop the kernel's caches")
        pathlib.Path("/proc/sys/vm/drop_caches").write_text(str(what))

    # ---- The kernel opens. ----

    def test_files_and_directories_are_opened_by_the_kernel_alone(self):
        for i in range(20):
            self.put(f"d{i % 4}/f{i}", b"x" * 1000)
        mount = self.mount_it(debug_fuse=True)
        for turn in range(3):
            for i in range(20):
                path = mount.place / f"d{i % 4}/f{i}"
                self.assertIn(path.name, os.listdir(path.parent))
                self.assertEqual(path.read_bytes(), b"x" * 1000)
        counts = opcodes(mount)
        self.assertEqual([counts.get(word, 0) for word in ("OPEN", "OPENDIR", "FLUSH")], [1, 1, 1], counts)
        self.assertFalse({"RELEASE", "RELEASEDIR"} & counts.keys(), counts)
        self.assertEqual(counts["READ"], 20)
        self.assertEqual(mount.status()["open"], 0)

    def test_nothing_can_be_changed(self):
        self.put("f", b"x")
        mount = self.mount_it()
        path = mount.place / "f"
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
            with self.assertRaises(OSError) as told:
                os.open(path, flags)
            self.assertEqual(told.exception.errno, errno.EROFS)
        self.assertEqual(path.read_bytes(), b"x")
        if os.geteuid() == 0:  # whatever the flags of the mount become (-i: no helper of fuse's)
            subprocess.run(["mount", "-i", "-o", "remount,rw", str(mount.place)], check=True)
            file = os.open(path, os.O_RDWR)
            try:
                with self.assertRaises(OSError) as told:
                    os.write(file, b"y")
                self.assertEqual(told.exception.errno, errno.EROFS)
                self.assertEqual(os.pread(file, 1, 0), b"x")
            finally:
                os.close(file)
        self.assertEqual(self.object("f"), b"x")

    # ---- Contents. ----

    def test_many_threads_read_many_places_of_one_file_and_many_files(self):
        chance = random.Random(3)
        large = chance.randbytes(48 * MIB)
        self.put("large", large)
        small = {f"s/{i}": chance.randbytes(chance.randrange(1, 200_000)) for i in range(100)}
        for name, body in small.items():
            self.put(name, body)
        mount = self.mount_it()

        def read_part(share):
            file = os.open(mount.place / "large", os.O_RDONLY)
            try:
                return all(os.pread(file, MIB // 4, at) == large[at:at + MIB // 4]
                           for at in range(share * 3 * MIB, share * 3 * MIB + 3 * MIB, MIB // 4))
            finally:
                os.close(file)

        def read_small(name):
            return (mount.place / name).read_bytes() == small[name]

        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            self.assertTrue(all(threads.map(read_part, range(16))))
            self.assertTrue(all(threads.map(read_small, small)))
        with open(mount.place / "large", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
            self.drop_caches()
            self.assertEqual(mapping[7 * MIB + 5:9 * MIB], large[7 * MIB + 5:9 * MIB])
            self.assertEqual(os.lseek(file.fileno(), 5, os.SEEK_DATA), 5)
            self.assertEqual(os.lseek(file.fileno(), 5, os.SEEK_HOLE), len(large))
            os.fsync(file.fileno())

    def test_what_5000_files_were_read_takes_no_more_than_1024_handles(self):
        for i in range(5000):
            self.put(f"d/f{i:04}", b"%d" % i)
        mount = self.mount_it(memory="64M")

        def read(i):
            return (mount.place / f"d/f{i:04}").read_bytes() == b"%d" % i

        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            self.assertTrue(all(threads.map(read, range(5000))))
        self.assertLessEqual(mount.status()["implied"], 1024)
        self.assertGreaterEqual(mount.status()["implied"], 512)
        self.assertLess(mount.rss_mib(), 64 + 48)
        self.drop_caches(3)
        harness.wait_until(lambda: mount.status()["implied"] < 100, 10, "the kernel to forget")
        self.assertTrue(read(4711))

    def test_an_object_that_changes_all_the_same_is_refused_at_read_until_refresh(self):
        for name in ("a", "gone", "held"):
            self.put(f"d/{name}", b"old" * 100)
        mount = self.mount_it()
        self.assertEqual(sorted(os.listdir(mount.place / "d")), ["a", "gone", "held"])
        held = os.open(mount.place / "d/held", os.O_RDONLY)
        self.put("d/a", b"newer" * 100)
        self.put("d/held", b"newer" * 100)
        self.s3.delete(self.bucket, self.key("d/gone"))
        for name in ("a", "gone"):
            file = os.open(mount.place / "d" / name, os.O_RDONLY)
            with self.assertRaises(OSError) as told:
                os.read(file, 10)
            self.assertIn(told.exception.errno, (errno.ESTALE, errno.ENOENT), name)
            os.close(file)
        self.assertIn("d/a", mount.log.read_text())
        self.assertEqual(mount.run("refresh", str(mount.place)).returncode, 0)
        harness.wait_until(lambda: os.path.getsize(mount.place / "d/a") == 500, 5, "the notice to the kernel")
        self.assertEqual((mount.place / "d/a").read_bytes(), b"newer" * 100)
        self.assertEqual(sorted(os.listdir(mount.place / "d")), ["a", "held"])
        self.assertFalse((mount.place / "d/gone").exists())
        with self.assertRaises(OSError) as told:
            os.pread(held, 10, 0)  # never bytes of another version
        self.assertEqual(told.exception.errno, errno.ESTALE)
        os.close(held)

    def test_a_read_by_O_DIRECT_that_hangs_ends_by_sigint(self):
        self.put("f", b"x" * 100_000)
        mount = self.mount_it()
        os.stat(mount.place / "f")
        self.minio.freeze()
        try:
            user = subprocess.Popen(["dd", f"if={mount.place}/f", "of=/dev/null", "bs=4096", "iflag=direct"],
                                    stderr=subprocess.DEVNULL)
            time.sleep(1)
            user.send_signal(signal.SIGINT)
            user.wait(timeout=10)
        finally:
            self.minio.thaw()

    # ---- Listings. ----

    def fill_directory(self, count=3000):
        names = [f"name-{i:05}" for i in range(count)]
        for name in names:
            self.put(f"d/{name}", b"")
        return names

    def test_two_who_list_one_directory_at_once_each_get_all_of_it(self):
        names = self.fill_directory()
        for warm in (False, True):
            mount = self.mount_it(name="again")
            one, other = Directory(mount.place / "d"), Directory(mount.place / "d")
            got = [[], []]
            for turn in range(5000):
                for who, directory in enumerate((one, other)):
                    for _ in range(1 + who * (turn % 3)):  # they drift apart
                        name = directory.read()
                        got[who] += [name] if name else []
            for found in got:
                self.assertEqual(sorted(set(found) - {".", ".."}), names)
                self.assertEqual(len(found), len(names) + 2)
            one.close(), other.close()
            self.assertEqual(mount.umount("--wait").returncode, 0)

    def test_who_seeks_in_a_directory_goes_on_where_that_was(self):
        self.fill_directory()
        mount = self.mount_it()
        directory = Directory(mount.place / "d")
        places = []
        for _ in range(2500):
            places.append(directory.tell())
            directory.read()
        rest = directory.rest()  # its end was given
        self.drop_caches()  # the kernel's own copy of the listing goes
        directory.seek(places[1000])
        again = directory.rest()
        self.assertEqual(len(again), 2002)
        self.assertEqual(again[1500:], rest)
        other = Directory(mount.place / "d")
        self.assertEqual(other.rest()[1000:], again)
        directory.close(), other.close()

    def test_listings_that_are_left_in_the_middle_are_bounded(self):
        for i in range(60):
            self.put(f"t/{i}/a", b"")
        names = self.fill_directory()
        mount = self.mount_it()
        begun = []
        for directory in [mount.place / "d", *(mount.place / "t").iterdir()]:
            begun.append(Directory(directory))
            begun[-1].read()
        self.assertLessEqual(mount.status()["implied"], 62)
        self.assertEqual(len(begun[0].rest()), len(names) + 1)
        for directory in begun:
            directory.close()

    # ---- What an earlier mount knew. ----

    def test_a_warm_mount_asks_the_server_for_nothing_that_is_known(self):
        for directory in ("a", "a/deep", "b"):
            for i in range(200):
                self.put(f"{directory}/f{i:03}", b"x" * i)
        self.put("single/known/file", b"looked up only")
        mount = self.mount_it(name="again")
        os.stat(mount.place / "single/known/file")
        before = walk(mount.place / "a") | walk(mount.place / "b")
        self.assertEqual(mount.umount("--wait").returncode, 0)
        mount = self.mount_it(name="again")
        first = asked(mount)
        self.assertEqual(os.stat(mount.place / "single/known/file").st_size, 14)
        self.assertEqual(walk(mount.place / "a") | walk(mount.place / "b"), before)
        self.assertFalse((mount.place / "a/never").exists())
        self.assertEqual(asked(mount), first)
        self.assertEqual((mount.place / "a/f100").read_bytes(), b"x" * 100)
        more = {kind: count - first.get(kind, 0) for kind, count in asked(mount).items() if count != first.get(kind, 0)}
        self.assertEqual(more, {"GET": 1})

    def test_refresh_forgets_what_an_earlier_mount_knew(self):
        self.put("d/a", b"a")
        mount = self.mount_it(name="again")
        walk(mount.place)
        self.assertEqual(mount.umount("--wait").returncode, 0)
        self.put("d/b", b"bb")
        self.put("d/a", b"longer")
        mount = self.mount_it(name="again")
        self.assertEqual(os.listdir(mount.place / "d"), ["a"])
        self.assertEqual(mount.run("refresh", str(mount.place)).returncode, 0)
        harness.wait_until(lambda: sorted(os.listdir(mount.place / "d")) == ["a", "b"], 5, "the notice to the kernel")
        self.assertEqual((mount.place / "d/a").read_bytes(), b"longer")


if __name__ == "__main__":
    harness.main()
