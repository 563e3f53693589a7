"""A pool of volumes for whole-program tests: its configuration, base and state below the work directory, its bucket on MinIO."""

import json
import os
import pathlib
import subprocess

import harness
from harness import ACCESS_KEY, SECRET_KEY, SKYVOL, clean_environment


class Volumes(harness.Workshop):
    def setUp(self):
        super().setUp()
        self.base = self.work / "base"
        self.state = self.work / "state" / "pool"
        self.home = self.work / "home"
        self.home.mkdir()
        self.environment = clean_environment(keys=False) | {
            "HOME": str(self.home), "KEY": ACCESS_KEY, "SECRET": SECRET_KEY, "XDG_STATE_HOME": str(self.work / "xdg")}
        self.addCleanup(self.clear)

    def clear(self):
        """Whatever a failed test left."""
        self.skyvol("down", check=False)
        for line in reversed(pathlib.Path("/proc/self/mounts").read_text().splitlines()):
            place = line.split()[1]
            if place.startswith(str(self.work)):
                subprocess.run(["umount", "-l", place], check=False)

    def storage(self):
        return (f'{{ endpoint = "{self.minio.endpoint}", path_style = true, region = "us-east-1", '
                'access_key = { env = "KEY" }, secret_key = { env = "SECRET" } }')

    def write(self, *volumes, head=""):
        """Each volume: a dict of TOML values, "storage" added unless it is there."""
        text = head or '[pool]\nnodes = 2\n'
        for volume in volumes:
            volume = {"storage": self.storage(), **volume}
            text += "\n[[pool.volumes]]\n"
            for name, value in volume.items():
                plain = isinstance(value, str) and not value.startswith("{")
                text += f"{name} = {json.dumps(value) if plain or isinstance(value, bool) else value}\n"
        self.file = self.work / "skyward.toml"
        self.file.write_text(text)
        self.file.chmod(0o600)
        return self.file

    def skyvol(self, command, *words, check=True, base=True):
        run = subprocess.run([SKYVOL, command, "-c", str(self.work / "skyward.toml"), *(["--base", str(self.base)] if base else []),
                              "--state", str(self.state), *words],
                             env=self.environment, capture_output=True, text=True, timeout=120)
        if check:
            self.assertEqual(run.returncode, 0, run.stderr + run.stdout)
        return run

    def nothing_is_left(self):
        self.assertNotIn(str(self.work), pathlib.Path("/proc/self/mounts").read_text())
        self.assertEqual([p for p in (self.base, self.work / "data", self.work / "out") if os.path.lexists(p)], [])
        self.assertEqual([p.name for p in self.state.parent.iterdir() if not p.name.endswith(".lock")]
                         if self.state.parent.exists() else [], [])
