#!/usr/bin/env python3
"""durability=writeback on real mounts: close is local, nothing is lost, whatever the server does meanwhile."""

import errno
import mmap
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


def pattern(seed, size):
    return bytes((i * 131 + seed * 17) % 251 for i in range(251)) * (size // 251 + 1)


class TestWriteback(harness.Workshop):
    server_per_test = True

    def mount(self, **options):
        return super().mount(name="mnt", durability="writeback", **options)

    def await_object(self, name, content, seconds=30):
        harness.wait_until(lambda: self.keys().count(name) == 1 and self.object(name) == content, seconds, f"{name} on the server")

    def await_sent(self, mount, seconds=60):
        harness.wait_until(lambda: mount.status()["unsent_files"] == 0, seconds, "the end of the uploads")

    def test_it_is_the_default(self):
        mount = super().mount(name="plain", durability=None)
        self.assertEqual(mount.status()["durability"], "writeback")

    def test_close_does_not_wait_for_a_server_that_hangs_and_what_was_closed_arrives(self):
        mount = self.mount()
        (mount.place / "first").write_bytes(b"x")
        self.await_object("first", b"x")
        handle = os.open(mount.place / "a", os.O_CREAT | os.O_WRONLY)
        self.minio.freeze()
        begun = time.monotonic()
        os.write(handle, b"y" * MIB)
        os.close(handle)
        self.assertLess(time.monotonic() - begun, 2)
        self.assertEqual((mount.place / "a").read_bytes(), b"y" * MIB)
        self.minio.thaw()
        self.await_object("a", b"y" * MIB)

    def test_what_was_closed_while_the_server_hung_survives_kill_nine(self):
        mount = self.mount()
        handles = [os.open(mount.place / f"f{i}", os.O_CREAT | os.O_WRONLY) for i in range(20)]
        self.minio.freeze()
        for i, handle in enumerate(handles):
            os.write(handle, b"%d" % i * 1000)
            os.close(handle)
        mount.kill()
        self.minio.thaw()
        harness.wait_until(lambda: self.dead(mount), what="the end of the mount")
        again = self.mount()
        self.assertIn("20 unsent files", again.words)
        self.await_sent(again)
        for i in range(20):
            self.assertEqual(self.object(f"f{i}"), b"%d" % i * 1000)

    @staticmethod
    def dead(mount):
        try:
            os.statvfs(mount.place)
        except OSError as error:
            return error.errno == errno.ENOTCONN
        return False

    def test_fsync_waits_until_the_object_is_whole_in_s3(self):
        mount = self.mount()
        with open(mount.place / "model.tmp", "wb") as file:
            file.write(pattern(1, 20 * MIB))
            file.flush()
            os.fsync(file.fileno())
            self.assertEqual(self.object("model.tmp"), pattern(1, 20 * MIB))
        os.rename(mount.place / "model.tmp", mount.place / "model")
        self.await_object("model", pattern(1, 20 * MIB))
        self.await_sent(mount)
        self.assertEqual(self.keys(), ["model"])

    def test_fsync_of_a_directory_waits_for_its_closed_files_and_for_what_left_it(self):
        mount = self.mount()
        directory = mount.place / "d"
        directory.mkdir()
        (directory / "gone").write_bytes(b"old")
        self.await_sent(mount)
        for i in range(20):
            (directory / f"f{i}").write_bytes(b"%d" % i * 1000)
        (directory / "gone").unlink()
        os.rename(directory / "f0", directory / "g0")
        handle = os.open(directory, os.O_RDONLY)
        os.fsync(handle)
        self.assertEqual(sorted(key for key in self.keys() if not key.endswith("/")),
                         sorted(["d/g0"] + [f"d/f{i}" for i in range(1, 20)]))
        self.minio.freeze()
        (directory / "late").write_bytes(b"x")
        failed = []
        waiting = threading.Thread(target=lambda: failed.append(self.try_fsync(handle)), daemon=True)
        waiting.start()
        waiting.join(0.5)
        self.assertTrue(waiting.is_alive(), "it did not wait")
        self.minio.thaw()
        waiting.join(30)
        self.assertEqual(failed, [True])
        self.assertEqual(self.object("d/late"), b"x")
        os.close(handle)

    def test_an_fsync_that_sees_no_progress_ends_and_a_later_one_succeeds(self):
        mount = self.mount(io_timeout="2s")
        handle = os.open(mount.place / "a", os.O_CREAT | os.O_WRONLY)
        os.write(handle, b"x" * 1000)
        self.minio.freeze()
        begun = time.monotonic()
        with self.assertRaises(OSError) as failed:
            os.fsync(handle)
        self.assertEqual(failed.exception.errno, errno.EIO)
        self.assertLess(time.monotonic() - begun, 10)
        self.minio.thaw()
        harness.wait_until(lambda: self.try_fsync(handle), 30, "an fsync that succeeds")
        self.assertEqual(self.object("a"), b"x" * 1000)
        os.close(handle)

    @staticmethod
    def try_fsync(handle):
        try:
            os.fsync(handle)
        except OSError:
            return False
        return True

    def test_a_child_that_ends_publishes_nothing_and_a_fork_while_writing_mixes_nothing(self):
        mount = self.mount()
        with open(mount.place / "log", "wb", buffering=0) as file:
            for i in range(20):
                file.write(b"line %d\n" % i)
                subprocess.run(["true"], pass_fds=[file.fileno()], check=True)
        self.await_object("log", b"".join(b"line %d\n" % i for i in range(20)))

    def test_stores_into_a_mapping_are_there_after_msync(self):
        mount = self.mount()
        path = mount.place / "map"
        path.write_bytes(bytes(MIB))
        with open(path, "r+b") as file, mmap.mmap(file.fileno(), MIB) as mapping:
            mapping[1000:1010] = b"0123456789"
            mapping.flush()
        self.await_object("map", bytes(1000) + b"0123456789" + bytes(MIB - 1010))

    def test_a_file_that_stays_open_appears_when_it_is_quiet(self):
        mount = self.mount(publish_after="300ms")
        with open(mount.place / "log", "ab", buffering=0) as file:
            file.write(b"one\n")
            self.await_object("log", b"one\n", 10)
            file.write(b"two\n")
            self.await_object("log", b"one\ntwo\n", 10)

    def test_sigterm_with_a_backlog_publishes_within_the_stop_time_and_keeps_the_rest(self):
        mount = self.mount(stop_timeout="3s")
        for i in range(50):
            (mount.place / f"f{i}").write_bytes(b"%d" % i * 5000)
        self.minio.freeze()
        (mount.place / "late").write_bytes(b"late") if (mount.place / "f0").exists() else None
        begun = time.monotonic()
        os.kill(mount.pid, signal.SIGTERM)
        harness.wait_until(lambda: not mount.alive(), 15, "the end of the daemon")
        self.assertLess(time.monotonic() - begun, 10)
        self.minio.thaw()
        again = self.mount()
        self.await_sent(again)
        for i in range(50):
            self.assertEqual(self.object(f"f{i}"), b"%d" % i * 5000)

    def test_writers_wait_at_dirty_max_and_go_on_with_the_server(self):
        mount = self.mount(dirty_max="8M")
        done = threading.Event()

        def write():
            for i in range(6):
                (mount.place / f"f{i}").write_bytes(pattern(i, 4 * MIB)[:4 * MIB])
            done.set()

        (mount.place / "first").write_bytes(b"x")
        self.await_object("first", b"x")
        os.listdir(mount.place)
        writer = threading.Thread(target=write)
        self.minio.freeze()
        writer.start()
        self.assertFalse(done.wait(2), "nothing held the writer")
        self.minio.thaw()
        self.assertTrue(done.wait(60))
        writer.join()
        self.await_sent(mount)
        for i in range(6):
            self.assertEqual(self.object(f"f{i}"), pattern(i, 4 * MIB)[:4 * MIB])

    def test_makers_of_many_files_wait_within_the_memory_and_nobody_else_does(self):
        mount = self.mount(memory="48M", attr_ttl="3600", io_timeout="300")
        writers, each, limit = 80, 90, 6144  # half of memory= holds as many names of 4 KiB
        places = [mount.place / f"w{writer}" for writer in range(writers)]
        for place in places:
            place.mkdir()
        (mount.place / "first").write_bytes(b"x")
        self.await_sent(mount)
        os.listdir(mount.place)
        made = [0] * writers

        def make(writer):
            for i in range(each):
                (places[writer] / f"{i}").write_bytes(b"%d" % i)
                made[writer] += 1

        threads = [threading.Thread(target=make, args=[writer], daemon=True) for writer in range(writers)]
        self.minio.freeze()
        for thread in threads:
            thread.start()
        self.addCleanup(lambda: [thread.join(60) for thread in threads])  # before the mount ends, also after a failure
        self.addCleanup(self.minio.thaw)
        harness.wait_until(lambda: sum(made) > limit * 3 // 4 - writers, 60, "the names that go on at once")
        time.sleep(3)
        self.assertLessEqual(sum(made), limit * 7 // 8, "nothing slowed them down")
        self.assertLess(mount.rss_mib(), 48 + 48)
        self.assertEqual(mount.status()["unsent_files_max"], limit)
        self.assertRegex(mount.run("status", str(mount.place)).stdout, "slowed .* 6144 may be unsent")
        begun = time.monotonic()
        self.assertIn("first", os.listdir(mount.place))
        self.assertIn("0", os.listdir(places[0]))
        self.assertEqual((mount.place / "first").stat().st_size, 1)
        os.unlink(places[0] / "0")
        self.assertLess(time.monotonic() - begun, 5, "they wait for those who make more")
        self.minio.thaw()
        for thread in threads:
            thread.join(120)
        self.assertEqual(sum(made), writers * each)
        self.await_sent(mount)
        self.assertLess(mount.rss_mib(), 48 + 48)
        self.assertEqual(sum(len(self.keys(f"w{writer}/")) for writer in range(writers)), writers * (each + 1) - 1)

    def test_commit_zero_flushes_before_it_answers(self):
        mount = self.mount(commit="0s")
        (mount.place / "a").write_bytes(b"x" * 5000)
        self.await_object("a", b"x" * 5000)


class TestTrouble(harness.Workshop):
    """A server that misbehaves while parts go up: nothing lost, no part that landed sent twice."""

    FAULTS = [dict(op="UploadPart", action="answer", status=503, code="SlowDown", skip=2, times=4),
              dict(op="UploadPart", action="answer", status=500, code="InternalError", skip=1, times=3),
              dict(op="UploadPart", action="lose_reply", skip=1, times=2),
              dict(op="UploadPart", action="cut_request", bytes=100000, skip=1, times=2),
              dict(op="UploadPart", action="close", times=2),
              dict(op="CreateMultipartUpload", action="lose_reply", times=1),
              dict(op="CompleteMultipartUpload", action="lose_reply", times=1),
              dict(op="CompleteMultipartUpload", action="answer", status=200, code="InternalError", times=1),
              dict(op="CompleteMultipartUpload", action="answer", status=503, code="SlowDown", times=2)]

    def landed(self, little):
        return [entry for entry in little.log("UploadPart") if entry["status"] == 200]

    def test_faults_in_the_middle_of_an_upload(self):
        for fault in self.FAULTS:
            with self.subTest(**fault):
                little = self.little()
                mount = self.mount(source="test", server=little, durability="writeback")
                little.control("fault", **fault)
                content = pattern(3, 40 * MIB)[:40 * MIB]
                (mount.place / "big").write_bytes(content)
                harness.wait_until(lambda: mount.status()["unsent_files"] == 0, 60, "the upload")
                self.assertEqual(little.s3.get("test", "big"), content)
                if fault["action"] != "lose_reply":
                    self.assertEqual(len(self.landed(little)), 5, "a part that landed was sent again")
                self.assertEqual(little.violations(), [])
                self.assertEqual(mount.umount().returncode, 0)

    def write_and_rename(self, place, content, landed):
        """As checkpoints are saved: a temporary name, renamed when parts of it have landed."""
        with open(place / "model.tmp", "wb", buffering=0) as file:
            for at in range(0, len(content), MIB):
                if at == len(content) - 6 * MIB:
                    harness.wait_until(landed, 30, "the first parts")
                    os.rename(place / "model.tmp", place / "model")
                file.write(content[at:at + MIB])

    def test_a_rename_when_parts_have_landed_sends_none_again(self):
        little = self.little()
        mount = self.mount(source="test", server=little, durability="writeback")
        content = pattern(5, 40 * MIB)[:40 * MIB]
        # All that may go up by then: what is on its way when the name changes is sent anew.
        self.write_and_rename(mount.place, content, lambda: len(self.landed(little)) >= 4)
        harness.wait_until(lambda: mount.status()["unsent_files"] == 0, 60, "the upload")
        self.assertEqual(little.s3.get("test", "model"), content)
        self.assertEqual([key for key, *_ in little.s3.list("test")], ["model"])
        # Where the writer is slow, what there is of the last part may go up before it has all its bytes.
        whole = [entry["query"] for entry in self.landed(little) if entry["bytes"] >= 8 * MIB]
        self.assertEqual((len(whole), len(set(whole))), (5, 5), "a part that landed was sent again")
        self.assertEqual(little.violations(), [])

    def test_a_rename_when_parts_have_landed_on_minio_and_a_kill(self):
        mount = self.mount(name="minio", durability="writeback")
        content = pattern(6, 60 * MIB)[:60 * MIB]
        self.write_and_rename(mount.place, content, lambda: self.minio_has_parts("model.tmp"))
        mount.kill()
        mount = self.mount(name="minio", durability="writeback")
        harness.wait_until(lambda: mount.status()["unsent_files"] == 0, 60, "the upload")
        keys = [key for key in self.keys() if not key.startswith(".skyvol-probe")] # its probe may have been killed, too
        self.assertEqual(keys, ["model"])
        self.assertEqual(self.object("model"), content)
        self.assertEqual(mount.status()["conflicts"], 0)
        self.assertNotIn("go again", mount.log.read_text(), "MinIO does not complete on condition")

    def minio_has_parts(self, key):
        return any(self.s3.request("GET", self.bucket, self.key(key), {"uploadId": upload})[2].count(b"<Part>") >= 2
                   for _, upload in self.s3.uploads(self.bucket, self.key(key)))

    def test_a_server_that_forgets_uploads(self):
        little = self.little()
        mount = self.mount(source="test", server=little, durability="writeback")
        content = pattern(4, 40 * MIB)[:40 * MIB]
        with open(mount.place / "big", "wb", buffering=0) as file:
            for at in range(0, len(content), MIB):
                file.write(content[at:at + MIB])
            harness.wait_until(lambda: len(self.landed(little)) >= 2, 30, "the first parts")
            little.control("forget_uploads")
        harness.wait_until(lambda: mount.status()["unsent_files"] == 0, 60, "the upload")
        self.assertEqual(little.s3.get("test", "big"), content)

    def test_403_parks_with_the_reason_and_goes_on_by_itself(self):
        little = self.little()
        mount = self.mount(source="test", server=little, durability="writeback")
        fault = little.control("fault", op="PutObject", action="answer", status=403, code="AccessDenied", times=0)
        (mount.place / "a").write_bytes(b"x")
        harness.wait_until(lambda: mount.status()["parked"] == 1, 20, "the parked file")
        self.assertIn("EACCES", mount.status()["unsent"][0]["why"])
        little.control("unfault", id=fault["id"])
        harness.wait_until(lambda: mount.status()["unsent_files"] == 0, 90, "the upload")
        self.assertEqual(little.s3.get("test", "a"), b"x")

    def test_two_hosts_save_the_same_model(self):
        little = self.little()
        first = self.mount(source="test", server=little, name="one", durability="writeback")
        second = self.mount(source="test", server=little, name="two", durability="writeback")
        for i in range(5):
            for mount, seed in ((first, 1), (second, 2)):
                with open(mount.place / "model.pt", "wb") as file:
                    file.write(pattern(seed + i, 10 * MIB)[:10 * MIB])
        for mount in (first, second):
            harness.wait_until(lambda m=mount: m.status()["unsent_files"] == 0, 60, "the uploads")
        self.assertIn(little.s3.get("test", "model.pt"), [pattern(seed, 10 * MIB)[:10 * MIB] for seed in (5, 6)])


if __name__ == "__main__":
    harness.main()
