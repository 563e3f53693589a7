"""Sparse files: holes found, punched and allocated, the largest sizes, and what df and du make of it."""

import ctypes
import errno
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

KIB, MIB, GIB, TIB = (1 << shift for shift in (10, 20, 30, 40))
OBJECT_BYTES_MAX = 5 * TIB


def run(*words, **how):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, **how).stdout


KEEP_SIZE, PUNCH, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32


def fallocate(fd, mode, offset, length):
    """The system call: the program of that name ends with an fsync."""
    if ctypes.CDLL(None, use_errno=True).fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(length)) < 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def data_ranges(path):
    """[(start, end)] as lseek tells them to one who reads."""
    fd, ranges, at = os.open(path, os.O_RDONLY), [], 0
    try:
        while True:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, start, os.SEEK_HOLE)
            ranges.append((start, at))
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return ranges
    finally:
        os.close(fd)


def refused(number, call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return error.errno == number
    return False


class TestHoles(harness.Workshop):
    def writeback(self, **options):
        """Nothing goes up before it is asked for, as long as somebody has the file open for writing."""
        return self.mount(durability=None, publish_after=3600, **options)

    def sparse(self, path):
        """Held open by the caller: 100 bytes at 1 MiB, 5000 at 6 MiB, 8 MiB long."""
        fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
        self.addCleanup(os.close, fd)
        os.pwrite(fd, b"a" * 100, MIB)
        os.pwrite(fd, b"b" * 5000, 6 * MIB)
        os.ftruncate(fd, 8 * MIB)
        return fd

    def test_unsent_holes_are_found_and_an_object_has_none(self):
        path = self.writeback().place / "f"
        fd = self.sparse(path)
        self.assertEqual(data_ranges(path), [(MIB, MIB + 100), (6 * MIB, 6 * MIB + 5000)])
        self.assertEqual(os.lseek(fd, MIB + 50, os.SEEK_DATA), MIB + 50)
        self.assertEqual(os.lseek(fd, MIB + 50, os.SEEK_HOLE), MIB + 100)
        self.assertEqual(os.lseek(fd, 7 * MIB, os.SEEK_HOLE), 7 * MIB)
        self.assertTrue(refused(errno.ENXIO, os.lseek, fd, 7 * MIB, os.SEEK_DATA))
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            self.assertTrue(refused(errno.ENXIO, os.lseek, fd, 8 * MIB, whence))
        os.fsync(fd)
        self.assertEqual(data_ranges(path), [(0, 8 * MIB)])
        os.ftruncate(fd, 9 * MIB)
        os.pwrite(fd, b"c", 9 * MIB - 1)
        self.assertEqual(data_ranges(path), [(0, 8 * MIB), (9 * MIB - 1, 9 * MIB)])

    def test_who_may_store_into_a_mapping_sees_data_throughout(self):
        path = self.writeback().place / "f"
        self.sparse(path)
        with open(path, "r+b") as file:
            self.assertEqual(data_ranges(path), [(0, 8 * MIB)])
            self.assertEqual(os.lseek(file.fileno(), 0, os.SEEK_HOLE), 8 * MIB)
        harness.wait_until(lambda: len(data_ranges(path)) == 2, what="the release, which nobody waits for")

    def test_cp_tar_and_du_see_the_holes(self):
        place = self.writeback().place
        self.sparse(place / "f")
        shown = (place / "f").read_bytes()
        self.assertLess(int(run("du", "-k", place / "f").split()[0]), 100)
        self.assertEqual(int(run("du", "-k", "--apparent-size", place / "f").split()[0]), 8192)
        for how in ("auto", "always", "never"):
            run("cp", f"--sparse={how}", place / "f", self.work / "copy")
            self.assertEqual((self.work / "copy").read_bytes(), shown, how)
        run("cp", "--sparse=always", place / "f", place / "g")
        self.assertEqual((place / "g").read_bytes(), shown)
        run("tar", "-S", "-cf", self.work / "a.tar", "-C", place, "f")
        self.assertLess((self.work / "a.tar").stat().st_size, 100 * KIB)
        (self.work / "out").mkdir()
        run("tar", "-xf", self.work / "a.tar", "-C", self.work / "out")
        self.assertEqual((self.work / "out/f").read_bytes(), shown)
        run("tar", "-S", "-xf", self.work / "a.tar", "-C", place, "--transform=s/f/h/")
        self.assertEqual((place / "h").read_bytes(), shown)

    def test_fallocate_does_what_its_modes_say(self):
        path = self.writeback().place / "f"
        fd = os.open(path, os.O_CREAT | os.O_WRONLY)
        self.addCleanup(os.close, fd)
        os.posix_fallocate(fd, 0, 3 * MIB)
        self.assertEqual(path.stat().st_size, 3 * MIB)
        self.assertEqual(data_ranges(path), [])
        os.pwrite(fd, b"x" * 3 * MIB, 0)
        fallocate(fd, KEEP_SIZE, 0, 5 * MIB)
        self.assertEqual(path.stat().st_size, 3 * MIB)
        model = bytearray(b"x" * 3 * MIB)
        fallocate(fd, PUNCH | KEEP_SIZE, MIB + 5, 1000)
        model[MIB + 5:MIB + 1005] = bytes(1000)
        self.assertEqual(path.read_bytes(), bytes(model))
        fallocate(fd, PUNCH | KEEP_SIZE, 3 * MIB - 10, (1 << 63) - 1 - 3 * MIB)
        model[3 * MIB - 10:] = bytes(10)
        fallocate(fd, ZERO | KEEP_SIZE, 3 * MIB - 20, MIB)
        model[3 * MIB - 20:] = bytes(20)
        self.assertEqual(path.read_bytes(), bytes(model))
        fallocate(fd, ZERO, 2 * MIB, 2 * MIB)
        model = model[:2 * MIB] + bytes(2 * MIB)
        self.assertEqual(path.read_bytes(), bytes(model))
        self.assertEqual(data_ranges(path), [(0, MIB + 5), (MIB + 1005, 2 * MIB)])
        for mode in (COLLAPSE, INSERT, PUNCH):
            self.assertTrue(refused(errno.EOPNOTSUPP, fallocate, fd, mode, 0, 4096), mode)
        self.assertEqual(path.read_bytes(), bytes(model))
        os.fsync(fd)
        self.assertEqual(self.object("f"), bytes(model))

    def test_a_punched_object_has_zeros_there(self):
        content = os.urandom(12 * MIB)
        self.s3.put(self.bucket, self.key("f"), content)
        path = self.mount().place / "f"
        run("fallocate", "-p", "-o", 3 * MIB + 1, "-l", 4 * MIB, path)
        model = content[:3 * MIB + 1] + bytes(4 * MIB) + content[7 * MIB + 1:]
        self.assertEqual(path.read_bytes(), model)
        self.assertEqual(self.object("f"), model)

    def test_what_was_punched_and_allocated_survives_a_kill(self):
        content = os.urandom(2 * MIB)
        self.s3.put(self.bucket, self.key("base"), content)
        mount = self.writeback(name="one")
        fd = os.open(mount.place / "base", os.O_WRONLY)
        new = self.sparse(mount.place / "new")
        fallocate(fd, PUNCH | KEEP_SIZE, 1000, MIB)
        fallocate(new, PUNCH | KEEP_SIZE, MIB, 50)
        os.posix_fallocate(new, 0, 9 * MIB)
        mount.kill()
        os.close(fd)
        mount.clean_up()
        mount = self.writeback(name="one")
        self.assertEqual((mount.place / "base").read_bytes(), content[:1000] + bytes(MIB) + content[MIB + 1000:])
        model = bytearray(9 * MIB)
        model[MIB + 50:MIB + 100], model[6 * MIB:6 * MIB + 5000] = b"a" * 50, b"b" * 5000
        self.assertEqual((mount.place / "new").read_bytes(), bytes(model))
        mount.umount("--wait")
        self.assertEqual(self.object("new"), bytes(model))

    def test_a_terabyte_is_punched_at_once(self):
        mount = self.writeback()
        path = mount.place / "f"
        fd = os.open(path, os.O_CREAT | os.O_WRONLY)
        try:
            os.pwrite(fd, b"x" * MIB, 2 * TIB)
            began = time.monotonic()
            fallocate(fd, PUNCH | KEEP_SIZE, 0, 2 * TIB + 10)
            self.assertEqual(data_ranges(path), [(2 * TIB + 10, 2 * TIB + MIB)])
            fallocate(fd, ZERO, TIB, 3 * TIB)
            self.assertLess(time.monotonic() - began, 5)
            self.assertEqual(path.stat().st_size, 4 * TIB)
            self.assertEqual(data_ranges(path), [])
            self.assertLess(path.stat().st_blocks, 16)
        finally:
            os.ftruncate(fd, 0)
            os.close(fd)

    def test_no_file_grows_past_what_an_object_may_hold(self):
        mount = self.writeback()
        path = mount.place / "f"
        fd = os.open(path, os.O_CREAT | os.O_WRONLY)
        try:
            os.ftruncate(fd, OBJECT_BYTES_MAX)
            self.assertEqual(os.pwrite(fd, b"ab", OBJECT_BYTES_MAX - 1), 1)
            before = os.fstat(fd)
            for call, *arguments in ((os.pwrite, b"a", OBJECT_BYTES_MAX),
                                     (os.ftruncate, OBJECT_BYTES_MAX + 1), (os.posix_fallocate, OBJECT_BYTES_MAX, 1),
                                     (os.posix_fallocate, 0, OBJECT_BYTES_MAX + 1), (os.ftruncate, (1 << 63) - 1),
                                     (os.pwrite, b"a", (1 << 63) - 2)):
                self.assertTrue(refused(errno.EFBIG, call, fd, *arguments), (call, arguments))
            self.assertTrue(refused(errno.EFBIG, os.truncate, path, OBJECT_BYTES_MAX + 1))
            after = os.fstat(fd)
            self.assertEqual((before.st_size, before.st_mtime_ns), (after.st_size, after.st_mtime_ns))
            self.assertEqual(data_ranges(path), [(OBJECT_BYTES_MAX - 1, OBJECT_BYTES_MAX)])
            self.assertTrue(refused(errno.ENOSPC, os.posix_fallocate, fd, 0, OBJECT_BYTES_MAX))
        finally:
            os.ftruncate(fd, 0)
            os.close(fd)

    def test_what_cannot_be_promised_is_refused(self):
        mount = self.writeback()
        free = shutil.disk_usage(self.work).free
        fd = os.open(mount.place / "f", os.O_CREAT | os.O_WRONLY)
        self.addCleanup(os.close, fd)
        self.assertTrue(refused(errno.ENOSPC, os.posix_fallocate, fd, 0, free))
        self.assertEqual(os.fstat(fd).st_size, 0)
        os.posix_fallocate(fd, 0, 64 * MIB)
        self.assertEqual(os.fstat(fd).st_size, 64 * MIB)

    def test_df_shows_a_large_volume_that_nobody_overflows_at(self):
        place = self.mount().place
        numbers = os.statvfs(place)
        for total, free in ((numbers.f_blocks, numbers.f_bavail), (numbers.f_files, numbers.f_favail)):
            self.assertGreaterEqual(free, 1 << 30)
            self.assertGreaterEqual(total, free)
            self.assertLess(total, 1 << 31)
        self.assertLess(numbers.f_blocks * numbers.f_frsize, 1 << 63)
        self.assertEqual(numbers.f_namemax, 255)
        self.assertRegex(run("df", "-h", place), "skyvol")
        self.assertRegex(run("df", "-i", place), "skyvol|%")


if __name__ == "__main__":
    harness.main()
