"""The storage operations: upload, download, ls, exists, rm, on MinIO."""

import base64
import fcntl
import json
import os
import pathlib
import random
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness
import little_s3_rules as rules
from harness import SKYVOL, clean_environment


class Storage(harness.Workshop):
    def setUp(self):
        super().setUp()
        self.bucket = self.prefix[:50].strip("-")
        self.s3.make_bucket(self.bucket)
        self.environment = clean_environment() | {"HOME": str(self.work)}

    def words(self, command, *words):
        return [SKYVOL, command, "--endpoint", self.minio.endpoint, "--preset", "minio", *map(str, words)]

    def skyvol(self, command, *words, status=0, timeout=120):
        run = subprocess.run(self.words(command, *words), env=self.environment, capture_output=True, text=True, timeout=timeout,
                             cwd=self.work)
        self.assertEqual(run.returncode, status, run.stderr + run.stdout)
        return run

    def little(self, **options):
        """One for each test; little_skyvol() speaks to it."""
        if not hasattr(self, "own_little"):
            self.own_little = super().little(**options)
        return self.own_little

    def little_put(self, key):
        self.little().control("put", key=key, text=key)

    def little_start(self, command, *words):
        return subprocess.Popen([SKYVOL, command, "--endpoint", self.little().endpoint, "--path-style", "test", *words],
                                env=clean_environment(keys=False) | self.little().environment, cwd=self.work, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def little_skyvol(self, command, *words, status=0):
        process = self.little_start(command, *words)
        out, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, status, said)
        return subprocess.CompletedProcess(process.args, status, out, said)

    def keys_of(self, below=""):
        return [key for key, _, _ in self.s3.list(self.bucket, below)]


class Upload(Storage):
    def test_a_file_and_a_tree_under_their_names_and_under_others(self):
        tree = self.work / "output"
        (tree / "sub/deep").mkdir(parents=True)
        (tree / "sub/deep/a.txt").write_text("a")
        (tree / "b.json").write_text("{}")
        (tree / "link").symlink_to("b.json")
        (self.work / "data.csv").write_text("1,2")
        self.skyvol("upload", self.bucket, "data.csv")
        self.skyvol("upload", self.bucket, "data.csv", "--key", "in/other.csv")
        self.skyvol("upload", self.bucket, "output/")
        self.skyvol("upload", self.bucket, tree, "--key", "runs/1/")
        self.assertEqual(self.keys_of(), ["data.csv", "in/other.csv", "output/b.json", "output/link", "output/sub/deep/a.txt",
                                          "runs/1/b.json", "runs/1/link", "runs/1/sub/deep/a.txt"])
        self.assertEqual(self.s3.get(self.bucket, "runs/1/link"), b"{}")
        mount = self.mount(self.bucket)
        self.assertEqual((mount.place / "data.csv").stat().st_mtime_ns, (self.work / "data.csv").stat().st_mtime_ns)

    def test_what_is_no_file_is_named_and_the_rest_goes_up(self):
        tree = self.work / "tree"
        tree.mkdir()
        os.mkfifo(tree / "fifo")
        (tree / "circle").symlink_to(".")
        (tree / "dangling").symlink_to("nowhere")
        (tree / "a").write_text("a")
        with open(os.fsencode(tree) + b"/\xff", "w") as file:
            file.write("x")
        run = self.skyvol("upload", self.bucket, tree, status=1)
        for words in ("fifo: it is neither", "circle: it leads back", "dangling", "UTF-8"):
            self.assertIn(words, run.stderr)
        self.assertEqual(self.keys_of(), ["tree/a"])
        self.assertIn("nothing-here", self.skyvol("upload", self.bucket, "nothing-here", status=1).stderr)
        self.assertIn("no bucket", self.skyvol("upload", "not-a-bucket-of-ours", tree / "a", status=1).stderr.lower().replace(
            "nosuchbucket", "no bucket"))

    def test_a_large_file_goes_by_parts_and_is_whole(self):
        data = random.Random(1).randbytes(45 << 20) + b"end"
        (self.work / "large").write_bytes(data)
        run = self.skyvol("upload", self.bucket, "large", "--json")
        self.assertEqual(json.loads(run.stdout), {"done": [{"from": "large", "to": "large", "size": len(data)}], "failures": 0})
        self.assertEqual(self.s3.get(self.bucket, "large"), data)
        self.assertIn("-6\"", self.skyvol("ls", self.bucket, "-l").stdout, "six parts")

    def test_many_of_a_few_parts_go_and_come_whole(self):
        tree = self.work / "tree"
        tree.mkdir()
        files = {f"{i:02}": random.Random(i).randbytes((9 << 20) + i) if i < 4 else bytes(i) for i in range(18)}
        for name, data in files.items():
            (tree / name).write_bytes(data)
        self.skyvol("upload", self.bucket, "tree")
        self.assertEqual(self.skyvol("ls", self.bucket, "-l").stdout.count('-2"'), 4, "two parts each")
        (tree / "00").chmod(0o750)
        self.skyvol("upload", self.bucket, "tree")
        self.skyvol("download", self.bucket, "tree", "again", "--recursive")
        for name, data in files.items():
            self.assertTrue((self.work / "again" / name).read_bytes() == data, name)
        self.assertEqual((self.work / "again/00").stat().st_mode & 0o777, 0o750)
        self.assertEqual(sorted(os.listdir(self.work / "again")), sorted(files))

    def test_what_changes_while_it_is_read_is_no_upload(self):
        little, data = self.little(), self.work / "log"
        data.write_bytes(bytes(40 << 20))
        little.control("fault", op="UploadPart", action="delay", ms=1500, times=0)
        process = self.little_start("upload", "log")
        harness.wait_until(lambda: little.ask("counters").get("CreateMultipartUpload"), what="the upload's beginning")
        with open(data, "ab") as file:
            file.write(b"more")
        _, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, said)
        self.assertIn("log: it changed while it was read", said)
        self.assertTrue(little.log("AbortMultipartUpload"))
        self.assertFalse(little.ask("objects"))

    def test_ctrl_c_leaves_no_parts(self):
        with open(self.work / "large", "wb") as file:
            file.truncate(3 << 30)
        process = subprocess.Popen(self.words("upload", self.bucket, "large"), env=self.environment, cwd=self.work,
                                   stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        harness.wait_until(lambda: "would abort" in self.skyvol("rm", self.bucket, "--uploads", "--dry-run").stdout,
                           what="the upload's beginning")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, said)
        self.assertEqual(self.skyvol("rm", self.bucket, "--uploads", "--dry-run").stdout, "")
        self.assertEqual(self.keys_of(), [])


    def test_two_files_of_one_name_are_not_one_object(self):
        for name in ("a", "b"):
            (self.work / name).mkdir()
            (self.work / name / "x").write_text(name)
        self.assertIn("one key", self.skyvol("upload", self.bucket, "a/x", "b/x", status=2).stderr)
        self.assertEqual(self.keys_of(), [])

    def test_an_empty_directory_is_no_failure_and_no_silence(self):
        (self.work / "empty/below").mkdir(parents=True)
        run = self.skyvol("upload", self.bucket, "empty", "--json")
        self.assertIn("empty: there is no file in it", run.stderr)
        self.assertEqual(json.loads(run.stdout), {"done": [], "failures": 0})

    def test_a_key_that_ends_with_a_slash_holds_the_file_under_its_name(self):
        (self.work / "data.csv").write_text("1,2")
        self.skyvol("upload", self.bucket, "data.csv", "--key", "in/here/")
        self.assertEqual(self.keys_of(), ["in/here/data.csv"])

    def test_a_second_ctrl_c_ends_what_waits_for_somebody_silent(self):
        script = self.work / "silent"
        script.write_text("#!/bin/sh\ntouch asked\nexec sleep 50\n")
        script.chmod(0o700)
        (self.work / ".aws").mkdir(mode=0o700)
        (self.work / ".aws/config").write_text(f"[default]\ncredential_process = {script}\n")
        (self.work / "a").write_text("a")
        process = subprocess.Popen(self.words("upload", self.bucket, "a"), cwd=self.work, stderr=subprocess.PIPE, text=True,
                                   env=clean_environment(keys=False) | {"HOME": str(self.work)})
        harness.wait_until(lambda: (self.work / "asked").exists(), what="the program that gives keys")
        process.send_signal(signal.SIGINT)
        harness.wait_until(lambda: process.poll() is not None or process.send_signal(signal.SIGINT), what="its end", seconds=20)
        self.assertEqual(process.returncode, 130)
        self.assertIn("ended at once", process.stderr.read())
        process.stderr.close()


class Download(Storage):
    def test_one_object_and_all_below_a_prefix(self):
        data = random.Random(2).randbytes((20 << 20) + 7)
        self.s3.put(self.bucket, "models/big", data)
        for i in range(30):
            self.s3.put(self.bucket, f"models/small/{i}", str(i).encode() * i)
        self.s3.put(self.bucket, "models-not/x", b"x")
        self.s3.put(self.bucket, "models/dir/", b"")
        self.skyvol("download", self.bucket, "models/big", "big")
        self.assertEqual((self.work / "big").read_bytes(), data)
        (self.work / "there").mkdir()
        self.skyvol("download", self.bucket, "models/small/7", "there")
        self.assertEqual((self.work / "there/7").read_text(), "7" * 7)
        self.skyvol("download", self.bucket, "models", "all", "--recursive")
        self.assertEqual((self.work / "all/big").read_bytes(), data)
        self.assertEqual(sorted(os.listdir(self.work / "all/small"), key=int), [str(i) for i in range(30)])
        self.assertEqual((self.work / "all/small/0").read_bytes(), b"")
        self.assertFalse([p for p in self.work.rglob("*skyvol-download*")])
        self.assertIn("no such object", self.skyvol("download", self.bucket, "models", "x", status=1).stderr)
        self.assertIn("nothing below", self.skyvol("download", self.bucket, "mod", "y", "--recursive", status=1).stderr)

    def test_what_was_killed_goes_on_where_it_was(self):
        data = os.urandom(400 << 20)
        self.s3.put(self.bucket, "big", data)
        process = subprocess.Popen(self.words("download", self.bucket, "big", "big"), env=self.environment, cwd=self.work)
        ranges = self.work / "big.skyvol-download.ranges"
        harness.wait_until(lambda: ranges.exists() and len(ranges.read_text().splitlines()) > 8, what="some ranges")
        process.kill()
        process.wait()
        self.assertFalse((self.work / "big").exists())
        # A mark in a range that is here tells that it is not fetched again.
        offset = int(ranges.read_text().splitlines()[1]) * (8 << 20) + 5
        with open(self.work / "big.skyvol-download", "r+b") as file:
            file.seek(offset)
            file.write(b"mark")
        self.skyvol("download", self.bucket, "big", "big")
        self.assertTrue((self.work / "big").read_bytes() == data[:offset] + b"mark" + data[offset + 4:])
        self.assertFalse(ranges.exists())
        # Another version of the object: nothing of the old one is taken.
        (self.work / "big").unlink()
        process = subprocess.Popen(self.words("download", self.bucket, "big", "big"), env=self.environment, cwd=self.work)
        harness.wait_until(lambda: ranges.exists() and len(ranges.read_text().splitlines()) > 8, what="some ranges")
        process.kill()
        process.wait()
        other = random.Random(4).randbytes(30 << 20)
        self.s3.put(self.bucket, "big", other)
        self.skyvol("download", self.bucket, "big", "big")
        self.assertTrue((self.work / "big").read_bytes() == other)

    def test_no_key_leads_out_of_the_directory(self):
        little = self.little()
        for key in ("p/ok", "p/../../escaped", "p//double", "p/./dot", "p/link/inside"):
            little.s3.put("test", key, b"x")
        target = self.work / "target"
        target.mkdir()
        (target / "link").symlink_to(self.work)
        run = subprocess.run([SKYVOL, "download", "--endpoint", little.endpoint, "--path-style", "test", "p", target,
                              "--recursive"], env=clean_environment(keys=False) | little.environment, capture_output=True, text=True,
                             timeout=60)
        self.assertEqual(run.returncode, 1, run.stderr)
        self.assertEqual((target / "ok").read_text(), "x")
        for key in ("p/../../escaped", "p//double", "p/./dot", "p/link/inside"):
            self.assertIn(key, run.stderr)
        self.assertFalse((self.work / "inside").exists())
        self.assertFalse((self.work / "escaped").exists())
        self.assertEqual(sorted(os.listdir(target)), ["link", "ok"])

    def test_a_key_like_our_own_temporary_names_harms_no_other(self):
        for key in ("t/a", "t/a.skyvol-download", "t/a.skyvol-download.ranges"):
            self.s3.put(self.bucket, key, key.encode())
        run = self.skyvol("download", self.bucket, "t", "--recursive", "out", status=1)
        self.assertEqual(run.stderr.count("can have this name"), 2, run.stderr)
        self.assertEqual((self.work / "out/a").read_bytes(), b"t/a")
        self.assertEqual(os.listdir(self.work / "out"), ["a"])


    def test_no_object_comes_into_the_bytes_of_another(self):
        for key in ("p/x", "p/x.skyvol-download", "p/x.skyvol-download.ranges", "q/.."):
            self.little_put(key)
        run = self.little_skyvol("download", "p", "to", "--recursive", status=1)
        for key in ("p/x.skyvol-download:", "p/x.skyvol-download.ranges:"):
            self.assertIn(key, run.stderr)
        self.assertEqual(os.listdir(self.work / "to"), ["x"])
        self.assertEqual((self.work / "to/x").read_text(), "p/x")
        self.assertIn("its name", self.little_skyvol("download", "q/..", "to", status=1).stderr)
        self.assertEqual(os.listdir(self.work / "to"), ["x"])

    def test_a_small_object_takes_one_request(self):
        for key in ("p/a", "p/b"):
            self.little_put(key)
        little = self.little()
        little.s3.put("test", "p/run", b"x", {"x-amz-meta-mode": str(0o100755), "x-amz-meta-mtime": "1700000000.5"})
        self.little_skyvol("download", "p", "to", "--recursive")
        self.assertEqual((len(little.log("GetObject")), little.log("HeadObject")), (3, []))
        status = (self.work / "to/run").stat()
        self.assertEqual((status.st_mode & 0o777, status.st_mtime), (0o755, 1700000000.5))

    def test_two_do_not_write_one_file(self):
        self.s3.put(self.bucket, "a", b"a")
        with open(self.work / "a.skyvol-download", "w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            self.assertIn("another skyvol download", self.skyvol("download", self.bucket, "a", "a", status=1).stderr)
        self.skyvol("download", self.bucket, "a", "a")
        self.assertEqual((self.work / "a").read_bytes(), b"a")

    def stop_behind_three_ranges(self, little):
        """Of a download whose next range hangs."""
        process = self.little_start("download", "big", "big")
        fresh = self.work / "big.skyvol-download"
        harness.wait_until(lambda: fresh.exists() and fresh.stat().st_blocks * 512 >= 3 * (8 << 20), what="three ranges")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        little.control("clear", what=["faults", "log"])

    def test_what_ctrl_c_stopped_goes_on_where_it_was(self):
        data = random.Random(5).randbytes(40 << 20)
        little = self.little()
        little.s3.put("test", "big", data)
        little.control("fault", op="GetObject", action="hang", skip=3, times=0)
        self.stop_behind_three_ranges(little)
        self.little_skyvol("download", "big", "big")
        self.assertTrue((self.work / "big").read_bytes() == data)
        self.assertEqual(len(little.log("GetObject")), 2)


    def put_summed(self, key, data, kind, sum_type="FULL_OBJECT", value=None):
        digest = rules.CHECKSUMS[f"x-amz-checksum-{kind}"]
        value = value or base64.b64encode(digest(data)).decode()
        self.little().control("put", key=key, base64=base64.b64encode(data).decode(),
                              sums={f"x-amz-checksum-{kind}": value, "x-amz-checksum-type": sum_type})

    def test_what_came_is_compared_with_the_checksum_that_was_stored(self):
        little = self.little()
        for size in (1000, (20 << 20) + 5):
            for kind in ("crc32c", "crc64nvme", "crc32"):
                data = random.Random(size).randbytes(size)
                self.put_summed("it", data, kind)
                little.control("fault", op="GetObject", action="falsify", bytes=500, times=1)
                run = self.little_skyvol("download", "it", "it", status=1)
                self.assertIn("it: what came has another checksum than what was stored", run.stderr)
                self.assertEqual(os.listdir(self.work), [], "nothing of it is kept")
                self.little_skyvol("download", "it", "it")
                self.assertTrue((self.work / "it").read_bytes() == data)
                (self.work / "it").unlink()
        self.put_summed("it", data, "crc32c", "COMPOSITE", "yZRlqg==")
        self.little_skyvol("download", "it", "it")
        self.assertEqual(little.violations(), [])

    def test_a_server_that_does_not_take_the_question_is_read_without(self):
        for size in (1000, 20 << 20):
            self.put_summed("it", bytes(size), "crc32c")
            self.little().control("abilities", checksums=False)
            self.little_skyvol("download", "it", "it")
            self.assertTrue((self.work / "it").read_bytes() == bytes(size))

    def test_ranges_of_an_earlier_run_count_in_the_checksum(self):
        little, data = self.little(), random.Random(7).randbytes(40 << 20)
        self.put_summed("big", data, "crc64nvme")
        for wrong in (True, False):
            if wrong:
                little.control("fault", op="GetObject", action="falsify", times=1)
            little.control("fault", op="GetObject", action="hang", skip=2 if wrong else 3, times=0)
            self.stop_behind_three_ranges(little)
            run = self.little_skyvol("download", "big", "big", status=1 if wrong else 0)
            self.assertEqual("another checksum" in run.stderr, wrong, run.stderr)
            self.assertEqual(len(little.log("GetObject")), 2, "what was there is not fetched again")
        self.assertTrue((self.work / "big").read_bytes() == data)

    def test_the_longest_names_come_too(self):
        names = [letter * 255 for letter in "ab"] + ["c" * 233, "d" * 232]
        for name in names:
            self.little_put("p/" + name)
        self.little_skyvol("download", "p", "to", "--recursive")
        self.assertEqual(sorted(os.listdir(self.work / "to")), names)
        self.assertEqual((self.work / "to" / names[1]).read_text(), "p/" + names[1])

    def test_a_directory_in_the_place_of_the_file_stays_and_nothing_is_left_beside_it(self):
        for key in ("p/a", "p/a/b", "p/c"):
            self.little_put(key)
        run = self.little_skyvol("download", "p", "to", "--recursive", status=1)
        self.assertIn("p/a: to/a is a directory", run.stderr)
        self.assertEqual((sorted(os.listdir(self.work / "to")), os.listdir(self.work / "to/a")), (["a", "c"], ["b"]))
        self.assertIn("no such directory", self.little_skyvol("download", "p/c", "elsewhere/", status=1).stderr)
        for words in (("p/c", ""), ("", "x")):
            self.assertIn("is empty", self.little_skyvol("download", *words, status=2).stderr)
        self.assertEqual(os.listdir(self.work), ["to"])


class Look(Storage):
    def test_all_pages_are_listed(self):
        for i in range(1003):
            self.s3.put(self.bucket, f"k/{i:04}", b"")
        self.s3.put(self.bucket, "other", b"12345")
        self.assertEqual(self.skyvol("ls", self.bucket, "--prefix", "k/").stdout.split(), [f"k/{i:04}" for i in range(1003)])
        line = self.skyvol("ls", self.bucket, "--prefix", "oth", "-l").stdout.split()
        self.assertEqual((line[0], line[-1]), ("5", "other"))
        one = json.loads(self.skyvol("ls", self.bucket, "--prefix", "other", "--json").stdout)
        self.assertEqual((one["key"], one["size"]), ("other", 5))

    def test_whether_it_exists_is_yes_no_or_an_error(self):
        self.s3.put(self.bucket, "a", b"")
        self.skyvol("exists", self.bucket, "a")
        self.assertEqual(json.loads(self.skyvol("exists", self.bucket, "a", "--json").stdout), {"exists": True})
        self.skyvol("exists", self.bucket, "b", status=1)
        self.assertTrue(self.skyvol("exists", "no-such-bucket-here", "b", status=2).stderr)
        self.environment["AWS_SECRET_ACCESS_KEY"] = "wrong"
        self.assertTrue(self.skyvol("exists", self.bucket, "a", status=2).stderr)

    def test_keys_are_never_on_the_command_line(self):
        for flag in ("--access-key", "--secret-key=x", "--session-token"):
            run = self.skyvol("ls", self.bucket, flag, "x", status=2)
            self.assertIn("AWS_ACCESS_KEY_ID", run.stderr)

    def test_a_named_storage_of_the_configuration(self):
        (self.work / "skyward.toml").write_text(f'[storage.here]\npreset = "minio"\nendpoint = "{self.minio.endpoint}"\n'
                                                'access_key = { env = "K" }\nsecret_key = { env = "S" }\n')
        self.s3.put(self.bucket, "a", b"")
        environment = clean_environment(keys=False) | {"K": harness.ACCESS_KEY, "S": harness.SECRET_KEY, "HOME": str(self.work)}
        run = subprocess.run([SKYVOL, "ls", self.bucket, "--storage", "here"], env=environment, cwd=self.work, capture_output=True, text=True)
        self.assertEqual((run.returncode, run.stdout), (0, "a\n"), run.stderr)
        run = subprocess.run([SKYVOL, "ls", self.bucket, "--storage", "there"], env=environment, cwd=self.work, capture_output=True, text=True)
        self.assertEqual(run.returncode, 1)
        self.assertIn("[storage.there]", run.stderr)


class Remove(Storage):
    def test_what_only_begins_alike_stays(self):
        for key in ("old/a", "old/b/c", "older.txt", "old-1/x"):
            self.s3.put(self.bucket, key, b"")
        run = self.skyvol("rm", self.bucket, "old", "--recursive", "--dry-run")
        self.assertEqual(run.stdout.splitlines(), ["would remove old/a", "would remove old/b/c"])
        self.assertEqual(len(self.keys_of()), 4)
        self.skyvol("rm", self.bucket, "old", "--recursive")
        self.assertEqual(self.keys_of(), ["old-1/x", "older.txt"])
        self.skyvol("rm", self.bucket, "older.txt")
        self.assertEqual(self.keys_of(), ["old-1/x"])
        self.assertIn("no such object", self.skyvol("rm", self.bucket, "old", status=1).stderr)
        self.assertIn("nothing below", self.skyvol("rm", self.bucket, "old", "--recursive", status=1).stderr)
        self.skyvol("rm", self.bucket, "", "--recursive", status=2)
        self.assertIn("whole bucket", self.skyvol("rm", self.bucket, "old-1", "", "--recursive", status=2).stderr)
        self.assertIn("--recursive", self.skyvol("rm", self.bucket, "old-1", "--prefix", "old", status=2).stderr)
        self.assertEqual(self.keys_of(), ["old-1/x"])

    def test_several_at_once_and_each_is_told_once(self):
        for key in ("a/1", "a/2", "b/1", "c"):
            self.s3.put(self.bucket, key, b"")
        told = [{"what": "would remove", "key": key} for key in ("a/1", "a/2", "b/1")]
        run = self.skyvol("rm", self.bucket, "a", "b", "--recursive", "--dry-run", "--json")
        self.assertEqual(json.loads(run.stdout), {"done": told, "failures": 0})
        run = self.skyvol("rm", self.bucket, "a", "b", "none", "--recursive", status=1)
        self.assertEqual(run.stdout.splitlines(), ["removed a/1", "removed a/2", "removed b/1"])
        self.assertIn("none: there is nothing below it", run.stderr)
        self.assertEqual(self.keys_of(), ["c"])

    def test_what_the_server_keeps_is_named_and_the_rest_goes(self):
        for key in ("d/1", "d/kept", "d/2"):
            self.s3.put(self.bucket, key, b"")
        everything = {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*"}
        kept = {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{self.bucket}/d/kept"}
        self.environment.update(self.s3.assume_role({"Version": "2012-10-17", "Statement": [everything, kept]}))
        run = self.skyvol("rm", self.bucket, "d", "--recursive", status=1)
        self.assertIn("d/kept: it could not be removed: AccessDenied", run.stderr)
        self.assertEqual(run.stdout.splitlines(), ["removed d/1", "removed d/2"])
        self.assertEqual(self.keys_of(), ["d/kept"])

    def test_uploads_that_nobody_completed_go_when_they_are_old_enough(self):
        for key in ("a/part", "b/part"):
            self.s3.request("POST", self.bucket, key, {"uploads": ""})
        self.s3.put(self.bucket, "a/object", b"")
        line = "would abort the upload of a/part\n"
        self.assertEqual(self.skyvol("rm", self.bucket, "--uploads", "--older-than", "7d").stdout, "")
        self.assertEqual(self.skyvol("rm", self.bucket, "--uploads", "--older-than", "999999999d").stdout, "")
        self.assertEqual(self.skyvol("rm", self.bucket, "--uploads", "--prefix", "a/", "--dry-run").stdout, line)
        self.skyvol("rm", self.bucket, "a/part", "--uploads", status=2)
        self.skyvol("rm", self.bucket, "--uploads", "--older-than", "soon", status=2)
        self.skyvol("rm", self.bucket, "a/object", "--older-than", "7d", status=2)
        self.skyvol("rm", self.bucket, "--uploads", "--prefix", "a/")
        self.assertEqual(self.skyvol("rm", self.bucket, "--uploads").stdout, "aborted the upload of b/part\n")
        self.assertEqual(self.keys_of(), ["a/object"])

    def test_uploads_beyond_ten_thousand_are_found(self):
        little = self.little()
        little.control("begin_uploads", prefix="a/", count=10000)
        little.control("begin_uploads", prefix="b/", count=3, age_s=8 * 86400)
        run = self.little_skyvol("rm", "--uploads", "--older-than", "7d")
        self.assertEqual(sorted(run.stdout.splitlines()), [f"aborted the upload of b/{i:08}" for i in range(3)])
        self.assertEqual(len(self.little_skyvol("rm", "--uploads", "--dry-run").stdout.splitlines()), 10000)
        self.assertEqual(little.violations(), [])

    def test_what_comes_in_one_page_is_told_once(self):
        # MinIO lists all of them in one page, whatever it is asked for.
        little = self.little(one_page_of_uploads=True)
        little.control("begin_uploads", prefix="a/", count=10050)
        self.assertEqual(len(self.little_skyvol("rm", "--uploads", "--dry-run").stdout.splitlines()), 10050)

    def test_uploads_of_a_key_hide_none_below_it(self):
        for key in ("a", "a/part", "b"):
            self.s3.request("POST", self.bucket, key, {"uploads": ""})
        run = self.skyvol("rm", self.bucket, "--uploads", "--prefix", "a", "--dry-run")
        self.assertEqual(sorted(run.stdout.splitlines()), ["would abort the upload of a", "would abort the upload of a/part"])

    def test_no_empty_key_among_others_means_the_whole_bucket(self):
        for key in ("kept", "old/a"):
            self.s3.put(self.bucket, key, b"")
        self.assertIn("whole bucket", self.skyvol("rm", self.bucket, "old", "", "--recursive", status=2).stderr)
        self.assertIn("--uploads", self.skyvol("rm", self.bucket, "old", "--recursive", "--prefix", "o", status=2).stderr)
        self.assertEqual(self.keys_of(), ["kept", "old/a"])

    def test_more_than_a_thousand_go_in_batches(self):
        for i in range(1005):
            self.s3.put(self.bucket, f"d/{i}", b"")
        run = self.skyvol("rm", self.bucket, "d/", "--recursive", "--json")
        self.assertEqual(len(json.loads(run.stdout)["done"]), 1005)
        self.assertEqual(self.keys_of(), [])


if __name__ == "__main__":
    harness.main()
