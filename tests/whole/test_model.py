"""The mount beside a local directory: the same random calls on both, and after each all that stat, fstat, statx and read tell."""

import errno
import os
import pathlib
import random
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

NAMES = ["a", "b", "c", "sub/d", "sub/e"]
STEPS = 400


class Side:
    """One of the two: a directory, and handles by number."""

    def __init__(self, place):
        self.place, self.handles = pathlib.Path(place), {}

    def close_all(self):
        for fd in self.handles.values():
            os.close(fd)
        self.handles = {}

    # ---- Steps: each returns what the program sees, or the errno. ----

    def open(self, number, name, flags):
        fd = os.open(self.place / name, flags, 0o640)
        if number in self.handles:
            os.close(self.handles[number])
        self.handles[number] = fd

    def close(self, number):
        os.close(self.handles.pop(number))

    def pwrite(self, number, content, offset):
        return os.pwrite(self.handles[number], content, offset)

    def write(self, number, content):
        return os.write(self.handles[number], content)

    def pread(self, number, size, offset):
        return os.pread(self.handles[number], size, offset)

    def ftruncate(self, number, size):
        os.ftruncate(self.handles[number], size)

    def truncate(self, name, size):
        os.truncate(self.place / name, size)

    def unlink(self, name):
        os.unlink(self.place / name)

    def rename(self, name, to):
        os.rename(self.place / name, self.place / to)

    def chmod(self, name, mode):
        os.chmod(self.place / name, mode)

    def fchmod(self, number, mode):
        os.fchmod(self.handles[number], mode)

    def utime(self, name, ns):
        os.utime(self.place / name, ns=(ns, ns))

    def fsync(self, number):
        os.fsync(self.handles[number])

    def allocate(self, number, offset, length):
        os.posix_fallocate(self.handles[number], offset, length)

    def do(self, step):
        try:
            return getattr(self, step[0])(*step[1:])
        except OSError as error:
            return errno.errorcode[error.errno]
        except KeyError:
            return "no such handle"


def facts(status):
    return {"mode": oct(status.st_mode), "nlink": status.st_nlink, "size": status.st_size, "uid": status.st_uid,
            "gid": status.st_gid}


def read_whole(fd):
    try:
        return os.pread(fd, 1 << 22, 0)
    except OSError as error:
        return errno.errorcode[error.errno]


class TestModel(harness.Workshop):
    def mount_and_model(self):
        model = self.work / "model"
        model.mkdir()
        mount = self.mount(durability=None, name="one")
        for place in (model, mount.place):
            (place / "sub").mkdir()
        self.seed = int(os.environ.get("MODEL_SEED") or random.SystemRandom().randrange(1 << 32))
        self.chance = random.Random(self.seed)
        return mount, Side(mount.place), Side(model)

    def choose(self):
        """A step as a tuple."""
        chance = self.chance
        number, name, at = chance.randrange(5), chance.choice(NAMES), int(chance.random() ** 2 * 300000)
        content = bytes([chance.randrange(1, 256)]) * int(chance.random() ** 3 * 200000)
        flags = chance.choice([os.O_RDWR, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_APPEND,
                               os.O_RDONLY, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
                               os.O_WRONLY | os.O_CREAT])
        return chance.choice([
            ("open", number, name, flags), ("open", number, name, flags), ("close", number),
            ("pwrite", number, content, at), ("pwrite", number, content, at), ("write", number, content[:5000]),
            ("pread", number, 50000, at), ("ftruncate", number, at), ("truncate", name, at), ("unlink", name),
            ("rename", name, chance.choice(NAMES)), ("chmod", name, chance.choice([0o600, 0o644, 0o755, 0o400])),
            ("fchmod", number, chance.choice([0o600, 0o666])), ("utime", name, chance.randrange(1 << 60)),
            ("fsync", number), ("allocate", number, at, 1 + len(content))])

    def statx(self, path):
        """As coreutils are told, who ask by statx."""
        return subprocess.run(["stat", "-c", "%i %s %b %h %a %Y", path], capture_output=True, text=True,
                              check=True).stdout.split()

    def compare(self, real, model, told):
        for number, fd in real.handles.items():
            here, there = os.fstat(fd), os.fstat(model.handles[number])
            self.assertEqual(facts(here), facts(there), told(f"fstat of handle {number}"))
            self.assertEqual(read_whole(fd), read_whole(model.handles[number]), told(f"contents by handle {number}"))
        for name in NAMES:
            shown, expected = real.place / name, model.place / name
            self.assertEqual(shown.exists(), expected.exists(), told(f"existence of {name}"))
            if not expected.exists():
                continue
            here = os.stat(shown)
            self.assertEqual(facts(here), facts(os.stat(expected)), told(f"stat of {name}"))
            for fd in real.handles.values():
                other = os.fstat(fd)
                if other.st_ino == here.st_ino:
                    self.assertEqual(other, os.stat(shown), told(f"fstat and stat of {name}"))
            self.assertLessEqual(here.st_blocks * 512, here.st_size + 511, told(f"blocks of {name}"))
            self.assertEqual(here.st_blocks > 0, here.st_size > 0, told(f"blocks of {name}"))
        self.assertEqual(sorted(os.listdir(real.place / "sub")), sorted(os.listdir(model.place / "sub")), told("sub"))

    def times_of(self, side):
        return {name: os.stat(side.place / name).st_mtime_ns for name in NAMES if (side.place / name).exists()}

    def compare_times(self, step, before, real, model, told):
        """What moves there moves here, and what was set is what is told. Blocks alone (allocate) move no time here: nothing would go
        up but that."""
        for name, ns in self.times_of(model).items():
            old, (now_here, now_there) = before[1].get(name), (self.times_of(real)[name], ns)
            if step[0] == "utime" and step[1] == name:
                self.assertEqual(now_here, now_there, told(f"mtime of {name}"))
            elif old is not None and step[0] not in ("rename", "open", "allocate"):
                self.assertEqual(now_here != before[0][name], now_there != old, told(f"mtime of {name} moves"))

    def test_a_mount_tells_of_files_what_a_local_directory_does(self):
        mount, real, model = self.mount_and_model()
        self.addCleanup(real.close_all)
        self.addCleanup(model.close_all)
        done = []

        def told(what):
            return f"{what}; MODEL_SEED={self.seed}, after {len(done)} steps, last: " + "; ".join(
                re.sub(r"b'(.{8}).*?'", r"b'\1...'", str(step)) for step in done[-6:])

        for index in range(STEPS):
            step, before = self.choose(), (self.times_of(real), self.times_of(model))
            time.sleep(0.005 if index % 4 == 0 else 0)  # the local directory's clock ticks every few ms
            done.append(step)
            self.assertEqual(real.do(step), model.do(step), told("result"))
            self.compare(real, model, told)
            if index % 4 == 0:
                self.compare_times(step, before, real, model, told)
            if index % 40 == 0:
                for name in self.times_of(real):
                    here = os.stat(real.place / name)
                    self.assertEqual(self.statx(real.place / name),
                                     [str(here.st_ino), str(here.st_size), str(here.st_blocks), str(here.st_nlink),
                                      oct(here.st_mode & 0o7777)[2:], str(here.st_mtime_ns // 10**9)], told("statx"))
        real.close_all()
        model.close_all()
        self.assertEqual(mount.umount("--wait").returncode, 0)
        again = Side(self.mount(durability=None, name="two").place)
        for name in NAMES:
            expected = model.place / name
            self.assertEqual((again.place / name).exists(), expected.exists(), told(f"{name} in the bucket"))
            if expected.exists():
                os.chmod(expected, 0o600), os.chmod(again.place / name, 0o600)
                self.assertEqual((again.place / name).read_bytes(), expected.read_bytes(), told(f"{name} in the bucket"))


if __name__ == "__main__":
    harness.main()
