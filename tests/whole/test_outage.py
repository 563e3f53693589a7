"""Servers that go away, fall silent or come back, in the middle of work."""

import errno
import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

MIB = 1 << 20


class Background(threading.Thread):
    """Work that may fail; join() gives what it returned or raised."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work, self.value, self.error = work, None, None
        self.start()

    def run(self):
        try:
            self.value = self.work()
        except OSError as error:
            self.error = error

    def result(self, seconds):
        self.join(seconds)
        if self.is_alive():
            raise AssertionError(f"still at work after {seconds} s")
        if self.error:
            raise self.error
        return self.value


class TestOutage(harness.Workshop):
    server_per_test = True

    def put_big(self, size):
        content = os.urandom(MIB) * (size // MIB)
        self.s3.put(self.bucket, self.key("big"), content)
        return content

    def test_twenty_seconds_without_a_server_are_not_an_error(self):
        content = self.put_big(256 * MIB)
        place = self.mount(read_ahead="2M").place
        at_half = threading.Event()
        go_on = threading.Event()

        def read():
            digest = hashlib.sha256()
            with open(place / "big", "rb", buffering=0) as file:
                while block := file.read(MIB):
                    digest.update(block)
                    if file.tell() == 32 * MIB:
                        at_half.set()
                        go_on.wait(30)
            return digest.hexdigest()

        def write():
            with open(place / "new", "wb", buffering=0) as file:
                for _ in range(64):
                    file.write(content[:MIB])
                at_half.wait(30)
                go_on.wait(30)
            return True

        reader, writer = Background(read), Background(write)
        self.assertTrue(at_half.wait(30))
        self.minio.stop()
        go_on.set()
        time.sleep(20)
        self.assertTrue(reader.is_alive() and writer.is_alive(), "both must wait")
        self.minio.start()
        self.assertEqual(reader.result(60), hashlib.sha256(content).hexdigest())
        self.assertTrue(writer.result(60))
        self.assertEqual(self.object("new"), content[:MIB] * 64)

    def test_a_server_that_is_gone_for_good_ends_in_eio_and_umount_returns(self):
        self.put_big(16 * MIB)
        mount = self.mount(io_timeout="4s", stop_timeout="2s")
        os.listdir(mount.place)
        file = os.open(mount.place / "kept", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"precious")
        self.minio.stop()
        started = time.monotonic()
        with self.assertRaises(OSError) as caught:
            os.close(file)
        self.assertEqual(caught.exception.errno, errno.EIO)
        with self.assertRaises(OSError) as caught:
            (mount.place / "big").read_bytes()
        self.assertEqual(caught.exception.errno, errno.EIO)
        self.assertLess(time.monotonic() - started, 40)
        unsent = mount.status()["unsent"]
        self.assertEqual([entry["key"] for entry in unsent], [self.key("kept")])
        done = mount.umount_and_give_up()
        self.assertEqual(done.returncode, 1)
        self.assertIn(self.key("kept"), done.stderr)
        self.assertIn(unsent[0]["path"], done.stderr)
        with open(unsent[0]["path"], "rb") as local:
            local.seek(unsent[0]["offset"])
            self.assertEqual(local.read(8), b"precious")
        self.assertIsNone(harness.mounted_at(mount.place))

    def test_what_failed_once_goes_up_when_the_server_is_back(self):
        mount = self.mount(io_timeout="2s")
        file = os.open(mount.place / "f", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"data")
        self.minio.stop()
        with self.assertRaises(OSError):
            os.fsync(file)
        self.minio.start()
        os.fsync(file)
        self.assertEqual(self.object("f"), b"data")
        os.close(file)
        self.assertEqual(mount.umount().returncode, 0)

    def test_ctrl_c_ends_a_read_and_a_close_at_once(self):
        self.put_big(64 * MIB)
        mount = self.mount(read_ahead="1M")
        os.listdir(mount.place)
        self.minio.freeze()
        self.addCleanup(self.minio.thaw)
        for command in (["cat", str(mount.place / "big")],
                        ["sh", "-c", f"echo x > {mount.place}/new"]):
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(1)
            self.assertIsNone(child.poll(), f"{command} did not wait")
            started = time.monotonic()
            child.send_signal(signal.SIGINT)
            child.wait(10)
            self.assertLess(time.monotonic() - started, 5)


class TestHang(harness.Workshop):
    server_per_test = True

    def test_cached_reads_are_served_while_two_hundred_lookups_hang(self):
        self.s3.put(self.bucket, self.key("cached"), b"c" * 4096)
        for index in range(16):
            self.s3.put(self.bucket, self.key(f"d{index}/x"), b"")
        mount = self.mount(attr_ttl="1h", negative_ttl="0")  # or a listing denies the names
        for index in range(16):
            os.stat(mount.place / f"d{index}")
        cached = os.open(mount.place / "cached", os.O_RDONLY)
        self.addCleanup(os.close, cached)
        self.assertEqual(os.pread(cached, 4096, 0), b"c" * 4096)
        self.minio.freeze()
        self.addCleanup(self.minio.thaw)
        names = [f"d0/missing{index}" for index in range(16)]
        names += [f"d{index % 15 + 1}/missing{index}" for index in range(184)]
        hanging = [subprocess.Popen(["stat", str(mount.place / name)], stdout=subprocess.DEVNULL,
                                    stderr=subprocess.DEVNULL) for name in names]
        try:
            time.sleep(2)
            self.assertTrue(all(child.poll() is None for child in hanging), "a lookup did not hang")
            pathlib.Path("/proc/sys/vm/drop_caches").write_text("1")
            reader = threading.Thread(target=lambda: os.pread(cached, 4096, 0), daemon=True)
            reader.start()
            reader.join(20)
            self.assertFalse(reader.is_alive(), "the cached read waits behind the lookups")
            self.assertTrue(all(child.poll() is None for child in hanging),
                            "the read came after a lookup had ended: the order shows nothing")
            for child in hanging:
                child.send_signal(signal.SIGINT)
            deadline = time.monotonic() + 15
            for child in hanging:
                child.wait(max(0.1, deadline - time.monotonic()))
        finally:
            self.minio.thaw()
            for child in hanging:
                child.kill()
                child.wait()


if __name__ == "__main__":
    harness.main()
