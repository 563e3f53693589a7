"""Names and attributes that are remembered over mounts (the catalog), and few requests for many names."""

import os
import pathlib
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402


def tree_of(place):
    """What ls -lR tells: kinds, sizes, modes, numbers, times."""
    found = {}
    for path, directories, files in os.walk(place):
        for name in directories + files:
            facts = os.lstat(os.path.join(path, name))
            size = 0 if name in directories else facts.st_size  # times of directories are of the mount
            when = 0 if name in directories else facts.st_mtime_ns
            found[os.path.relpath(os.path.join(path, name), place)] = (facts.st_mode, size, facts.st_ino, when)
    return found


class TestWarm(harness.Workshop):
    server_per_test = True

    def fill(self):
        for directory in ("a", "a/deep", "b"):
            for i in range(30):
                self.s3.put(self.bucket, self.key(f"{directory}/f{i:02}"), b"x" * i, {"x-amz-meta-mode": "33184"})

    def mount_again(self, **options):
        return self.mount(name="again", durability="writeback", **options)

    def test_a_known_tree_is_there_after_a_remount_while_the_server_is_silent(self):
        self.fill()
        mount = self.mount_again()
        before = tree_of(mount.place)
        self.assertEqual(len(before), 93)
        (mount.place / "b/mine").write_text("mine")
        os.rename(mount.place / "b/f00", mount.place / "b/moved")
        os.unlink(mount.place / "a/f01")
        before = tree_of(mount.place)
        self.assertEqual(mount.umount("--wait").returncode, 0)
        mount = self.mount_again()
        self.minio.freeze()
        try:
            started = time.monotonic()
            after = tree_of(mount.place)
            took = time.monotonic() - started
        finally:
            self.minio.thaw()
        self.assertEqual(before, after)
        self.assertLess(took, 10, "nobody waited for the server (io_timeout is 60 s)")

    def test_what_changed_in_the_bucket_meanwhile_is_seen_within_attr_ttl_of_a_look(self):
        self.fill()
        mount = self.mount_again()
        tree_of(mount.place)
        self.assertEqual(mount.umount("--wait").returncode, 0)
        self.s3.put(self.bucket, self.key("a/new"), b"new")
        self.s3.put(self.bucket, self.key("a/f03"), b"another size")
        self.s3.delete(self.bucket, self.key("a/f04"))
        mount = self.mount_again()
        os.listdir(mount.place / "a")
        time.sleep(1.1)
        names = os.listdir(mount.place / "a")
        self.assertIn("new", names)
        self.assertNotIn("f04", names)
        self.assertEqual((mount.place / "a/f03").stat().st_size, 12)
        self.assertFalse((mount.place / "a/f04").exists())

    def test_who_opens_gets_what_is_there_however_warm_the_name(self):
        self.fill()
        mount = self.mount_again()
        tree_of(mount.place)
        self.assertEqual(mount.umount("--wait").returncode, 0)
        self.s3.put(self.bucket, self.key("a/f05"), b"other")
        mount = self.mount_again()
        self.assertEqual((mount.place / "a/f05").read_bytes(), b"other")

    def test_after_a_kill_the_bucket_is_asked_and_nothing_is_missing(self):
        self.fill()
        mount = self.mount_again()
        tree_of(mount.place)
        for i in range(50):
            (mount.place / f"b/late{i}").write_text(str(i))
        mount.run("flush", str(mount.place))
        mount.kill()
        mount.broken = True
        subprocess.run(["umount", "-l", str(mount.place)], check=False)
        mount = self.mount_again()
        names = os.listdir(mount.place / "b")
        self.assertEqual(len(names), 80)
        self.assertEqual((mount.place / "b/late7").read_text(), "7")

    def test_one_that_is_damaged_is_put_aside_and_said_so(self):
        self.fill()
        mount = self.mount_again()
        before = tree_of(mount.place)
        self.assertEqual(mount.umount("--wait").returncode, 0)
        data = self.work / "again.cache/catalog/data.mdb"
        with open(data, "r+b") as file:
            file.write(b"\0" * 8192)
        mount = self.mount_again()
        self.assertEqual(before, tree_of(mount.place))
        self.assertFalse(mount.status()["catalog"]["bypassed"])

    def test_a_death_inside_it_is_followed_by_a_mount_with_a_fresh_one(self):
        self.fill()
        mount = self.mount_again()
        before = tree_of(mount.place)
        self.assertEqual(mount.umount("--wait").returncode, 0)
        mount = self.mount_again()
        os.truncate(self.work / "again.cache/catalog/data.mdb", 0)  # as a disk that cannot give what it mapped: SIGBUS
        try:
            tree_of(mount.place)
        except OSError:
            pass
        harness.wait_until(lambda: not mount.alive(), 10, "the death of the daemon")

        def served():
            try:
                return tree_of(mount.place) == before
            except OSError:
                return False

        harness.wait_until(served, 10, "the monitor to mount it again")
        self.assertIn("died inside", mount.log.read_text())
        mount.look()
        self.assertFalse(mount.status()["catalog"]["bypassed"])

    def test_meta_max_0_keeps_none(self):
        self.fill()
        mount = self.mount_again(meta_max=0)
        before = tree_of(mount.place)
        self.assertFalse((self.work / "again.cache/catalog").exists())
        self.assertEqual(mount.umount("--wait").returncode, 0)
        self.assertEqual(before, tree_of(self.mount_again(meta_max=0).place))


class TestRequests(harness.Workshop):
    def test_2000_stats_of_unknown_names_from_16_threads_cost_three_requests(self):
        for i in range(1000):
            self.s3.put(self.bucket, self.key(f"d/f{i:04}"), b"")
        mount = self.mount()
        os.stat(mount.place / "d")
        before = mount.status()["server_requests"]
        missing = []

        def ask(share):
            for i in range(125):
                try:
                    os.stat(mount.place / f"d/no-{share}-{i}")
                except FileNotFoundError:
                    missing.append(i)

        threads = [threading.Thread(target=ask, args=(share,)) for share in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(missing), 2000)
        asked = {name: count - before.get(name, 0) for name, count in mount.status()["server_requests"].items()}
        self.assertLessEqual(sum(asked.values()), 3, asked)

    def test_refresh_shows_at_once_what_attr_ttl_would_hide(self):
        self.s3.put(self.bucket, self.key("d/a"), b"a")
        mount = self.mount(attr_ttl="1h")
        self.assertEqual(os.listdir(mount.place / "d"), ["a"])
        self.assertFalse((mount.place / "d/b").exists())
        self.s3.put(self.bucket, self.key("d/b"), b"bb")
        self.s3.put(self.bucket, self.key("d/a"), b"longer")
        self.assertEqual((mount.place / "d/a").stat().st_size, 1)
        done = mount.run("refresh", str(mount.place), "d")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        harness.wait_until(lambda: (mount.place / "d/a").stat().st_size == 6, 5, "the notice to the kernel")
        self.assertEqual(sorted(os.listdir(mount.place / "d")), ["a", "b"])
        self.assertEqual((mount.place / "d/b").read_bytes(), b"bb")
        self.assertEqual(mount.run("refresh", str(mount.place / "d/a")).returncode, 0)
        for words, said in ((["refresh"], "directory is missing"), (["refresh", "--now", "x"], "no flag"),
                            (["refresh", str(self.work)], "")):
            done = mount.run(*words)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(said, done.stderr)
            self.assertTrue(done.stderr)


if __name__ == "__main__":
    harness.main()
