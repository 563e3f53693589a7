#!/usr/bin/env python3
"""Tags that somebody set on objects stay theirs, whatever is done to the files: written anew, in part, moved, with other attributes."""

import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

MIB = 1 << 20
TAGS = {"project": "speech 2", "cost+centre": "a/b:c@d=e_f.g-h", "empty": ""}


class TestTagging(harness.Workshop):
    def put_tagged(self, name, body):
        self.s3.put(self.bucket, self.key(name), body)
        self.s3.tag(self.bucket, self.key(name), TAGS)

    def expect_tags(self, name, tags=None):
        self.assertEqual(self.s3.tags(self.bucket, self.key(name)), TAGS if tags is None else tags, name)

    @staticmethod
    def asked(mount):
        return mount.status()["server_requests"].get("GET_TAGS", 0)

    def test_they_stay_whatever_is_done_to_the_file(self):
        sizes = {"small": 1000, "large": 21 * MIB}
        for name, size in sizes.items():
            self.put_tagged(name, os.urandom(size))
        mount = self.mount()
        for name, size in sizes.items():
            path, body = mount.place / name, os.urandom(size)
            path.write_bytes(body)  # O_TRUNC
            self.assertEqual(self.object(name), body)
            self.expect_tags(name)
            with path.open("r+b") as file:
                file.seek(100)
                file.write(b"patched")
            body = body[:100] + b"patched" + body[107:]
            self.assertEqual(self.object(name), body)
            self.expect_tags(name)
            with path.open("ab") as file:
                file.write(b"more")
            self.assertEqual(self.object(name), body + b"more")
            self.expect_tags(name)
            path.chmod(0o600)
            os.setxattr(path, "user.note", b"x")
            self.expect_tags(name)
            path.rename(mount.place / f"moved {name}")
            self.expect_tags(f"moved {name}")
            self.assertEqual(self.object(f"moved {name}"), body + b"more")
        self.assertEqual(self.asked(mount), 3 * len(sizes))

    def test_they_stay_when_all_goes_up_later_or_after_a_crash(self):
        self.put_tagged("a", b"1")
        self.put_tagged("b", b"2")
        mount = self.mount(durability="writeback")
        (mount.place / "a").write_bytes(b"new")
        (mount.place / "a").rename(mount.place / "c")
        self.assertEqual(mount.run("flush", str(mount.place)).returncode, 0)
        self.assertEqual((self.object("c"), self.keys()), (b"new", ["b", "c"]))
        self.expect_tags("c")
        with (mount.place / "b").open("wb") as file:
            self.minio.freeze()
            file.write(b"newer")
        mount.kill()
        self.minio.thaw()
        again = self.mount(name="mount1", durability="writeback")
        self.assertEqual(again.run("flush", str(again.place)).returncode, 0)
        self.assertEqual(self.object("b"), b"newer")
        self.expect_tags("b")

    def test_new_files_have_none_and_cost_nothing(self):
        self.put_tagged("a", b"old")
        self.put_tagged("b", b"old")
        mount = self.mount()
        (mount.place / "a").unlink()
        (mount.place / "a").write_bytes(b"new")
        (mount.place / "c").write_bytes(b"new")
        (mount.place / "c").rename(mount.place / "b")
        for name in "ab":
            self.assertEqual(self.object(name), b"new")
            self.expect_tags(name, {})
        self.assertEqual(self.asked(mount), 0)

    def expect_one_line(self, mount, right):
        told = [line for line in mount.log.read_text().splitlines() if "lose their tags" in line]
        self.assertEqual(len(told), 1, told)
        self.assertIn(f"grant {right}", told[0])

    def test_who_may_not_read_them_writes_all_the_same(self):
        policy = {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"], "Resource": f"arn:aws:s3:::{self.bucket}/*"},
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": f"arn:aws:s3:::{self.bucket}"}]}
        mount = self.mount(environment=harness.clean_environment(keys=False) | self.s3.assume_role(policy))
        for name, size in (("small", 1000), ("large", 12 * MIB)):
            self.put_tagged(name, b"old")
            (mount.place / name).write_bytes(b"x" * size)
            self.assertEqual(self.object(name), b"x" * size)
            self.expect_tags(name, {})
        self.expect_one_line(mount, "s3:GetObjectTagging")

    def test_who_may_not_set_them_writes_all_the_same(self):
        little = self.little()
        little.control("abilities", set_tags=False)
        mount = self.mount(server=little)
        for name, size in (("small", 1000), ("large", 12 * MIB)):
            little.s3.put(self.bucket, self.key(name), b"old")
            little.s3.tag(self.bucket, self.key(name), TAGS)
            (mount.place / name).write_bytes(b"x" * size)
            self.assertEqual(little.s3.get(self.bucket, self.key(name)), b"x" * size)
            self.assertEqual(little.s3.tags(self.bucket, self.key(name)), {})
        self.expect_one_line(mount, "s3:PutObjectTagging")
        self.assertEqual(little.violations(), [])

    def test_they_are_given_along_as_a_strict_server_wants_them(self):
        little = self.little()
        little.s3.put(self.bucket, self.key("a"), b"old")
        little.s3.tag(self.bucket, self.key("a"), TAGS | {"größe": "中"})
        mount = self.mount(server=little)
        (mount.place / "a").write_bytes(b"new")
        self.assertEqual(little.ask("objects")[self.key("a")]["tags"], TAGS | {"größe": "中"})
        self.assertEqual(little.violations(), [])


if __name__ == "__main__":
    harness.main()
