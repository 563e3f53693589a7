#!/usr/bin/env python3
"""Programs that people run, on a real mount of a real MinIO: git, rsync, tar, make, sqlite, venv, sed, vim, find, cp, du. What they made is
looked at by another mount with an empty cache, after `skyvol flush`."""

import os
import pathlib
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

MIB = 1 << 20


def run(*words, **how):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **how)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def make_tree(place):
    """Files of all kinds of modes and times, in directories that have theirs."""
    for number in range(60):
        folder = place / f"d{number % 4}" / f"sub{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"file {number}.bin"
        path.write_bytes(os.urandom(number * 997 % 50000))
        path.chmod((0o644, 0o600, 0o755, 0o444, 0o660)[number % 5])
        os.utime(path, ns=(10**18 + number, 1_500_000_000_123_456_789 + number * 10**12))
    (place / "large").write_bytes(os.urandom(12 * MIB + 5))
    for name, target in (("to-directory", "d0/sub0"), ("d1/dangling", "nowhere")):
        os.symlink(target, place / name)
        os.utime(place / name, ns=(10**18, 1_450_000_000_192_837_465), follow_symlinks=False)
    for number in range(4):
        (place / f"d{number}").chmod((0o755, 0o700, 0o775, 0o2750)[number])
    for number, folder in enumerate(path for path in sorted(place.rglob("*")) if path.is_dir() and not path.is_symlink()):
        os.utime(folder, ns=(10**18, 1_400_000_000_987_654_321 + number * 10**12))


def facts_below(place):
    """What tar and rsync keep of each name."""
    told = {}
    for path in sorted(place.rglob("*")):
        status = os.lstat(path)
        link = os.readlink(path) if stat.S_ISLNK(status.st_mode) else None
        told[str(path.relative_to(place))] = (oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, link,
                                              None if stat.S_ISDIR(status.st_mode) else status.st_size)
    return told


class TestPrograms(harness.Workshop):
    maxDiff = 4000

    def mount(self, **options):
        return super().mount(**{"durability": None, **options})

    def elsewhere(self, mount, **options):
        """The same bucket for somebody else, when all of it has gone up."""
        self.assertEqual(mount.run("flush", str(mount.place)).returncode, 0)
        return self.mount(**options)

    # ---- git ----

    GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main", "-c", "safe.directory=*"]

    def git(self, place, *words):
        return run(*self.GIT, "-C", place, *words)

    def test_git_clones_commits_collects_pushes_and_finds_no_fault(self):
        origin = self.work / "origin"
        origin.mkdir()
        self.git(origin, "init", "-q", "--bare")
        seed = self.work / "seed"
        run(*self.GIT, "clone", "-q", origin, seed)
        for number in range(5):
            for name in range(20):
                (seed / f"d{name % 5}").mkdir(exist_ok=True)
                (seed / f"d{name % 5}/{name}.txt").write_text(f"{number} {name}\n" * (50 * name))
            self.git(seed, "add", ".")
            self.git(seed, "commit", "-q", "-m", f"{number}")
        self.git(seed, "push", "-q", "origin", "main")

        mount = self.mount()
        clone = mount.place / "clone"
        run(*self.GIT, "clone", "-q", origin, clone)
        self.assertEqual(self.git(clone, "status", "--porcelain"), "")
        self.git(clone, "checkout", "-q", "-b", "topic")
        (clone / "d0/0.txt").write_text("changed\n")
        (clone / "new").mkdir()
        (clone / "new/file").write_text("new\n")
        self.git(clone, "add", ".")
        self.git(clone, "commit", "-q", "-m", "mine")
        self.git(clone, "mv", "d1", "moved")
        self.git(clone, "commit", "-q", "-m", "moved")
        self.git(clone, "checkout", "-q", "main")
        self.git(clone, "merge", "-q", "--no-ff", "-m", "merged", "topic")
        self.git(clone, "gc", "-q", "--prune=now")
        self.git(clone, "fsck", "--full", "--strict")
        self.git(clone, "push", "-q", "origin", "main")
        self.assertEqual(self.git(clone, "status", "--porcelain"), "")

        other = self.elsewhere(mount).place / "clone"
        self.git(other, "fsck", "--full", "--strict")
        self.assertEqual(self.git(other, "status", "--porcelain"), "")
        self.assertEqual(self.git(other, "rev-parse", "HEAD"), self.git(origin, "rev-parse", "main"))
        self.assertEqual(len(self.git(other, "log", "--format=%h").split()), 8)
        self.assertFalse([key for key in self.keys() if ".lock" in key or "tmp_" in key])

    # ---- rsync, tar ----

    def test_rsync_moves_nothing_the_second_time(self):
        source = self.work / "source"
        source.mkdir()
        make_tree(source)
        mount = self.mount()
        self.assertTrue(run("rsync", "-ai", f"{source}/", mount.place / "copy/"))
        self.assertEqual(run("rsync", "-ai", f"{source}/", mount.place / "copy/"), "")
        other = self.elsewhere(mount).place / "copy"
        self.assertEqual(run("rsync", "-ai", f"{source}/", f"{other}/"), "")
        self.assertEqual(run("rsync", "-aic", "--dry-run", f"{source}/", f"{other}/"), "", "by checksum")
        self.assertEqual(facts_below(other), facts_below(source))
        # What rsync moves next is what was changed and removed, in place and by rename.
        (source / "d0/sub0/file 0.bin").write_bytes(b"longer than before")
        (source / "d1/sub1/file 1.bin").unlink()
        with open(source / "large", "r+b") as file:
            file.seek(5 * MIB)
            file.write(b"patch")
        moved = run("rsync", "-ai", "--delete", "--inplace", "--no-whole-file", f"{source}/", f"{other}/").splitlines()
        self.assertEqual(sorted(line.split(maxsplit=1)[1] for line in moved if not line.startswith(".d")),
                         ["d0/sub0/file 0.bin", "d1/sub1/file 1.bin", "large"])
        run("diff", "-r", "--no-dereference", source, other)

    def test_tar_keeps_modes_and_times_to_and_fro(self):
        source, archive = self.work / "source", self.work / "a.tar"
        source.mkdir()
        make_tree(source)
        run("tar", "--format=posix", "-C", source, "-cf", archive, ".")
        mount = self.mount()
        (mount.place / "unpacked").mkdir()
        run("tar", "-C", mount.place / "unpacked", "-xpf", archive)
        self.assertEqual(facts_below(mount.place / "unpacked"), facts_below(source))
        other = self.elsewhere(mount).place
        self.assertEqual(run("tar", "-C", other / "unpacked", "--compare", "-f", archive), "")
        self.assertEqual(facts_below(other / "unpacked"), facts_below(source))
        run("tar", "--format=posix", "-C", other / "unpacked", "-czf", other / "b.tar.gz", ".")
        back = self.work / "back"
        back.mkdir()
        run("tar", "-C", back, "-xpzf", other / "b.tar.gz")
        self.assertEqual(facts_below(back), facts_below(source))
        run("diff", "-r", "--no-dereference", source, back)

    # ---- make ----

    def make_project(self, place):
        """A program of six parts and a library, with dependencies as the compiler tells them."""
        place.mkdir()
        (place / "all.h").write_text("int main_value(void);\n" + "".join(f"int part{i}(void);\n" for i in range(6)))
        (place / "odd.h").write_text("#define STEP 2\n")
        for i in range(6):
            (place / f"part{i}.c").write_text(f'#include "all.h"\n{chr(35)}include "{"odd.h" if i % 2 else "all.h"}"\n'
                                              f"int part{i}(void) {{ return {i}; }}\n")
        (place / "main.c").write_text('#include <stdio.h>\n#include "all.h"\nint main(void) { printf("%d\\n", '
                                      + " + ".join(f"part{i}()" for i in range(6)) + "); return 0; }\n")
        (place / "Makefile").write_text(textwrap.dedent("""\
            PARTS = part0.o part1.o part2.o part3.o part4.o part5.o
            program: main.o libparts.a
            \t$(CC) -o $@ main.o libparts.a
            libparts.a: $(PARTS)
            \trm -f $@ && ar rcs $@ $(PARTS)
            %.o: %.c
            \t$(CC) -MMD -c -o $@ $<
            -include *.d
            """))

    def test_make_builds_once_and_again_only_what_changed(self):
        mount = self.mount()
        place = mount.place / "project"
        self.make_project(place)
        make = ["make", "CC=gcc", "-j2", "-C"]
        self.assertEqual(run(*make, place).count("-MMD"), 7)
        self.assertEqual(run(place / "program"), "15\n")
        self.assertIn("up to date", run(*make, place))
        (place / "odd.h").write_text("#define STEP 3\n")
        self.assertEqual(run(*make, place).count("-MMD"), 3)
        run(*make, place, "-q")
        # Who comes with an empty cache finds the times as they were, so nothing to do.
        other = self.elsewhere(mount).place / "project"
        run(*make, other, "-q")
        self.assertEqual(run(other / "program"), "15\n")
        (other / "part3.c").write_text((other / "part3.c").read_text().replace("return 3", "return 30"))
        self.assertEqual(run(*make, other).count("-MMD"), 1)
        self.assertEqual(run(other / "program"), "42\n")

    # ---- sqlite ----

    WRITER = """
        import sqlite3, sys, time
        path, mode, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
        base = sqlite3.connect(path, timeout=60, isolation_level=None)
        base.execute(f"pragma journal_mode={mode}")
        for step in range(count):
            base.execute("begin immediate")
            base.execute("update counter set value = value + 1")
            base.execute("insert into line(text) values (?)", (f"{sys.argv[4]} {step} " + "x" * 300,))
            base.execute("rollback" if step % 5 == 4 else "commit")
        base.execute("begin immediate")
        base.execute("pragma cache_size=1")
        base.executemany("insert into line(text) values (?)", [("never " + "y" * 2000,)] * 50)
        print("in the middle", flush=True)
        time.sleep(600)
        """

    def write_and_be_killed(self, path, mode):
        """Two writers at a time, the second of which begins where the first was killed within a transaction."""
        for name in "ab":
            writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(self.WRITER), str(path), mode, "10", name],
                                      stdout=subprocess.PIPE, text=True)
            try:
                self.assertEqual(writer.stdout.readline(), "in the middle\n")
            finally:
                writer.send_signal(signal.SIGKILL)
                writer.wait()
                writer.stdout.close()

    def expect_whole(self, path, value):
        base = sqlite3.connect(path, timeout=60)
        try:
            self.assertEqual(base.execute("pragma integrity_check").fetchall(), [("ok",)])
            self.assertEqual(base.execute("select value from counter").fetchall(), [(value,)])
            self.assertEqual(base.execute("select count(*) from line").fetchone()[0], value)
        finally:
            base.close()

    def use_sqlite(self, durability):
        mount = self.mount(durability=durability)
        modes = ("delete", "truncate", "persist", "wal")
        for mode in modes:
            path = mount.place / f"{mode}.db"
            base = sqlite3.connect(path)
            base.executescript("create table counter(value); create table line(text); insert into counter values (0);")
            base.close()
            self.write_and_be_killed(path, mode)
            self.expect_whole(path, 16)
        self.assertEqual(mount.umount("--wait").returncode, 0)
        other = self.mount().place
        for mode in modes:
            self.expect_whole(other / f"{mode}.db", 16)
            (self.work / "copy.db").write_bytes(self.object(f"{mode}.db"))
            self.expect_whole(self.work / "copy.db", 16)
            (self.work / "copy.db").unlink()

    def test_sqlite_keeps_what_was_committed_with_fsync_to_the_bucket(self):
        self.use_sqlite(None)

    def test_sqlite_keeps_what_was_committed_with_fsync_to_the_disk(self):
        self.use_sqlite("local")

    # ---- venv ----

    def test_a_venv_is_made_and_runs_also_from_another_mount(self):
        mount = self.mount()
        place = mount.place / "venv"
        run(sys.executable, "-m", "venv", "--without-pip", place)
        packages = next(place.glob("lib/python*/site-packages")) / "package"
        packages.mkdir()
        for number in range(30):
            (packages / f"part{number}.py").write_text(f"value = {number}\n")
        (packages / "__init__.py").write_text("".join(f"from . import part{n}\n" for n in range(30)) + "total = sum(range(30))\n")
        code = "import sys, package; print(package.total, sys.prefix)"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self.assertEqual(run(place / "bin/python", "-c", code, env=environment), f"435 {place}\n")
        self.assertEqual(len(list(packages.glob("__pycache__/*.pyc"))), 31)
        other = self.elsewhere(mount).place / "venv"
        self.assertEqual(run(other / "bin/python", "-c", code, env=environment), f"435 {other}\n")

    # ---- Editors. ----

    def expect_edited(self, mount, name, text, mode=0o640):
        path = mount.place / name
        self.assertEqual((path.read_text(), stat.S_IMODE(path.stat().st_mode)), (text, mode))
        self.assertEqual(mount.run("flush", str(mount.place)).returncode, 0)
        self.assertEqual(self.object(name).decode(), text)
        self.assertEqual(self.keys(), [name], "nothing is left over")

    def write_notes(self, mount):
        path = mount.place / "notes.txt"
        path.write_text("one\ntwo\n")
        path.chmod(0o640)
        return path

    def test_sed_replaces_a_file_by_rename(self):
        mount = self.mount()
        path = self.write_notes(mount)
        for number in range(20):
            run("sed", "-i", f"$a line {number}", path)
        run("sed", "-i", "s/one/1/", path)
        self.expect_edited(mount, "notes.txt", "1\ntwo\n" + "".join(f"line {n}\n" for n in range(20)))

    def test_an_editor_that_keeps_a_backup_until_the_new_file_is_safe(self):
        """As vim does with backupcopy=no."""
        mount = self.mount()
        path = self.write_notes(mount)
        for number in range(5):
            backup = path.with_name("notes.txt~")
            os.rename(path, backup)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
            os.write(fd, f"version {number}\n".encode())
            os.fchmod(fd, 0o640)
            os.fsync(fd)
            os.close(fd)
            self.assertEqual(self.object("notes.txt"), f"version {number}\n".encode())
            os.unlink(backup)
        self.expect_edited(mount, "notes.txt", "version 4\n")

    def test_an_editor_that_copies_the_backup_and_writes_in_place(self):
        """As vim does with backupcopy=yes, and nano."""
        mount = self.mount()
        path = self.write_notes(mount)
        for number in range(5):
            backup = path.with_name("notes.txt~")
            shutil.copy2(path, backup)
            with open(path, "r+b") as file:
                file.truncate(0)
                file.write(f"version {number}\n".encode())
                file.flush()
                os.fsync(file.fileno())
            os.unlink(backup)
        self.expect_edited(mount, "notes.txt", "version 4\n")

    def test_vim_writes_what_was_edited(self):
        mount = self.mount()
        path = self.write_notes(mount)
        for how in ("no", "yes", "auto"):
            run(shutil.which("vim") or "vim.tiny", "-Nu", "NONE", "-i", "NONE", "-es", "-c", f"set backupcopy={how} directory=.",
                "-c", "%s/^/x/", "-c", "wq", path)
        self.expect_edited(mount, "notes.txt", "xxxone\nxxxtwo\n")

    # ---- find, cp, du ----

    def test_find_newer_tells_what_came_later(self):
        mount = self.mount()
        for number in range(10):
            path = mount.place / f"f{number}"
            path.write_text("x")
            os.utime(path, (1_600_000_000 + number, 1_600_000_000 + number))
        (mount.place / "fresh").write_text("x")
        for place in (mount.place, self.elsewhere(mount).place):
            found = run("find", place, "-type", "f", "-newer", place / "f6", "-printf", "%f ").split()
            self.assertEqual(sorted(found), ["f7", "f8", "f9", "fresh"])
            self.assertEqual(run("find", place, "-name", "fresh", "-mmin", "-10", "-printf", "%f"), "fresh")

    def test_cp_sparse_finds_the_zeros_in_both_directions(self):
        source = self.work / "sparse"
        with open(source, "wb") as file:
            for place in (0, 3 * MIB, 9 * MIB + 4096):
                file.seek(place)
                file.write(os.urandom(65536))
            file.truncate(16 * MIB + 1)
        mount = self.mount()
        run("cp", "--sparse=always", source, mount.place / "copy")
        run("cmp", source, mount.place / "copy")
        other = self.elsewhere(mount).place
        run("cp", "--sparse=always", other / "copy", self.work / "back")
        run("cmp", source, self.work / "back")
        self.assertEqual(os.stat(self.work / "back").st_blocks, os.stat(source).st_blocks)

    def test_du_tells_what_files_hold(self):
        mount = self.mount()
        (mount.place / "d/e").mkdir(parents=True)
        sizes = (0, 1, 512, 4096, 100_000, 3 * MIB + 7)
        for size in sizes:
            (mount.place / f"d/e/f{size}").write_bytes(os.urandom(size))
        for place in (mount.place, self.elsewhere(mount).place):
            told = dict(reversed(line.split("\t")) for line in run("du", "-B1", "-a", "--apparent-size", place / "d/e").splitlines())
            self.assertEqual({size: int(told[str(place / f"d/e/f{size}")]) for size in sizes}, {size: size for size in sizes})
            used = int(run("du", "-s", "-B1", place / "d").split()[0])
            self.assertGreaterEqual(used, sum(sizes))
            self.assertLess(used, sum(sizes) + 64 * 1024)


if __name__ == "__main__":
    harness.main()
