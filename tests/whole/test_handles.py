"""Several handles, threads, processes and mappings on one file: what each of them sees, and what reaches S3 when."""

import errno
import fcntl
import mmap
import os
import pathlib
import random
import struct
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

MIB, PAGE = 1 << 20, 4096
F_OFD_SETLK = 37


def in_another_process(code, *arguments):
    """Its standard output; `code` sees os, fcntl, struct, sys."""
    done = subprocess.run([sys.executable, "-c", "import fcntl, os, struct, sys\n" + code, *map(str, arguments)],
                          capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout.strip()


def aligned(size):
    """Memory that O_DIRECT takes."""
    return mmap.mmap(-1, size)


class TestHandles(harness.Workshop):
    def writeback(self, **options):
        return self.mount(durability=None, publish_after=3600, **options)

    # ---- Locks of one host. ----

    TRY = {
        "flock": "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl": "fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)",
        "ofd": f"fcntl.fcntl(fd, {F_OFD_SETLK}, struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 5, 10, 0))",
    }

    def test_locks_of_all_kinds_keep_another_process_out(self):
        path = self.mount().place / "f"
        path.write_bytes(b"x" * 100)
        for kind, take in self.TRY.items():
            other = f"fd = os.open(sys.argv[1], os.O_RDWR)\ntry:\n    {take}\n    print('taken')\nexcept OSError as e:\n" \
                    "    print('busy' if e.errno in (11, 13) else e)"
            with open(path, "r+b") as file:
                exec(take, {"fcntl": fcntl, "struct": struct, "fd": file.fileno()})
                self.assertEqual(in_another_process(other, path), "busy", kind)
                if kind != "flock":
                    elsewhere = other.replace("10, 5", "10, 50").replace("0, 5, 10, 0", "0, 50, 10, 0")
                    self.assertEqual(in_another_process(elsewhere, path), "taken", kind)
            self.assertEqual(in_another_process(other, path), "taken", kind)

    def test_a_lock_is_waited_for_and_goes_with_its_process(self):
        path = self.mount().place / "f"
        path.write_bytes(b"")
        holder = subprocess.Popen([sys.executable, "-c", "import fcntl, sys, time; f = open(sys.argv[1], 'r+b'); "
                                   "fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(100)", path],
                                  stdout=subprocess.PIPE, text=True)
        self.addCleanup(holder.stdout.close)
        self.assertEqual(holder.stdout.readline(), "held\n")
        got = threading.Event()

        def wait():
            with open(path, "r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                got.set()

        waiter = threading.Thread(target=wait)
        waiter.start()
        self.assertFalse(got.wait(0.3))
        holder.kill()
        holder.wait()
        self.assertTrue(got.wait(10))
        waiter.join()

    # ---- Appends. ----

    def test_appends_by_threads_and_processes_lose_and_tear_nothing(self):
        path = self.writeback().place / "log"
        code = ("fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
                "for i in range(300):\n    os.write(fd, (f'{sys.argv[2]}:{i}:' + 'x' * (i * 37 % 5000) + '\\n').encode())")
        expected = {f"{who}:{i}:" + "x" * (i * 37 % 5000) for who in range(6) for i in range(300)}
        shared = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def append(who):
            for i in range(300):
                os.write(shared, (f"{who}:{i}:" + "x" * (i * 37 % 5000) + "\n").encode())

        workers = [threading.Thread(target=append, args=(who,)) for who in range(3)]
        workers += [threading.Thread(target=in_another_process, args=(code, path, who)) for who in range(3, 6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        os.fsync(shared)
        os.close(shared)
        for content in (path.read_bytes(), self.object("log")):
            lines = content.decode().splitlines()
            self.assertEqual(len(lines), len(expected))
            self.assertEqual(set(lines), expected)

    def test_append_can_be_turned_on_and_off(self):
        path = self.mount().place / "f"
        path.write_bytes(b"0123456789")
        fd = os.open(path, os.O_RDWR | os.O_APPEND)
        os.pwrite(fd, b"ab", 0)  # Linux: at the end all the same
        fcntl.fcntl(fd, fcntl.F_SETFL, 0)
        os.pwrite(fd, b"XY", 0)
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
        os.write(fd, b"cd")
        os.close(fd)
        self.assertEqual(path.read_bytes(), b"XY23456789abcd")
        self.assertEqual(self.object("f"), b"XY23456789abcd")

    # ---- Mappings. ----

    def test_a_mapping_and_the_calls_see_each_other(self):
        path = self.writeback().place / "f"
        path.write_bytes(bytes(4 * PAGE))
        with open(path, "r+b") as file, open(path, "rb") as reader, open(path, "r+b") as writer:
            shared = mmap.mmap(file.fileno(), 4 * PAGE)
            shown = mmap.mmap(reader.fileno(), 4 * PAGE, prot=mmap.PROT_READ)
            shared[10:15] = b"store"
            self.assertEqual(os.pread(reader.fileno(), 5, 10), b"store")
            os.pwrite(writer.fileno(), b"write", 2 * PAGE)
            self.assertEqual(shared[2 * PAGE:2 * PAGE + 5], b"write")
            self.assertEqual(shown[2 * PAGE:2 * PAGE + 5], b"write")
            self.assertEqual(shown[10:15], b"store")
            shared[2 * PAGE + 2:2 * PAGE + 4] = b"IT"
            shared.flush()
            os.fsync(file.fileno())
            self.assertEqual(self.object("f")[2 * PAGE:2 * PAGE + 5], b"wrITe")
            self.assertEqual(self.object("f")[10:15], b"store")

    def test_what_was_stored_into_a_mapping_stands_where_it_was_stored_though_a_handle_appends(self):
        path = self.writeback().place / "f"
        path.write_bytes(bytes(2 * PAGE))
        with open(path, "a+b") as file:
            shared = mmap.mmap(file.fileno(), 2 * PAGE)
            shared[5:8] = b"abc"
            shared.flush()
            shared.close()
        self.assertEqual(path.stat().st_size, 2 * PAGE)
        self.assertEqual(path.read_bytes()[:10], b"\0" * 5 + b"abc\0\0")

    def test_a_mapping_that_was_synced_survives_a_kill(self):
        mount = self.writeback(name="one")
        path = mount.place / "f"
        with open(path, "w+b") as file:
            file.truncate(64 * PAGE)
            shared = mmap.mmap(file.fileno(), 64 * PAGE)
            for page in range(0, 64, 7):
                shared[page * PAGE + page:page * PAGE + page + 4] = b"kept"
            shared.flush()
            self.assertEqual(len(self.keys()), 1)  # msync is an fsync: R
            fd = os.open(path, os.O_WRONLY)
            os.pwrite(fd, b"after", 63 * PAGE)
            mount.kill()
            os.close(fd)
        mount.clean_up()
        mount = self.writeback(name="one")
        content = (mount.place / "f").read_bytes()
        for page in range(0, 63, 7):
            self.assertEqual(content[page * PAGE + page:page * PAGE + page + 4], b"kept")
        self.assertEqual(content[63 * PAGE:63 * PAGE + 5], b"after")

    # ---- Flags. ----

    def test_a_synchronous_write_is_in_s3_when_it_returns(self):
        place = self.writeback().place
        for name, flag in (("sync", os.O_SYNC), ("dsync", os.O_DSYNC)):
            fd = os.open(place / name, os.O_WRONLY | os.O_CREAT | flag)
            os.write(fd, b"one")
            self.assertEqual(self.object(name), b"one")
            os.pwrite(fd, b"2", 1)
            self.assertEqual(self.object(name), b"o2e")
            os.close(fd)
        fd = os.open(place / "later", os.O_WRONLY | os.O_CREAT)
        os.pwritev(fd, [b"once"], 0, os.RWF_DSYNC)
        self.assertEqual(self.object("later"), b"once")
        os.close(fd)

    def test_direct_reads_and_writes_are_those_of_everybody(self):
        path = self.writeback().place / "f"
        content = os.urandom(3 * MIB)
        path.write_bytes(content)
        cached = open(path, "rb", buffering=0)
        self.assertEqual(cached.read(), content)
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        memory = aligned(MIB)
        self.assertEqual(os.preadv(fd, [memory], MIB), MIB)
        self.assertEqual(memory[:], content[MIB:2 * MIB])
        memory[:] = b"d" * MIB
        self.assertEqual(os.pwritev(fd, [memory], MIB), MIB)
        self.assertEqual(os.pread(cached.fileno(), MIB, MIB), b"d" * MIB)
        reader = os.open(path, os.O_RDONLY | os.O_DIRECT)
        self.assertEqual(os.preadv(reader, [memory], MIB - PAGE), MIB)
        self.assertEqual(memory[:], content[MIB - PAGE:MIB] + b"d" * (MIB - PAGE))
        self.assertEqual(os.preadv(reader, [memory], 3 * MIB - PAGE), PAGE)
        self.assertEqual(os.preadv(reader, [memory], 3 * MIB), 0)
        for one in (fd, reader):
            os.close(one)
        cached.close()

    def test_o_trunc_empties_the_file_for_all_who_have_it_open(self):
        path = self.writeback().place / "f"
        path.write_bytes(b"x" * 10000)
        with open(path, "rb", buffering=0) as reader, open(path, "r+b", buffering=0) as writer:
            self.assertEqual(reader.read(5000), b"x" * 5000)
            os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
            self.assertEqual((os.fstat(reader.fileno()).st_size, reader.read(10)), (0, b""))
            os.pwrite(writer.fileno(), b"new", 3)
            self.assertEqual(os.pread(reader.fileno(), 100, 0), b"\0\0\0new")

    # ---- Ends. ----

    def test_reads_and_writes_past_the_end(self):
        path = self.mount().place / "f"
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.assertEqual(os.pread(fd, 10, 0), b"")
        os.pwrite(fd, b"ab", 3 * PAGE + 1)
        self.assertEqual(os.fstat(fd).st_size, 3 * PAGE + 3)
        self.assertEqual(os.pread(fd, 10, 3 * PAGE), b"\0ab")
        self.assertEqual(os.pread(fd, 10, 3 * PAGE + 3), b"")
        self.assertEqual(os.pread(fd, 10, 1 << 40), b"")
        with self.assertRaises(OSError) as caught:
            os.pread(fd, 10, -1)
        self.assertEqual(caught.exception.errno, errno.EINVAL)
        os.close(fd)
        self.assertEqual(self.object("f"), bytes(3 * PAGE + 1) + b"ab")

    def test_who_reads_while_the_file_shrinks_and_grows_sees_its_bytes_or_zeros(self):
        path = self.writeback().place / "f"
        size, stop, wrong = MIB, threading.Event(), []
        path.write_bytes(b"\xff" * size)

        def read(seed):
            chance = random.Random(seed)
            with open(path, "rb", buffering=0) as file:
                while not stop.is_set():
                    got = os.pread(file.fileno(), chance.randrange(1, 100000), chance.randrange(size))
                    if got.translate(None, b"\xff\0"):
                        wrong.append(got)

        readers = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for reader in readers:
            reader.start()
        chance = random.Random(5)
        with open(path, "r+b", buffering=0) as file:
            for _ in range(400):
                cut = chance.randrange(size)
                file.truncate(cut)
                file.truncate(size)
                self.assertEqual(os.fstat(file.fileno()).st_size, size)
                self.assertFalse(os.pread(file.fileno(), 5000, cut).strip(b"\0"))
                os.pwrite(file.fileno(), b"\xff" * (size - cut), cut)
        stop.set()
        for reader in readers:
            reader.join()
        self.assertEqual(wrong, [])
        self.assertEqual(path.read_bytes(), b"\xff" * size)

    def test_a_copy_inside_the_mount_is_whole_whatever_call_makes_it(self):
        place = self.writeback().place
        content = os.urandom(5 * MIB + 3)
        (place / "from").write_bytes(content)
        subprocess.run(["cp", place / "from", place / "cp"], check=True)
        source, target = os.open(place / "from", os.O_RDONLY), os.open(place / "range", os.O_WRONLY | os.O_CREAT)
        at = 0
        while at < len(content):
            try:
                at += os.copy_file_range(source, target, len(content) - at, at, at)
            except OSError as error:  # what programs fall back on
                self.assertIn(error.errno, (errno.EOPNOTSUPP, errno.EXDEV, errno.ENOSYS))
                at += os.sendfile(target, source, at, len(content) - at)
        os.close(source)
        os.close(target)
        for name in ("cp", "range"):
            self.assertEqual((place / name).read_bytes(), content)


if __name__ == "__main__":
    harness.main()
