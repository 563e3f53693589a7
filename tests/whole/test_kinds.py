#!/usr/bin/env python3
"""Symlinks, fifos, sockets and device nodes on real mounts: what users do with them, what survives, and what s3fs makes of ours and we of its."""

import errno
import os
import pathlib
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

NULL, DISK = os.makedev(1, 3), os.makedev(4095, 1048575)
KINDS = {"fifo": (stat.S_IFIFO, 0), "socket": (stat.S_IFSOCK, 0), "null": (stat.S_IFCHR, NULL), "disk": (stat.S_IFBLK, DISK)}
SIGNS = {"fifo": "p", "socket": "s", "null": "c", "disk": "b", "link": "l"}


def run(*words, **how):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, **how)


def make_kinds(place):
    for name, (kind, device) in KINDS.items():
        os.mknod(place / name, kind | 0o640, device)
    os.symlink("../some/where", place / "link")


def facts(path):
    """What tar and cp keep of a name."""
    status = os.lstat(path)
    target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else None
    return (status.st_mode, status.st_rdev, status.st_uid, status.st_gid, status.st_size, target,
            None if target else status.st_mtime_ns)


def facts_below(place):
    return {str(path.relative_to(place)): facts(path) for path in sorted(place.rglob("*")) if not path.is_dir()}


class TestKinds(harness.Workshop):
    server_per_test = True

    def mount(self, **options):
        return super().mount(**{"durability": "writeback", **options})

    def await_sent(self, mount):
        harness.wait_until(lambda: mount.status()["unsent_files"] == 0, 60, "the end of the uploads")

    def expect_kinds(self, place):
        for name, (kind, device) in KINDS.items():
            status = os.lstat(place / name)
            self.assertEqual((status.st_mode, status.st_rdev, status.st_size), (kind | 0o640, device, 0), name)
        self.assertEqual(os.readlink(place / "link"), "../some/where")
        with os.scandir(place) as entries:
            for entry in entries:
                self.assertFalse(entry.is_file(follow_symlinks=False), entry.name)
        lines = run("ls", "-l", place).stdout.splitlines()[1:]
        told = {line.partition(" -> ")[0].split()[-1]: line for line in lines}
        self.assertEqual({name: line[0] for name, line in told.items()}, SIGNS)
        self.assertEqual(told["disk"].split()[4:6], ["4095,", "1048575"])

    def test_each_is_what_it_was_made_also_for_a_mount_with_an_empty_cache(self):
        mount = self.mount()
        make_kinds(mount.place)
        self.expect_kinds(mount.place)
        self.await_sent(mount)
        head = self.s3.head(self.bucket, self.key("disk"))
        self.assertEqual((head["x-amz-meta-mode"], head["x-amz-meta-rdev"]), (str(stat.S_IFBLK | 0o640), "4095:1048575"))
        self.assertEqual(self.object("disk"), b"")
        self.expect_kinds(self.mount().place)

    def test_what_one_can_do_with_them(self):
        mount = self.mount()
        place = mount.place
        make_kinds(place)
        with self.assertRaises(FileExistsError):
            os.mkfifo(place / "fifo")
        os.chmod(place / "null", 0o600)
        os.chown(place / "fifo", 12, 34)
        for name in ("fifo", "null"):
            with self.assertRaises(PermissionError):
                os.link(place / name, place / "hard")
        with self.assertRaises(PermissionError):
            os.open(place / "null", os.O_RDONLY)  # nodev
        os.rename(place / "null", place / "zero")
        os.rename(place / "socket", place / "disk")
        os.unlink(place / "link")
        self.await_sent(mount)
        again = self.mount().place
        for there in (place, again):
            self.assertEqual(sorted(os.listdir(there)), ["disk", "fifo", "zero"])
            status = os.stat(there / "zero")
            self.assertEqual((status.st_mode, status.st_rdev), (stat.S_IFCHR | 0o600, NULL))
            self.assertTrue(stat.S_ISSOCK(os.stat(there / "disk").st_mode))
            self.assertEqual(os.stat(there / "fifo").st_uid, 12)
        self.assertEqual(self.keys(), ["disk", "fifo", "zero"])

    def test_fifos_carry_bytes_and_sockets_take_connections(self):
        place = self.mount().place
        os.mkfifo(place / "fifo")
        told = []
        reader = threading.Thread(target=lambda: told.append((place / "fifo").read_bytes()), daemon=True)
        reader.start()
        (place / "fifo").write_bytes(b"through the kernel")
        reader.join(20)
        self.assertEqual(told, [b"through the kernel"])
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(str(place / "s"))
            server.listen()
            client.connect(str(place / "s"))
            client.sendall(b"x")
            with server.accept()[0] as taken:
                self.assertEqual(taken.recv(1), b"x")
        with self.assertRaises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(place / "s"))  # nobody listens any more, the name stays

    def test_they_do_not_wait_for_a_server_that_hangs_and_survive_kill_nine(self):
        mount = self.mount(name="mnt")
        os.mkdir(mount.place / "d")
        self.await_sent(mount)
        self.minio.freeze()
        begun = time.monotonic()
        make_kinds(mount.place / "d")
        os.symlink("x" * 4000, mount.place / "d/long")
        os.rename(mount.place / "d/long", mount.place / "d/longer")
        os.symlink("y", mount.place / "d/gone")
        os.unlink(mount.place / "d/gone")
        self.assertLess(time.monotonic() - begun, 2)
        self.assertEqual(os.readlink(mount.place / "d/longer"), "x" * 4000)
        mount.kill()
        self.minio.thaw()
        again = self.mount(name="mnt")
        self.assertEqual(os.readlink(again.place / "d/longer"), "x" * 4000)
        self.await_sent(again)
        os.unlink(again.place / "d/longer")
        self.expect_kinds(again.place / "d")
        self.await_sent(again)
        self.assertEqual(self.keys(), ["d/"] + sorted(f"d/{name}" for name in SIGNS))
        self.expect_kinds(self.mount(name="other").place / "d")

    def test_in_sync_they_are_there_when_the_call_returns(self):
        make_kinds(self.mount(durability="sync").place)
        self.assertEqual(self.keys(), sorted(SIGNS))

    def test_tar_and_cp_carry_them_to_and_fro(self):
        source = self.work / "source"
        (source / "sub").mkdir(parents=True)
        make_kinds(source)
        make_kinds(source / "sub")
        (source / "file").write_bytes(b"content")
        os.symlink("sub", source / "to-directory")
        os.symlink("nowhere", source / "sub/dangling")
        mount = self.mount()
        run("cp", "-a", source, mount.place / "copied")
        run("tar", "-C", source, "-cf", self.work / "a.tar", ".")
        os.mkdir(mount.place / "unpacked")
        run("tar", "-C", mount.place / "unpacked", "--numeric-owner", "-xpf", self.work / "a.tar")
        self.await_sent(mount)
        expected = facts_below(source)
        again = self.mount().place
        for place in (mount.place, again):
            self.assertEqual(facts_below(place / "copied"), expected)
            packed = facts_below(place / "unpacked")
            self.assertEqual({name: fact[:-1] for name, fact in packed.items()},  # tar keeps whole seconds, and no sockets
                             {name: fact[:-1] for name, fact in expected.items() if not name.endswith("socket")})
        run("tar", "-C", again / "copied", "-cf", self.work / "b.tar", ".")
        with tarfile.open(self.work / "a.tar") as before, tarfile.open(self.work / "b.tar") as after:
            told = [{member.name: (member.type, member.mode, member.size, member.linkname, member.devmajor, member.devminor)
                     for member in tar.getmembers()} for tar in (before, after)]
        self.assertEqual(*told)
        back = self.work / "back"
        run("cp", "-a", again / "copied", back)
        self.assertEqual(facts_below(back), expected)

    def test_git_clones_a_repository_with_links_in_it(self):
        origin = self.work / "origin"
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        run(*git, "init", origin)
        (origin / "d").mkdir()
        (origin / "d/file").write_text("text")
        os.symlink("file", origin / "d/link")
        os.symlink("d", origin / "directory")
        for i in range(50):
            os.symlink(f"../d/{i}", origin / f"d/l{i}")
        run(*git, "-C", origin, "add", ".")
        run(*git, "-C", origin, "commit", "-m", "one")
        mount = self.mount()
        run(*git, "clone", origin, mount.place / "clone")
        self.await_sent(mount)
        for place in (mount.place / "clone", self.mount().place / "clone"):
            safe = ["git", "-c", "safe.directory=*", "-C", place]
            self.assertEqual(run(*safe, "status", "--porcelain").stdout, "")
            run(*safe, "fsck", "--strict")
            self.assertEqual((place / "directory/link").read_text(), "text")
            self.assertEqual(os.readlink(place / "d/l7"), "../d/7")

    # ---- Others. ----

    def put(self, name, content, mode, **more):
        headers = {"x-amz-meta-mode": str(mode)} | {f"x-amz-meta-{key}": value for key, value in more.items()}
        self.s3.put(self.bucket, self.key(name), content, headers)

    def test_links_that_are_none_can_be_looked_at_and_removed(self):
        link = stat.S_IFLNK | 0o777
        self.put("empty", b"", link)
        self.put("nul", b"a\0b", link)
        self.put("large", b"x" * (3 << 20), link)
        self.put("longest", b"x" * 4095, link)
        mount = self.mount()
        for name in ("empty", "nul", "large"):
            self.assertTrue(stat.S_ISLNK(os.lstat(mount.place / name).st_mode))
            with self.assertRaises(OSError) as caught:
                os.readlink(mount.place / name)
            self.assertEqual(caught.exception.errno, errno.EIO, name)
            self.assertIn(f"readlink of {self.key(name)}", mount.log.read_text())
        self.assertEqual(len(os.readlink(mount.place / "longest")), 4095)
        for name in os.listdir(mount.place):
            os.unlink(mount.place / name)
        self.await_sent(mount)
        harness.wait_until(lambda: not self.keys(), what="the deletes")

    def test_what_lies_about_its_kind_is_a_file(self):
        self.put("full", b"precious", stat.S_IFIFO | 0o644)
        self.put("folder", b"", stat.S_IFDIR | 0o755)
        self.put("unknown", b"", 0o150644)
        self.put("bare", b"", stat.S_IFCHR | 0o644)
        self.put("absurd", b"", stat.S_IFCHR | 0o644, rdev="99999:-1")
        place = self.mount().place
        self.assertEqual((place / "full").read_bytes(), b"precious")
        for name in ("full", "folder", "unknown"):
            self.assertTrue(stat.S_ISREG(os.stat(place / name).st_mode), name)
        for name in ("bare", "absurd"):
            status = os.stat(place / name)
            self.assertEqual((stat.S_ISCHR(status.st_mode), status.st_rdev), (True, 0), name)

    def s3fs(self):
        """This test's prefix as s3fs shows it."""
        place = self.work / "s3fs"
        place.mkdir()
        secret = self.work / "s3fs.secret"
        secret.write_text(f"{harness.ACCESS_KEY}:{harness.SECRET_KEY}")
        secret.chmod(0o600)
        run("s3fs", self.bucket, place, "-o", f"url={self.minio.endpoint},use_path_request_style,passwd_file={secret}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(place)], check=False)
        (place / self.prefix).mkdir(exist_ok=True)
        return place / self.prefix

    def test_s3fs_reads_ours(self):
        mount = self.mount()
        make_kinds(mount.place)
        os.symlink("x" * 1000, mount.place / "long")
        self.await_sent(mount)
        place = self.s3fs()
        for name, (kind, _) in KINDS.items():
            self.assertEqual(os.lstat(place / name).st_mode, kind | 0o640, name)  # which device, it cannot tell
        self.assertEqual(os.readlink(place / "link"), "../some/where")
        self.assertEqual(os.readlink(place / "long"), "x" * 1000)

    def test_we_read_what_s3fs_wrote(self):
        place = self.s3fs()
        make_kinds(place)
        os.mkfifo(place / "second")
        os.chmod(place / "second", 0o604)
        mount = self.mount()
        for name, (kind, _) in KINDS.items():
            status = os.lstat(mount.place / name)
            self.assertEqual((status.st_mode, status.st_rdev), (kind | 0o640, 0), name)
        self.assertEqual(os.readlink(mount.place / "link"), "../some/where")
        self.assertEqual(os.stat(mount.place / "second").st_mode, stat.S_IFIFO | 0o604)
        os.chmod(mount.place / "null", 0o600)
        os.rename(mount.place / "fifo", mount.place / "moved")
        self.await_sent(mount)
        self.assertEqual(self.s3.head(self.bucket, self.key("null"))["x-amz-meta-mode"], str(stat.S_IFCHR | 0o600))
        self.assertTrue(stat.S_ISFIFO(os.lstat(place / "moved").st_mode))


if __name__ == "__main__":
    harness.main()
