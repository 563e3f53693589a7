"""The command line of geesefs, as Skyward's bootstrap calls it today."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness
from harness import ACCESS_KEY, SECRET_KEY, SKYVOL, clean_environment, mounted_at


class Geesefs(harness.Workshop):
    def setUp(self):
        super().setUp()
        self.bin = self.work / "bin"
        self.bin.mkdir()
        (self.bin / "geesefs").symlink_to(SKYVOL)
        self.home = self.work / "home"
        self.home.mkdir()
        self.base = self.work / "mnt/geesefs"
        self.keys = self.work / "credentials"
        self.keys.write_text(f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
        self.keys.chmod(0o644)
        self.environment = clean_environment(keys=False) | {
            "PATH": f"{self.bin}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.home), "XDG_STATE_HOME": str(self.work / "state")}
        self.addCleanup(self.clear)

    def clear(self):
        for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
            place = line.split()[1]
            if place.startswith(str(self.work)):
                subprocess.run(["umount", place], check=False, timeout=60)
        harness.wait_until(lambda: str(self.work) not in subprocess.run(
            [SKYVOL, "status", "--all"], env=self.environment, capture_output=True, text=True, timeout=60).stdout, what="its end")

    def line(self, bucket, *more, endpoint=None):
        place = self.base / bucket
        return (f"mkdir -p {place} && geesefs --endpoint={endpoint or self.minio.endpoint} --shared-config={self.keys} "
                f"--stat-cache-ttl=1s --log-file={self.work}/geesefs_{bucket}.log -o allow_other{''.join(more)} {bucket} {place} "
                f"&& mountpoint -q {place}")

    def bash(self, script, status=0, timeout=60):
        run = subprocess.run(["nohup", "bash", "-c", script], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True,
                             text=True, timeout=timeout)
        if status is not None:
            self.assertEqual(run.returncode, status, run.stderr + run.stdout)
        return run

    def test_the_bootstrap_of_today_runs_unchanged_and_twice(self):
        self.s3.make_bucket("second")
        script = self.line(self.bucket) + " && " + self.line("second", ",ro")
        self.s3.put(self.bucket, "a", b"1")
        self.bash(script)
        place = self.base / self.bucket
        self.assertEqual((place / "a").read_text(), "1")
        self.assertEqual(self.keys.stat().st_mode & 0o777, 0o600)
        before = pathlib.Path("/proc/self/mounts").read_text()
        self.bash(script)
        self.assertEqual(pathlib.Path("/proc/self/mounts").read_text(), before, "nothing is mounted twice")
        with open(place / "b", "w") as file:
            file.write("2")
            file.flush()
            os.fsync(file.fileno())
            self.assertEqual(self.s3.get(self.bucket, "b"), b"2", "fsync reaches the server")
        self.s3.put(self.bucket, "a", b"changed")
        harness.wait_until(lambda: (place / "a").read_text() == "changed", seconds=10, what="the change on the server")
        with self.assertRaises(OSError):
            (self.base / "second/x").write_text("x")

    def test_a_bucket_of_another_endpoint_is_not_taken_for_the_one_that_stands(self):
        self.s3.put(self.bucket, "a", b"1")
        self.bash(self.line(self.bucket))
        self.bash(self.line(self.bucket, endpoint=self.minio.endpoint + "/"))
        (self.work / "config").write_text(f"[default]\nendpoint_url = {self.minio.endpoint}\n")
        unsaid = self.line(self.bucket).replace(f"--endpoint={self.minio.endpoint} ", "")
        self.bash(f"export AWS_CONFIG_FILE={self.work}/config; {unsaid}")
        before = pathlib.Path("/proc/self/mounts").read_text()
        elsewhere = self.minio.endpoint.replace("127.0.0.1", "localhost")
        for line, named in ((self.line(self.bucket, endpoint=elsewhere), elsewhere), (unsaid, "AWS")):
            with self.subTest(named):
                (self.work / f"geesefs_{self.bucket}.log").write_text("")
                run = self.bash(line, status=1)
                for said in (run.stderr, (self.work / f"geesefs_{self.bucket}.log").read_text()):
                    self.assertIn("mounted from another endpoint", said)
                    self.assertIn(f"{self.minio.endpoint}, not {named}", said)
        self.assertEqual(pathlib.Path("/proc/self/mounts").read_text(), before)

    def test_a_mount_whose_daemon_does_not_answer_is_no_success(self):
        self.bash(self.line(self.bucket))
        place = self.base / self.bucket
        daemon = json.loads(self.bash(f"{SKYVOL} status --json {place}").stdout)["pid"]
        os.kill(daemon, signal.SIGSTOP)
        try:
            began = time.monotonic()
            run = self.bash(self.line(self.bucket), status=1)
            self.assertLess(time.monotonic() - began, 10)
        finally:
            os.kill(daemon, signal.SIGCONT)
        for said in (run.stderr, (self.work / f"geesefs_{self.bucket}.log").read_text()):
            self.assertIn(f"skyvol status {place}", said)

    def test_what_cannot_be_mounted_fails_soon_and_says_why_in_both_places(self):
        silent = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(silent.close)
        for bucket, endpoint, words in (("not-there", None, "there is no such bucket"),
                                        (self.bucket, "http://127.0.0.1:9", "cannot be reached"),
                                        ("silent", f"http://127.0.0.1:{silent.getsockname()[1]}", "the endpoint does not answer")):
            began = time.monotonic()
            run = self.bash(self.line(bucket, endpoint=endpoint), status=1)
            self.assertLess(time.monotonic() - began, 10)
            self.assertIn(words, run.stderr)
            said = (self.work / f"geesefs_{bucket}.log").read_text()
            self.assertIn(words, said)
            self.assertFalse(mounted_at(self.base / bucket))

    def test_flags_are_known_tune_nothing_or_are_refused(self):
        place = self.base / self.bucket
        common = f"mkdir -p {place} && geesefs --endpoint {self.minio.endpoint} --shared-config {self.keys} --log-file {self.work}/log"
        run = self.bash(f"{common} --max-flushrs 3 {self.bucket} {place}", status=2)
        self.assertIn("max-flushers", run.stderr)
        self.assertIn("missing", self.bash("geesefs bucket", status=2).stderr)
        self.bash(f"{common} --iam --iam-flavor=imdsv1 --list-type 2 --max-flushers 4 --memory-limit=100 --file-mode 0640 --enable-perms "
                  f"--part-sizes 5:1000,25:1000 {self.bucket}:{self.prefix} {place}")
        self.s3.put(self.bucket, self.key("x"), b"x")
        self.assertEqual((place / "x").stat().st_mode & 0o777, 0o640)
        log = (self.work / "log").read_text()
        self.assertIn("--part-sizes", log)
        self.assertEqual(log.count("without a counterpart"), 1)
        self.assertIn("geesefs", self.bash("geesefs --version").stdout)


if __name__ == "__main__":
    harness.main()
