"""Extended attributes on a real mount: the tools that people use, other programs on the same bucket, death and remount."""

import base64
import errno
import json
import os
import pathlib
import subprocess
import sys
import time
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

EVERY_BYTE = bytes(range(256))


def run(*words, **how):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **how)
    if done.returncode != 0:
        raise AssertionError(f"{words}: {done.returncode}: {done.stderr}")
    return done.stdout


def xattrs(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


class TestXattrs(harness.Workshop):
    def refused(self, code, call, *words):
        with self.assertRaises(OSError) as caught:
            call(*words)
        self.assertEqual(errno.errorcode[caught.exception.errno], errno.errorcode[code])

    def field(self, name):
        """What stands in the bucket: {name: bytes}."""
        text = self.s3.head(self.bucket, self.key(name)).get("x-amz-meta-xattr")
        members = json.loads(urllib.parse.unquote(text)) if text else {}
        return {member: base64.b64decode(value) for member, value in members.items()}

    def test_setfattr_and_getfattr_agree_with_the_bucket_and_with_a_new_cache(self):
        place = self.mount().place
        (place / "f").write_text("bytes")
        (place / "d").mkdir()
        for name in ("f", "d"):
            run("setfattr", "-n", "user.words", "-v", "some words", place / name)
            run("setfattr", "-n", "user.bytes", "-v", "0x" + EVERY_BYTE.hex(), place / name)
            run("setfattr", "-n", "user.gone", place / name)
            run("setfattr", "-x", "user.gone", place / name)
        told = run("getfattr", "-d", "--absolute-names", place / "f")
        self.assertIn('user.words="some words"', told)
        self.assertNotIn("gone", told)
        wanted = {"user.words": b"some words", "user.bytes": EVERY_BYTE}
        again = self.mount().place
        for name, key in (("f", "f"), ("d", "d/")):
            self.assertEqual(self.field(key), wanted)
            self.assertEqual(xattrs(again / name), wanted)
        self.assertEqual((again / "f").read_text(), "bytes")

    def test_errors_are_those_of_a_local_disk(self):
        place = self.mount().place
        file = place / "f"
        file.write_text("x")
        os.symlink("f", place / "l")
        os.setxattr(file, "user.a", b"1")
        self.refused(errno.EEXIST, os.setxattr, file, "user.a", b"2", os.XATTR_CREATE)
        self.refused(errno.ENODATA, os.setxattr, file, "user.b", b"2", os.XATTR_REPLACE)
        self.refused(errno.ENODATA, os.getxattr, file, "user.b")
        self.refused(errno.ENODATA, os.removexattr, file, "user.b")
        self.refused(errno.ENOSPC, os.setxattr, file, "user.b", b"x" * 2000)
        self.refused(errno.E2BIG, os.setxattr, file, "user.b", b"x" * 65537)
        self.refused(errno.ERANGE, os.setxattr, file, "user." + "n" * 251, b"")
        self.refused(errno.EOPNOTSUPP, os.setxattr, file, "trusted.a", b"1")
        self.refused(errno.EOPNOTSUPP, os.getxattr, file, "trusted.a")
        self.refused(errno.ENODATA, os.getxattr, file, "security.capability")
        self.refused(errno.EOPNOTSUPP, os.getxattr, file, "system.posix_acl_access")
        with self.assertRaises(OSError) as caught:
            os.setxattr(place / "l", "user.a", b"1", follow_symlinks=False)
        self.assertEqual(caught.exception.errno, errno.EPERM)
        self.assertEqual(xattrs(file), {"user.a": b"1"})
        again = self.mount(ro=True).place
        self.refused(errno.EROFS, os.setxattr, again / "f", "user.a", b"2")
        self.refused(errno.EROFS, os.removexattr, again / "f", "user.a")
        self.assertEqual(xattrs(again / "f"), {"user.a": b"1"})

    def test_what_is_virtual_is_told_and_neither_listed_nor_changed(self):
        place = self.mount().place
        (place / "f").write_text("x")
        head = self.s3.head(self.bucket, self.key("f"))
        self.assertEqual(os.getxattr(place / "f", "user.skyvol.etag").decode(), head["etag"].strip('"'))
        self.assertEqual(os.getxattr(place / "f", "user.skyvol.key").decode(), self.key("f"))
        self.assertEqual(os.getxattr(place / "f", "user.skyvol.state"), b"clean")
        self.assertEqual(os.getxattr(place / "f", "user.skyvol.storage-class"), b"STANDARD")
        self.refused(errno.EPERM, os.setxattr, place / "f", "user.skyvol.key", b"k")
        self.refused(errno.EPERM, os.removexattr, place / "f", "user.skyvol.key")
        self.assertEqual(os.listxattr(place / "f"), [])

    def test_cp_and_rsync_carry_them_and_complain_of_nothing(self):
        place = self.mount().place
        source = self.work / "source"
        source.mkdir()
        for index in range(5):
            path = source / f"f{index}"
            path.write_text(str(index))
            os.setxattr(path, "user.index", str(index).encode())
            path.chmod(0o640 + index)
        os.setxattr(source, "user.of", b"the directory")
        run("cp", "-a", source, place / "copied")
        for command in (["cp", "-a", str(source), str(place / "again")],
                        ["rsync", "-aAX", f"{source}/", str(place / "synced")]):
            done = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""), command)
        moved = run("rsync", "-aX", "--itemize-changes", f"{source}/", place / "synced")
        self.assertEqual(moved, "", "the second one has nothing to do")
        run("rsync", "-aAX", f"{place}/synced/", self.work / "back")
        again = self.mount().place
        for tree in (place / "copied", place / "synced", again / "synced", self.work / "back"):
            self.assertEqual(xattrs(tree), {"user.of": b"the directory"})
            for index in range(5):
                self.assertEqual(xattrs(tree / f"f{index}"), {"user.index": str(index).encode()})
                self.assertEqual((tree / f"f{index}").stat().st_mode & 0o777, 0o640 + index)
        self.assertIn("user::rw-", run("getfacl", "--absolute-names", place / "synced/f0"))

    def test_listing_a_directory_asks_the_server_for_none(self):
        for index in range(50):
            self.s3.put(self.bucket, self.key(f"d/f{index}"), b"x")
        mount = self.mount()
        run("ls", "-l", mount.place / "d")
        before = mount.status()
        run("getfattr", "-d", "-R", mount.place / "d")
        after = mount.status()
        self.assertLessEqual(after["heads"] - before["heads"], 1)

    def test_small_writes_do_not_ask_for_them(self):
        mount = self.mount(durability="local")
        with open(mount.place / "f", "wb", buffering=0) as file:
            for _ in range(1000):
                file.write(b"x" * 4096)
        asked = mount.log.read_text(errors="replace").count("GETXATTR")
        self.assertLess(asked, 10)

    def test_setuid_goes_from_what_others_write(self):
        place = self.mount().place
        unprivileged = ["setpriv", "--bounding-set", "-fsetid", "--inh-caps", "-fsetid"]
        file = place / "f"
        file.write_text("x")

        def mode_after(mode, *words):
            file.chmod(mode)
            run(*words)
            return oct(file.stat().st_mode & 0o7777)

        dd = ["dd", "if=/dev/zero", f"of={file}", "bs=1", "count=1", "conv=notrunc"]
        self.assertEqual(mode_after(0o6755, *dd), "0o6755", "root may keep it")
        self.assertEqual(mode_after(0o6755, *unprivileged, *dd), "0o755")
        self.assertEqual(mode_after(0o6745, *unprivileged, *dd), "0o2745")
        self.assertEqual(mode_after(0o6755, *unprivileged, "truncate", "-s", "5", file), "0o755")
        self.assertEqual(mode_after(0o6755, *unprivileged, "sh", "-c", f": > '{file}'"), "0o755")
        self.assertEqual(mode_after(0o6755, "chown", "5:5", file), "0o755")

    def test_s3fs_reads_ours_and_we_read_those_of_s3fs(self):
        secret = self.work / "secret"
        secret.write_text(f"{harness.ACCESS_KEY}:{harness.SECRET_KEY}")
        secret.chmod(0o600)
        theirs = self.work / "s3fs"
        theirs.mkdir()
        place = self.mount().place
        (place / "ours").write_text("x")
        (place / "d").mkdir()
        for name in ("ours", "d"):
            os.setxattr(place / name, "user.ours", b"of skyvol")
            os.setxattr(place / name, "user.bytes", EVERY_BYTE)
        run("s3fs", f"{self.bucket}:/{self.prefix}", theirs, "-o",
            f"passwd_file={secret},url={self.minio.endpoint},use_path_request_style,use_xattr,stat_cache_expire=1")
        self.addCleanup(subprocess.run, ["umount", theirs])
        for name in ("ours", "d"):
            self.assertEqual(xattrs(theirs / name), {"user.ours": b"of skyvol", "user.bytes": EVERY_BYTE})
        time.sleep(1.1)  # a change of metadata alone is told by its second
        (theirs / "new").write_text("y")
        for name in ("new", "ours", "d"):
            os.setxattr(theirs / name, "user.s3fs", b"of s3fs")
        time.sleep(1.2)  # attr_ttl
        ours = {"user.ours": b"of skyvol", "user.bytes": EVERY_BYTE, "user.s3fs": b"of s3fs"}
        self.assertEqual(xattrs(place / "new"), {"user.s3fs": b"of s3fs"})
        self.assertEqual(xattrs(place / "ours"), ours)
        os.listdir(place / "d")  # what its marker says is seen when it is looked at
        self.assertEqual(xattrs(place / "d"), ours)
        os.removexattr(place / "ours", "user.bytes")
        time.sleep(1.2)
        self.assertEqual(xattrs(theirs / "ours"), {"user.ours": b"of skyvol", "user.s3fs": b"of s3fs"})

    def test_hostile_fields_are_shown_as_nothing_and_kept(self):
        for name, text in (("words", "no JSON"), ("half", "%7B%22user.a%22%3A%22aGVsbG8"),
                           ("nul", "%7B%22user.a%5Cu0000%22%3A%22MQ%3D%3D%22%7D"), ("long", "A" * 1500)):
            self.s3.put(self.bucket, self.key(name), b"x", {"x-amz-meta-xattr": text})
            place = self.mount().place
            self.assertEqual(xattrs(place / name), {})
            (place / name).chmod(0o600)
            self.assertEqual(self.s3.head(self.bucket, self.key(name))["x-amz-meta-xattr"], text)
        os.setxattr(place / "words", "user.a", b"1")
        self.assertEqual(self.field("words"), {"user.a": b"1"})


class TestDeath(harness.Workshop):
    server_per_test = True

    def test_kill_9_loses_none_and_renames_carry_them(self):
        mount = self.mount(durability="writeback", attr_ttl="1h")
        (mount.place / "f").write_text("x")
        (mount.place / "d").mkdir()
        self.assertEqual(mount.run("flush", str(mount.place)).returncode, 0)
        os.listdir(mount.place)  # so that names that are not there are known not to be
        self.minio.freeze()
        os.setxattr(mount.place / "f", "user.a", b"1")
        os.setxattr(mount.place / "d", "user.a", b"2")
        (mount.place / "new").write_text("y")
        os.setxattr(mount.place / "new", "user.a", b"3")
        os.rename(mount.place / "f", mount.place / "g")
        mount.kill()
        self.minio.thaw()
        again = self.mount(name="mount1", durability="writeback")
        for name, value in (("g", b"1"), ("d", b"2"), ("new", b"3")):
            self.assertEqual(xattrs(again.place / name), {"user.a": value})
        self.assertEqual(again.umount("--wait").returncode, 0)
        fresh = self.mount(name="mount2").place
        for name, value in (("g", b"1"), ("d", b"2"), ("new", b"3")):
            self.assertEqual(xattrs(fresh / name), {"user.a": value})


if __name__ == "__main__":
    harness.main()
