#!/usr/bin/env python3
"""A large file is copied inside the mount by the server: its bytes stay there. CLONE_MIB makes it larger: past 2048 a copy takes
several calls of the kernel."""

import hashlib
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

MIB = 1 << 20
SIZE = int(os.environ.get("CLONE_MIB", "100")) * MIB + 12345
SLACK = 2 * MIB  # what all other requests take on the wire


def copy_range(source, target):
    with open(source, "rb", buffering=0) as reads, open(target, "xb", buffering=0) as writes:
        at = 0
        while at < SIZE:
            at += os.copy_file_range(reads.fileno(), writes.fileno(), SIZE - at, at, at)


def digest_of(path):
    sum = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(8 * MIB):
            sum.update(piece)
    return sum.hexdigest()


class TestClone(harness.Workshop):
    server_per_test = True

    def fresh(self, **options):
        """A mount that has seen no byte of "big", which stands in the bucket."""
        block, sum = os.urandom(MIB), hashlib.sha256()
        first = self.mount(name="first", durability="writeback")
        with open(first.place / "big", "wb") as file:
            for at in range(0, SIZE, MIB):
                piece = (at.to_bytes(8, "little") + block[8:])[:SIZE - at]
                file.write(piece)
                sum.update(piece)
            file.flush()
            os.fsync(file.fileno())
        self.digest = sum.hexdigest()
        return self.mount(name="second", **options)

    def expect_nothing_moved(self, mount, before):
        after = mount.status()
        self.assertEqual(after["sent_bytes"], before["sent_bytes"])
        self.assertLess(after["bytes_in"] - before["bytes_in"], SLACK)
        self.assertLess(after["bytes_out"] - before["bytes_out"], SLACK)
        self.assertGreaterEqual(after["copied_bytes"] - before["copied_bytes"], SIZE)

    def expect_keys(self, names):
        harness.wait_until(lambda: sorted(key for key in self.keys() if not key.startswith(".skyvol-probe")) == names,
                           what=f"the keys {names}")

    def copy(self, durability):
        mount = self.fresh(durability=durability)
        before = mount.status()
        for _ in range(2):  # also over what is there
            begun = time.monotonic()
            subprocess.run(["cp", mount.place / "big", mount.place / "cp"], check=True)
            print(f"{durability}: cp {time.monotonic() - begun:.2f} s", file=sys.stderr)
        copy_range(mount.place / "big", mount.place / "range")
        for name in ("cp", "range"):
            self.assertEqual(os.stat(mount.place / name).st_size, SIZE)
        if durability != "sync":
            self.assertEqual(mount.run("flush", str(mount.place)).returncode, 0)
        self.expect_nothing_moved(mount, before)
        for name in ("cp", "range"):
            self.assertEqual(hashlib.sha256(self.object(name)).hexdigest(), self.digest)
            self.assertEqual(digest_of(mount.place / name), self.digest)
        self.expect_keys(["big", "cp", "range"])

    def test_cp_and_copy_file_range_leave_the_bytes_on_the_server(self):
        self.copy("writeback")

    def test_so_they_do_where_close_waits_for_it(self):
        self.copy("sync")

    def test_its_attributes_are_its_own_or_with_cp_a_those_of_the_source(self):
        mount = self.fresh(durability="writeback")
        os.chmod(mount.place / "big", 0o604)
        os.utime(mount.place / "big", ns=(10**18 + 1, 10**18 + 1))
        os.setxattr(mount.place / "big", "user.colour", b"red")
        self.assertEqual(mount.run("flush", str(mount.place)).returncode, 0)
        before = mount.status()
        old = os.umask(0o027)
        copy_range(mount.place / "big", mount.place / "plain")
        os.umask(old)
        subprocess.run(["cp", "-a", mount.place / "big", mount.place / "all"], check=True)
        self.assertEqual(mount.run("flush", str(mount.place)).returncode, 0)
        self.expect_nothing_moved(mount, before)
        again = self.mount(name="again", durability="writeback")
        plain, copied = os.stat(again.place / "plain"), os.stat(again.place / "all")
        self.assertEqual(plain.st_mode & 0o7777, 0o640)
        self.assertNotEqual(plain.st_mtime_ns // 10**9, 10**9)
        self.assertEqual(os.listxattr(again.place / "plain"), [])
        self.assertEqual(copied.st_mode & 0o7777, 0o604)
        self.assertEqual(copied.st_mtime_ns, 10**18 + 1)
        self.assertEqual(os.getxattr(again.place / "all", "user.colour"), b"red")

    def test_a_kill_right_after_the_call_loses_nothing(self):
        mount = self.fresh(durability="writeback")
        with open(mount.place / "big", "rb") as reads, open(mount.place / "copy", "xb", buffering=0) as writes:
            at = 0
            while at < SIZE:
                at += os.copy_file_range(reads.fileno(), writes.fileno(), SIZE - at, at, at)
            mount.kill()
            self.minio.s3.delete(self.bucket, self.key("big"))
        subprocess.run(["umount", "-l", mount.place], check=True)
        again = self.mount(name="second", durability="writeback")
        self.assertEqual(digest_of(again.place / "copy"), self.digest)
        self.assertEqual(again.run("flush", str(again.place)).returncode, 0)
        self.assertEqual(hashlib.sha256(self.object("copy")).hexdigest(), self.digest)
        self.expect_keys(["copy"])

    def test_what_is_not_on_the_server_yet_is_copied_all_the_same(self):
        mount = self.mount(durability="writeback")
        content = os.urandom(MIB) * 20
        with open(mount.place / "open", "wb") as file:
            file.write(content)
            file.flush()
            subprocess.run(["cp", mount.place / "open", mount.place / "copy"], check=True)
        self.assertEqual((mount.place / "copy").read_bytes(), content)
        self.assertEqual(mount.run("flush", str(mount.place)).returncode, 0)
        self.assertEqual(self.object("copy"), content)


if __name__ == "__main__":
    harness.main()
