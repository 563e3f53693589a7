"""./try, ./test and bench/run on machines that lack something, and when they are interrupted."""

import os
import pathlib
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


if __name__ == "__main__":
    unittest.main(verbosity=2)
