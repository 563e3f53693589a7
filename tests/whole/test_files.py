"""Ordinary file work on a real mount of a real MinIO, looked at from both sides."""

import errno
import hashlib
import os
import pathlib
import random
import shutil
import stat
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

MIB = 1 << 20


def run(*words, **how):
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, **how)


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(4 * MIB):
            digest.update(block)
    return digest.hexdigest()


def read_unless_stale(path):
    """Within attr_ttl an open may still be of the version that another host has replaced: then reading it is refused."""
    try:
        return path.read_bytes()
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        return None


class TestFiles(harness.Workshop):
    def test_a_closed_file_is_a_whole_object(self):
        place = self.mount().place
        for size in (0, 1, 4096, 131072, 131073, 5 * MIB, 20 * MIB + 7):
            content = os.urandom(size)
            (place / f"f{size}").write_bytes(content)
            self.assertEqual(self.object(f"f{size}"), content, f"{size} bytes")
            self.assertEqual((place / f"f{size}").read_bytes(), content)

    def test_a_foreign_object_is_a_file(self):
        self.s3.put(self.bucket, self.key("a/b c+d&é.txt"), b"hello")
        place = self.mount().place
        self.assertEqual(os.listdir(place), ["a"])
        self.assertEqual((place / "a/b c+d&é.txt").read_bytes(), b"hello")
        self.assertEqual(stat.S_IMODE(os.stat(place / "a/b c+d&é.txt").st_mode), 0o644)

    def test_a_tree_survives_cp_and_diff(self):
        place = self.mount().place
        for room in ("base", "s3", "tests"):
            run("cp", "-a", harness.ROOT / room, place)
            run("diff", "-r", "--no-dereference", harness.ROOT / room, place / room)
        again = self.mount().place
        run("diff", "-r", "--no-dereference", harness.ROOT / "base", again / "base")
        for path in (harness.ROOT / "base").iterdir():
            here, there = os.lstat(path), os.lstat(again / "base" / path.name)
            self.assertEqual((here.st_mode, here.st_size, here.st_mtime_ns),
                             (there.st_mode, there.st_size, there.st_mtime_ns), path)

    def test_find_mv_and_rm_do_what_they_say(self):
        place = self.mount().place
        for index in range(60):
            folder = place / f"d{index % 3}" / "sub"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{index}.txt").write_text(str(index))
        found = run("find", place, "-type", "f").stdout.split()
        self.assertEqual(len(found), 60)
        os.rename(place / "d0", place / "moved")
        self.assertEqual(len(run("find", place / "moved", "-type", "f").stdout.split()), 20)
        self.assertEqual((place / "moved/sub/3.txt").read_text(), "3")
        self.assertFalse([key for key in self.keys() if key.startswith("d0/")])
        self.assertIn("moved/sub/3.txt", self.keys())
        os.rename(place / "moved/sub/3.txt", place / "three.txt")
        self.assertEqual(self.object("three.txt"), b"3")
        run("rm", "-r", place / "moved", place / "d1", place / "d2")
        self.assertEqual(self.keys(), ["three.txt"])
        self.assertEqual(os.listdir(place), ["three.txt"])

    def test_an_emptied_directory_stays_until_rmdir(self):
        self.s3.put(self.bucket, self.key("implied/only"), b"x")
        place = self.mount().place
        os.remove(place / "implied/only")
        self.assertEqual(os.listdir(place / "implied"), [])
        time.sleep(1.2)
        self.assertEqual(os.listdir(place), ["implied"])
        os.rmdir(place / "implied")
        self.assertEqual(self.keys(), [])

    def test_rmdir_of_a_full_directory_is_refused(self):
        place = self.mount().place
        (place / "d").mkdir()
        (place / "d/f").write_text("x")
        with self.assertRaisesRegex(OSError, "not empty"):
            os.rmdir(place / "d")
        self.assertEqual((place / "d/f").read_text(), "x")

    def test_random_overwrites_in_a_big_file(self):
        place = self.mount().place
        size = 300 * MIB
        mirror = self.work / "mirror"
        block = os.urandom(MIB)
        with open(mirror, "wb") as file:
            for index in range(300):
                file.write(index.to_bytes(8, "big") + block[8:])
        shutil.copyfile(mirror, place / "big")
        chance = random.Random(3)
        for _ in range(8):
            offset, length = chance.randrange(size), chance.randrange(1, 300000)
            for path in (mirror, place / "big"):
                run("dd", "if=/dev/zero", f"of={path}", "conv=notrunc", "oflag=seek_bytes", "iflag=count_bytes",
                    f"seek={offset}", f"count={length}", "bs=64K")
        self.assertEqual(sha256_of(place / "big"), sha256_of(mirror))
        self.assertEqual(hashlib.sha256(self.object("big")).hexdigest(), sha256_of(mirror))

    def test_append_truncate_and_holes(self):
        place = self.mount().place
        path = place / "log"
        path.write_bytes(b"one\n")
        with open(path, "ab") as file:
            file.write(b"two\n")
        self.assertEqual(self.object("log"), b"one\ntwo\n")
        os.truncate(path, 6)
        self.assertEqual(self.object("log"), b"one\ntw")
        os.truncate(path, 10)
        self.assertEqual(self.object("log"), b"one\ntw\0\0\0\0")
        with open(place / "sparse", "wb") as file:
            file.seek(3 * MIB)
            file.write(b"end")
        self.assertEqual(self.object("sparse"), b"\0" * (3 * MIB) + b"end")
        with open(path, "r+b") as file:
            file.truncate(0)
            file.write(b"new")
        self.assertEqual(self.object("log"), b"new")

    def test_fsync_publishes_while_the_file_is_open(self):
        place = self.mount().place
        with open(place / "ckpt", "wb") as file:
            file.write(b"a" * MIB)
            file.flush()
            os.fsync(file.fileno())
            self.assertEqual(self.object("ckpt"), b"a" * MIB)
            file.seek(10)
            file.write(b"b")
        self.assertEqual(self.object("ckpt"), b"a" * 10 + b"b" + b"a" * (MIB - 11))

    def test_a_forked_child_that_exits_publishes_nothing(self):
        place = self.mount().place
        file = os.open(place / "shared", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"half")
        child = os.fork()
        if child == 0:
            os.close(file)
            os._exit(0)
        os.waitpid(child, 0)
        self.assertIsNone(self.s3.head(self.bucket, self.key("shared")))
        os.write(file, b" and half")
        os.close(file)
        self.assertEqual(self.object("shared"), b"half and half")

    def test_write_rename_over_is_atomic_for_others(self):
        place = self.mount().place
        (place / "model.pt").write_bytes(b"old" * 1000)
        with open(place / "model.tmp", "wb") as file:
            file.write(b"new" * 2000)
            os.fsync(file.fileno())
        os.rename(place / "model.tmp", place / "model.pt")
        self.assertEqual(self.object("model.pt"), b"new" * 2000)
        self.assertEqual((place / "model.pt").read_bytes(), b"new" * 2000)
        self.assertEqual(self.keys(), ["model.pt"])

    def test_an_unlinked_open_file_lives_until_its_close(self):
        place = self.mount().place
        (place / "f").write_bytes(b"content")
        with open(place / "f", "rb") as file:
            os.remove(place / "f")
            self.assertFalse((place / "f").exists())
            self.assertEqual(file.read(), b"content")
        harness.wait_until(lambda: not self.keys(), what="the delete after the last close")

    def test_attributes_ride_as_s3fs_writes_them(self):
        mount = self.mount()
        path = mount.place / "f"
        path.write_bytes(b"x")
        os.chmod(path, 0o750)
        os.chown(path, 1234, 567)
        os.utime(path, ns=(10**18, 1600000000123456789))
        os.symlink("f", mount.place / "link")
        os.mkdir(mount.place / "d", 0o711)
        head = self.s3.head(self.bucket, self.key("f"))
        self.assertEqual(head["x-amz-meta-mode"], str(stat.S_IFREG | 0o750))
        self.assertEqual((head["x-amz-meta-uid"], head["x-amz-meta-gid"]), ("1234", "567"))
        self.assertEqual(head["x-amz-meta-mtime"], "1600000000.123456789")
        self.assertEqual(self.object("link"), b"f")
        self.assertEqual(int(self.s3.head(self.bucket, self.key("link"))["x-amz-meta-mode"]) & 0o170000, stat.S_IFLNK)
        place = self.mount().place
        facts = os.stat(place / "f")
        self.assertEqual((facts.st_mode, facts.st_uid, facts.st_gid, facts.st_mtime_ns),
                         (stat.S_IFREG | 0o750, 1234, 567, 1600000000123456789))
        self.assertEqual(os.readlink(place / "link"), "f")
        self.assertEqual(stat.S_IMODE(os.stat(place / "d").st_mode), 0o711)

    def test_a_rewrite_keeps_what_it_does_not_understand(self):
        self.s3.put(self.bucket, self.key("page.html"), b"<p>", {
            "Content-Type": "text/html", "Cache-Control": "no-store", "x-amz-meta-colour": "blue"})
        place = self.mount().place
        with open(place / "page.html", "ab") as file:
            file.write(b"</p>")
        os.chmod(place / "page.html", 0o600)
        head = self.s3.head(self.bucket, self.key("page.html"))
        self.assertEqual((head["content-type"], head["cache-control"], head["x-amz-meta-colour"]),
                         ("text/html", "no-store", "blue"))
        self.assertEqual(self.object("page.html"), b"<p></p>")

    def test_inode_numbers_stay_while_mounted(self):
        place = self.mount().place
        (place / "a").write_text("x")
        number = os.stat(place / "a").st_ino
        time.sleep(1.2)
        self.assertEqual(os.stat(place / "a").st_ino, number)
        os.rename(place / "a", place / "b")
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("2")
        self.assertEqual(os.stat(place / "b").st_ino, number)

    def test_two_mounts_see_each_others_closed_files(self):
        first, second = self.mount().place, self.mount().place
        (first / "f").write_text("one")
        self.assertEqual((second / "f").read_text(), "one")
        (second / "f").write_text("two!")
        harness.wait_until(lambda: read_unless_stale(first / "f") == b"two!", 5, "the other mount's version")
        (second / "g").write_text("g")
        harness.wait_until(lambda: "g" in os.listdir(first), 5, "the other mount's file")
        os.remove(first / "f")
        harness.wait_until(lambda: os.listdir(second) == ["g"], 5, "the other mount's removal")

    def test_a_reader_of_a_replaced_object_gets_estale_not_a_mixture(self):
        self.s3.put(self.bucket, self.key("data"), b"a" * (64 * MIB))
        place = self.mount(read_ahead="1M").place
        with open(place / "data", "rb", buffering=0) as file:
            self.assertEqual(file.read(4096), b"a" * 4096)
            self.s3.put(self.bucket, self.key("data"), b"b" * (64 * MIB))
            with self.assertRaises(OSError) as caught:
                while block := file.read(MIB):
                    self.assertEqual(set(block), {ord("a")})
            self.assertEqual(caught.exception.errno, 116)
        self.assertEqual((place / "data").read_bytes()[:1], b"b", "a new open gets the new version at once")

    def test_directories_are_listed_whole_while_they_change(self):
        place = self.mount().place
        for index in range(300):
            self.s3.put(self.bucket, self.key(f"d/{index:04}"), b"")
        seen = []
        with os.scandir(place / "d") as entries:
            for entry in entries:
                seen.append(entry.name)
                if len(seen) == 10:
                    (place / "d/0005x").write_text("")
                    os.remove(place / "d/0299")
        self.assertEqual(len(seen), len(set(seen)))
        self.assertLessEqual({f"{index:04}" for index in range(299)}, set(seen))

    def test_read_only_refuses_every_change(self):
        self.s3.put(self.bucket, self.key("f"), b"x")
        place = self.mount(ro=True).place
        self.assertEqual((place / "f").read_bytes(), b"x")
        for change in (lambda: (place / "f").write_text("y"), lambda: (place / "g").write_text(""),
                       lambda: os.remove(place / "f"), lambda: os.mkdir(place / "d"),
                       lambda: os.chmod(place / "f", 0), lambda: os.rename(place / "f", place / "g")):
            with self.assertRaisesRegex(OSError, "Read-only"):
                change()

    def test_names_that_no_key_can_hold_are_refused(self):
        place = self.mount().place
        with self.assertRaises(OSError) as caught:
            open(os.fsencode(place) + b"/\xff\xfe", "w")
        self.assertEqual(caught.exception.errno, 84)  # EILSEQ
        with self.assertRaisesRegex(OSError, "name too long"):
            open(place / ("x" * 256), "w")
        deep = place
        with self.assertRaisesRegex(OSError, "name too long"):
            for _ in range(6):
                deep = deep / ("y" * 200)
                deep.mkdir()

    def test_sixteen_writers_and_readers_at_once(self):
        import concurrent.futures
        place = self.mount().place
        (place / "many").mkdir()

        def work(index):
            content = os.urandom(random.Random(index).randrange(1, 200000))
            path = place / "many" / f"{index}"
            path.write_bytes(content)
            return path.read_bytes() == content and self.object(f"many/{index}") == content

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            self.assertTrue(all(pool.map(work, range(200))))
        self.assertEqual(len(os.listdir(place / "many")), 200)


class TestBigFiles(harness.Workshop):
    def test_five_gib_in_and_out_within_the_memory_limit(self):
        mount = self.mount(memory="256M")
        peak = 0
        size, block = 5 << 30, os.urandom(8 * MIB)
        wrote, read = hashlib.sha256(), hashlib.sha256()
        with open(mount.place / "huge", "wb", buffering=0) as file:
            for index in range(size // len(block)):
                piece = index.to_bytes(8, "big") + block[8:]
                file.write(piece)
                wrote.update(piece)
                peak = max(peak, mount.rss_mib()) if index % 16 == 0 else peak
        self.assertEqual(int(self.s3.head(self.bucket, self.key("huge"))["content-length"]), size)
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("1")
        with open(mount.place / "huge", "rb", buffering=0) as file:
            while piece := file.read(8 * MIB):
                read.update(piece)
                peak = max(peak, mount.rss_mib()) if file.tell() % (128 * MIB) == 0 else peak
        self.assertEqual(read.hexdigest(), wrote.hexdigest())
        self.assertLessEqual(peak, 256 + 48)


if __name__ == "__main__":
    harness.main()
