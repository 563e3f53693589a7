"""What POSIX says of names, rights and times, on a real mount of a real MinIO: tables of (what is done, what it answers)."""

import ctypes
import errno
import functools
import os
import pathlib
import re
import stat
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

MIB = 1 << 20
NOBODY, OTHER = 65534, 65533  # users and groups that own nothing
BOTH = ("sync", "writeback")
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, UTIME_NOW, UTIME_OMIT = -100, (1 << 30) - 1, (1 << 30) - 2
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
SECOND = 10 ** 9


def answer(call):
    """0, or the errno of the call."""
    try:
        call()
    except OSError as error:
        return error.errno
    return 0


def name_of(code):
    return errno.errorcode.get(code, "success") if code else "success"


def as_user(uid, gid, groups, call):
    """The same, in a process that has only these rights."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            code = answer(call)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "libc")


def renameat2(source, target, flags):
    checked(LIBC.renameat2(AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags)))


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("ns", ctypes.c_long)]


def utimens(path, atime, mtime):
    """Times in ns, or UTIME_NOW, UTIME_OMIT as strings."""
    words = {"now": Timespec(0, UTIME_NOW), "omit": Timespec(0, UTIME_OMIT)}
    pair = (Timespec * 2)(*(words.get(t) or Timespec(*divmod(t, SECOND)) for t in (atime, mtime)))
    checked(LIBC.utimensat(AT_FDCWD, os.fsencode(path), pair, 0x100))  # not through a symlink


def opened(path, flags, mode=0o644):
    os.close(os.open(path, flags, mode))


def read_a_byte(path):
    file = os.open(path, os.O_RDONLY)
    try:
        os.read(file, 1)
    finally:
        os.close(file)


def create(path, mode=0o644):
    opened(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    os.chmod(path, mode)


def write(path, content, flags=0):
    file = os.open(path, os.O_WRONLY | flags)
    try:
        os.write(file, content)
    finally:
        os.close(file)


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def both(**options):
    """The test is given the place of a mount of its own, once for each of BOTH."""
    def decorate(test):
        @functools.wraps(test)
        def run(self):
            prefix = self.prefix
            for durability in BOTH:
                with self.subTest(durability=durability):
                    self.prefix = f"{prefix}-{durability}"
                    test(self, self.mount(durability=durability, **options).place)
        return run
    return decorate


def open_to_all(place):
    os.mkdir(place / "open")
    os.chmod(place / "open", 0o777)
    return place / "open"


class Posix(harness.Workshop):
    def setUp(self):
        super().setUp()
        os.chmod(self.work, 0o755)

    def enter(self, place):
        os.chdir(place)
        self.addCleanup(os.chdir, "/")

    def walk(self, rows):
        """Rows of (what it is, the call, expected errno or 0)."""
        for words, call, expected in rows:
            self.assertEqual(name_of(answer(call)), name_of(expected), words)

    def remount(self, place, warm=False, **options):
        """All is sent, and another cache knows nothing; warm: the same cache."""
        mount = next(m for m in self.mounted if m.place == place)
        done = mount.umount("--wait")
        self.assertEqual(done.returncode, 0, done.stderr)
        if warm:
            options["cache_dir"] = f"{place}.cache"
        return self.mount(**options).place

    def mount(self, *sources, **options):
        mount = super().mount(*sources, **options)
        self.mounted = [*getattr(self, "mounted", []), mount]
        return mount


class TestNames(Posix):
    @both()
    def test_each_call_says_what_posix_says(self, place):
        self.enter(place)
        create("file")
        for name in ("empty", "full", "full/below"):
            os.mkdir(name)
        for target, name in (("file", "link"), ("nowhere", "dangling"), ("two", "one"), ("one", "two")):
            os.symlink(target, name)
        longest, too_long = "n" * 255, "n" * 256
        deep = "/".join(["d" * 200] * 5)  # as a key it would have more than 1024 bytes
        path_too_long = "d/" * 2047 + "dd"
        self.walk([
            ("open of nothing", lambda: opened("missing", os.O_RDONLY), errno.ENOENT),
            ("open below nothing", lambda: opened("missing/x", os.O_CREAT | os.O_WRONLY), errno.ENOENT),
            ("open below a file", lambda: opened("file/x", os.O_RDONLY), errno.ENOTDIR),
            ("create below a file", lambda: create("file/x"), errno.ENOTDIR),
            ("O_DIRECTORY of a file", lambda: opened("file", os.O_DIRECTORY), errno.ENOTDIR),
            ("open of a directory for writing", lambda: opened("empty", os.O_WRONLY), errno.EISDIR),
            ("O_CREAT of a directory", lambda: opened("empty", os.O_CREAT | os.O_RDWR), errno.EISDIR),
            ("O_TRUNC of a directory", lambda: opened("empty", os.O_WRONLY | os.O_TRUNC), errno.EISDIR),
            ("O_EXCL of a file", lambda: create("file"), errno.EEXIST),
            ("O_EXCL of a directory", lambda: create("empty"), errno.EEXIST),
            ("O_EXCL of a symlink", lambda: create("link"), errno.EEXIST),
            ("O_EXCL of a dangling symlink", lambda: create("dangling"), errno.EEXIST),
            ("O_NOFOLLOW of a symlink", lambda: opened("link", os.O_NOFOLLOW), errno.ELOOP),
            ("symlinks in a circle", lambda: opened("one", os.O_RDONLY), errno.ELOOP),
            ("a dangling symlink", lambda: opened("dangling", os.O_RDONLY), errno.ENOENT),
            ("read of a directory", lambda: read_a_byte("empty"), errno.EISDIR),
            ("mkdir over a file", lambda: os.mkdir("file"), errno.EEXIST),
            ("mkdir over a directory", lambda: os.mkdir("empty"), errno.EEXIST),
            ("mkdir over a symlink", lambda: os.mkdir("dangling"), errno.EEXIST),
            ("mkdir below nothing", lambda: os.mkdir("missing/d"), errno.ENOENT),
            ("mkdir below a file", lambda: os.mkdir("file/d"), errno.ENOTDIR),
            ("rmdir of nothing", lambda: os.rmdir("missing"), errno.ENOENT),
            ("rmdir of a file", lambda: os.rmdir("file"), errno.ENOTDIR),
            ("rmdir of a symlink", lambda: os.rmdir("link"), errno.ENOTDIR),
            ("rmdir of a full directory", lambda: os.rmdir("full"), errno.ENOTEMPTY),
            ("rmdir of .", lambda: os.rmdir("empty/."), errno.EINVAL),
            ("rmdir of ..", lambda: os.rmdir("full/below/.."), errno.ENOTEMPTY),
            ("unlink of nothing", lambda: os.unlink("missing"), errno.ENOENT),
            ("unlink of a directory", lambda: os.unlink("empty"), errno.EISDIR),
            ("unlink below a file", lambda: os.unlink("file/x"), errno.ENOTDIR),
            ("symlink over a file", lambda: os.symlink("x", "file"), errno.EEXIST),
            ("symlink to nothing", lambda: os.symlink("", "new"), errno.ENOENT),
            ("symlink to what is too long", lambda: os.symlink("t" * 4096, "new"), errno.ENAMETOOLONG),
            ("readlink of a file", lambda: os.readlink("file"), errno.EINVAL),
            ("readlink of a directory", lambda: os.readlink("empty"), errno.EINVAL),
            ("truncate of a directory", lambda: os.truncate("empty", 0), errno.EISDIR),
            ("truncate to less than nothing", lambda: os.truncate("file", -1), errno.EINVAL),
            ("truncate of nothing", lambda: os.truncate("missing", 0), errno.ENOENT),
            ("a file larger than an object", lambda: os.truncate("file", 1 << 50), errno.EFBIG),
            ("a hard link", lambda: os.link("file", "hard"), errno.EPERM),
            ("a name of 255 bytes", lambda: create(longest), 0),
            ("it goes", lambda: os.unlink(longest), 0),
            ("a name of 256 bytes", lambda: create(too_long), errno.ENAMETOOLONG),
            ("a directory of 256 bytes", lambda: os.mkdir(too_long), errno.ENAMETOOLONG),
            ("stat of 256 bytes", lambda: os.stat(too_long), errno.ENAMETOOLONG),
            ("rename to 256 bytes", lambda: os.rename("file", too_long), errno.ENAMETOOLONG),
            ("unlink of 256 bytes", lambda: os.unlink(too_long), errno.ENAMETOOLONG),
            ("a key of more than 1024 bytes", lambda: os.makedirs(deep), errno.ENAMETOOLONG),
            ("a path of more than 4096 bytes", lambda: os.stat(path_too_long), errno.ENAMETOOLONG),
            ("rename of nothing", lambda: os.rename("missing", "new"), errno.ENOENT),
            ("rename to below nothing", lambda: os.rename("file", "missing/new"), errno.ENOENT),
            ("rename to below a file", lambda: os.rename("empty", "file/new"), errno.ENOTDIR),
            ("rename into itself", lambda: os.rename("full", "full/below/new"), errno.EINVAL),
            ("rename over what is above", lambda: os.rename("full/below", "full"), errno.ENOTEMPTY),
            ("rename of .", lambda: os.rename("empty/.", "new"), errno.EBUSY),
            ("rename over ..", lambda: os.rename("file", "full/below/.."), errno.EBUSY),
        ])

    KINDS = {"file": lambda path: create(path), "link": lambda path: os.symlink("target", path),
         "empty": lambda path: os.mkdir(path), "full": lambda path: os.makedirs(path / "below")}
    OVER = {("file", "empty"): errno.EISDIR, ("file", "full"): errno.EISDIR, ("link", "empty"): errno.EISDIR,
        ("link", "full"): errno.EISDIR, ("empty", "file"): errno.ENOTDIR, ("empty", "link"): errno.ENOTDIR,
        ("full", "file"): errno.ENOTDIR, ("full", "link"): errno.ENOTDIR, ("empty", "full"): errno.ENOTEMPTY,
        ("full", "full"): errno.ENOTEMPTY}

    @both()
    def test_rename_over_every_kind(self, place):
        for source in self.KINDS:
            for target in (*self.KINDS, "nothing", "itself"):
                with self.subTest(source=source, target=target):
                    here = place / f"{source}-{target}"
                    here.mkdir()
                    self.KINDS[source](here / "from")
                    if target in self.KINDS:
                        self.KINDS[target](here / "to")
                    self.rename_over(here, source, target)

    def rename_over(self, here, source, target):
        number = os.lstat(here / "from").st_ino
        end = here / ("from" if target == "itself" else "to")
        got, expected = answer(lambda: os.rename(here / "from", end)), self.OVER.get((source, target), 0)
        self.assertEqual(name_of(got), name_of(expected))
        left = sorted(os.listdir(here))
        if expected:
            self.assertEqual(left, ["from", "to"])
            self.assertEqual(os.lstat(here / "from").st_ino, number)
        else:
            self.assertEqual(left, [end.name])
            self.assertEqual(os.lstat(end).st_ino, number)

    @both()
    def test_flags_of_rename(self, place):
        self.enter(place)
        create("a")
        create("b")
        os.mkdir("d")
        self.walk([
            ("over nothing", lambda: renameat2("a", "c", NOREPLACE), 0),
            ("over a file", lambda: renameat2("c", "b", NOREPLACE), errno.EEXIST),
            ("over a directory", lambda: renameat2("c", "d", NOREPLACE), errno.EEXIST),
            ("over itself", lambda: renameat2("c", "c", NOREPLACE), errno.EEXIST),
            ("exchange", lambda: renameat2("c", "b", EXCHANGE), errno.EINVAL),
            ("exchange and not over anything", lambda: renameat2("c", "b", EXCHANGE | NOREPLACE), errno.EINVAL),
            ("whiteout", lambda: renameat2("c", "b", WHITEOUT), errno.EINVAL),
            ("a flag that nobody knows", lambda: renameat2("c", "b", 64), errno.EINVAL),
        ])
        self.assertEqual(sorted(os.listdir()), ["b", "c", "d"])

    def test_a_read_only_mount_refuses_every_change(self):
        self.s3.put(self.bucket, self.key("file"), b"x")
        self.s3.put(self.bucket, self.key("d/below"), b"x")
        self.enter(self.mount(ro=True).place)
        self.walk([(words, call, errno.EROFS) for words, call in [
            ("create", lambda: create("new")), ("mkdir", lambda: os.mkdir("new")),
            ("symlink", lambda: os.symlink("x", "new")), ("unlink", lambda: os.unlink("file")),
            ("rmdir", lambda: os.rmdir("d")), ("rename", lambda: os.rename("file", "new")),
            ("chmod", lambda: os.chmod("file", 0o600)), ("chown", lambda: os.chown("file", 1, 1)),
            ("utime", lambda: os.utime("file")), ("truncate", lambda: os.truncate("file", 0)),
            ("open for writing", lambda: opened("file", os.O_WRONLY)),
            ("open to truncate", lambda: opened("file", os.O_RDWR | os.O_TRUNC))]])

    @both()
    def test_a_program_that_runs_is_not_written_and_one_that_is_written_does_not_run(self, place):
        program = place / "sleep"
        program.write_bytes(pathlib.Path("/bin/sleep").read_bytes())
        program.chmod(0o755)
        file = os.open(program, os.O_WRONLY)
        self.assertEqual(answer(lambda: subprocess.Popen([program, "30"])), errno.ETXTBSY)
        os.close(file)
        child = subprocess.Popen([program, "30"])
        try:
            self.assertEqual(answer(lambda: opened(program, os.O_WRONLY)), errno.ETXTBSY)
            self.assertEqual(answer(lambda: os.truncate(program, 0)), errno.ETXTBSY)
            self.assertEqual(answer(lambda: os.unlink(program)), 0)
        finally:
            child.kill()
            child.wait()


class TestTimes(Posix):
    PAST, HOUR_AGO = 1600000000123456789, int((time.time() - 3600) * SECOND)

    @both()
    def test_times_are_set_to_the_nanosecond_now_or_not_at_all(self, place):
        for kind, path in (("file", place / "f"), ("directory", place / "d"), ("symlink", place / "l")):
            with self.subTest(kind=kind):
                {"file": create, "directory": os.mkdir, "symlink": lambda p: os.symlink("f", p)}[kind](path)
                utimens(path, self.HOUR_AGO, self.PAST)
                now = os.lstat(path)
                self.assertEqual((now.st_atime_ns, now.st_mtime_ns), (self.HOUR_AGO, self.PAST))
                utimens(path, self.PAST, "omit")
                now = os.lstat(path)
                self.assertEqual((now.st_atime_ns, now.st_mtime_ns), (self.PAST, self.PAST))
                began = time.time_ns() - 20_000_000  # the kernel's clock is a tick behind
                utimens(path, "omit", "now")
                now = os.lstat(path)
                self.assertEqual(now.st_atime_ns, self.PAST)
                self.assertGreaterEqual(now.st_mtime_ns, began)
                utimens(path, "now", self.PAST)
                now = os.lstat(path)
                self.assertGreaterEqual(now.st_atime_ns, began)
                self.assertEqual(now.st_mtime_ns, self.PAST)

    @both()
    def test_times_that_were_set_are_there_for_a_cache_that_knows_nothing(self, place):
        times = {"nanoseconds": self.PAST, "before-1970": -86400 * SECOND - 1, "one-before": -1, "zero": 0,
                 "after-2038": (1 << 31) * SECOND + 5, "after-2106": ((1 << 32) + 7) * SECOND}
        far = {"far": (1 << 35) * SECOND, "far-past": -(1 << 35) * SECOND}  # as near as can be kept
        kept = {"far": (1 << 33) * SECOND, "far-past": -(1 << 33) * SECOND}
        for name, ns in (times | far).items():
            create(place / name)
            utimens(place / name, "omit", ns)
            os.mkdir(place / f"{name}.d")
            utimens(place / f"{name}.d", "omit", ns)
        for name, ns in (times | kept).items():
            self.assertEqual(os.stat(place / name).st_mtime_ns, ns, name)
        place = self.remount(place)
        for name, ns in (times | kept).items():
            self.assertEqual(os.stat(place / name).st_mtime_ns, ns, name)
            self.assertEqual(os.stat(place / f"{name}.d").st_mtime_ns, ns, name)

    @both(part_size="5M")
    def test_a_time_that_was_set_survives_an_upload_in_parts(self, place):
        for name, late in (("before-close", False), ("after-close", True)):
            with open(place / name, "wb") as file:
                file.write(os.urandom(21 * MIB))
                file.flush()
                if not late:
                    os.utime(file.fileno(), ns=(self.PAST, self.PAST))
            if late:
                os.utime(place / name, ns=(self.PAST, self.PAST))
        place = self.remount(place)
        for name in ("before-close", "after-close"):
            self.assertEqual(os.stat(place / name).st_mtime_ns, self.PAST, name)

    def moved(self, path, call):
        """Which of the times of `path` the call moves: "mc", "c", ""."""
        utimens(path, self.HOUR_AGO, self.HOUR_AGO)
        before = os.lstat(path)
        time.sleep(0.03)  # a tick of the kernel's clock
        call()
        after = os.lstat(path)
        self.assertGreaterEqual(after.st_ctime_ns, before.st_ctime_ns)
        return ("m" if after.st_mtime_ns > before.st_mtime_ns else "") + \
               ("c" if after.st_ctime_ns > before.st_ctime_ns else "")

    @both()
    def test_changes_of_a_file_move_its_times(self, place):
        path, empty = place / "f", place / "empty"
        path.write_bytes(b"12345")
        create(empty)
        dirty = os.open(place / "dirty", os.O_CREAT | os.O_RDWR)
        os.write(dirty, b"12345")
        file = os.open(path, os.O_RDWR)
        got, wanted = {}, {}
        for words, on, call, expected in [
                ("chmod", path, lambda: os.chmod(path, 0o600), "c"),
                ("chmod to what it is", path, lambda: os.chmod(path, 0o600), "c"),
                ("chown", path, lambda: os.chown(path, os.getuid(), os.getgid()), "c"),
                ("utimens of atime", path, lambda: utimens(path, "now", "omit"), "c"),
                ("write", path, lambda: os.pwrite(file, b"x", 0), "mc"),
                ("truncate to less", path, lambda: os.truncate(path, 3), "mc"),
                ("truncate to more", path, lambda: os.truncate(path, 5), "mc"),
                ("ftruncate to the same", path, lambda: os.ftruncate(file, 5), "mc"),
                ("ftruncate of what is unsent", place / "dirty", lambda: os.ftruncate(dirty, 5), "mc"),
                ("O_TRUNC", path, lambda: opened(path, os.O_WRONLY | os.O_TRUNC), "mc"),
                ("O_TRUNC of what is empty", empty, lambda: opened(empty, os.O_WRONLY | os.O_TRUNC), "mc"),
                ("read", path, path.read_bytes, ""),
                ("open to write, and no write", path, lambda: opened(path, os.O_WRONLY), "")]:
            self.assertEqual(self.moved(on, call), expected, words)
        os.close(file)
        os.close(dirty)

    @both()
    def test_entries_that_come_and_go_move_the_times_of_their_directory(self, place):
        here, there = place / "d", place / "e"
        here.mkdir()
        there.mkdir()
        for words, on, call, expected in [
                ("create", here, lambda: create(here / "f"), "mc"),
                ("write into an entry", here, lambda: (here / "f").write_bytes(b"x"), ""),
                ("mkdir", here, lambda: os.mkdir(here / "sub"), "mc"),
                ("symlink", here, lambda: os.symlink("x", here / "l"), "mc"),
                ("rename within", here, lambda: os.rename(here / "f", here / "g"), "mc"),
                ("rename away", here, lambda: os.rename(here / "g", there / "g"), "mc"),
                ("rename to it", there, lambda: os.rename(here / "l", there / "l"), "mc"),
                ("unlink", there, lambda: os.unlink(there / "g"), "mc"),
                ("rmdir", here, lambda: os.rmdir(here / "sub"), "mc"),
                ("a failed mkdir", here, lambda: answer(lambda: os.mkdir(there)), ""),
                ("listing", there, lambda: os.listdir(there), "")]:
            self.assertEqual(self.moved(on, call), expected, words)


@unittest.skipUnless(os.geteuid() == 0, "only root can act as others")
class TestOthers(Posix):
    """Several users on one mount: allow_other, and the kernel judges by what we say of owners and modes."""

    def own(self, path, mode, uid=0, gid=0, kind=create):
        kind(path)
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        return path

    @both(allow_other=True)
    def test_rights_of_others(self, place):
        place = open_to_all(place)
        mine = self.own(place / "mine", 0o640, NOBODY, NOBODY)
        group = self.own(place / "group", 0o060, 0, OTHER)
        closed = self.own(place / "closed", 0o700, 0, 0, os.mkdir)
        create(closed / "f", 0o666)
        blind = self.own(place / "blind", 0o711, 0, 0, os.mkdir)
        create(blind / "f", 0o666)
        plain = self.own(place / "plain", 0o755, 0, 0, os.mkdir)
        create(plain / "f", 0o666)
        read, edit = os.O_RDONLY, os.O_RDWR
        for words, who, call, expected in [
                ("the owner reads", (NOBODY, NOBODY, []), lambda: opened(mine, edit), 0),
                ("the group reads", (OTHER, NOBODY, []), lambda: opened(mine, read), 0),
                ("the group writes", (OTHER, NOBODY, []), lambda: opened(mine, edit), errno.EACCES),
                ("a stranger reads", (OTHER, OTHER, []), lambda: opened(mine, read), errno.EACCES),
                ("by another group", (NOBODY, NOBODY, [OTHER]), lambda: opened(group, edit), 0),
                ("by none of the groups", (NOBODY, NOBODY, [7]), lambda: opened(group, read), errno.EACCES),
                ("through a closed directory", (NOBODY, NOBODY, []), lambda: opened(closed / "f", read),
                 errno.EACCES),
                ("stat there", (NOBODY, NOBODY, []), lambda: os.stat(closed / "f"), errno.EACCES),
                ("list there", (NOBODY, NOBODY, []), lambda: os.listdir(closed), errno.EACCES),
                ("a name in what cannot be listed", (NOBODY, NOBODY, []), lambda: opened(blind / "f", edit), 0),
                ("list there", (NOBODY, NOBODY, []), lambda: os.listdir(blind), errno.EACCES),
                ("create in another's", (NOBODY, NOBODY, []), lambda: create(plain / "new"), errno.EACCES),
                ("mkdir in another's", (NOBODY, NOBODY, []), lambda: os.mkdir(plain / "new"), errno.EACCES),
                ("symlink in another's", (NOBODY, NOBODY, []), lambda: os.symlink("x", plain / "new"),
                 errno.EACCES),
                ("unlink in another's", (NOBODY, NOBODY, []), lambda: os.unlink(plain / "f"), errno.EACCES),
                ("rename from another's", (NOBODY, NOBODY, []), lambda: os.rename(plain / "f", place / "new"),
                 errno.EACCES),
                ("rename to another's", (NOBODY, NOBODY, []), lambda: os.rename(mine, plain / "new"),
                 errno.EACCES),
                ("chmod of another's", (NOBODY, NOBODY, []), lambda: os.chmod(plain / "f", 0o777), errno.EPERM),
                ("chown of another's", (NOBODY, NOBODY, []), lambda: os.chown(plain / "f", NOBODY, -1),
                 errno.EPERM),
                ("chown of one's own to another", (NOBODY, NOBODY, []), lambda: os.chown(mine, OTHER, -1),
                 errno.EPERM),
                ("chgrp of one's own to a strange group", (NOBODY, NOBODY, []), lambda: os.chown(mine, -1, OTHER),
                 errno.EPERM),
                ("chgrp of one's own to one's other group", (NOBODY, NOBODY, [OTHER]),
                 lambda: os.chown(mine, -1, OTHER), 0),
                ("set times of another's", (NOBODY, NOBODY, []), lambda: utimens(plain / "f", 1, 1), errno.EPERM),
                ("touch what one may write", (NOBODY, NOBODY, []), lambda: utimens(plain / "f", "now", "now"), 0),
                ("touch what one may not write", (OTHER, 7, []), lambda: utimens(mine, "now", "now"),
                 errno.EACCES),
                ("truncate what one may not write", (OTHER, 7, []), lambda: os.truncate(mine, 0),
                 errno.EACCES)]:
            self.assertEqual(name_of(as_user(*who, call)), name_of(expected), words)

    @both(allow_other=True)
    def test_a_sticky_directory_keeps_what_is_anothers(self, place):
        place = open_to_all(place)
        sticky = self.own(place / "sticky", 0o1777, 0, 0, os.mkdir)
        for uid, name in ((NOBODY, "f"), (NOBODY, "g"), (OTHER, "h")):
            self.own(sticky / name, 0o666, uid, uid)
        self.own(sticky / "d", 0o777, NOBODY, NOBODY, os.mkdir)
        stranger, owner = (OTHER, OTHER, []), (NOBODY, NOBODY, [])
        for words, who, call, expected in [
                ("unlink", stranger, lambda: os.unlink(sticky / "f"), errno.EPERM),
                ("rename", stranger, lambda: os.rename(sticky / "f", sticky / "new"), errno.EPERM),
                ("rename out", stranger, lambda: os.rename(sticky / "f", place / "new"), errno.EPERM),
                ("rename over", stranger, lambda: os.rename(sticky / "h", sticky / "f"), errno.EPERM),
                ("rmdir", stranger, lambda: os.rmdir(sticky / "d"), errno.EPERM),
                ("write", stranger, lambda: write(sticky / "f", b"x"), 0),
                ("unlink of one's own", owner, lambda: os.unlink(sticky / "f"), 0),
                ("rename of one's own", owner, lambda: os.rename(sticky / "g", sticky / "new"), 0),
                ("rmdir of one's own", owner, lambda: os.rmdir(sticky / "d"), 0),
                ("unlink by root", (0, 0, []), lambda: os.unlink(sticky / "h"), 0)]:
            self.assertEqual(name_of(as_user(*who, call)), name_of(expected), words)

    @both(allow_other=True)
    def test_a_setgid_directory_gives_its_group(self, place):
        place = open_to_all(place)
        shared = self.own(place / "shared", 0o2777, 0, OTHER, os.mkdir)

        def fill():
            create(shared / "f")
            os.mkdir(shared / "d", 0o755)
            os.symlink("f", shared / "l")
            os.mkdir(shared / "d/e", 0o700)
            opened(shared / "d/x", os.O_CREAT | os.O_WRONLY, 0o2755)
            create(place / "plain")
        self.assertEqual(as_user(NOBODY, NOBODY, [], fill), 0)

        def check(place):
            for path in ("f", "l", "d", "d/e", "d/x"):
                now = os.lstat(place / "shared" / path)
                self.assertEqual((now.st_uid, now.st_gid), (NOBODY, OTHER), path)
            for path, mode in (("d", 0o2755), ("d/e", 0o2700), ("f", 0o644), ("d/x", 0o755)):
                self.assertEqual(mode_of(place / "shared" / path), mode, path)
            self.assertEqual(os.lstat(place / "plain").st_gid, NOBODY)
        check(place)
        check(self.remount(place.parent, allow_other=True) / "open")

    @both(allow_other=True)
    def test_what_runs_as_another_does_not_outlive_a_strangers_change(self, place):
        """(who, what he does, mode before, mode after); the kernel tells us of all but the O_TRUNC."""
        place = open_to_all(place)
        stranger = (NOBODY, NOBODY, [])
        for words, who, call, before, after in [
                ("write", stranger, lambda path: write(path, b"x"), 0o6777, 0o777),
                ("append", stranger, lambda path: write(path, b"x", os.O_APPEND), 0o4777, 0o777),
                ("truncate", stranger, lambda path: os.truncate(path, 1), 0o6777, 0o777),
                ("O_TRUNC", stranger, lambda path: opened(path, os.O_WRONLY | os.O_TRUNC), 0o6777, 0o777),
                ("write, sgid without x", stranger, lambda path: write(path, b"x"), 0o2767, 0o2767),
                ("O_TRUNC, sgid without x", stranger, lambda path: opened(path, os.O_RDWR | os.O_TRUNC), 0o2767,
                 0o2767),
                ("write by root", (0, 0, []), lambda path: write(path, b"x"), 0o6777, 0o6777),
                ("read", stranger, lambda path: opened(path, os.O_RDONLY), 0o6777, 0o6777),
                ("chown by root", (0, 0, []), lambda path: os.chown(path, 7, 7), 0o6755, 0o755)]:
            path = self.own(place / words.replace(" ", "-"), before)
            self.assertEqual(name_of(as_user(*who, lambda: call(path))), "success", words)
            self.assertEqual(oct(mode_of(path)), oct(after), words)
        mine = self.own(place / "mine", 0o6755, NOBODY, NOBODY)
        self.assertEqual(as_user(NOBODY, NOBODY, [OTHER], lambda: os.chown(mine, -1, OTHER)), 0)
        self.assertEqual(oct(mode_of(mine)), oct(0o755), "chgrp by its owner")
        strange = self.own(place / "strange", 0o755, NOBODY, OTHER)
        self.assertEqual(as_user(NOBODY, NOBODY, [], lambda: os.chmod(strange, 0o2755)), 0)
        self.assertEqual(oct(mode_of(strange)), oct(0o755), "chmod by who is not in the group")

    @both(allow_other=True)
    def test_room_that_another_makes_clears_setid(self, place):
        place = open_to_all(place)
        path = self.own(place / "program", 0o6777, NOBODY, NOBODY)
        path.write_bytes(b"x" * 8192)
        os.chmod(path, 0o6777)

        def make_room():
            file = os.open(path, os.O_RDWR)
            try:
                os.posix_fallocate(file, 0, 16384)
            finally:
                os.close(file)

        self.assertEqual(as_user(OTHER, OTHER, [], make_room), 0)
        self.assertEqual(oct(mode_of(path)), oct(0o777))

    @both(allow_other=True)
    def test_bits_that_were_set_here_are_there_for_a_cache_that_knows_nothing(self, place):
        modes = {"suid": 0o4755, "sgid": 0o2755, "sticky": 0o1644, "none": 0o000}
        place = open_to_all(place)
        for name, mode in modes.items():
            self.own(place / name, mode, NOBODY, NOBODY)
        self.own(place / "dir", 0o3770, NOBODY, NOBODY, os.mkdir)
        for warm in (False, True):
            place = self.remount(place.parent, warm, allow_other=True) / "open"
            for name, mode in (modes | {"dir": 0o3770}).items():
                kept = mode if name == "dir" else mode & 0o777  # what may run as another is not believed of a bucket
                self.assertEqual(oct(mode_of(place / name)), oct(kept), name)


class TestOptions(Posix):
    def test_foreign_objects_look_as_the_options_say(self):
        self.s3.put(self.bucket, self.key("d/f"), b"x")
        for options, file_mode, dir_mode, uid, gid in [
                ({}, 0o644, 0o755, os.getuid(), os.getgid()),
                ({"umask": "027"}, 0o640, 0o750, os.getuid(), os.getgid()),
                ({"file_mode": "0666", "dir_mode": "0777", "umask": "002"}, 0o664, 0o775, os.getuid(), os.getgid()),
                ({"file_mode": "0", "umask": "0777"}, 0, 0, os.getuid(), os.getgid()),
                ({"uid": "nobody", "gid": "nogroup"}, 0o644, 0o755, 65534, 65534),
                ({"uid": 7, "gid": "8"}, 0o644, 0o755, 7, 8)]:
            with self.subTest(options=options):
                place = self.mount(**options).place
                file, directory = os.stat(place / "d/f"), os.stat(place / "d")
                self.assertEqual(oct(stat.S_IMODE(file.st_mode)), oct(file_mode))
                self.assertEqual(oct(stat.S_IMODE(directory.st_mode)), oct(dir_mode))
                self.assertEqual((file.st_uid, file.st_gid), (uid, gid))
                self.assertEqual((directory.st_uid, directory.st_gid), (uid, gid))

    def test_bits_of_a_foreign_object_are_stripped(self):
        for mode, expected in ((0o104755, 0o755), (0o102755, 0o755), (0o101644, 0o644)):
            self.s3.put(self.bucket, self.key(f"f{mode:o}"), b"x", {"x-amz-meta-mode": str(mode)})
            self.s3.put(self.bucket, self.key(f"f{mode:o}.d/"), b"", {"x-amz-meta-mode": str(mode ^ 0o140000)})
        place = self.mount().place
        for mode, expected in ((0o104755, 0o755), (0o102755, 0o755), (0o101644, 0o644)):
            self.assertEqual(oct(mode_of(place / f"f{mode:o}")), oct(expected))
            harmless = mode & 0o3000  # sticky and setgid: in a directory they run nothing
            self.assertEqual(oct(mode_of(place / f"f{mode:o}.d")), oct(expected | harmless))

    def requests(self, mount):
        return sum(mount.status()["server_requests"].values())

    def test_an_immutable_mount_asks_nothing_twice(self):
        for i in range(20):
            self.s3.put(self.bucket, self.key(f"d/f{i}"), b"x" * 1000)
        mount = self.mount(immutable=True, debug_fuse=True)
        self.assertEqual(answer(lambda: create(mount.place / "new")), errno.EROFS)

        def look():
            for name in sorted(os.listdir(mount.place / "d")):
                self.assertEqual((mount.place / "d" / name).read_bytes(), b"x" * 1000)
                self.assertEqual(os.stat(mount.place / "d" / name).st_size, 1000)
            self.assertFalse((mount.place / "d/missing").exists())
        look()
        before = self.requests(mount)
        time.sleep(1.2)  # longer than attr_ttl is without it
        asked = len(mount.log.read_text())
        look()
        self.assertEqual(self.requests(mount), before)
        again = set(re.findall(r"opcode: (\w+)", mount.log.read_text()[asked:]))
        self.assertFalse(again & {"LOOKUP", "GETATTR", "READDIR", "READDIRPLUS", "READ"}, "the kernel has it")

    def test_a_name_that_was_not_there_is_asked_for_again_after_negative_ttl(self):
        self.s3.put(self.bucket, self.key("d/there"), b"x")
        for negative_ttl, seen in (("0", True), ("1h", False)):
            place = self.mount(negative_ttl=negative_ttl, attr_ttl="1h" if seen else "0").place
            late = place / "d" / f"late-{negative_ttl}"
            self.assertFalse(late.exists())
            self.s3.put(self.bucket, self.key(f"d/{late.name}"), b"x")
            self.assertEqual(late.exists(), seen)


if __name__ == "__main__":
    harness.main()
