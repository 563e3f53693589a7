"""What tests of mount(8) stand on: its helper in /sbin, keys in a file, nothing in the environment."""

import json
import os
import pathlib
import subprocess

import harness
from harness import ACCESS_KEY, SECRET_KEY, SKYVOL, mounted_at

HELPERS = [pathlib.Path("/sbin/mount.skyvol"), pathlib.Path("/sbin/mount.fuse.skyvol")]


class System(harness.Workshop):
    """The helper stands where mount(8) looks for it while the class runs; one that is installed is put aside and back."""

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

    def status(self, must=True, other_than=None):
        """What the daemon says; None: there is none, or it is that one still."""
        run = subprocess.run([SKYVOL, "status", self.place, "--json"], capture_output=True, text=True, timeout=60)
        if must:
            self.assertEqual(run.returncode, 0, run.stderr)
        status = json.loads(run.stdout) if run.returncode == 0 else {}
        return status if status.get("pid") not in (None, other_than) else None
