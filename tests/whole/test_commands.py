"""The end of a mount, and the commands about what is unsent."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

MIB = 1 << 20


class Commands(harness.Workshop):
    """Mounts of durability=writeback, so that close() leaves something unsent while the server is silent."""

    server_per_test = True

    def mount(self, **options):
        return super().mount(**{"durability": "writeback", "name": "mnt", **options})

    @contextlib.contextmanager
    def silent_server(self, mount, name="f", content=b"x"):
        """A file was written; its close comes when the server answers no more."""
        with open(mount.place / name, "wb") as file:
            file.write(content)
            file.flush()
            self.minio.freeze()
        try:
            yield
        finally:
            self.minio.thaw()

    def leaves_bad(self, mount):
        """The end of a mount with a file that no try will send: named, exit 1, and nobody lingers for it."""
        done = mount.umount()
        self.assertEqual(done.returncode, 1)
        self.assertIn("bad cannot go up", done.stderr)
        self.gone(mount, 5)

    def gone(self, mount, seconds=20):
        harness.wait_until(lambda: not mount.alive(), seconds, "the end of the daemon")

    def arrives(self, name, content, seconds=30):
        harness.wait_until(lambda: name in self.keys(), seconds, f"the object {name}")
        self.assertEqual(self.object(name), content)


class TestUmount(Commands):
    def test_umount_returns_at_once_says_what_is_on_its_way_and_the_daemon_sends_it(self):
        mount = self.mount()
        with self.silent_server(mount, content=b"x" * MIB):
            started = time.monotonic()
            done = mount.umount()
            self.assertLess(time.monotonic() - started, 3)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn(f"1 files ({MIB} bytes) are still being uploaded by pid {mount.pid}", done.stderr)
            self.assertIn(f"skyvol umount {mount.place} --wait", done.stderr)
            self.assertIsNone(harness.mounted_at(mount.place))
            self.assertTrue(mount.alive())
            again = mount.umount()
            self.assertEqual(again.returncode, 0, again.stderr)
            self.assertIn("still being uploaded", again.stderr)
        self.arrives("f", b"x" * MIB)
        self.gone(mount)

    def test_umount_by_the_system_lingers_too(self):
        mount = self.mount()
        with self.silent_server(mount):
            subprocess.run(["umount", str(mount.place)], check=True, timeout=5)
        self.arrives("f", b"x")
        self.gone(mount)

    def test_what_is_small_is_sent_before_umount_returns(self):
        mount = self.mount()
        (mount.place / "f").write_text("x")
        done = mount.umount()
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.object("f"), b"x")
        self.gone(mount)

    def test_wait_waits_shows_progress_and_ends_with_zero(self):
        mount = self.mount()
        with self.silent_server(mount, content=b"x" * MIB):
            child = subprocess.Popen([harness.SKYVOL, "umount", str(mount.place), "--wait"], stderr=subprocess.PIPE, text=True)
            time.sleep(5)
            self.assertIsNone(child.poll())
            self.assertIsNone(harness.mounted_at(mount.place))
        words = child.communicate(timeout=30)[1]
        self.assertEqual(child.returncode, 0, words)
        self.assertIn("0 of 1 files", words)
        self.assertEqual(self.object("f"), b"x" * MIB)
        harness.wait_until(lambda: not mount.alive(), 5, "the end of the daemon")

    def test_sigterm_to_one_that_lingers_ends_it_and_the_next_mount_sends(self):
        mount = self.mount(stop_timeout="1s")
        with self.silent_server(mount):
            self.assertEqual(mount.umount().returncode, 0)
            child = subprocess.Popen([harness.SKYVOL, "umount", str(mount.place), "--wait"], stderr=subprocess.PIPE, text=True)
            time.sleep(1)
            started = time.monotonic()
            os.kill(mount.pid, signal.SIGTERM)
            self.gone(mount, 5)
            self.assertGreater(time.monotonic() - started, 0.9)
            words = child.communicate(timeout=10)[1]
            self.assertEqual(child.returncode, 1, words)
            self.assertIn(self.key("f"), words)
        again = self.mount()
        self.assertIn("1 unsent files", again.words)
        self.arrives("f", b"x")

    def test_sigterm_counts_once_though_it_comes_twice(self):
        mount = self.mount(stop_timeout="4s")
        with self.silent_server(mount):
            os.kill(mount.pid, signal.SIGTERM)
            time.sleep(0.2)
            os.kill(mount.pid, signal.SIGTERM)
            time.sleep(1.5)
            self.assertTrue(mount.alive())
            os.kill(mount.pid, signal.SIGTERM)
            self.gone(mount, 2)


class TestHandover(Commands):
    def unmounted_while_silent(self, **options):
        mount = self.mount(**options)
        silence = self.silent_server(mount, content=b"x" * MIB)
        silence.__enter__()
        self.addCleanup(silence.__exit__, None, None, None)
        done = mount.umount()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(mount.alive())
        return mount

    def take_over(self, mount, place=None, **options):
        """The new mount's first contact needs the server: it is silent until the old daemon is gone."""
        options = {"endpoint": self.minio.endpoint, "cache_dir": self.work / "mnt.cache", "log": self.work / "second.log",
                   "durability": "writeback", **options}
        words = [harness.SKYVOL, "mount", options.pop("source", f"{self.bucket}:{self.prefix}"), str(place or mount.place), "-o",
                 ",".join(f"{n}={v}" for n, v in options.items())]
        self.addCleanup(subprocess.run, ["umount", "-l", str(place or mount.place)], stderr=subprocess.DEVNULL)
        started = time.monotonic()
        return started, subprocess.Popen(words, env=harness.clean_environment(), stderr=subprocess.PIPE, text=True)

    def test_a_new_mount_takes_over_within_two_seconds_though_the_server_is_silent(self):
        mount = self.unmounted_while_silent()
        started, child = self.take_over(mount)
        harness.wait_until(lambda: not mount.alive(), 2, "the end of the one that lingered")
        self.minio.thaw()
        words = child.communicate(timeout=20)[1]
        self.assertEqual(child.returncode, 0, words)
        self.assertIn("1 unsent files", words)
        self.assertEqual((mount.place / "f").read_bytes(), b"x" * MIB)
        self.arrives("f", b"x" * MIB)
        self.assertEqual(mount.umount("--wait").returncode, 0)

    def test_who_waits_for_the_old_one_hears_that_it_was_taken_over(self):
        mount = self.unmounted_while_silent()
        waiting = subprocess.Popen([harness.SKYVOL, "umount", str(mount.place), "--wait"], stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        child = self.take_over(mount)[1]
        words = waiting.communicate(timeout=10)[1]
        self.assertEqual(waiting.returncode, 1)
        self.assertIn("a new mount has taken over", words)
        self.minio.thaw()
        self.assertEqual(child.wait(20), 0)
        self.arrives("f", b"x" * MIB)
        self.assertEqual(mount.umount("--wait").returncode, 0)

    def test_the_same_cache_directory_at_another_place_takes_over(self):
        mount = self.unmounted_while_silent()
        other = self.work / "other"
        other.mkdir()
        started, child = self.take_over(mount, other)
        self.minio.thaw()
        words = child.communicate(timeout=20)[1]
        self.assertEqual(child.returncode, 0, words)
        self.gone(mount, 2)
        self.arrives("f", b"x" * MIB)
        self.assertEqual(subprocess.run([harness.SKYVOL, "umount", str(other), "--wait"]).returncode, 0)

    def test_another_source_at_the_same_place_is_told_what_waits_where(self):
        mount = self.unmounted_while_silent()
        child = self.take_over(mount, cache_dir=self.work / "second.cache", source=f"{self.bucket}:elsewhere")[1]
        self.gone(mount, 3)
        self.minio.thaw()
        words = child.communicate(timeout=20)[1]
        self.assertEqual(child.returncode, 0, words)
        self.assertIn(f"skyvol flush {self.work}/mnt.cache", words)
        self.assertEqual(mount.umount("--wait").returncode, 0)
        self.mount()
        self.arrives("f", b"x" * MIB)

    def test_a_mount_that_takes_over_and_fails_says_that_nobody_uploads_any_more(self):
        mount = self.mount()
        with self.silent_server(mount):
            self.assertEqual(mount.umount().returncode, 0)
            done = subprocess.run([harness.SKYVOL, "mount", "test", str(mount.place), "-o",
                                   f"endpoint=http://127.0.0.1:9,cache_dir={self.work}/other"],
                                  env=harness.clean_environment(), capture_output=True, text=True, timeout=20)
            self.assertEqual(done.returncode, 1)
            self.assertIn("cannot be reached", done.stderr)
            self.assertIn(f"(1 files, 1 bytes) waits in {self.work}/mnt.cache now", done.stderr)
            self.assertFalse(mount.alive())
        done = subprocess.run([harness.SKYVOL, "flush", f"{self.work}/mnt.cache"], env=harness.clean_environment(), timeout=30)
        self.assertEqual(done.returncode, 0)
        self.assertEqual(self.object("f"), b"x")

    def test_one_that_serves_does_not_yield(self):
        mount = self.mount()
        other = self.work / "other"
        other.mkdir()
        started, child = self.take_over(mount, other)
        words = child.communicate(timeout=10)[1]
        self.assertEqual(child.returncode, 1)
        self.assertIn(f"in use by another skyvol (pid {mount.pid})", words)
        self.assertTrue(mount.alive())


class TestFlush(Commands):
    def flush(self, *words, **options):
        return subprocess.run([harness.SKYVOL, "flush", *map(str, words)], capture_output=True, text=True, timeout=60,
                              env=harness.clean_environment(), **options)

    def test_flush_sends_what_is_open_and_returns_when_it_is_there(self):
        mount = self.mount(publish_after="1h")
        (mount.place / "d").mkdir()
        with open(mount.place / "d/f", "wb") as file, open(mount.place / "other", "wb") as other:
            file.write(b"half")
            file.flush()
            other.write(b"not asked for")
            other.flush()
            time.sleep(0.5)
            self.assertNotIn("d/f", self.keys())
            done = self.flush("./d/../d//f", cwd=mount.place)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual(self.object("d/f"), b"half")
            self.assertNotIn("other", self.keys())
            done = self.flush(mount.place / "d", mount.place)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.object("other"), b"not asked for")

    def test_a_file_that_is_written_all_the_time_does_not_hold_it_up(self):
        mount = self.mount(publish_after="1h")
        stop = threading.Event()

        def write():
            with open(mount.place / "log", "wb", buffering=0) as file:
                while not stop.wait(0.002):
                    file.write(b"one line\n")
        writer = threading.Thread(target=write)
        writer.start()
        try:
            time.sleep(0.3)
            size = os.stat(mount.place / "log").st_size
            done = self.flush(mount.place)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertGreaterEqual(len(self.object("log")), size)
            self.assertTrue(writer.is_alive())
        finally:
            stop.set()
            writer.join()

    def test_with_durability_local_it_waits_for_the_bucket_too(self):
        mount = self.mount(durability="local")
        with self.silent_server(mount):
            child = subprocess.Popen([harness.SKYVOL, "flush", str(mount.place)], stderr=subprocess.PIPE, text=True)
            time.sleep(1)
            self.assertIsNone(child.poll(), "it did not wait")
        self.assertEqual(child.communicate(timeout=30)[1].count("was not sent"), 0)
        self.assertEqual(child.returncode, 0)
        self.assertEqual(self.object("f"), b"x")

    def test_a_server_that_is_away_for_longer_than_io_timeout_is_waited_for(self):
        mount = self.mount(io_timeout="1s")
        with self.silent_server(mount):
            child = subprocess.Popen([harness.SKYVOL, "flush", str(mount.place)], stderr=subprocess.PIPE, text=True)
            time.sleep(4)
            self.assertIsNone(child.poll(), "it gave up")
        child.communicate(timeout=40)
        self.assertEqual(child.returncode, 0)
        self.assertEqual(self.object("f"), b"x")

    def test_it_goes_on_with_the_daemon_that_takes_over(self):
        mount = self.mount()
        with self.silent_server(mount):
            child = subprocess.Popen([harness.SKYVOL, "flush", str(mount.place)], stderr=subprocess.PIPE, text=True)
            time.sleep(0.5)
            self.assertEqual(mount.umount().returncode, 0)
            os.kill(mount.pid, signal.SIGKILL)  # lingering: its monitor mounts nothing again
            self.gone(mount)
            self.assertIsNone(child.poll(), "it did not wait")
        self.mount()
        words = child.communicate(timeout=30)[1]
        self.assertEqual(child.returncode, 0, words)
        self.assertEqual(self.object("f"), b"x")

    def test_a_file_whose_local_bytes_are_gone_is_named_and_not_waited_for(self):
        for durability in ("writeback", "local"):
            mount = self.mount(durability=durability, publish_after="1h")
            file = os.open(mount.place / "f", os.O_CREAT | os.O_WRONLY)
            os.write(file, b"x" * MIB)
            [lost] = [pathlib.Path(unsent["path"]) for unsent in mount.status()["unsent"]]
            mount.kill()
            with contextlib.suppress(OSError):
                os.close(file)
            subprocess.run(["umount", "-l", str(mount.place)], check=True)
            lost.unlink()
            mount = self.mount(durability=durability)
            (mount.place / "good").write_text("x")
            done = self.flush(mount.place)
            self.assertEqual(done.returncode, 1)
            self.assertIn("f cannot go up (ENODATA", done.stderr)
            self.assertEqual(self.object("good"), b"x")
            self.assertEqual(mount.umount().returncode, 1)
            self.gone(mount)
            shutil.rmtree(self.work / "mnt.cache")

    def test_what_is_to_be_deleted_is_waited_for(self):
        mount = self.mount()
        for number in range(20):
            (mount.place / f"f{number}").write_text("x")
        self.assertEqual(self.flush(mount.place).returncode, 0)
        self.assertEqual(len(self.keys()), 20)
        self.minio.freeze()
        try:
            for number in range(20):
                (mount.place / f"f{number}").unlink()
            child = subprocess.Popen([harness.SKYVOL, "flush", str(mount.place)], stderr=subprocess.PIPE, text=True)
            time.sleep(1)
            self.assertIsNone(child.poll(), "it did not wait")
        finally:
            self.minio.thaw()
        words = child.communicate(timeout=30)[1]
        self.assertEqual((child.returncode, self.keys()), (0, []), words)

    def test_flushes_that_were_given_up_hold_nobody_up(self):
        mount = self.mount()
        with self.silent_server(mount):
            for _ in range(20):  # more than a daemon listens to at once
                child = subprocess.Popen([harness.SKYVOL, "flush", str(mount.place)], stderr=subprocess.DEVNULL)
                time.sleep(0.1)
                child.send_signal(signal.SIGINT)
                child.wait(5)
            self.assertEqual(mount.status()["unsent_files"], 1)
        self.assertEqual(self.flush(mount.place).returncode, 0)

    def test_flush_waits_with_progress_and_ctrl_c_ends_the_wait_only(self):
        mount = self.mount()
        with self.silent_server(mount, content=b"x" * MIB):
            child = subprocess.Popen([harness.SKYVOL, "flush", str(mount.place)], stderr=subprocess.PIPE, text=True)
            time.sleep(4)
            self.assertIsNone(child.poll())
            child.send_signal(signal.SIGINT)
            words = child.communicate(timeout=2)[1]
            self.assertNotEqual(child.returncode, 0)
            self.assertRegex(words, r"0 of 1 files, [01]\.0 of 1\.0 MiB")  # a silent server's sockets take some
        self.arrives("f", b"x" * MIB)

    def test_bytes_that_are_on_their_way_move_the_bar_before_the_first_part_has_landed(self):
        little = self.little()
        mount = self.mount(source="test", server=little)
        hung = [little.control("fault", op=op, action="hang", times=0)["id"] for op in ("UploadPart", "PutObject")]
        (mount.place / "big").write_bytes(b"x" * 32 * MIB)
        (mount.place / "other").write_bytes(b"x" * MIB)
        big, other = [subprocess.Popen([harness.SKYVOL, "flush", str(mount.place / name)], stderr=subprocess.PIPE, text=True)
                      for name in ("big", "other")]
        time.sleep(5)
        self.assertEqual(mount.status()["sent_bytes"], 0)
        for number in hung:
            little.control("release", id=number)
        words = big.communicate(timeout=30)[1]
        self.assertEqual(big.returncode, 0, words)
        shown = [float(number) for number in re.findall(r"0 of 1 files, ([\d.]+) of 32.0 MiB", words)]
        self.assertTrue(shown and shown[0] >= 8, words)
        self.assertEqual(shown, sorted(shown))
        words = other.communicate(timeout=30)[1]
        self.assertEqual(other.returncode, 0, words)
        self.assertIn("of 1.0 MiB", words)

    @staticmethod
    def read_all(leader):
        """Of a terminal whose other side is closed: what was written in several pieces may come in several."""
        pieces = []
        with contextlib.suppress(OSError):  # EIO: its end
            while piece := os.read(leader, 1 << 16):
                pieces.append(piece)
        os.close(leader)
        return b"".join(pieces).decode()

    def test_on_a_terminal_there_is_a_bar(self):
        mount = self.mount()
        leader, follower = os.openpty()
        with self.silent_server(mount, content=b"x" * MIB):
            child = subprocess.Popen([harness.SKYVOL, "flush", str(mount.place)], stderr=follower)
            os.close(follower)
            time.sleep(1)
        self.assertEqual(child.wait(30), 0)
        shown = self.read_all(leader)
        self.assertRegex(shown, r"\[(?=[#.]{24}\])#*\.+\]  0 of 1 files")
        self.assertTrue(shown.endswith("\r\x1b[K"), repr(shown[-40:]))

    def test_what_cannot_be_sent_is_named_and_the_rest_goes_up(self):
        little = self.little()
        mount = self.mount(source="test", server=little)
        little.control("fault", op="PutObject", key="bad", action="answer", status=400, code="EntityTooLarge", times=0)
        (mount.place / "bad").write_text("x")
        (mount.place / "good").write_text("y")
        done = self.flush(mount.place)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("bad cannot go up", done.stderr)
        self.assertIn("EntityTooLarge", done.stderr)
        self.assertNotIn("good", done.stderr)
        done = self.flush(mount.place / "good")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.leaves_bad(mount)

    def refused(self, little, op="PutObject", status=403, code="AccessDenied", **more):
        return little.control("fault", op=op, action="answer", status=status, code=code, times=0, **more)["id"]

    def timed(self, *words, seconds=10, **options):
        started = time.monotonic()
        done = self.flush(*words, **options)
        self.assertLess(time.monotonic() - started, seconds)
        return done

    def test_what_is_refused_is_named_at_once_and_tried_again_at_once_when_asked(self):
        little = self.little()
        mount = self.mount(source="test", server=little)
        for code, status, reason in (("AccessDenied", 403, "mend the keys"), ("NoSuchBucket", 404, "mend what the reason names")):
            fault = self.refused(little, code=code, status=status)
            for number in range(50):
                (mount.place / f"f{number}").write_text(code)
            harness.wait_until(lambda: mount.status()["refused"] == 50, what="the refusals")
            time.sleep(3)  # the next try is due in seconds by now
            done = self.timed(mount.place)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertEqual(done.stderr.count("cannot go up"), 50)
            self.assertRegex(done.stderr, rf"f7 cannot go up \(E\w+: {code} \({status}\).*{reason}")
            self.assertIn(f"skyvol flush {mount.place}", done.stderr)
            done = self.timed(mount.place / "f7")
            self.assertEqual((done.returncode, done.stderr.count("cannot go up")), (1, 1))
            self.assertEqual(mount.status()["unsent_files"], 50)
            little.control("unfault", id=fault)
            done = self.timed(mount.place, seconds=5)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(little.s3.get("test", "f7"), code.encode())

    def test_what_goes_up_is_waited_for_beside_what_is_refused(self):
        little = self.little()
        mount = self.mount(source="test", server=little)
        fault = self.refused(little, key="bad")
        slow = little.control("fault", op="PutObject", key="slow", action="hang", times=0)["id"]
        for name in ("bad", "slow"):
            (mount.place / name).write_text("x")
        child = subprocess.Popen([harness.SKYVOL, "flush", str(mount.place)], stderr=subprocess.PIPE, text=True)
        time.sleep(3)
        self.assertIsNone(child.poll(), "it did not wait for what is on its way")
        little.control("release", id=slow)
        words = child.communicate(timeout=10)[1]
        self.assertEqual(child.returncode, 1, words)
        self.assertIn("bad cannot go up", words)
        self.assertNotIn("slow", words)
        little.control("unfault", id=fault)
        self.assertEqual(self.flush(mount.place).returncode, 0)

    def test_a_busy_server_is_waited_for_and_ctrl_c_ends_the_wait(self):
        little = self.little()
        mount = self.mount(source="test", server=little, io_timeout="1s")
        fault = self.refused(little, status=503, code="SlowDown")
        (mount.place / "f").write_text("x")
        children = [subprocess.Popen([harness.SKYVOL, "flush", str(mount.place)], stderr=subprocess.PIPE, text=True)
                    for _ in range(2)]
        time.sleep(5)
        for child in children:
            self.assertIsNone(child.poll(), "it gave up")
        children[0].send_signal(signal.SIGINT)
        children[0].communicate(timeout=2)
        self.assertNotEqual(children[0].returncode, 0)
        little.control("unfault", id=fault)
        words = children[1].communicate(timeout=30)[1]
        self.assertEqual(children[1].returncode, 0, words)

    def test_a_delete_that_is_refused_is_named(self):
        little = self.little()
        mount = self.mount(source="test", server=little)
        (mount.place / "f").write_text("x")
        self.assertEqual(self.flush(mount.place).returncode, 0)
        fault = self.refused(little, op="DeleteObject")
        (mount.place / "f").unlink()
        harness.wait_until(lambda: mount.status()["parked"] == 1, what="the refusal")
        time.sleep(3)
        done = self.timed(mount.place)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("f was removed here, and still stands in the bucket", done.stderr)
        little.control("unfault", id=fault)
        done = self.timed(mount.place, seconds=3)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(little.s3.list("test", ""), [])

    def test_a_file_whose_key_what_is_refused_has_is_named_too(self):
        little = self.little()
        mount = self.mount(source="test", server=little)
        (mount.place / "a").write_text("1")
        self.assertEqual(self.flush(mount.place).returncode, 0)
        fault = self.refused(little, op="CopyObject")
        os.rename(mount.place / "a", mount.place / "b")
        (mount.place / "a").write_text("2")
        done = self.timed(mount.place)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"b cannot go up \(EACCES")
        self.assertRegex(done.stderr, r"a cannot go up \(it waits for what stood under its name")
        done = self.timed(mount.place / "a")
        self.assertEqual((done.returncode, done.stderr.count("cannot go up")), (1, 1), done.stderr)
        little.control("unfault", id=fault)
        done = self.timed(mount.place)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual((little.s3.get("test", "b"), little.s3.get("test", "a")), (b"1", b"2"))

    def test_umount_wait_and_a_flush_without_a_mount_end_with_what_is_refused_too(self):
        little = self.little()
        mount = self.mount(source="test", server=little, stop_timeout="0s")
        fault = self.refused(little, key="bad")
        (mount.place / "bad").write_text("x")
        (mount.place / "good").write_text("y")
        for _ in range(2):  # while it is mounted; and when its daemon lingers
            started = time.monotonic()
            done = mount.umount("--wait")
            self.assertLess(time.monotonic() - started, 10)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr, r"bad cannot go up \(EACCES: AccessDenied.*mend the keys")
            self.assertIn(f"pid {mount.pid} goes on trying", done.stderr)
            self.assertNotIn("good", done.stderr)
            self.assertTrue(mount.alive())
        mount.kill_monitor()
        os.kill(mount.pid, signal.SIGTERM)
        self.gone(mount)
        done = subprocess.run([harness.SKYVOL, "flush", str(self.work / "mnt.cache")], env=mount.environment,
                              capture_output=True, text=True, timeout=10)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"bad cannot go up \(EACCES: AccessDenied.*mend the keys")
        little.control("unfault", id=fault)
        done = subprocess.run([harness.SKYVOL, "flush", str(self.work / "mnt.cache")], env=mount.environment,
                              capture_output=True, text=True, timeout=10)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(little.s3.get("test", "bad"), b"x")

    def test_what_is_not_there_is_refused_and_what_is_clean_is_fine(self):
        self.s3.put(self.bucket, self.key("clean"), b"never looked at")
        mount = self.mount()
        done = self.flush(mount.place / "clean")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        done = self.flush(mount.place / "none")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no such file", done.stderr)
        done = self.flush("/usr")
        self.assertEqual(done.returncode, 1)
        self.assertIn("not mounted by skyvol", done.stderr)
        done = self.flush(str(mount.place) + "/a/../..")
        self.assertEqual(done.returncode, 1)
        self.assertIn("leads out", done.stderr)
        self.assertEqual(self.flush().returncode, 2)

    def test_hostile_names_are_carried_whole(self):
        name = 'a"\n{"yield": "x"}\n\\\x1b'
        mount = self.mount(publish_after="1h")
        with open(mount.place / name, "wb") as file:
            file.write(b"x")
            file.flush()
            done = self.flush(mount.place / name)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual(self.keys(), [name])
        done = subprocess.run([harness.SKYVOL, "flush", os.fsencode(mount.place) + b"/a\xff"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("not UTF-8", done.stderr)

    def test_a_cache_directory_is_flushed_without_a_mount(self):
        mount = self.mount(stop_timeout="0s")
        with self.silent_server(mount):
            os.kill(mount.pid, signal.SIGTERM)
            self.gone(mount)
        cache = self.work / "mnt.cache"
        self.assertNotIn("f", self.keys())
        status = json.loads(mount.run("status", str(cache), "--json").stdout)
        self.assertEqual((status["mounted"], status["unsent_files"], status["unsent"][0]["file"]), (False, 1, "f"))
        self.assertIn("nobody uploads", mount.run("status", str(cache)).stdout)
        self.assertRegex(mount.run("status", str(cache)).stdout, r"unsent +f \(1 bytes\)")
        done = self.flush(cache)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.object("f"), b"x")
        self.minio.stop()
        done = self.flush(cache)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def left_unsent(self, *names, place="mnt"):
        """A cache directory whose mount ended before these went up to a little server that takes no PUT from here on."""
        little = self.little()
        mount = self.mount(source="test", name=place, server=little, stop_timeout="0s", io_timeout="3s")
        fault = little.control("fault", op="PutObject", action="answer", status=503, code="SlowDown", times=0)["id"]
        for name in names:
            (mount.place / name).write_text(name)
        mount.kill_monitor()
        os.kill(mount.pid, signal.SIGTERM)
        self.gone(mount)
        return little, mount, self.work / f"{place}.cache", lambda: little.control("unfault", id=fault)

    def start_flush(self, mount, cache):
        child = subprocess.Popen([harness.SKYVOL, "flush", str(cache)], stderr=subprocess.PIPE, text=True, env=mount.environment)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        harness.wait_until(lambda: self.status_of(mount, cache).get("pid"), 10, "the flush")
        return child

    @staticmethod
    def status_of(mount, cache):
        done = mount.run("status", str(cache), "--json")
        return json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr}

    def test_beside_a_flush_of_a_cache_directory_status_discard_and_another_flush_go_through_it(self):
        little, mount, cache, mend = self.left_unsent("f", "g")
        first = self.start_flush(mount, cache)
        status = self.status_of(mount, cache)
        self.assertEqual((status["pid"], status["mounted"], status["unsent_files"]), (first.pid, False, 2), status)
        self.assertIn(f"pid {first.pid} still uploads", mount.run("status", str(cache)).stdout)
        self.assertIn(first.pid, [entry["pid"] for entry in json.loads(mount.run("status", "--all", "--json").stdout)["mounts"]])
        done = mount.run("discard", str(cache), "f", "--yes")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([entry["file"] for entry in self.status_of(mount, cache)["unsent"]], ["g"])
        second, third = [subprocess.Popen([harness.SKYVOL, "flush", str(cache)], stderr=subprocess.PIPE, text=True,
                                          env=mount.environment) for _ in range(2)]
        time.sleep(1)
        self.assertEqual((second.poll(), third.poll()), (None, None), "they did not wait")
        first.send_signal(signal.SIGINT)
        self.assertIn("interrupted", first.communicate(timeout=5)[1])
        self.assertEqual(first.returncode, 1)
        time.sleep(1)
        self.assertEqual((second.poll(), third.poll()), (None, None), "they did not go on without the first")
        mend()
        for child in (second, third):
            words = child.communicate(timeout=30)[1]
            self.assertEqual(child.returncode, 0, words)
        self.assertEqual([key for key, _, _ in little.s3.list("test", "")], ["g"])

    def test_a_mount_takes_over_from_a_flush_which_goes_on_waiting(self):
        little, mount, cache, mend = self.left_unsent("f")
        for name, place in (("mnt", "mnt"), ("elsewhere", "elsewhere")):
            child = self.start_flush(mount, cache)
            started = time.monotonic()
            again = self.mount(source="test", name=place, server=little, cache_dir=cache, stop_timeout="0s")
            self.assertLess(time.monotonic() - started, 2)
            self.assertIn("1 unsent files", again.words)
            time.sleep(1)
            self.assertIsNone(child.poll(), "it did not go on with the mount")
            self.assertEqual(self.status_of(mount, cache)["pid"], again.pid)
            if place == "elsewhere":
                mend()
                words = child.communicate(timeout=30)[1]
                self.assertEqual(child.returncode, 0, words)
            again.kill_monitor()
            os.kill(again.pid, signal.SIGTERM)
            self.gone(again)
            if place == "mnt":  # nobody mounts it: the flush has it again
                harness.wait_until(lambda: self.status_of(mount, cache).get("pid") == child.pid, 10, "the flush")
                child.send_signal(signal.SIGINT)
                child.communicate(timeout=5)
                self.assertEqual(child.returncode, 1)
        self.assertEqual(little.s3.get("test", "f"), b"f")

    def test_a_cache_directory_is_not_mistaken_for_another_one_of_the_same_mount_point(self):
        little, mount, cache, mend = self.left_unsent("f")
        other = self.mount(source="test:other", server=little, cache_dir=self.work / "other.cache")
        child = self.start_flush(mount, cache)
        self.assertEqual(self.status_of(mount, cache)["pid"], child.pid)
        self.assertEqual(other.status()["cache_dir"], str(self.work / "other.cache"))
        self.assertEqual(self.status_of(mount, other.place)["pid"], other.pid)
        mend()
        words = child.communicate(timeout=30)[1]
        self.assertEqual(child.returncode, 0, words)

    def test_a_read_only_mount_does_not_hide_what_waits(self):
        mount = self.mount(stop_timeout="0s")
        with self.silent_server(mount):
            os.kill(mount.pid, signal.SIGTERM)
            self.gone(mount)
        mount = self.mount(ro=True)
        status = mount.status()
        self.assertEqual((status["unsent_files"], status["lasting"], status["unsent"][0]["file"]), (1, 1, "f"))
        done = self.flush(mount.place)
        self.assertEqual(done.returncode, 1)
        self.assertIn("read-only", done.stderr)
        done = mount.umount("--wait")
        self.assertEqual(done.returncode, 1)
        mount.broken = True  # it is unmounted, and that ended with 1, as it should
        mount = self.mount()
        self.arrives("f", b"x")

    def test_a_cache_directory_that_is_mounted_means_its_mount(self):
        mount = self.mount(publish_after="1h")
        with open(mount.place / "f", "wb") as file:
            file.write(b"x")
            file.flush()
            done = self.flush(self.work / "mnt.cache")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.object("f"), b"x")


class TestStatus(Commands):
    def status_all(self, mount):
        """Of other mounts of this host too, which may be in any state: their faults are not ours."""
        return json.loads(mount.run("status", "--all", "--json").stdout)

    def test_the_backlog_is_told_with_its_reasons(self):
        mount = self.mount()
        self.assertEqual(mount.status()["unsent_files"], 0)
        with self.silent_server(mount, content=b"x" * MIB):
            time.sleep(1)
            status = mount.status()
            self.assertEqual((status["unsent_files"], status["unsent_bytes"], status["parked"]), (1, MIB, 0))
            self.assertEqual(status["durability"], "writeback")
            self.assertGreater(status["oldest_unsent_ms"], 900)
            self.assertIn("oldest_unflushed_ms", status)
            self.assertEqual(status["unsent"][0]["file"], "f")
            words = mount.run("status", str(mount.place)).stdout
            self.assertIn("1 files, 1048576 bytes", words)
            self.assertIn("the oldest unsent change", words)

    def test_all_shows_mounts_those_that_linger_and_what_waits_unmounted(self):
        first = self.mount(name="first")
        mount = self.mount(name="second")
        with self.silent_server(mount):
            self.assertEqual(mount.umount().returncode, 0)
            found = {entry["mount_point"]: entry.get("mounted", True) for entry in self.status_all(first)["mounts"]}
            self.assertEqual(found[str(first.place)], True)
            self.assertEqual(found[str(mount.place)], False)
            words = first.run("status", "--all").stdout
            self.assertIn(f"pid {mount.pid} still uploads", words)
        self.gone(mount)
        default = pathlib.Path("/var/lib/skyvol/0test")
        self.addCleanup(shutil.rmtree, default, ignore_errors=True)
        third = self.mount(name="third", cache_dir=default, stop_timeout="0s")
        with self.silent_server(third, "g"):
            os.kill(third.pid, signal.SIGTERM)
            self.gone(third)
        waiting = [entry for entry in self.status_all(first)["unmounted"] if entry["cache_dir"] == str(default)]
        self.assertEqual([(entry["unsent_files"], entry["mounted"]) for entry in waiting], [(1, False)])

    def entries(self, cache):
        """In the user's list of cache directories elsewhere."""
        state = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local/state"
        base = pathlib.Path("/var/lib/skyvol" if os.geteuid() == 0 else f"{state}/skyvol") / ".elsewhere"
        return [entry for entry in base.glob("*") if entry.is_symlink() and os.readlink(entry) == str(cache)]

    def test_all_finds_cache_directories_that_stand_elsewhere_until_nothing_waits_there(self):
        mount = self.mount(stop_timeout="0s")
        cache = self.work / "mnt.cache"
        self.assertEqual(len(self.entries(cache)), 1)
        self.assertEqual(mount.umount("--wait").returncode, 0)
        self.assertEqual(self.entries(cache), [])
        for end in ("flushed", "emptied by hand", "removed"):
            mount = self.mount(stop_timeout="0s")
            with self.silent_server(mount, end):
                os.kill(mount.pid, signal.SIGTERM)
                self.gone(mount)
            self.assertEqual([entry["unsent_files"] for entry in self.status_all(mount)["unmounted"]
                              if entry["cache_dir"] == str(cache)], [1])
            self.assertIn(f"skyvol flush {cache}", mount.run("status", "--all").stdout)
            other = self.mount(name="other")
            self.assertIn(f"1 unsent changes of this very source wait in {cache}", other.words)
            self.assertEqual(other.umount("--wait").returncode, 0)
            if end == "flushed":
                self.assertEqual(mount.run("flush", str(cache)).returncode, 0)
                self.assertEqual(self.entries(cache), [])
            elif end == "removed":
                shutil.rmtree(cache)
            else:
                shutil.rmtree(cache)
                cache.mkdir(0o700)
            done = mount.run("status", "--all")
            lines = [line for line in done.stderr.splitlines() if str(cache) in line]
            self.assertEqual(len(lines), 1 if end == "removed" else 0, lines)
            self.assertNotIn(str(cache), done.stdout)
            self.assertEqual(self.entries(cache), [])
            self.assertNotIn(str(cache), mount.run("status", "--all").stderr)

    def test_a_dead_mount_is_named_by_all(self):
        mount = self.mount()
        mount.kill()
        done = mount.run("status", "--all")
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"the daemon of {mount.place} has died", done.stderr)


class TestDiscard(Commands):
    def discard(self, *words, **options):
        return subprocess.run([harness.SKYVOL, "discard", *map(str, words)], capture_output=True, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, env=harness.clean_environment(), **options)

    def with_bad(self):
        """A mount with a file that no try will send."""
        little = self.little()
        mount = self.mount(source="test", server=little)
        little.control("fault", op="PutObject", key="bad", action="answer", status=400, code="EntityTooLarge", times=0)
        (mount.place / "bad").write_text("lost")
        harness.wait_until(lambda: mount.status()["lasting"] == 1, what="the refusal")
        return mount

    def test_without_a_terminal_and_without_yes_nothing_is_lost(self):
        mount = self.with_bad()
        done = self.discard(mount.place, "bad")
        self.assertEqual(done.returncode, 1)
        self.assertIn("4 bytes that are only on this host will be lost", done.stderr)
        self.assertIn("--yes", done.stderr)
        self.assertEqual(mount.status()["unsent_files"], 1)
        done = self.discard(mount.place, "none", "--yes")
        self.assertEqual(done.returncode, 1)
        self.assertIn("nothing of that name is unsent", done.stderr)
        self.assertEqual(self.discard(mount.place).returncode, 2)
        self.leaves_bad(mount)

    def test_on_a_terminal_no_is_no(self):
        mount = self.with_bad()
        leader, follower = os.openpty()
        child = subprocess.Popen([harness.SKYVOL, "discard", str(mount.place), "bad"], stdin=follower,
                                 stderr=subprocess.PIPE, text=True)
        os.write(leader, b"\n")
        words = child.communicate(timeout=10)[1]
        os.close(leader)
        os.close(follower)
        self.assertEqual(child.returncode, 1)
        self.assertIn("Discard them? [y/N]", words)
        self.assertEqual(mount.status()["unsent_files"], 1)
        self.leaves_bad(mount)

    def test_with_yes_it_is_again_what_the_bucket_holds(self):
        mount = self.with_bad()
        done = self.discard(mount.place, mount.place / "bad", "--yes")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(mount.status()["unsent_files"], 0)
        self.assertFalse((mount.place / "bad").exists())

    def test_in_a_cache_directory_it_sends_no_other_file(self):
        mount = self.mount(stop_timeout="0s")
        (mount.place / "there").write_text("x")
        harness.wait_until(lambda: mount.status()["unsent_files"] == 0, what="the first object")
        others = [open(mount.place / f"g{i}", "wb", buffering=0) for i in range(40)]
        for file in others:
            file.write(b"x")
        with open(mount.place / "f", "wb", buffering=0) as file:
            file.write(b"x")
            self.minio.stop()  # a frozen one takes a PUT into its socket, and does it when it is thawed
        os.kill(mount.pid, signal.SIGTERM)
        self.gone(mount)
        self.minio.start()
        for file in others:
            with contextlib.suppress(OSError):
                file.close()
        cache = self.work / "mnt.cache"
        done = self.discard(cache, "f")
        self.assertEqual(done.returncode, 1)
        done = self.discard(cache, "f", "--yes")
        self.assertEqual(done.returncode, 0, done.stderr)
        time.sleep(0.5)
        self.assertEqual(self.keys(), ["there"])
        status = json.loads(mount.run("status", str(cache), "--json").stdout)
        self.assertEqual({entry["file"] for entry in status["unsent"]}, {f"g{i}" for i in range(40)})


if __name__ == "__main__":
    harness.main()
