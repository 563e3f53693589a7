"""-o bg: a mount stands from what is known and unsent while its server cannot be reached, and goes on trying."""

import errno
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness
from harness import mounted_at
from system import System


class Background(System):
    server_per_test = True

    def setUp(self):
        super().setUp()
        self.options = self.options.replace("durability=sync", "durability=writeback") + ",io_timeout=2s,stop_timeout=1s"

    def mount(self, more="", status=0):
        return self.call("mount", "-t", "skyvol", "-o", self.options + more, self.source(), self.place, status=status)

    def leave_behind(self):
        """An object that is known, and a file that is unsent; nothing is mounted, and the server is gone."""
        self.s3.put(self.bucket, self.key("known"), b"1")
        self.mount()
        self.assertEqual(os.listdir(self.place), ["known"])
        self.minio.stop()
        (self.place / "unsent").write_text("2")
        pid = self.status()["pid"]
        self.call("umount", self.place)
        os.kill(pid, 15)
        harness.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the end of the daemon")

    def test_what_is_known_and_unsent_is_there_and_goes_up_when_the_server_comes(self):
        self.leave_behind()
        self.mount(status=32)
        self.assertFalse(mounted_at(self.place), "only bg may")
        began = time.monotonic()
        run = self.mount(",bg")
        self.assertLess(time.monotonic() - began, 10)
        self.assertEqual(run.stderr.count("mounted all the same"), 1, run.stderr)
        self.assertEqual(sorted(os.listdir(self.place)), ["known", "unsent"])
        self.assertEqual((self.place / "unsent").read_text(), "2")
        began = time.monotonic()
        with self.assertRaises(OSError) as refused:
            (self.place / "known").read_text()
        self.assertEqual(refused.exception.errno, errno.EIO)
        self.assertLess(time.monotonic() - began, 20)
        (self.place / "unsent").write_text("changed")
        self.minio.start()
        harness.wait_until(lambda: "unsent" in self.here() and self.s3.get(self.bucket, self.key("unsent")) == b"changed",
                           what="the upload", seconds=60)
        self.assertEqual((self.place / "known").read_text(), "1")

    def here(self):
        return [key[len(self.prefix) + 1:] for key, _, _ in self.s3.list(self.bucket, self.prefix + "/")]

    def test_files_are_made_while_the_server_is_away(self):
        self.leave_behind()
        self.mount(",bg")
        time.sleep(5)  # more than io_timeout: the listing behind has failed
        began = time.monotonic()
        self.assertEqual(sorted(os.listdir(self.place)), ["known", "unsent"])
        self.assertFalse((self.place / "other").exists())
        (self.place / "new").write_text("3")
        self.assertLess(time.monotonic() - began, 1, "nobody waits for the server")
        self.assertEqual((self.place / "new").read_text(), "3")
        self.minio.start()
        harness.wait_until(lambda: {"new", "unsent"} <= set(self.here()), what="the uploads", seconds=60)
        self.assertEqual(self.s3.get(self.bucket, self.key("new")), b"3")
        self.s3.put(self.bucket, self.key("of-others"), b"4")
        harness.wait_until(lambda: "of-others" in os.listdir(self.place), what="what others have made", seconds=20)

    def test_a_silent_server_is_as_one_that_is_away(self):
        self.s3.put(self.bucket, self.key("known"), b"1")
        self.minio.freeze()
        try:
            began = time.monotonic()
            self.mount(",bg")
            self.assertLess(time.monotonic() - began, 10)
        finally:
            self.minio.thaw()
        harness.wait_until(lambda: "known" in os.listdir(self.place), what="the listing")

    def test_keys_that_are_not_there_yet_are_taken_when_they_come(self):
        self.s3.put(self.bucket, self.key("known"), b"1")
        self.mount()
        self.assertEqual(os.listdir(self.place), ["known"])
        pid = self.status()["pid"]
        self.call("umount", self.place)
        harness.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the end of the daemon")
        text = self.keys.read_text()
        self.keys.unlink()
        run = self.mount(status=32)
        self.assertIn(str(self.keys), run.stderr)
        run = self.mount(",bg")
        self.assertEqual(run.stderr.count("mounted all the same"), 1, run.stderr)
        self.assertIn(str(self.keys), run.stderr)
        self.assertEqual(os.listdir(self.place), ["known"])
        (self.place / "new").write_text("2")
        self.assertEqual((self.place / "new").read_text(), "2")
        with open(os.open(self.keys, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(text)
        harness.wait_until(lambda: "new" in self.here(), what="the upload", seconds=60)
        self.assertEqual((self.place / "known").read_text(), "1")

    def test_keys_that_others_may_read_are_an_error_all_the_same(self):
        self.keys.chmod(0o644)
        self.assertIn("open to others", self.mount(",bg", status=32).stderr)
        self.assertFalse(mounted_at(self.place))

    def test_a_wrong_bucket_or_key_is_an_error_all_the_same(self):
        for source, keys in (("is-not-there", None), (self.source(), "another")):
            if keys:
                self.keys.write_text(f"[default]\naws_access_key_id = {keys}\naws_secret_access_key = {keys}\n")
            began = time.monotonic()
            run = self.call("mount", "-t", "skyvol", "-o", self.options + ",bg", source, self.place, status=32)
            self.assertLess(time.monotonic() - began, 10)
            self.assertIn(source.partition(":")[0], run.stderr)
            self.assertFalse(mounted_at(self.place))


if __name__ == "__main__":
    harness.main()
