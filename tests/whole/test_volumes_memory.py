"""What `skyvol up` made is found again by `up` and `down`, whatever happened to it in between: kills, reboots, other configurations."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness
from harness import SECRET_KEY, SKYVOL, mounted_at
from pools import Volumes


class Memory(Volumes):
    """What `up` made is found again whatever happened to it in between."""

    server_per_test = True

    def volumes(self, **more):
        return [{"bucket": self.bucket, "mount": f"{self.work}/data", "prefix": f"{self.prefix}/in"},
                {"bucket": self.bucket, "mount": f"{self.work}/out", "prefix": f"{self.prefix}/out", "read_only": False, **more}]

    def mount_lines(self):
        return [line for line in pathlib.Path("/proc/self/mounts").read_text().splitlines() if str(self.work) in line]

    def pids(self):
        status = json.loads(subprocess.run([SKYVOL, "status", self.base / self.bucket, "--json"], env=self.environment,
                                           capture_output=True, text=True, check=True).stdout)
        return status["monitor"], status["pid"], status["cache_dir"]

    def kill(self):
        """All of it at once; the dead mounts stay. Its cache directory."""
        monitor, pid, home = self.pids()
        self.addCleanup(shutil.rmtree, home, ignore_errors=True)
        os.kill(monitor, 9)
        os.kill(pid, 9)
        harness.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="its end")
        return home

    def reboot(self):
        home = self.kill()
        for line in reversed(self.mount_lines()):
            subprocess.run(["umount", "-l", line.split()[1]], check=True)
        return home

    def secrets(self):
        return sorted(path.read_text() for path in (self.work / "state").rglob(self.bucket))

    def leave_unsent(self, end):
        """A file that is only in the cache directory, whose mount was ended by end()."""
        self.write(*self.volumes(options="durability=writeback,stop_timeout=1s"))
        self.skyvol("up")
        self.minio.stop()
        (self.work / "out/model").write_text("weights")
        return end()

    def down_keeps_the_keys_of(self, home):
        for _ in range(2):
            run = self.skyvol("down", check=False)
            self.assertEqual(run.returncode, 1, run.stdout)
            for words in (home, "unsent files of", f"skyvol flush {home}", "skyvol discard", "keys stay"):
                self.assertIn(words, run.stderr)
            self.assertEqual(len(self.secrets()), 1)
        self.minio.start()

    def test_unsent_files_keep_their_keys_after_a_reboot_and_flush_sends_them(self):
        home = self.leave_unsent(self.reboot)
        self.down_keeps_the_keys_of(home)
        run = subprocess.run([SKYVOL, "flush", home], env=self.environment, capture_output=True, text=True, timeout=60)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(self.s3.get(self.bucket, self.key("out/model")), b"weights")
        self.skyvol("down")
        self.nothing_is_left()

    def test_unsent_files_keep_their_keys_after_a_crash_and_up_sends_them(self):
        home = self.leave_unsent(self.kill)
        self.down_keeps_the_keys_of(home)
        self.skyvol("up")
        self.skyvol("down")
        self.assertEqual(self.s3.get(self.bucket, self.key("out/model")), b"weights")
        self.nothing_is_left()

    def test_down_waits_for_a_daemon_that_still_sends_also_the_second_time(self):
        self.leave_unsent(lambda: None)
        _, pid, home = self.pids()
        self.addCleanup(shutil.rmtree, home, ignore_errors=True)
        for _ in range(2):
            process = subprocess.Popen([SKYVOL, "down", "-c", str(self.file), "--base", str(self.base), "--state", str(self.state)],
                                       env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       start_new_session=True)
            harness.wait_until(lambda: not mounted_at(self.base / self.bucket), what="the end of the mount")
            with self.assertRaises(subprocess.TimeoutExpired):
                process.wait(1)
            os.killpg(process.pid, 2)
            process.wait(10)
            self.assertEqual(len(self.secrets()), 1)
            self.assertTrue(os.path.exists(f"/proc/{pid}"))
        self.minio.start()
        self.skyvol("down")
        self.assertEqual(self.s3.get(self.bucket, self.key("out/model")), b"weights")
        self.nothing_is_left()

    def test_a_read_only_bind_of_a_daemon_that_died_goes_too(self):
        self.s3.put(self.bucket, self.key("in/a"), b"a")
        self.write(*self.volumes())
        self.skyvol("up")
        self.kill()
        self.skyvol("down")
        self.nothing_is_left()

    def test_up_after_a_crash_binds_once(self):
        self.s3.put(self.bucket, self.key("in/a"), b"a")
        self.write(*self.volumes())
        self.skyvol("up")
        self.kill()
        self.skyvol("up")
        self.assertEqual((self.work / "data/a").read_text(), "a")
        self.assertEqual(len(self.mount_lines()), 2, "the mount, and the bind of it")
        self.skyvol("down")
        self.nothing_is_left()

    def test_a_prefix_that_changed_shows_the_new_place(self):
        self.s3.put(self.bucket, self.key("in/a"), b"a")
        self.s3.put(self.bucket, self.key("other/b"), b"b")
        for read_only in (True, False):
            volumes = self.volumes()
            volumes[1]["read_only"] = not read_only  # a bind of the first, or a plain link
            volumes[0]["read_only"] = True
            self.write(*volumes)
            self.skyvol("up")
            volumes[0]["prefix"] = f"{self.prefix}/other"
            self.write(*volumes)
            self.skyvol("up")
            self.assertEqual(os.listdir(self.work / "data"), ["b"])
            self.skyvol("down")
            self.nothing_is_left()

    def test_keys_that_unsent_files_need_are_not_replaced_by_those_of_another_endpoint(self):
        home = self.leave_unsent(self.kill)
        keys = self.secrets()
        other = harness.Minio(self.work / "other")
        self.addCleanup(other.stop)
        other.s3.make_bucket(self.bucket)
        volumes = self.volumes(options="durability=writeback,stop_timeout=1s")
        self.write(*[volume | {"storage": self.storage().replace(self.minio.endpoint, other.endpoint).replace('"SECRET"', '"OTHER"')}
                     for volume in volumes])
        self.environment["OTHER"] = SECRET_KEY
        run = self.skyvol("up", check=False)
        self.assertEqual(run.returncode, 1, run.stdout)
        self.assertIn(home, run.stderr)
        self.assertEqual(self.secrets(), keys)
        self.minio.start()
        self.write(*self.volumes(options="durability=sync"))  # of the same endpoint: it sends them itself
        self.skyvol("up")
        self.skyvol("down")
        self.assertEqual(self.s3.get(self.bucket, self.key("out/model")), b"weights")
        self.nothing_is_left()

    def test_a_bucket_of_another_endpoint_is_not_taken_for_the_one_that_stands(self):
        other = harness.Minio(self.work / "other")
        self.addCleanup(other.stop)
        other.s3.make_bucket(self.bucket)
        self.write(*self.volumes())
        self.skyvol("up")
        keys = self.secrets()
        self.environment["SECRET"] = "another"
        self.write(*[volume | {"storage": self.storage().replace(self.minio.endpoint, other.endpoint)} for volume in self.volumes()])
        run = self.skyvol("up", check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn("other options", run.stderr)
        self.assertEqual(self.secrets(), keys, "the keys of what stands")
        (self.work / "out/x").write_text("x")
        self.assertEqual(self.s3.get(self.bucket, self.key("out/x")), b"x")
        self.skyvol("down")
        self.nothing_is_left()

    def test_of_two_files_with_one_pool_name_neither_takes_away_the_others(self):
        self.write(*self.volumes())
        first = self.file
        home = ["--base", str(self.base)]
        states = self.work / "xdg-state"
        environment = self.environment | {"XDG_STATE_HOME": str(states)}
        (self.work / "two").mkdir()
        second = self.work / "two/skyward.toml"
        second.write_text(first.read_text().replace(f"{self.work}/data", f"{self.work}/data2").replace(f"{self.work}/out", f"{self.work}/out2"))

        def run(command, file):
            return subprocess.run([SKYVOL, command, "-c", file, *home], env=environment, capture_output=True, text=True, timeout=60)
        pool = pathlib.Path("/var/lib/skyvol/pools/pool-none.up") if os.geteuid() == 0 else states / "skyvol/pools/pool-none.up"
        self.assertFalse(pool.exists(), "left by somebody else")
        self.addCleanup(run, "down", first)
        self.assertEqual(run("up", first).returncode, 0)
        for command in ("up", "down"):
            done = run(command, second)
            self.assertEqual(done.returncode, 1, done.stdout)
            for words in (str(first), str(second), "[pools.NAME]", "--state"):
                self.assertIn(words, done.stderr)
        self.assertTrue(os.path.isdir(self.work / "data/."))
        first.write_text('[pool]\n[[pool.volumes]]\nmount = "/tmp"\n')
        done = run("down", first)
        self.assertEqual(done.returncode, 0, "volumes that are wrong by now do not keep those that are up: " + done.stderr)
        self.nothing_is_left()

    def test_a_base_behind_a_symlink_comes_down(self):
        (self.work / "real").mkdir()
        (self.work / "link").symlink_to(self.work / "real")
        self.base = self.work / "link/base"
        self.write(*self.volumes())
        self.skyvol("up")
        self.skyvol("up")
        self.assertEqual(len(self.mount_lines()), 2)
        self.skyvol("down")
        self.nothing_is_left()

    def test_a_bind_that_is_in_use_keeps_its_mount(self):
        self.s3.put(self.bucket, self.key("in/a"), b"a")
        self.write(*self.volumes())
        self.skyvol("up")
        with open(self.work / "data/a") as file:
            run = self.skyvol("down", check=False)
            self.assertEqual(run.returncode, 1)
            self.assertIn("fuser", run.stderr)
            self.assertEqual(file.read(), "a")
            self.assertTrue(mounted_at(self.base / self.bucket))
        self.skyvol("down")
        self.nothing_is_left()

    def test_what_up_mounts_again_after_a_reboot_it_also_undoes(self):
        self.write(*self.volumes(), {"bucket": "other", "mount": f"{self.work}/third"})
        self.minio.s3.make_bucket("other")
        self.skyvol("up")
        other = self.base / "other"
        pid = json.loads(subprocess.run([SKYVOL, "status", other, "--json"], env=self.environment, capture_output=True, text=True).stdout)
        os.kill(pid["monitor"], 9)
        os.kill(pid["pid"], 9)
        self.reboot()
        shutil.rmtree(self.minio.work / "server/other")
        run = self.skyvol("up", check=False)
        self.assertEqual(run.returncode, 1)
        self.assertEqual(self.mount_lines(), [])
        self.skyvol("down")
        self.nothing_is_left()


if __name__ == "__main__":
    harness.main()
