"""What whole-program tests stand on: a private MinIO, real mounts of the real binary, and everything ended by its pid.

    class TestSomething(harness.Workshop):          plain unittest; `python3 tests/whole/test_something.py` runs one file
        def test_a_claim(self):
            mount = self.mount()                     bucket "test" of a MinIO that the class shares, mounted, in self.place
            ...                                      unmounted and checked after the test

SKYVOL names the binary; SKYVOL_MINIO, PATH or the cache folder the server; SKYVOL_PYTHON or the cache folder a Python with numpy,
duckdb and moto. What is missing fails loudly.
"""

import atexit
import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from little import Little
from s3 import S3, free_port

ROOT = pathlib.Path(os.environ.get("SKYVOL_SOURCE", pathlib.Path(__file__).resolve().parents[2]))
SKYVOL = os.environ.get("SKYVOL", str(ROOT / "build/dev/skyvol"))
ACCESS_KEY, SECRET_KEY = "skyvol-test", "skyvol-test-secret"
PR_SET_PDEATHSIG = 1


def die_with_parent():
    """In a child before exec: no server outlives a test that was killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def find_minio():
    kept = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "skyvol/minio/minio"
    for name in (os.environ.get("SKYVOL_MINIO"), shutil.which("minio"), str(kept)):
        if name and os.access(name, os.X_OK):
            return name
    raise RuntimeError("there is no MinIO: run ./test, which builds it, or name one in SKYVOL_MINIO")


def find_python():
    """One that has numpy, duckdb and moto, which the distribution's may lack."""
    kept = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "skyvol/python/bin/python"
    for name in (os.environ.get("SKYVOL_PYTHON"), str(kept), sys.executable):
        if name and subprocess.run([name, "-c", "import numpy, duckdb, moto.server"], capture_output=True).returncode == 0:
            return name
    raise RuntimeError("there is no Python with numpy, duckdb and moto: run ./test, which installs them, or name one in SKYVOL_PYTHON")


def clean_environment(keys=True):
    """The caller's, without anything that would choose other keys or options."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("AWS_", "SKYVOL_")) and name.lower() not in ("http_proxy", "https_proxy")}
    environment["AWS_EC2_METADATA_DISABLED"] = "true"  # of the machine that runs the tests
    if keys:
        environment |= {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    return environment


def wait_until(condition, seconds=30, what="a condition"):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {seconds} s")
        time.sleep(0.02)


class Minio:
    """A server with its own directory; stop() and start() again keep the data."""

    def __init__(self, work):
        self.work = pathlib.Path(work)
        self.port, self.console = free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.s3 = S3(self.endpoint, ACCESS_KEY, SECRET_KEY)
        (self.work / "server").mkdir(parents=True, exist_ok=True)
        self.process = None
        self.start()

    def start(self):
        environment = clean_environment() | {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY}
        with open(self.work / "minio.log", "ab") as log:
            self.process = subprocess.Popen(
                [find_minio(), "server", str(self.work / "server"), "--address", f"127.0.0.1:{self.port}",
                 "--console-address", f"127.0.0.1:{self.console}"],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
        self.s3.wait()

    def stop(self):
        """Gone: connections are refused."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self):
        """Silent: connections are taken and nothing is answered."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)  # the signal alone leaves it a moment to answer

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)


def mounted_at(path):
    """(source, type) of the topmost mount at path, or None. Reads the table: never touches the mount."""
    found = None
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if left.split()[4] == str(path):
            found = (right.split()[1], right.split()[0])
    return found


class Mount:
    """One `skyvol mount`, ended by umount(), or by kill() as a crash would."""

    def __init__(self, source, place, options, environment, log):
        self.broken = False  # True: the test leaves it so that it cannot end well
        self.source, self.place, self.environment, self.log = source, pathlib.Path(place), environment, log
        if not mounted_at(self.place):  # a dead mount is not touched
            self.place.mkdir(parents=True, exist_ok=True)
        text = ",".join(name if value is True else f"{name}={value}" for name, value in options.items())
        self.command = [SKYVOL, "mount", source, str(self.place), "-o", text]
        done = subprocess.run(self.command, env=environment, capture_output=True, text=True, timeout=60)
        self.words = done.stderr
        if done.returncode != 0:
            raise RuntimeError(f"mount failed ({done.returncode}): {done.stderr}")
        self.look()

    def look(self):
        """Takes in who serves it now."""
        status = self.status()
        self.pid, self.monitor = status["pid"], status["monitor"]

    def run(self, *words, timeout=120):
        return subprocess.run([SKYVOL, *words], env=self.environment, capture_output=True, text=True, timeout=timeout)

    def status(self):
        done = self.run("status", str(self.place), "--json")
        if done.returncode != 0:
            raise RuntimeError(f"status failed: {done.stderr}")
        return json.loads(done.stdout)

    def alive(self):
        try:
            return pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):  # the second: it ended between open and read
            return False

    def umount(self, *flags, timeout=120):
        """With "--wait" it returns when all is sent; without, when the place is free."""
        return self.run("umount", str(self.place), *flags, timeout=timeout)

    def umount_and_give_up(self, timeout=60):
        """As who waits for what cannot be sent, until the daemon is told to end."""
        child = subprocess.Popen([SKYVOL, "umount", str(self.place), "--wait"], env=self.environment,
                                 stderr=subprocess.PIPE, text=True)
        wait_until(lambda: not mounted_at(self.place), what="the end of the mount")
        os.kill(self.pid, signal.SIGTERM)
        words = child.communicate(timeout=timeout)[1]
        return subprocess.CompletedProcess(child.args, child.returncode, "", words)

    def kill_monitor(self):
        """Then nobody starts the daemon again. Says its pid only while it has one."""
        if self.monitor and self.alive():
            try:
                os.kill(self.monitor, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.monitor = 0

    def kill(self):
        """As a crash of all of it: nothing is told, the dead mount stays."""
        self.kill_monitor()
        os.kill(self.pid, signal.SIGKILL)
        wait_until(lambda: not self.alive(), what="the end of the daemon")
        for _ in range(50):
            try:
                if len(os.listdir(f"/proc/{self.pid}/task")) < 2:
                    return
            except FileNotFoundError:
                return
            time.sleep(0.02)
        # One of its threads and whoever works below the mount wait for each other in the kernel (mount/dying.h).
        subprocess.run(["umount", "-f", str(self.place)], capture_output=True)

    def rss_mib(self):
        """RssAnon + RssShmem."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return sum(int(kib) for kib in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+)", text, re.MULTILINE)) / 1024

    def clean_up(self):
        """As a user ends it, which must succeed where nothing is wrong; then by force, so that nothing is left."""
        ended = None
        try:
            if self.alive() and mounted_at(self.place) and not self.broken:
                ended = self.umount()
        finally:
            with contextlib.suppress(ProcessLookupError):  # it may end by itself in this moment
                if self.alive():
                    self.kill()
            while mounted_at(self.place):
                subprocess.run(["umount", "-l", str(self.place)], check=True)
        if ended and ended.returncode != 0:
            raise AssertionError(f"skyvol umount at the end of the test failed ({ended.returncode}): {ended.stderr}")


class Workshop(unittest.TestCase):
    bucket = "test"
    server_per_test = False  # True: each test may stop and freeze its own MinIO

    @classmethod
    def setUpClass(cls):
        cls.class_work = pathlib.Path(tempfile.mkdtemp(prefix="skyvol-test."))
        atexit.register(shutil.rmtree, cls.class_work, ignore_errors=True)
        cls.shared_minio = None
        if not cls.server_per_test:
            cls.shared_minio = Minio(cls.class_work)
            cls.shared_minio.s3.make_bucket(cls.bucket)

    @classmethod
    def tearDownClass(cls):
        if cls.shared_minio:
            cls.shared_minio.stop()
        shutil.rmtree(cls.class_work, ignore_errors=True)

    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="skyvol-test."))
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        self.prefix = re.sub(r"[^a-z0-9]+", "-", self._testMethodName)
        if self.server_per_test:
            self.minio = Minio(self.work)
            self.addCleanup(self.minio.stop)
            self.minio.s3.make_bucket(self.bucket)
        else:
            self.minio = self.shared_minio
        self.s3 = self.minio.s3
        self.mounts = 0

    def little(self, **options):
        """A strict little S3 of this test's own (little.py), its bucket has the same name; mount(server=it) mounts it."""
        little = Little(**options)
        self.addCleanup(little.stop)
        return little

    def mount(self, source=None, name=None, environment=None, server=None, **options):
        """Mounts bucket:prefix-of-this-test of MinIO, or of a little S3; options as keywords, True for switches. durability=sync,
        unless said otherwise: most tests look at the bucket when a close has returned; durability=None: the default."""
        if server:
            options = {"endpoint": server.endpoint, **options}
            environment = environment or clean_environment(keys=False) | server.environment
        self.mounts += 1
        name = name or f"mount{self.mounts}"
        log = self.work / f"{name}.log"
        options = {"endpoint": self.minio.endpoint, "cache_dir": self.work / f"{name}.cache", "log": log,
                   "log_level": "debug", "durability": "sync", **options}
        options = {option: value for option, value in options.items() if value is not None}
        mount = Mount(source or f"{self.bucket}:{self.prefix}", self.work / name, options,
                      environment or clean_environment(), log)
        self.addCleanup(self.end_mount, mount)
        return mount

    def end_mount(self, mount):
        failed = not self._outcome.success
        if failed and mount.log.exists():
            sys.stderr.write(f"--- the end of {mount.log.name} ---\n")
            sys.stderr.write("\n".join(mount.log.read_text(errors="replace").splitlines()[-40:]) + "\n")
        mount.broken = mount.broken or failed
        mount.clean_up()

    def key(self, name):
        return f"{self.prefix}/{name}"

    def object(self, name):
        return self.s3.get(self.bucket, self.key(name))

    def keys(self, below=""):
        """Keys of this test, without its prefix."""
        return [key[len(self.prefix) + 1:] for key, _, _ in self.s3.list(self.bucket, self.key(below))]


def main():
    unittest.main(verbosity=2)
