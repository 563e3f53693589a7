"""./try, ./test and bench/run on machines that lack something, and when they are interrupted."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402


class TestScripts(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="skyvol-test.")
        self.addCleanup(folder.cleanup)
        self.work = pathlib.Path(folder.name)

    def test_the_release_build_needs_no_package_of_the_tests(self):
        empty = self.work / "pkgconfig"
        empty.mkdir()
        done = subprocess.run(["pkg-config", "--variable=pc_path", "pkg-config"], capture_output=True, text=True, check=True)
        for folder in done.stdout.strip().split(":"):  # all modules but criterion
            for module in pathlib.Path(folder).glob("*.pc"):
                if module.name != "criterion.pc" and not (empty / module.name).exists():
                    (empty / module.name).symlink_to(module)
        done = subprocess.run(["cmake", "-S", harness.ROOT, "--preset", "release", "-B", self.work / "build"],
                              env=os.environ | {"PKG_CONFIG_LIBDIR": str(empty)}, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def fake_go(self, script):
        """A folder for PATH with a go that is new enough; `script` is its install."""
        folder = self.work / "bin"
        folder.mkdir()
        (folder / "go").write_text(f'#!/bin/sh\n[ "$1" = env ] && {{ echo go1.99; exit; }}\n{script}\n')
        (folder / "go").chmod(0o755)
        path = ":".join(name for name in os.environ["PATH"].split(":") if not (pathlib.Path(name) / "minio").exists())
        return os.environ | {"PATH": f"{folder}:{path}", "XDG_CACHE_HOME": str(self.work), "SKYVOL_MINIO": ""}

    def test_ctrl_c_ends_the_build_of_minio(self):
        environment = self.fake_go(f"echo $$ >{self.work}/pid; sleep 300 & echo $! >{self.work}/child; wait")
        child = subprocess.Popen(["bash", "-euc", f". {harness.ROOT}/tests/support/setup.sh; setup_minio"], env=environment,
                                 stderr=subprocess.DEVNULL, start_new_session=True)
        pids = [int(harness.wait_until(lambda name=name: (self.work / name).exists() and (self.work / name).read_text(),
                                       what=name)) for name in ("pid", "child")]
        os.killpg(child.pid, signal.SIGINT)  # as the terminal does
        self.assertNotEqual(child.wait(20), 0)
        for pid in pids:
            harness.wait_until(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), 10, "the end of the build")

    def test_minio_is_built_once_and_kept(self):
        environment = self.fake_go('mkdir -p "$GOBIN"; printf "#!/bin/sh\n" >"$GOBIN/minio"; chmod 755 "$GOBIN/minio"')
        for _ in range(2):
            done = subprocess.run(["bash", "-euc", f". {harness.ROOT}/tests/support/setup.sh; setup_minio; $SKYVOL_MINIO"],
                                  env=environment, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("Building", done.stderr)

    def test_the_python_of_the_tests_is_installed_once_and_kept(self):
        folder = self.work / "bin"
        folder.mkdir()
        (folder / "python3").write_text('#!/bin/sh\nmkdir -p "$3/bin"; for name in python pip; do printf "#!/bin/sh\\n" >"$3/bin/$name"; '
                                        'chmod 755 "$3/bin/$name"; done\n')
        (folder / "python3").chmod(0o755)
        environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(self.work), "SKYVOL_PYTHON": ""}
        told = []
        for _ in range(2):
            done = subprocess.run(["bash", "-euc", f". {harness.ROOT}/tests/support/setup.sh; setup_python; $SKYVOL_PYTHON"],
                                  env=environment, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            told.append("Taking numpy" in done.stderr)
        self.assertEqual(told, [True, False])
        environment["SKYVOL_PYTHON"] = "/bin/false"
        done = subprocess.run(["bash", "-euc", f". {harness.ROOT}/tests/support/setup.sh; setup_python"], env=environment,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("SKYVOL_PYTHON=/bin/false has no numpy, duckdb and moto[server]", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
