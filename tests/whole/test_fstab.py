"""Mounting the system's way: mount(8) with its helper, lines of fstab, remount, a server that is not there yet."""

import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness
from harness import ACCESS_KEY, SECRET_KEY, SKYVOL, clean_environment, mounted_at

HELPERS = [pathlib.Path("/sbin/mount.skyvol"), pathlib.Path("/sbin/mount.fuse.skyvol")]


class System(harness.Workshop):
    """The helper stands where mount(8) looks for it, in a mount namespace of each command's own if it is not installed."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.kept = {}
        for helper in HELPERS:
            if os.path.lexists(helper):
                cls.kept[helper] = helper.with_name(helper.name + ".kept-by-test")
                os.rename(helper, cls.kept[helper])
            helper.symlink_to(SKYVOL)

    @classmethod
    def tearDownClass(cls):
        for helper in HELPERS:
            helper.unlink()
            if helper in cls.kept:
                os.rename(cls.kept[helper], helper)
        super().tearDownClass()

    def setUp(self):
        super().setUp()
        self.place = self.work / "place"
        self.place.mkdir()
        self.keys = self.work / "keys"
        self.keys.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
        self.keys.chmod(0o600)
        self.options = (f"credentials_file={self.keys},endpoint={self.minio.endpoint},cache_dir={self.work}/cache,"
                        f"log={self.work}/log,durability=sync")
        self.addCleanup(self.clear)

    def clear(self):
        if mounted_at(self.place):
            subprocess.run(["umount", self.place], check=False, timeout=60)
        harness.wait_until(lambda: self.umounted(), what="the end of the mount")

    def umounted(self):
        run = subprocess.run([SKYVOL, "status", "--all"], capture_output=True, text=True, timeout=60)
        return str(self.place) not in run.stdout

    def call(self, *words, status=0, timeout=60):
        """As at boot: nothing in the environment."""
        run = subprocess.run(words, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, capture_output=True, text=True,
                             timeout=timeout)
        if status is not None:
            self.assertEqual(run.returncode, status, run.stderr + run.stdout)
        return run

    def source(self):
        return f"{self.bucket}:{self.prefix}"


class Mount8(System):
    def test_mount_and_umount_by_the_systems_commands(self):
        self.s3.put(self.bucket, self.key("a"), b"1")
        self.call("mount", "-t", "skyvol", "-o", self.options, self.source(), self.place)
        self.assertEqual((self.place / "a").read_text(), "1")
        found = self.call("findmnt", "-no", "SOURCE,FSTYPE", self.place).stdout.split()
        self.assertEqual(found, [self.source(), "fuse.skyvol"])
        self.assertNotIn(SECRET_KEY, pathlib.Path("/proc/self/mountinfo").read_text())
        self.call("umount", self.place)
        self.assertFalse(mounted_at(self.place))

    def test_lines_of_fstab(self):
        fstab = self.work / "fstab"
        fstab.write_text(f"# a comment\n{self.source()} {self.place} skyvol "
                         f"rw,_netdev,nofail,x-systemd.automount,x-systemd.mount-timeout=30,user,noatime,{self.options} 0 0\n")
        self.call("mount", "-T", fstab, "-fnv", self.place)
        self.assertFalse(mounted_at(self.place), "-f mounts nothing")
        self.call("mount", "-a", "-T", fstab)
        self.assertTrue(mounted_at(self.place))
        self.call("mount", "-a", "-T", fstab)
        (self.place / "b").write_text("2")
        self.assertEqual(self.s3.get(self.bucket, self.key("b")), b"2")
        self.call("umount", self.place)

    def test_read_only_and_back_while_it_stands(self):
        self.call("mount", "-t", "skyvol", "-o", self.options, self.source(), self.place)
        with open(self.place / "held", "w") as held:
            run = self.call("mount", "-o", "remount,ro", self.place, status=32)
            self.assertIn("open for writing", run.stderr)
            held.write("x")
        self.call("mount", "-o", "remount,ro", self.place)
        with self.assertRaises(OSError) as refused:
            (self.place / "c").write_text("3")
        self.assertEqual(refused.exception.errno, 30)
        self.call("mount", "-o", "remount,rw", self.place)
        (self.place / "c").write_text("3")
        self.assertEqual(self.s3.get(self.bucket, self.key("c")), b"3")
        self.call("umount", self.place)
        self.call("mount", "-r", "-t", "skyvol", "-o", self.options, self.source(), self.place)
        run = self.call("mount", "-o", "remount,rw", self.place, status=32)
        self.assertIn("was mounted read-only", run.stderr)

    def test_what_is_wrong_has_its_status_and_its_words(self):
        helper = str(HELPERS[0])
        self.assertIn("SOURCE DIR", self.call(helper, status=1).stderr)
        self.assertIn("needs a value", self.call(helper, "b", self.place, "-o", status=1).stderr)
        self.assertIn("no flag", self.call(helper, "b", self.place, "-Z", status=1).stderr)
        run = self.call(helper, self.source(), self.place, "-o", f"{self.options},secret_key=x", status=32)
        self.assertIn("must not be an option", run.stderr)
        run = self.call(helper, self.source(), self.place, "-o", f"{self.options},colour=red", status=32)
        self.assertIn("colour", run.stderr)
        run = self.call(helper, self.source(), self.place, "-s", "-o", f"{self.options},colour=red")
        self.assertIn("passed over", run.stderr)
        self.assertTrue(mounted_at(self.place))
        run = self.call(helper, "no-such-bucket", self.work / "keys", "-o", self.options, status=32)
        self.assertIn("keys", run.stderr)


class Background(System):
    server_per_test = True

    def test_a_server_that_is_not_there_yet_keeps_no_mount_from_standing(self):
        options = self.options.replace("durability=sync", "durability=writeback")
        self.s3.put(self.bucket, self.key("known"), b"1")
        self.call("mount", "-t", "skyvol", "-o", options, self.source(), self.place)
        self.assertEqual(os.listdir(self.place), ["known"])
        self.call("umount", self.place)
        harness.wait_until(self.umounted, what="the end of the mount")
        self.minio.stop()
        run = self.call("mount", "-t", "skyvol", "-o", options, self.source(), self.place, status=32)
        self.assertFalse(mounted_at(self.place))
        began = time.monotonic()
        run = self.call("mount", "-t", "skyvol", "-o", options + ",bg", self.source(), self.place)
        self.assertLess(time.monotonic() - began, 10)
        self.assertIn("mounted all the same", run.stderr)
        self.assertEqual(os.listdir(self.place), ["known"])
        written = threading.Thread(target=(self.place / "new").write_text, args=("2",))
        written.start()
        self.minio.start()
        written.join(60)
        harness.wait_until(lambda: self.s3.get(self.bucket, self.key("new")) == b"2", what="the upload", seconds=60)
        self.assertEqual((self.place / "known").read_text(), "1")

    def test_a_wrong_bucket_is_an_error_all_the_same(self):
        run = self.call("mount", "-t", "skyvol", "-o", self.options + ",bg", "is-not-there", self.place, status=32)
        self.assertIn("is-not-there", run.stderr)
        self.assertFalse(mounted_at(self.place))


class Installed(harness.Workshop):
    def test_all_stands_where_debian_expects_it(self):
        root = self.work / "root"
        build = pathlib.Path(SKYVOL).parent
        subprocess.run(["cmake", "--install", build, "--prefix", "/usr"], env=clean_environment() | {"DESTDIR": str(root)}, check=True,
                       capture_output=True)
        self.assertTrue(os.access(root / "usr/bin/skyvol", os.X_OK))
        self.assertTrue((root / "usr/share/man/man8/skyvol.8").exists())
        for helper in HELPERS:
            self.assertTrue(os.readlink(str(root) + str(helper)).endswith("/bin/skyvol"))
        shutil.rmtree(root)


if __name__ == "__main__":
    harness.main()
