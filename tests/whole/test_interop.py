#!/usr/bin/env python3
"""What other programs make of our objects, and we of theirs: s3fs on a mount of its own, rclone on the bucket. Which kinds of files s3fs knows
is in test_kinds.py, extended attributes also in test_xattrs.py."""

import datetime
import json
import os
import pathlib
import stat
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

NS = 1_600_000_000_123_456_789
MIB = 1 << 20


def run(*words, **how):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **how)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def make_all(place):
    """A file of each kind of attribute, below directories that have theirs."""
    (place / "d/e").mkdir(parents=True)
    for number, name in enumerate(("plain", "d/below", "d/e/deep", "d/name with äöü & +")):
        (place / name).write_bytes(f"content {number}".encode() * 1000)
        os.chown(place / name, 1000 + number, 2000 + number)
        (place / name).chmod(0o600 + 0o11 * number)
        os.utime(place / name, ns=(NS, NS + number))
    (place / "empty").write_bytes(b"")
    os.mkfifo(place / "d/fifo", 0o640)
    os.symlink("d/below", place / "link")
    os.setxattr(place / "plain", "user.note", b"\0\xffbinary")
    os.chown(place / "d", 77, 88)
    (place / "d").chmod(0o2750)
    (place / "d/e").chmod(0o700)


def facts_below(place):
    """What all of them keep: kind, mode, owner; of files the time and the content."""
    told = {}
    for path in sorted(place.rglob("*")):
        status = os.lstat(path)
        regular, link = stat.S_ISREG(status.st_mode), stat.S_ISLNK(status.st_mode)
        told[str(path.relative_to(place))] = (
            oct(stat.S_IFMT(status.st_mode)), None if link else oct(stat.S_IMODE(status.st_mode)), status.st_uid, status.st_gid,
            os.readlink(path) if link else None, *((status.st_mtime_ns, path.read_bytes()) if regular else ()))
    return told


class TestInterop(harness.Workshop):
    maxDiff = 4000

    def mount(self, **options):
        return super().mount(**{"durability": None, **options})

    def flush(self, mount):
        self.assertEqual(mount.run("flush", str(mount.place)).returncode, 0)

    # ---- s3fs ----

    def s3fs(self, name="s3fs"):
        """This test's prefix as s3fs shows it, with an empty cache."""
        place, secret = self.work / name, self.work / "secret"
        place.mkdir()
        secret.write_text(f"{harness.ACCESS_KEY}:{harness.SECRET_KEY}")
        secret.chmod(0o600)
        run("s3fs", f"{self.bucket}:/{self.prefix}", place, "-o",
            f"passwd_file={secret},url={self.minio.endpoint},use_path_request_style,use_xattr")
        self.addCleanup(subprocess.run, ["umount", "-l", str(place)], check=False)
        return place

    def test_s3fs_shows_what_was_written_here(self):
        mount = self.mount()
        make_all(mount.place)
        self.flush(mount)
        theirs = self.s3fs()
        self.assertEqual(facts_below(theirs), facts_below(mount.place))
        self.assertEqual(os.getxattr(theirs / "plain", "user.note"), b"\0\xffbinary")

    def test_what_s3fs_wrote_is_shown_here(self):
        self.s3.put(self.bucket, f"{self.prefix}/")
        theirs = self.s3fs()
        make_all(theirs)
        ours = self.mount().place
        self.assertEqual(facts_below(ours), facts_below(theirs))
        self.assertEqual(os.getxattr(ours / "plain", "user.note"), b"\0\xffbinary")

    def test_what_one_changed_the_other_keeps(self):
        mount = self.mount()
        make_all(mount.place)
        self.flush(mount)
        theirs = self.s3fs()
        os.utime(theirs / "plain", ns=(NS, NS + 500))
        (theirs / "d/below").chmod(0o604)
        os.rename(theirs / "d/e/deep", theirs / "d/moved")
        os.chown(theirs / "d/moved", 5, 6)
        second = self.mount()
        self.assertEqual(facts_below(second.place), facts_below(theirs))
        (second.place / "d/moved").chmod(0o640)
        os.rename(second.place / "plain", second.place / "d/plain")
        with open(second.place / "d/below", "ab") as file:
            file.write(b"more")
        os.utime(second.place / "d/below", ns=(NS, NS + 700))
        self.flush(second)
        self.assertEqual(facts_below(self.s3fs("again")), facts_below(second.place))
        self.assertEqual(os.getxattr(second.place / "d/plain", "user.note"), b"\0\xffbinary")

    # ---- rclone ----

    def rclone(self, *words):
        environment = harness.clean_environment() | {"RCLONE_CONFIG": str(self.work / "rclone.conf")}
        (self.work / "rclone.conf").write_text(
            f"[s]\ntype = s3\nprovider = Minio\nenv_auth = true\nendpoint = {self.minio.endpoint}\n")
        return run("rclone", *words, env=environment)

    def remote(self):
        return f"s:{self.bucket}/{self.prefix}"

    def make_files(self, place):
        for number, name in enumerate(("one", "d/two", "d/e/three & é")):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(os.urandom(1000 * (number + 1)))
            os.utime(place / name, ns=(NS, NS + number * 1_000_000_001))

    @staticmethod
    def times_below(place):
        return {str(path.relative_to(place)): (path.stat().st_mtime_ns, path.read_bytes()) for path in place.rglob("*") if path.is_file()}

    def test_rclone_tells_our_times_and_copies_nothing_twice(self):
        mount = self.mount()
        self.make_files(mount.place)
        self.flush(mount)
        told = json.loads(self.rclone("lsjson", "-R", "--files-only", self.remote()))
        for entry in told:
            parsed = datetime.datetime.fromisoformat(entry["ModTime"][:19] + "+00:00")
            fraction = entry["ModTime"][20:].rstrip("Z").ljust(9, "0") if "." in entry["ModTime"] else "0"
            self.assertEqual(int(parsed.timestamp()) * 10**9 + int(fraction), (mount.place / entry["Path"]).stat().st_mtime_ns)
        self.assertEqual(len(told), 3)
        back = self.work / "back"
        self.rclone("copy", self.remote(), back)
        self.assertEqual(self.times_below(back), self.times_below(mount.place))
        before = self.s3.list(self.bucket, self.prefix)
        self.rclone("sync", "--checksum", back, self.remote())
        self.rclone("sync", back, self.remote())
        self.assertEqual(self.s3.list(self.bucket, self.prefix), before)
        self.rclone("check", back, self.remote())

    def test_times_that_rclone_wrote_are_shown_here(self):
        source = self.work / "source"
        self.make_files(source)
        self.rclone("copy", source, self.remote())
        mount = self.mount()
        self.assertEqual(self.times_below(mount.place), self.times_below(source))
        os.utime(mount.place / "one", ns=(NS, NS + 9))
        os.rename(mount.place / "d", mount.place / "moved")
        self.flush(mount)
        self.assertEqual(self.times_below(self.mount().place), self.times_below(mount.place))
        back = self.work / "back"
        self.rclone("copy", self.remote(), back)
        self.assertEqual(self.times_below(back), self.times_below(mount.place))

    def test_modes_that_rclone_wrote_are_shown_here(self):
        source = self.work / "source"
        self.make_files(source)
        (source / "one").chmod(0o604)
        (source / "d/two").chmod(0o750)
        os.chown(source / "one", 1234, 4321)
        self.rclone("copy", "--metadata", source, self.remote())
        place = self.mount().place
        self.assertEqual(self.times_below(place), self.times_below(source))
        for name in ("one", "d/two"):
            here, there = os.stat(place / name), os.stat(source / name)
            self.assertEqual((oct(here.st_mode), here.st_uid, here.st_gid), (oct(there.st_mode), there.st_uid, there.st_gid), name)


if __name__ == "__main__":
    harness.main()
