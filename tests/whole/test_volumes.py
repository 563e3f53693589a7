"""Volumes as their users have them: a TOML file, `skyvol up`, programs that read and write, `skyvol down`; and the same by the script of
`skyvol plan` in a root of its own."""

import json
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import sys
import textwrap

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import fakes
import harness
import s3
from harness import ACCESS_KEY, SECRET_KEY, SKYVOL, mounted_at
from pools import Volumes

PAGE = """\
[pool]
provider = "aws"
nodes = 2

[[pool.volumes]]
bucket = "my-datasets"
mount = "/data"
prefix = "imagenet/"
read_only = true

[[pool.volumes]]
bucket = "my-experiments"
mount = "/checkpoints"
read_only = false
"""  # as it is printed
SHELLS = (["dash"], ["busybox", "sh"], ["bash", "--posix"])


class Up(Volumes):
    def test_what_is_written_appears_where_it_was_wanted_and_down_leaves_nothing(self):
        self.s3.put(self.bucket, self.key("train/a.txt"), b"a")
        self.write({"bucket": self.bucket, "mount": f"{self.work}/data", "prefix": f"{self.prefix}/train"},
                   {"bucket": self.bucket, "mount": f"{self.work}/out/here", "prefix": f"/{self.prefix}//out/",
                    "read_only": False})
        self.skyvol("up")
        self.assertEqual((self.work / "data/a.txt").read_text(), "a")
        (self.work / "out/here/model").write_bytes(b"weights")
        self.assertEqual(self.s3.get(self.bucket, self.key("out/model")), b"weights", "a close waits for the bucket")
        with self.assertRaises(OSError) as refused:
            (self.work / "data/b.txt").write_text("b")
        self.assertEqual(refused.exception.errno, 30, "a read-only volume on a writable mount")
        self.assertEqual(len([l for l in pathlib.Path("/proc/self/mounts").read_text().splitlines()
                              if "fuse.skyvol" in l and f"{self.base}/{self.bucket} " in l]), 1, "one mount for both")
        self.assertNotIn(SECRET_KEY, "".join(pathlib.Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
                                             for pid in os.listdir("/proc") if pid.isdigit()
                                             and os.path.exists(f"/proc/{pid}/cmdline")))
        self.skyvol("up")
        self.skyvol("down")
        self.nothing_is_left()
        self.skyvol("down")

    def test_a_prefix_that_is_a_file_is_refused(self):
        self.s3.put(self.bucket, self.key("file"), b"x")
        for below in ("", "/below"):
            for read_only in (True, False):
                self.write({"bucket": self.bucket, "mount": f"{self.work}/data", "prefix": f"{self.prefix}/file{below}", "read_only": read_only})
                run = self.skyvol("up", check=False)
                self.assertEqual((run.returncode, "is no directory" in run.stderr), (1, True), run.stderr)
                self.nothing_is_left()

    def test_a_place_may_have_any_name(self):
        self.s3.put(self.bucket, self.key("a b/ü'/x"), b"x")
        name = "it's $HOME `x` \\ dätä"
        (self.work / name).mkdir()
        self.write({"bucket": self.bucket, "mount": f"{self.work}/{name}/in", "prefix": f"{self.prefix}/a b/ü'"},
                   {"bucket": self.bucket, "mount": f"{self.work}/{name}/new one/out", "prefix": f"{self.prefix}/{name}", "read_only": False})
        self.skyvol("up")
        self.skyvol("up")
        self.assertEqual((self.work / name / "in/x").read_text(), "x")
        (self.work / name / "new one/out/y").write_text("y")
        self.assertEqual(self.s3.get(self.bucket, self.key(f"{name}/y")), b"y")
        self.assertEqual(stat.S_IMODE(self.state.with_suffix(".up").stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.state.with_suffix(".keys").stat().st_mode), 0o700)
        self.skyvol("down")
        self.assertEqual(os.listdir(self.work / name), [])
        self.nothing_is_left()

    def test_keys_that_end_are_asked_for_again_by_the_mount(self):
        program, log = self.work / "it's a program", self.work / "log"
        program.write_text(f'''#!/bin/sh
echo "$2" >> '{log}'
date -u -d '+2 minutes' '+{{"Version": 1, "AccessKeyId": "{ACCESS_KEY}", "SecretAccessKey": "{SECRET_KEY}", "Expiration": "%Y-%m-%dT%H:%M:%SZ"}}'
''')
        program.chmod(0o755)
        command = json.dumps({"c": [str(program), "a  b", "$HOME \\"]})[6:-1]
        storage = self.storage().replace('{ env = "KEY" }', f"{{ command = {command} }}").replace('{ env = "SECRET" }', f"{{ command = {command} }}")
        self.write({"bucket": self.bucket, "mount": f"{self.work}/data", "prefix": self.prefix, "read_only": False, "storage": storage})
        self.assertIn(SECRET_KEY, self.skyvol("plan").stdout, "on another machine the command is not there")
        self.skyvol("up")
        secret, = (self.work / "state").rglob(self.bucket)
        self.assertNotIn(SECRET_KEY, secret.read_text())
        self.assertEqual(stat.S_IMODE(secret.stat().st_mode), 0o600)
        (self.work / "data/x").write_text("x")
        self.assertEqual(self.s3.get(self.bucket, self.key("x")), b"x")
        self.assertGreaterEqual(len(log.read_text().splitlines()), 3, "plan, up, and the mount itself")
        self.assertEqual(set(log.read_text().splitlines()), {"$HOME \\"})
        self.skyvol("down")
        self.nothing_is_left()

    def test_volumes_need_no_file(self):
        self.s3.put(self.bucket, self.key("a"), b"1")
        words = ["--volume", f"bucket={self.bucket},mount={self.work}/data,prefix={self.prefix},rw,endpoint={self.minio.endpoint},"
                 "path_style=yes"]
        environment = self.environment | {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        for command in ("up", "down"):
            run = subprocess.run([SKYVOL, command, *words, "--base", self.base, "--state", self.state], cwd=self.work,
                                 env=environment, capture_output=True, text=True, timeout=60)
            self.assertEqual(run.returncode, 0, run.stderr)
            if command == "up":
                self.assertEqual((self.work / "data/a").read_text(), "1")
        self.nothing_is_left()

    def test_the_policy_that_prepare_makes_is_enough_where_no_prefix_is_there_yet(self):
        fake = fakes.Aws({self.bucket: "us-east-1"})
        self.addCleanup(fake.close)
        text = '[pool]\nprovider = "aws"\n'
        for place, prefix, read_only in (("data", "deep/in", True), ("out", "out", False)):
            text += (f'[[pool.volumes]]\nbucket = "{self.bucket}"\nmount = "{self.work}/{place}"\nprefix = "{self.prefix}/{prefix}"\n'
                     f'read_only = {json.dumps(read_only)}\n')
        file = self.work / "skyward.toml"
        file.write_text(text + '[providers.aws]\ninstance_profile_arn = "auto"\n')
        plain = self.environment
        self.environment = plain | {"AWS_ENDPOINT_URL_" + name: fake.url for name in ("IAM", "STS", "S3")} | {
            "AWS_ACCESS_KEY_ID": fake.access, "AWS_SECRET_ACCESS_KEY": fake.secret}
        self.skyvol("prepare", base=False)
        policy, = (role["skyvol-volumes"] for role in fake.roles.values())
        self.skyvol("teardown", base=False)
        file.write_text(text)
        self.environment = plain | {"AWS_ENDPOINT_URL_S3": self.minio.endpoint} | self.s3.assume_role(policy)
        self.skyvol("up")
        self.assertEqual(os.listdir(self.work / "data"), [])
        (self.work / "out/x").write_text("x")
        self.skyvol("down")
        self.nothing_is_left()
        self.assertEqual(self.keys(), ["", "deep/", "deep/in/", "out/", "out/x"])
        with self.assertRaises(s3.S3Error) as refused:
            keys = self.s3.assume_role(policy)
            s3.S3(self.minio.endpoint, keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"],
                  token=keys["AWS_SESSION_TOKEN"]).put(self.bucket, self.key("deep/in/x"), b"x")
        self.assertEqual(refused.exception.status, 403)

    def test_one_that_fails_undoes_what_it_made(self):
        self.write({"bucket": self.bucket, "mount": f"{self.work}/data"},
                   {"bucket": "is-not-there", "mount": f"{self.work}/out"})
        run = self.skyvol("up", check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn("is-not-there", run.stderr)
        self.nothing_is_left()

    def test_one_that_fails_puts_back_what_gave_way_to_its_links(self):
        """The first volume's link replaces what stood there; the second's cannot be made."""
        data, out = self.work / "data", self.work / "out"
        out.write_text("mine")
        self.write({"bucket": self.bucket, "mount": str(data), "prefix": self.prefix, "read_only": False},
                   {"bucket": self.bucket, "mount": str(out), "prefix": self.prefix, "read_only": False})

        def fails():
            run = self.skyvol("up", check=False)
            self.assertEqual(run.returncode, 1)
            self.assertIn(f"{out} is there already", run.stderr)
            self.assertIn(f"{data} -> {self.base}", run.stdout, "it had been made")
            self.assertFalse(mounted_at(self.base / self.bucket))
            return run
        for target in ("/elsewhere", "directory", "it's not there/ü"):
            data.symlink_to(target)
            self.assertIn(f"{data} -> {target}, as before", fails().stdout)
            self.assertEqual(os.readlink(data), target)
            data.unlink()
        data.mkdir()
        owner = (1234, 2345) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        os.chown(data, *owner)
        data.chmod(0o1730)
        fails()
        found = data.lstat()
        self.assertEqual((oct(found.st_mode), found.st_uid, found.st_gid), (oct(stat.S_IFDIR | 0o1730), *owner))
        data.rmdir()
        fails()
        self.assertFalse(os.path.lexists(data))
        os.symlink(b"no\xffname", data)
        run = self.skyvol("up", check=False)
        self.assertEqual((run.returncode, os.readlink(os.fsencode(data))), (1, b"no\xffname"))
        self.assertIn("no UTF-8", run.stderr)
        data.unlink()
        out.unlink()
        self.nothing_is_left()

    def test_one_that_fails_keeps_the_links_of_an_earlier_one(self):
        data, out = self.work / "data", self.work / "out"
        volumes = [{"bucket": self.bucket, "mount": str(data), "prefix": f"{self.prefix}/a", "read_only": False}]
        self.write(*volumes)
        self.skyvol("up")
        earlier = os.readlink(data)
        volumes[0]["prefix"] = f"{self.prefix}/b"
        self.write(*volumes, volumes[0] | {"mount": str(out)})
        out.write_text("mine")
        self.assertEqual(self.skyvol("up", check=False).returncode, 1)
        self.assertEqual(os.readlink(data), earlier)
        (data / "x").write_text("x")
        self.assertEqual(self.s3.get(self.bucket, self.key("a/x")), b"x")
        data.unlink()
        data.symlink_to("/elsewhere")  # by somebody, in place of one that is remembered and did not change
        volumes[0]["prefix"] = f"{self.prefix}/a"
        self.write(*volumes, volumes[0] | {"mount": str(out)})
        self.assertEqual(self.skyvol("up", check=False).returncode, 1)
        self.assertEqual(os.readlink(data), "/elsewhere")
        data.unlink()
        out.unlink()
        self.write(*volumes)
        self.skyvol("up")
        volumes[0]["prefix"] = f"{self.prefix}/b"
        self.write(*volumes, volumes[0] | {"mount": str(out)})
        out.write_text("mine")
        self.assertEqual(self.skyvol("up", check=False).returncode, 1)
        out.unlink()
        self.skyvol("down")
        self.nothing_is_left()

    def test_what_gave_way_to_the_links_of_one_that_was_killed_is_not_forgotten(self):
        data, out, last = self.work / "data", self.work / "out", self.work / "last"
        volumes = [{"bucket": self.bucket, "mount": str(place), "prefix": self.prefix, "read_only": False} for place in (data, out, last)]
        memory = self.state.with_suffix(".up")

        def forget_ends():
            state = json.loads(memory.read_text())
            for thing in state["things"]:
                if thing["kind"] == "link":
                    thing["made"] = False
                    del thing["id"]
            memory.write_text(json.dumps(state))

        def kill():
            """As it was when the first link stood and the second one's place had been cleared."""
            data.symlink_to("/elsewhere")
            out.mkdir()
            out.chmod(0o711)
            self.write(*volumes[:2])
            self.skyvol("up")
            out.unlink()
            forget_ends()

        kill()
        self.skyvol("down")
        self.assertEqual((os.readlink(data), stat.S_IMODE(out.lstat().st_mode)), ("/elsewhere", 0o711))
        data.unlink()
        out.rmdir()
        self.nothing_is_left()
        kill()
        last.write_text("mine")
        self.write(*volumes)
        self.assertEqual(self.skyvol("up", check=False).returncode, 1)
        self.assertEqual(stat.S_IMODE(out.lstat().st_mode), 0o711, "by the next one, which failed")
        last.unlink()
        self.skyvol("up")
        self.skyvol("down")
        self.nothing_is_left()
        for prefix in ("a", "b"):  # a link that gave way to another one of ours
            self.write(volumes[0] | {"prefix": f"{self.prefix}/{prefix}"})
            self.skyvol("up")
        forget_ends()
        self.skyvol("down")
        self.nothing_is_left()

    def test_a_directory_that_is_in_use_is_no_less_there_after_a_failure(self):
        """One that cannot give way is named, and neither it nor a link of its is touched."""
        data = self.work / "data"
        (data / "in").mkdir(parents=True)
        self.write({"bucket": self.bucket, "mount": str(data), "prefix": self.prefix, "read_only": False})
        run = self.skyvol("up", check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn("is not empty", run.stderr)
        self.assertNotIn("any more", run.stdout)
        self.assertTrue((data / "in").is_dir())
        fresh = self.work / "data.skyvol-new"
        (data / "in").rmdir()
        fresh.write_text("mine")
        run = self.skyvol("up", check=False)
        self.assertEqual((run.returncode, data.is_dir(), fresh.read_text()), (1, True, "mine"), "it had gone, and its link was not made")
        fresh.unlink()
        data.rmdir()
        self.nothing_is_left()

    def test_what_stands_in_the_way_is_named_and_not_touched(self):
        (self.work / "data").mkdir()
        (self.work / "data/mine").write_text("mine")
        self.write({"bucket": self.bucket, "mount": f"{self.work}/data"})
        run = self.skyvol("up", check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn(f"{self.work}/data is a directory that is not empty", run.stderr)
        self.assertEqual((self.work / "data/mine").read_text(), "mine")
        self.assertFalse(mounted_at(self.base / self.bucket))
        shutil.rmtree(self.work / "data")
        (self.work / "data").mkdir()
        self.skyvol("up")
        self.assertTrue((self.work / "data").is_symlink(), "an empty directory gives way")
        (self.work / "data").unlink()
        (self.work / "data").symlink_to("/elsewhere")
        run = self.skyvol("down")
        self.assertIn("is not the link that up made", run.stdout)
        self.assertEqual(os.readlink(self.work / "data"), "/elsewhere")
        (self.work / "data").unlink()
        self.nothing_is_left()

    def test_a_half_made_link_goes_and_a_file_of_its_name_stays(self):
        fresh = self.work / "data.skyvol-new"
        self.write({"bucket": self.bucket, "mount": f"{self.work}/data", "prefix": self.prefix, "read_only": False})
        fresh.write_text("mine")
        run = self.skyvol("up", check=False)
        self.assertEqual((run.returncode, fresh.read_text()), (1, "mine"))
        self.nothing_is_left()
        fresh.unlink()
        fresh.symlink_to("/elsewhere")
        self.skyvol("up")
        self.assertFalse(os.path.lexists(fresh))
        fresh.symlink_to(os.readlink(self.work / "data"))
        self.skyvol("down")
        self.assertFalse(os.path.lexists(fresh))
        self.nothing_is_left()

    def test_a_mount_that_is_busy_stays_and_goes_later(self):
        self.write({"bucket": self.bucket, "mount": f"{self.work}/data", "prefix": self.prefix, "read_only": False})
        self.skyvol("up")
        with open(self.work / "data/open", "w"):
            run = self.skyvol("down", check=False)
            self.assertEqual(run.returncode, 1)
            self.assertTrue(mounted_at(self.base / self.bucket))
        self.skyvol("down")
        self.nothing_is_left()

    def test_after_a_kill_up_mounts_again(self):
        self.write({"bucket": self.bucket, "mount": f"{self.work}/data", "prefix": self.prefix, "read_only": False,
                    "options": "durability=writeback,log=" + str(self.work / "log")})
        self.skyvol("up")
        pid = json.loads(subprocess.run([SKYVOL, "status", self.base / self.bucket, "--json"], env=self.environment,
                                        capture_output=True, text=True).stdout)["pid"]
        parent = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[1])
        os.kill(parent, 9)
        os.kill(pid, 9)
        harness.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="its end")
        self.skyvol("up")
        (self.work / "data/x").write_text("x")
        self.skyvol("down")
        self.assertEqual(self.s3.get(self.bucket, self.key("x")), b"x")
        self.nothing_is_left()


class Plan(Volumes):
    def plan(self, *words):
        return json.loads(self.skyvol("plan", *words).stdout)

    def test_one_mount_for_each_bucket_of_an_endpoint_and_credentials(self):
        other = self.storage().replace("127.0.0.1", "localhost")
        anonymous = f'{{ endpoint = "{self.minio.endpoint}", no_sign_request = true }}'
        self.write({"bucket": "my-data", "mount": "/train", "prefix": "train/"},
                   {"bucket": "my-data", "mount": "/val", "prefix": "val"},
                   {"bucket": "my-data", "mount": "/output", "prefix": "results/", "read_only": False},
                   {"bucket": "my-data", "mount": "/other", "storage": other},
                   {"bucket": "my-data", "mount": "/public", "storage": anonymous})
        plan = self.plan()
        host = self.minio.endpoint.split("//")[1]
        self.assertEqual([m["dir"] for m in plan["mounts"]],
                         [f"{self.base}/my-data", f"{self.base}/my-data@{host.replace('127.0.0.1', 'localhost')}",
                          f"{self.base}/my-data@{host}"])
        self.assertEqual([m["read_only"] for m in plan["mounts"]], [False, True, True])
        self.assertIn("durability=sync", plan["mounts"][0]["options"])
        self.assertEqual([(l["mount"], l["target"]) for l in plan["links"]][:3],
                         [("/train", f"{self.base}/my-data/train"), ("/val", f"{self.base}/my-data/val"),
                          ("/output", f"{self.base}/my-data/results")])
        self.assertTrue(any("read-write" in note for note in plan["notes"]))

    def test_a_provider_that_mounts_nothing_is_named_where_every_volume_has_a_storage(self):
        mine = '[pool]\nprovider = "mine"\n[providers.mine]\ntype = "vastai"\n'
        rows = [(f'[pool]\nprovider = "{name}"\n', [], name) for name in ("vastai", "verda", "container", "any other", "aws")]
        rows += [(mine, [], "vastai"), ("", [], "none"), ("", ["--provider", "verda"], "verda"), (mine, ["--provider", "aws"], "aws")]
        for head, words, wanted in rows:
            with self.subTest(head=head, words=words):
                self.write({"bucket": self.bucket, "mount": "/data"}, head=head)
                plan = self.plan(*words)
                self.assertEqual(plan["provider"], wanted)
                self.assertEqual([mount["bucket"] for mount in plan["mounts"]], [self.bucket])
                if wanted != "aws":
                    self.assertEqual(json.loads(self.skyvol("prepare", "--json", *words).stdout)["provider"], wanted)

    def test_secrets_stand_apart_and_the_same_input_gives_the_same_bytes(self):
        self.write({"bucket": self.bucket, "mount": "/data"})
        first, second = self.skyvol("plan").stdout, self.skyvol("plan").stdout
        self.assertEqual(first, second)
        plan = json.loads(first)
        self.assertNotIn(SECRET_KEY, plan["bootstrap"])
        self.assertEqual([s["mode"] for s in plan["secrets"]], ["0600"])
        self.assertIn(SECRET_KEY, plan["secrets"][0]["content"])
        self.assertEqual(plan["mounts"][0]["credentials"], plan["secrets"][0]["path"])
        del plan["secrets"]
        self.assertNotIn(SECRET_KEY, json.dumps(plan))
        self.assertIn("no network call", self.skyvol("plan", "--explain").stdout)

    def test_what_is_wrong_is_all_said_at_once_with_file_and_line(self):
        text = textwrap.dedent("""\
            [pool]
            provider = "nobody"
            [[pool.volumes]]
            bucket = "b"
            mount = "data"
            colour = "red"
            storage = "missing"
            [[pool.volumes]]
            bucket = "bucket-two"
            mount = "/tmp/"
            [[pool.volumes]]
            bucket = "bucket-three"
            mount = "/data/../etc"
            prefix = "a/../b"
            read_only = "yes"
            """)
        (self.work / "skyward.toml").write_text(text)
        run = self.skyvol("plan", check=False)
        self.assertEqual(run.returncode, 1)
        for words in ("a volume has no 'colour'", "[storage.missing]",
                      "mount must be absolute path, got 'data'", "mount cannot be a system path: '/tmp/'", "'/data/../etc'",
                      "prefix 'a/../b'", "read_only: must be true or false", "provider 'nobody' mounts no volumes", "bucket-two"):
            self.assertIn(words, run.stderr)
        self.assertIn("skyward.toml:3", run.stderr)

    def test_nothing_at_all_names_the_paths_tried(self):
        run = subprocess.run([SKYVOL, "plan"], cwd=self.work, env=self.environment, capture_output=True, text=True)
        self.assertEqual(run.returncode, 1)
        self.assertIn(f"{self.home}/.skyward/defaults.toml", run.stderr)
        self.assertIn("skyward.toml", run.stderr)

    def test_the_second_file_goes_over_the_first(self):
        (self.home / ".skyward").mkdir()
        (self.home / ".skyward/defaults.toml").write_text(textwrap.dedent(f"""\
            [pools.a]
            nodes = 3
            image = {{ python = "3.12" }}
            volumes = [{{ bucket = "first-bucket", mount = "/one", storage = "s" }}]
            [pools.b]
            volumes = [{{ bucket = "other-bucket", mount = "/two", storage = "s" }}]
            [storage.s]
            preset = "minio"
            endpoint = "http://127.0.0.1:1"
            """))
        (self.work / "skyward.toml").write_text('[storage.s]\nendpoint = "http://127.0.0.1:2"\n')
        run = subprocess.run([SKYVOL, "plan", "--pool", "b"], cwd=self.work, env=self.environment, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stderr)
        plan = json.loads(run.stdout)
        self.assertEqual([(m["bucket"], m["endpoint"], m["path_style"]) for m in plan["mounts"]],
                         [("other-bucket", "http://127.0.0.1:2", True)])
        run = subprocess.run([SKYVOL, "plan"], cwd=self.work, env=self.environment, capture_output=True, text=True)
        self.assertIn("--pool NAME", run.stderr)


class Check(Volumes):
    def test_what_works_and_what_does_not_is_said_for_each(self):
        self.s3.put(self.bucket, self.key("a"), b"")
        self.write({"bucket": self.bucket, "mount": "/data", "prefix": self.prefix},
                   {"bucket": self.bucket, "mount": "/out", "prefix": f"{self.prefix}/out", "read_only": False})
        run = self.skyvol("check")
        self.assertIn(f"listed below '{self.prefix}/'", run.stdout)
        self.assertIn(f"wrote and removed an object below '{self.prefix}/out/'", run.stdout)
        self.assertIn("no lifecycle rule", run.stdout)
        self.assertEqual(self.keys(), ["a"])
        self.assertNotIn("wrote", self.skyvol("check", "--read-only").stdout)
        findings = json.loads(self.skyvol("check", "--json").stdout)["findings"]
        self.assertEqual({f["grade"] for f in findings}, {"ok", "warn"})
        file = self.file.read_text()
        self.file.write_text(file.replace('read_only = false', 'read_only = false\noptions = "sse=AES256"'))
        run = self.skyvol("check", check=False)
        self.assertIn("an object cannot be written", run.stdout, "as the mount itself would: this server has no SSE")
        self.file.write_text(file)
        self.environment["SECRET"] = "wrong"
        run = self.skyvol("check", check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn("fail", run.stdout)
        self.assertIn("AWS_SECRET_ACCESS_KEY", run.stdout)
        del self.environment["SECRET"]
        run = self.skyvol("check", check=False)
        self.assertEqual(run.returncode, 1)
        self.assertIn("the environment variable SECRET is not set", run.stderr)


class Script(Volumes):
    """In a root of its own, an overlay of this one, so that /data and /checkpoints are anybody's; what runs there ends with the script."""

    def in_a_root(self, script, shell, *, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"):
        root = self.work / "root"
        for part in ("upper", "work", "merged", "disk"):
            (root / part).mkdir(parents=True, exist_ok=True)
        setting = textwrap.dedent(f"""\
            set -eu
            mount --make-rprivate /
            mount -t tmpfs none {root}/disk
            mkdir {root}/disk/upper {root}/disk/work
            mount -t overlay -o lowerdir=/,upperdir={root}/disk/upper,workdir={root}/disk/work none {root}/merged
            for part in dev sys; do mount --rbind /$part {root}/merged/$part; done
            mount -t proc none {root}/merged/proc
            mount --bind {self.work} {root}/merged{self.work}
            mount -t tmpfs none {root}/merged/run
            mount -t tmpfs none {root}/merged/var/lib
            cp {SKYVOL} {root}/merged/usr/local/bin/skyvol
            exec chroot {root}/merged {' '.join(shell)} {self.work}/inside.sh
            """)
        (self.work / "inside.sh").write_text(script)
        return subprocess.run(["unshare", "-mpf", "--kill-child", "sh", "-c", setting], env=self.environment | {"PATH": path},
                              capture_output=True, text=True, timeout=120)

    def test_the_pages_example_in_three_shells_run_twice(self):
        self.s3.put(self.bucket, self.key("imagenet/a"), b"a")
        self.write({"bucket": self.bucket, "mount": "/data", "prefix": f"{self.prefix}/imagenet/", "read_only": True},
                   {"bucket": self.bucket, "mount": "/checkpoints", "prefix": f"{self.prefix}/it's $HOME `x`", "read_only": False})
        (self.work / "plan.sh").write_text(subprocess.run(
            [SKYVOL, "plan", "-c", self.file, "--format", "sh"], env=self.environment, capture_output=True, text=True,
            check=True).stdout)
        subprocess.run(["shellcheck", "-s", "sh", self.work / "plan.sh"], check=True)
        for shell in SHELLS:
            with self.subTest(shell=shell):
                run = self.in_a_root(textwrap.dedent(f"""\
                    set -eu
                    {' '.join(shell)} {self.work}/plan.sh
                    cat {self.work}/plan.sh | {' '.join(shell)} > {self.work}/second
                    test "$(cat /data/a)" = a
                    echo {shell[0]} > /checkpoints/model
                    if echo b > /data/b 2>/dev/null; then echo "a read-only volume was written" >&2; exit 1; fi
                    test "$(grep -c fuse.skyvol /proc/self/mounts)" = 2 # the mount, and the read-only bind of it
                    stat -c %a /etc/skyvol/keys/* | grep -qx 600
                    umount /mnt/skyvol/.read-only/data
                    skyvol umount --wait /mnt/skyvol/{self.bucket}
                    """), shell)
                self.assertEqual(run.returncode, 0, run.stderr + run.stdout)
                self.assertNotIn(SECRET_KEY, run.stderr + run.stdout)
                self.assertEqual(self.s3.get(self.bucket, self.key("it's $HOME `x`/model")), f"{shell[0]}\n".encode())
                self.assertIn("(it was there)", (self.work / "second").read_text())

    def test_the_pages_configuration_as_it_is_printed_goes_up_is_used_and_leaves_nothing(self):
        server = harness.Minio(self.work / "buckets")
        self.addCleanup(server.stop)
        for bucket in ("my-datasets", "my-experiments"):
            server.s3.make_bucket(bucket)
        server.s3.put("my-datasets", "imagenet/train/a.txt", b"abc")
        server.s3.put("my-datasets", "elsewhere", b"")
        project = self.work / "project"
        project.mkdir()
        (project / "skyward.toml").write_text(PAGE)
        (project / "train.py").write_text(textwrap.dedent("""\
            import os
            assert os.listdir("/data") == ["train"], os.listdir("/data")
            assert os.listdir("/checkpoints") == [], os.listdir("/checkpoints")
            words = open("/data/train/a.txt").read()
            os.makedirs("/checkpoints/run-1")
            with open("/checkpoints/run-1/model.pt", "w") as file:
                file.write(words * 1000)
            os.rename("/checkpoints/run-1/model.pt", "/checkpoints/run-1/best.pt")
            assert open("/checkpoints/run-1/best.pt").read() == "abc" * 1000
            try:
                open("/data/mine", "w")
            except OSError as error:
                assert error.errno == 30, error
            else:
                raise AssertionError("a read-only volume was written")
            """))
        self.environment |= {"AWS_ENDPOINT_URL_S3": server.endpoint, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        run = self.in_a_root(textwrap.dedent(f"""\
            set -eu
            # Every name that up could leave, every mount, every process.
            look() {{
                cut -d ' ' -f 1-3 /proc/self/mounts
                ls -A / /etc
                find /mnt /var/lib /run {self.home} | sort
                for name in /proc/[0-9]*/comm; do grep -s skyvol "$name" || true; done
            }}
            cd {project}
            rm -rf /data /checkpoints
            look > {self.work}/before
            skyvol up
            look > {self.work}/during
            grep -q ' /mnt/skyvol/my-datasets fuse.skyvol' {self.work}/during
            test -L /data && test -L /checkpoints
            {sys.executable} train.py
            skyvol up | grep -q 'it was there'
            skyvol down
            look > {self.work}/after
            """), ["dash"])
        self.assertEqual(run.returncode, 0, run.stderr + run.stdout)
        before, during, after = (set((self.work / name).read_text().splitlines()) for name in ("before", "during", "after"))
        self.assertLessEqual({"data", "checkpoints", "skyvol", "/mnt/skyvol/my-experiments"}, during - before)
        cache = re.compile("/var/lib/skyvol/[0-9a-f]{24}(/.*)?")  # of the mounts, for the next ones: nothing in it waits for anybody
        self.assertEqual({name for name in after - before if not cache.fullmatch(name)}, {"/run/skyvol", "/var/lib/skyvol", "/var/lib/skyvol/pools"})
        self.assertEqual(before - after, set())
        self.assertNotIn(SECRET_KEY, run.stderr + run.stdout)
        self.assertEqual([key for key, *_ in server.s3.list("my-experiments")], ["run-1/", "run-1/best.pt"])
        self.assertEqual(server.s3.get("my-experiments", "run-1/best.pt"), b"abc" * 1000)
        self.assertEqual([key for key, *_ in server.s3.list("my-datasets")], ["elsewhere", "imagenet/train/a.txt"])

    def test_where_skyvol_is_missing_it_is_installed_or_the_remedy_is_named(self):
        self.s3.put(self.bucket, self.key("a"), b"a")
        self.write({"bucket": self.bucket, "mount": "/data", "prefix": self.prefix})
        package = self.work / "package"
        shutil.copy(SKYVOL, package)
        digest = subprocess.run(["sha256sum", package], capture_output=True, text=True, check=True).stdout.split()[0]
        plans = {"without": [], "wrong": ["--package", package, "--sha256", "0" * 64],
                 "with": ["--package", package, "--sha256", digest],
                 "fetched": ["--package", "https://get.example/it's a $(package)", "--sha256", digest.upper()]}
        (self.work / "bin").mkdir()
        (self.work / "bin/curl").write_text(textwrap.dedent(f"""\
            #!/bin/sh
            # As the real one where the address leads on to another: nothing without -L; no plain http.
            test "$#" = 7 && test "$7" = "https://get.example/it's a \\$(package)" || exit 9
            case $1 in *L*) cp {package} "$5" ;; *) : > "$5" ;; esac
            test "$2 $3" = "--proto =https"
            """))
        (self.work / "bin/curl").chmod(0o755)
        for name, words in plans.items():
            (self.work / name).write_text(subprocess.run(
                [SKYVOL, "plan", "-c", self.file, "--format", "sh", *words], env=self.environment, capture_output=True,
                text=True, check=True).stdout)
        run = self.in_a_root(textwrap.dedent(f"""\
            rm -f /usr/local/bin/skyvol
            sh {self.work}/without && exit 1
            sh {self.work}/wrong && exit 1
            test ! -e /usr/local/bin/skyvol || exit 1
            sh {self.work}/with || exit 1
            skyvol umount --wait /mnt/skyvol/{self.bucket} && rm /usr/local/bin/skyvol
            PATH={self.work}/bin:$PATH sh {self.work}/fetched || exit 1
            test -d /data/. && skyvol umount --wait /mnt/skyvol/{self.bucket}
            """), ["dash"])
        self.assertEqual(run.returncode, 0, run.stderr + run.stdout)
        self.assertIn("--package", run.stderr)
        self.assertIn("SHA-256", run.stderr)

    def test_a_bucket_that_cannot_be_mounted_ends_it_and_the_reason_is_told(self):
        self.s3.put(self.bucket, self.key("a"), b"a")
        silent = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(silent.close)
        elsewhere = self.storage().replace(self.minio.endpoint, f"http://127.0.0.1:{silent.getsockname()[1]}")
        for name, volume, reason in (("missing", {"bucket": "is-not-there"}, "is-not-there at {}: there is no such bucket"),
                                     ("silent", {"bucket": self.bucket, "storage": elsewhere}, "the endpoint does not answer")):
            with self.subTest(name):
                self.write({"bucket": "is-not-there", "mount": "/first", **volume},
                           {"bucket": self.bucket, "mount": "/second", "prefix": self.prefix})
                (self.work / "plan.sh").write_text(self.skyvol("plan", "--format", "sh", "--base", "/mnt/skyvol").stdout)
                run = self.in_a_root(textwrap.dedent(f"""\
                    status=0
                    sh {self.work}/plan.sh || status=$?
                    if grep fuse.skyvol /proc/self/mounts; then echo "something is mounted"; fi
                    for link in /first /second; do test ! -L $link || echo "$link is there"; done
                    exit $status
                    """), ["dash"])
                self.assertEqual(run.returncode, 1, run.stderr + run.stdout)
                self.assertIn(reason.format(self.minio.endpoint), run.stderr)
                self.assertEqual(run.stderr.splitlines()[-1], f"skyvol: {volume['bucket']} could not be mounted at "
                                 f"/mnt/skyvol/{volume['bucket']}: the lines above say why")
                self.assertEqual(run.stdout, "")
                self.assertNotIn(SECRET_KEY, run.stderr)

    def test_a_mount_that_is_another_ones_ends_it_and_keeps_its_keys(self):
        self.s3.put(self.bucket, self.key("in/a"), b"a")
        self.s3.put(self.bucket, self.key("other/b"), b"b")
        first = [{"bucket": self.bucket, "mount": "/data", "prefix": f"{self.prefix}/in"},
                 {"bucket": self.bucket, "mount": "/out", "prefix": f"{self.prefix}/out", "read_only": False}]
        plans = {"first": first, "moved": [first[0] | {"prefix": f"{self.prefix}/other"}, first[1]],
                 "foreign": [volume | {"storage": self.storage().replace("127.0.0.1", "localhost")} for volume in first]}
        for name, volumes in plans.items():
            self.write(*volumes)
            if name == "foreign":
                self.environment["SECRET"] = "another-secret"
            (self.work / name).write_text(self.skyvol("plan", "--format", "sh", "--base", "/mnt/skyvol").stdout)
        for shell in SHELLS:
            with self.subTest(shell=shell):
                sh = " ".join(shell)
                run = self.in_a_root(textwrap.dedent(f"""\
                    set -eu
                    {sh} {self.work}/first
                    test "$(ls /data/)" = a
                    if {sh} {self.work}/foreign; then exit 1; fi
                    if grep another-secret /etc/skyvol/keys/*; then exit 1; fi
                    {sh} {self.work}/moved
                    test "$(ls /data/)" = b
                    {sh} -v {self.work}/moved
                    test "$(grep -c fuse.skyvol /proc/self/mounts)" = 2
                    umount /mnt/skyvol/.read-only/data
                    skyvol umount --wait /mnt/skyvol/{self.bucket}
                    """), shell)
                self.assertEqual(run.returncode, 0, run.stderr + run.stdout)
                self.assertIn("not as this wants it", run.stderr)
                self.assertNotIn(SECRET_KEY, run.stderr + run.stdout)

    def test_links_never_go_into_what_stands_there(self):
        self.write({"bucket": self.bucket, "mount": "/data", "prefix": self.prefix})
        (self.work / "plan.sh").write_text(self.skyvol("plan", "--format", "sh", "--base", "/mnt/skyvol").stdout)
        self.s3.put(self.bucket, self.key("file"), b"x")
        self.write({"bucket": self.bucket, "mount": "/file", "prefix": f"{self.prefix}/file"})
        (self.work / "file.sh").write_text(self.skyvol("plan", "--format", "sh", "--base", "/mnt/skyvol").stdout)
        run = self.in_a_root(textwrap.dedent(f"""\
            mkdir -p /data/full
            sh {self.work}/plan.sh && exit 1
            rmdir /data/full
            sh {self.work}/file.sh && exit 1
            ln -s /usr /data-old && rmdir /data && mv /data-old /data
            sh {self.work}/plan.sh || exit 1
            test ! -L /usr/{self.bucket} && test -L /data || exit 1
            case $(readlink /data) in /mnt/skyvol/*) ;; *) exit 1 ;; esac
            skyvol umount --wait /mnt/skyvol/{self.bucket}
            """), ["dash"])
        self.assertEqual(run.returncode, 0, run.stderr + run.stdout)
        self.assertIn("/data is a directory that is not empty", run.stderr)
        self.assertIn("which /file leads to, is no directory", run.stderr)


if __name__ == "__main__":
    harness.main()
