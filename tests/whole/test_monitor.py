"""A daemon that dies is mounted again by its monitor."""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from test_commands import MIB, Commands  # noqa: E402


class TestMonitor(Commands):
    """A daemon that dies is started again by its monitor."""

    def remounted(self, mount, seconds=5):
        """By another daemon, at the same place."""
        old = mount.pid

        def look():
            done = mount.run("status", str(mount.place), "--json")
            return done.returncode == 0 and json.loads(done.stdout)["pid"] != old

        harness.wait_until(look, seconds, "the mount")
        mount.look()

    @staticmethod
    def exists(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except FileNotFoundError:
            return False

    def test_a_killed_daemon_is_back_within_five_seconds_and_its_unsent_file_goes_up(self):
        mount = self.mount(publish_after="1h")
        monitor = mount.monitor
        file = os.open(mount.place / "f", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"x" * MIB)
        os.kill(mount.pid, signal.SIGKILL)
        self.remounted(mount)
        with contextlib.suppress(OSError):
            os.close(file)
        self.assertEqual(mount.monitor, monitor)
        self.assertEqual((mount.place / "f").read_bytes(), b"x" * MIB)
        self.arrives("f", b"x" * MIB)
        self.assertEqual(pathlib.Path("/proc/self/mountinfo").read_text().count(f" {mount.place} "), 1)
        log = mount.log.read_text()
        self.assertIn("the daemon died: Killed (signal 9)", log)
        self.assertIn("it is mounted again", log)

    def test_an_abort_is_a_death_too_and_an_orderly_end_is_none(self):
        mount = self.mount()
        monitor = mount.monitor
        os.kill(mount.pid, signal.SIGABRT)
        self.remounted(mount)
        self.assertEqual(mount.umount().returncode, 0)
        harness.wait_until(lambda: not self.exists(monitor), 5, "the end of the monitor")
        time.sleep(0.5)
        self.assertIsNone(harness.mounted_at(mount.place))
        for number in (signal.SIGTERM, signal.SIGINT):
            mount = self.mount()
            os.kill(mount.pid, number)
            harness.wait_until(lambda: not self.exists(mount.monitor), 10, "the end of the monitor")
            self.assertIsNone(harness.mounted_at(mount.place))

    def test_it_is_started_thrice_in_five_minutes_and_not_again(self):
        mount = self.mount()
        monitor = mount.monitor
        for _ in range(3):
            os.kill(mount.pid, signal.SIGKILL)
            self.remounted(mount)
        os.kill(mount.pid, signal.SIGKILL)
        harness.wait_until(lambda: not self.exists(monitor), 5, "the end of the monitor")
        self.assertIn("it died too often", mount.log.read_text())
        self.assertIn("has died", mount.run("status", str(mount.place)).stderr)

    def test_the_death_of_the_monitor_harms_nobody(self):
        mount = self.mount()
        os.kill(mount.monitor, signal.SIGKILL)
        harness.wait_until(lambda: not self.exists(mount.monitor), 5, "its end")
        (mount.place / "f").write_text("x")
        self.arrives("f", b"x")
        self.assertEqual(mount.status()["monitor"], 0)
        self.assertEqual(mount.umount().returncode, 0)

    def test_sigterm_to_the_monitor_ends_both_in_good_order(self):
        mount = self.mount(publish_after="1h")
        file = os.open(mount.place / "f", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"x")
        os.kill(mount.monitor, signal.SIGTERM)
        self.gone(mount)
        harness.wait_until(lambda: not self.exists(mount.monitor), 5, "the end of the monitor")
        self.assertEqual(self.object("f"), b"x")
        self.assertIsNone(harness.mounted_at(mount.place))
        with contextlib.suppress(OSError):
            os.close(file)

    def test_who_was_unmounted_is_not_mounted_again(self):
        mount = self.mount()
        with self.silent_server(mount):
            self.assertEqual(mount.umount().returncode, 0)
            os.kill(mount.pid, signal.SIGKILL)
            harness.wait_until(lambda: not self.exists(mount.monitor), 5, "the end of the monitor")
            self.assertIsNone(harness.mounted_at(mount.place))
            self.assertIn("the next mount sends what is unsent", mount.log.read_text())
        self.mount()
        self.arrives("f", b"x")

    def test_without_a_server_the_dead_mount_stays_until_it_can_be_replaced(self):
        mount = self.mount()
        self.minio.stop()
        os.kill(mount.pid, signal.SIGKILL)
        harness.wait_until(lambda: "it cannot be mounted again" in mount.log.read_text(), 15, "the first try")
        with self.assertRaises(OSError):
            (mount.place / "f").write_text("not below it")
        self.minio.start()
        self.remounted(mount, 30)
        (mount.place / "f").write_text("x")
        self.arrives("f", b"x")

    def test_of_a_daemon_that_dies_before_it_is_ready_the_end_of_its_log_is_told(self):
        silent = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(silent.close)
        place, log = self.work / "mnt", self.work / "log"
        place.mkdir()
        log.write_text("what another mount had said\n")
        options = f"endpoint=http://127.0.0.1:{silent.getsockname()[1]},cache_dir={self.work}/cache,log={log},log_level=trace"
        command = subprocess.Popen([harness.SKYVOL, "mount", self.bucket, str(place), "-o", options],
                                   env=harness.clean_environment(), stderr=subprocess.PIPE, text=True)

        def children(pid):
            return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

        silent.accept()[0].close()
        connection, _ = silent.accept()  # that it tries again is in the log
        self.addCleanup(connection.close)
        (monitor,) = children(command.pid)
        (daemon,) = children(monitor)
        os.kill(daemon, signal.SIGKILL)
        said = command.communicate(timeout=20)[1].splitlines()
        self.assertEqual(command.returncode, 1)
        self.assertIn("was killed by signal 9 before it was ready", said[0])
        self.assertIn(f"the end of {log}", said[0])
        written = log.read_text().splitlines()[1:]
        self.assertGreater(len(written), 0)
        self.assertEqual(said[1:], [f"skyvol: {line}" for line in written[-5:]])
        self.assertIsNone(harness.mounted_at(place))

    def test_it_is_small(self):
        mount = self.mount()
        status = pathlib.Path(f"/proc/{mount.monitor}/status").read_text()
        self.assertEqual(re.search(r"Threads:\s+(\d+)", status)[1], "1")
        self.assertLess(int(re.search(r"RssAnon:\s+(\d+)", status)[1]), 4096)
        self.assertEqual({os.readlink(f"/proc/{mount.monitor}/fd/{n}") for n in range(3)}, {"/dev/null"})
        self.assertEqual(os.readlink(f"/proc/{mount.monitor}/cwd"), "/")

    def test_in_the_foreground_there_is_none(self):
        place = self.work / "mnt"
        place.mkdir()
        child = subprocess.Popen([harness.SKYVOL, "mount", f"{self.bucket}:{self.prefix}", str(place), "-f", "-o",
                                  f"endpoint={self.minio.endpoint},cache_dir={self.work}/cache"],
                                 env=harness.clean_environment(), stderr=subprocess.DEVNULL)
        self.addCleanup(subprocess.run, ["umount", "-l", str(place)], stderr=subprocess.DEVNULL)
        harness.wait_until(lambda: harness.mounted_at(place), what="the mount")
        os.listdir(place)
        status = json.loads(subprocess.run([harness.SKYVOL, "status", str(place), "--json"], capture_output=True).stdout)
        self.assertEqual((status["pid"], status["monitor"]), (child.pid, 0))
        child.kill()
        child.wait()
        time.sleep(0.5)
        done = subprocess.run([harness.SKYVOL, "status", str(place)], capture_output=True, text=True)
        self.assertIn("has died", done.stderr)


if __name__ == "__main__":
    harness.main()
