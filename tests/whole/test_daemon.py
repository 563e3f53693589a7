"""One daemon per mount point: what is alive, what is dead, who may speak to it, and how it ends."""

import contextlib
import json
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

RUNTIME = pathlib.Path("/run/skyvol")


class TestDaemon(harness.Workshop):
    def command(self, place, name, **options):
        options = {"endpoint": self.minio.endpoint, "cache_dir": self.work / f"{name}.cache",
                   "log": self.work / f"{name}.log", **options}
        return [harness.SKYVOL, "mount", f"{self.bucket}:{self.prefix}", str(place), "-o",
                ",".join(f"{n}={v}" for n, v in options.items())]

    def try_mount(self, place, name="other", seconds=10, **options):
        return subprocess.run(self.command(place, name, **options), env=harness.clean_environment(), capture_output=True,
                              text=True, timeout=seconds)

    def control_socket(self, mount):
        """That of this mount: the only one to which its daemon listens."""
        lines = pathlib.Path("/proc/net/unix").read_text().splitlines()
        inodes = {os.readlink(fd) for fd in self.descriptors(mount.pid) if os.readlink(fd).startswith("socket:")}
        return next(line.split()[7] for line in lines if len(line.split()) > 7 and f"socket:[{line.split()[6]}]" in inodes
                    and line.split()[7].startswith(str(RUNTIME)))

    @staticmethod
    def descriptors(pid):
        return list(pathlib.Path(f"/proc/{pid}/fd").iterdir())

    @contextlib.contextmanager
    def frozen(self, mount):
        os.kill(mount.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(mount.pid, signal.SIGCONT)

    def test_a_mount_whose_daemon_is_stopped_is_busy_and_not_touched(self):
        mount = self.mount(attr_ttl="0s")
        with self.frozen(mount):
            done = self.try_mount(mount.place, seconds=3)
            self.assertEqual(done.returncode, 1)
            self.assertIn("busy", done.stderr)
            self.assertIn("skyvol umount", done.stderr)
        self.assertEqual(mount.umount().returncode, 0)

    def test_a_stopped_daemon_holds_neither_status_nor_umount(self):
        mount = self.mount()
        with self.frozen(mount):
            for words in (("status", str(mount.place)), ("umount", str(mount.place))):
                done = mount.run(*words, timeout=9)
                self.assertEqual(done.returncode, 1)
                self.assertIn(f"pid {mount.pid}", done.stderr)
                self.assertIn("kill -CONT", done.stderr)
                self.assertNotIn("umount -l", done.stderr)
            self.assertIsNotNone(harness.mounted_at(mount.place))
        self.assertEqual(mount.umount().returncode, 0)

    def test_umount_is_bounded_when_the_daemon_stops_after_it(self):
        little = self.little()
        mount = self.mount(server=little, io_timeout="1s", stop_timeout="5s")
        little.control("fault", op="PutObject", action="hang", times=0)
        with self.assertRaises(OSError):
            (mount.place / "f").write_text("does not arrive")
        child = subprocess.Popen([harness.SKYVOL, "umount", str(mount.place)], stderr=subprocess.PIPE, text=True)
        harness.wait_until(lambda: not harness.mounted_at(mount.place), what="the end of the mount")
        with self.frozen(mount):  # it is still sending: that takes up to stop_timeout
            words = child.communicate(timeout=30)[1]
        self.assertEqual(child.returncode, 1)
        self.assertIn("waiting until its daemon", words)
        self.assertIn("does not end", words)

    def test_a_dead_mount_is_replaced_also_while_its_attributes_are_cached(self):
        mount = self.mount(name="mnt", attr_ttl="1h")
        os.stat(mount.place)
        mount.kill()
        os.stat(mount.place)  # the kernel answers for the dead one
        again = self.mount(name="mnt", cache_dir=self.work / "again.cache")
        (again.place / "f").write_text("alive")
        self.assertEqual(again.umount().returncode, 0)
        self.assertIsNone(harness.mounted_at(again.place))

    def test_a_mount_right_after_a_kill_waits_for_what_was_killed(self):
        place = self.work / "mnt"
        mount = self.mount(name="mnt")
        for i in range(12):
            (mount.place / f"f{i}").write_text("x" * 100000)
            mount.kill_monitor()
            os.kill(mount.pid, signal.SIGKILL)
            done = self.try_mount(place, name=f"again{i % 2}")
            self.assertEqual(done.returncode, 0, done.stderr)
            status = subprocess.run([harness.SKYVOL, "status", str(place), "--json"], capture_output=True, text=True, timeout=10)
            facts = json.loads(status.stdout)
            mount.pid, mount.monitor = facts["pid"], facts["monitor"]
        self.assertEqual(mount.umount().returncode, 0)

    def test_status_of_a_dead_mount_says_what_to_do(self):
        mount = self.mount(attr_ttl="1h")
        mount.kill()
        done = mount.run("status", str(mount.place))
        self.assertEqual(done.returncode, 1)
        self.assertIn("has died", done.stderr)
        self.assertIn("skyvol umount", done.stderr)
        self.assertEqual(mount.umount().returncode, 0)

    def test_last_words_arrive_though_others_are_connected_and_silent(self):
        mount = self.mount()
        path = self.control_socket(mount)
        with contextlib.ExitStack() as stack:
            for said in (b"", b"stat", b"umount"):
                other = stack.enter_context(socket.socket(socket.AF_UNIX))
                other.connect(path)
                other.send(said)
            self.assertEqual(json.loads(mount.run("status", str(mount.place), "--json", timeout=3).stdout)["pid"], mount.pid)
            done = mount.umount(timeout=4)
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_silent_client_is_let_go(self):
        mount = self.mount()
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(self.control_socket(mount))
            started = time.monotonic()
            with self.assertRaises(OSError):
                while time.monotonic() - started < 15:  # a byte now and then does not help
                    other.send(b"s")
                    time.sleep(0.5)
            self.assertLess(time.monotonic() - started, 9)

    def test_of_two_mounts_at_once_one_is_refused(self):
        place = self.work / "mnt"
        place.mkdir()
        for _ in range(4):
            self.addCleanup(subprocess.run, ["umount", "-l", str(place)], stderr=subprocess.DEVNULL)
        children = [subprocess.Popen(self.command(place, f"c{i}"), env=harness.clean_environment(),
                                     stderr=subprocess.PIPE, text=True) for i in range(4)]
        ended = [(child.communicate(timeout=30)[1], child.returncode) for child in children]
        self.assertEqual(sorted(code for _, code in ended), [0, 1, 1, 1], ended)
        for words, code in ended:
            self.assertTrue(code == 0 or "busy" in words, words)
        table = [line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines() if f" {place} " in line]
        self.assertEqual(len(table), 1)
        done = subprocess.run([harness.SKYVOL, "umount", str(place)], capture_output=True, text=True, timeout=30)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_umount_returns_when_the_next_mount_may_begin(self):
        for _ in range(5):
            mount = self.mount(name="mnt")
            done = mount.umount()
            self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_daemon_that_lingers_keeps_its_place(self):
        mount = self.mount(name="mnt")
        with open(mount.place / "f", "w"):
            subprocess.run(["umount", "-l", str(mount.place)], check=True)
            done = self.try_mount(mount.place)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"pid {mount.pid}", done.stderr)
            self.assertIsNone(harness.mounted_at(mount.place))
        harness.wait_until(lambda: not mount.alive(), what="the end of the daemon")
        self.assertEqual(self.mount(name="mnt").umount().returncode, 0)

    def test_nothing_is_left_beside_the_socket(self):
        mount = self.mount()
        path = pathlib.Path(self.control_socket(mount))
        lock = path.with_suffix(".lock")
        self.assertEqual(lock.read_text(), f"{mount.pid}\n")
        self.assertEqual(path.stat().st_mode & 0o777, 0o700)
        self.assertEqual(mount.umount().returncode, 0)
        self.assertFalse(path.exists())
        self.assertFalse(lock.exists())

    def test_the_daemon_of_root_answers_nobody_else(self):
        mount = self.mount()
        path = pathlib.Path(self.control_socket(mount))
        self.addCleanup(RUNTIME.chmod, RUNTIME.stat().st_mode & 0o777)
        RUNTIME.chmod(0o755)
        path.chmod(0o777)
        script = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.send(b'status\\n'); "
                  "sys.stdout.buffer.write(s.recv(100))")
        done = subprocess.run(["/usr/bin/python3", "-c", script, str(path)], capture_output=True, text=True, timeout=20,
                              user=pwd.getpwnam("nobody").pw_uid, group=pwd.getpwnam("nobody").pw_gid, extra_groups=[],
                              cwd="/")
        self.assertEqual(done.stdout, "")

    def slow_contact(self, action, *flags, **fault):
        """A mount that hangs in its first LIST: (its command, the place)."""
        little = self.little()
        little.control("fault", op="ListObjectsV2", action=action, times=0, **fault)
        place = self.work / "mnt"
        place.mkdir()
        words = self.command(place, "slow", endpoint=little.endpoint)
        words[2] = "test"
        self.addCleanup(subprocess.run, ["umount", "-l", str(place)], stderr=subprocess.DEVNULL)
        child = subprocess.Popen([*words, *flags], env=harness.clean_environment(keys=False) | little.environment,
                                 stderr=subprocess.PIPE, text=True)
        harness.wait_until(lambda: little.log("ListObjectsV2"), what="the first LIST")
        return child, place

    def test_no_mount_appears_after_its_command_was_interrupted(self):
        child, place = self.slow_contact("delay", ms=1500)
        daemon = int(pathlib.Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text())
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=10)
        harness.wait_until(lambda: not os.path.exists(f"/proc/{daemon}"), 10, "the end of the daemon")
        self.assertIsNone(harness.mounted_at(place))

    def test_ctrl_c_ends_a_first_contact_in_the_foreground(self):
        child, place = self.slow_contact("hang", "-f")
        child.send_signal(signal.SIGINT)
        words = child.communicate(timeout=3)[1]
        self.assertEqual(child.returncode, 1)
        self.assertIn("stopped by a signal", words)
        self.assertIsNone(harness.mounted_at(place))

    def test_a_foreign_sigusr1_does_not_make_it_deaf(self):
        mount = self.mount()
        os.kill(mount.pid, signal.SIGUSR1)
        time.sleep(0.2)
        os.kill(mount.pid, signal.SIGTERM)
        harness.wait_until(lambda: not mount.alive(), 20, "the end of the daemon")

    def test_the_level_of_the_log_changes_while_it_runs(self):
        mount = self.mount(log_level="warn")

        def lines():
            return mount.log.read_text().splitlines()

        def toggle(count):
            os.kill(mount.pid, signal.SIGUSR2)
            harness.wait_until(lambda: sum("SIGUSR2" in line for line in lines()) == count, what="the line that says so")

        self.assertNotIn("is mounted", mount.log.read_text())  # of level info
        toggle(1)
        self.assertIn("log_level=debug", lines()[-1])
        toggle(2)
        self.assertIn("log_level=as configured", lines()[-1])
        self.assertEqual(mount.umount().returncode, 0)
        self.assertNotIn("is unmounted", mount.log.read_text())

    def test_closed_standard_files_are_nothing_and_nobody_elses(self):
        place = self.work / "mnt"
        place.mkdir()
        self.addCleanup(subprocess.run, ["umount", "-l", str(place)], stderr=subprocess.DEVNULL)
        words = self.command(place, "closed")
        done = subprocess.run(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], env=harness.clean_environment(),
                              timeout=30)
        self.assertEqual(done.returncode, 0)
        (place / "f").write_text("x")
        pid = json.loads(subprocess.run([harness.SKYVOL, "status", str(place), "--json"], capture_output=True,
                                        check=True).stdout)["pid"]
        self.assertEqual({os.readlink(f"/proc/{pid}/fd/{n}") for n in range(3)}, {"/dev/null"})
        self.assertEqual(subprocess.run([harness.SKYVOL, "umount", str(place)]).returncode, 0)
        self.assertIn("is unmounted", (self.work / "closed.log").read_text())


class TestDying(harness.Workshop):
    def test_a_daemon_that_is_killed_while_the_kernel_waits_for_it_goes_all_the_same(self):
        """Its thread that tells the kernel to forget a name waits for the directory, which a rename holds that waits for the daemon."""
        little = self.little()
        mount = self.mount(source="test", server=little, attr_ttl="100ms")
        for name in "ac":
            (mount.place / name).write_bytes(b"x")
        held = os.open(mount.place / "c", os.O_RDONLY)
        little.control("fault", op="CopyObject", action="hang", times=0)
        little.control("delete", key="c")
        outcome = []

        def rename():
            try:
                os.rename(mount.place / "a", mount.place / "b")
            except OSError as error:
                outcome.append(error.errno)

        mover = threading.Thread(target=rename, daemon=True)
        mover.start()
        harness.wait_until(lambda: little.log("CopyObject"), what="the rename")
        time.sleep(0.3)
        os.fstat(held)  # finds out that c is gone
        harness.wait_until(lambda: any("fuse_reverse" in task.read_text() for task in
                                       pathlib.Path(f"/proc/{mount.pid}/task").glob("*/wchan")), what="the thread that waits")
        os.kill(mount.pid, signal.SIGKILL)
        mover.join(10)
        self.assertFalse(mover.is_alive(), "it hangs for ever")
        self.assertEqual(len(outcome), 1)
        os.close(held)
        little.control("clear", what=["faults"])
        harness.wait_until(lambda: sorted(self.try_list(mount)) == ["a"], 20, "the mount")
        mount.pid = mount.status()["pid"]

    @staticmethod
    def try_list(mount):
        try:
            return os.listdir(mount.place)
        except OSError:
            return []


if __name__ == "__main__":
    harness.main()
