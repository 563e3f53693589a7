"""Mounting the system's way: mount(8) with its helper, lines of fstab, remount."""

import errno
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness
from harness import SECRET_KEY, SKYVOL, clean_environment, mounted_at
from system import HELPERS, System

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
        self.assertEqual(refused.exception.errno, errno.EROFS)
        self.assertTrue(self.status()["read_only"], "the daemon knows")
        self.call("mount", "-o", "remount,rw", self.place)
        self.assertFalse(self.status()["read_only"])
        (self.place / "c").write_text("3")
        self.assertEqual(self.s3.get(self.bucket, self.key("c")), b"3")
        self.call("umount", self.place)
        self.call("mount", "-r", "-t", "skyvol", "-o", self.options, self.source(), self.place)
        run = self.call("mount", "-o", "remount,rw", self.place, status=32)
        self.assertIn("was mounted read-only", run.stderr)

    def test_a_remount_changes_nothing_else(self):
        options = f"{self.options},noexec,memory=64M"
        self.call("mount", "-t", "skyvol", "-o", options, self.source(), self.place)
        run = self.call("mount", "-o", "remount,ro,memory=96M,attr_ttl=5s", self.place, status=32)
        self.assertIn("attr_ttl", run.stderr)
        self.assertIn("memory", run.stderr)
        self.assertIn("cannot change while", run.stderr)
        (self.place / "a").write_text("1")
        self.call("mount", "-o", "remount,ro,memory=64M", self.place)
        self.assertIn("noexec", self.call("findmnt", "-no", "OPTIONS", self.place).stdout)

    def test_what_was_made_read_only_stays_so_when_the_daemon_dies(self):
        self.call("mount", "-t", "skyvol", "-o", self.options, self.source(), self.place)
        (self.place / "a").write_text("1")
        self.call("mount", "-o", "remount,ro", self.place)
        died = self.status()["pid"]
        os.kill(died, signal.SIGKILL)
        status = harness.wait_until(lambda: self.status(must=False, other_than=died), what="another daemon")
        self.assertTrue(status["read_only"])
        with self.assertRaises(OSError) as refused:
            (self.place / "c").write_text("3")
        self.assertEqual(refused.exception.errno, errno.EROFS)
        self.call("mount", "-o", "remount,rw", self.place)
        (self.place / "c").write_text("3")
        self.assertEqual(self.s3.get(self.bucket, self.key("c")), b"3")

    def test_an_empty_environment_is_enough(self):
        fstab = self.work / "fstab"
        fstab.write_text(f"{self.source()} {self.place} skyvol {self.options} 0 0\n")
        run = subprocess.run(["/bin/mount", "-a", "-T", fstab], env={}, cwd="/", capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertTrue(mounted_at(self.place))
        run = subprocess.run(["/bin/umount", self.place], env={}, cwd="/", capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, 0, run.stderr)

    def test_a_user_mounts_and_unmounts_what_fstab_lets_him(self):
        """mount(8) lets users have /etc/fstab alone: in namespaces, where it is another file, and with which the daemon ends."""
        nobody = 65534
        self.s3.put(self.bucket, self.key("a"), b"1")
        place = pathlib.Path(self.call("mktemp", "-d", "/tmp/skyvol-user.XXXXXX").stdout.strip())
        self.addCleanup(shutil.rmtree, place)
        (place / "data").mkdir()
        shutil.copy(self.keys, place / "keys")
        (place / "fstab").write_text(f"{self.source()} {place}/data skyvol rw,user,noauto,credentials_file={place}/keys,"
                                     f"endpoint={self.minio.endpoint},cache_dir={place}/cache,log={place}/log,durability=sync 0 0\n")
        for path in (place, place / "data", place / "keys"):
            os.chown(path, nobody, nobody)
        user = f"setpriv --reuid={nobody} --regid={nobody} --clear-groups env -i PATH=/usr/bin:/bin sh -c"
        self.call("unshare", "-m", "--pid", "--fork", "--mount-proc", "sh", "-ec", f"""
            mount --bind {place}/fstab /etc/fstab
            mount -t tmpfs tmpfs /run/user
            mkdir -m 700 /run/user/{nobody}
            chown {nobody} /run/user/{nobody}
            mknod -m 666 /run/user/fuse c 10 229
            mount -o remount,dev /run/user
            mount --bind /run/user/fuse /dev/fuse
            {user} 'mount {place}/data'
            {user} 'test "$(cat {place}/data/a)" = 1 && echo 2 > {place}/data/b'
            findmnt -no FSTYPE {place}/data | grep -qx fuse.skyvol
            findmnt -no OPTIONS {place}/data | grep -q noexec
            {user} 'umount {place}/data'
            if findmnt {place}/data; then exit 1; fi
            """)
        self.assertEqual(self.s3.get(self.bucket, self.key("b")), b"2\n")

    def test_what_is_wrong_has_its_status_and_its_words(self):
        helper = str(HELPERS[0])
        self.assertIn("are not entered", self.call(helper, "b", self.place, "-N", "/proc/1/ns/mnt", status=1).stderr)
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
