#!/usr/bin/env python3
"""A large file that is appended to or patched: the server copies what did not change. PATCH_MIB makes it larger, to measure."""

import hashlib
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

MIB = 1 << 20
SIZE = int(os.environ.get("PATCH_MIB", "100")) * MIB


class TestPatch(harness.Workshop):
    server_per_test = True

    def change(self, mount, what, at, content, expected, sent_at_most):
        before = mount.status()
        with open(mount.place / "big", "r+b") as file:
            begun = time.monotonic()
            file.seek(at)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            took = time.monotonic() - begun
        after = mount.status()
        sent = after["sent_bytes"] - before["sent_bytes"]
        fetched = after["bytes_in"] - before["bytes_in"]
        copied = after.get("copied_bytes", 0) - before.get("copied_bytes", 0)
        print(f"{what}: fsync {took:.2f} s, {sent} bytes sent, {copied} copied, {fetched} received", file=sys.stderr)
        expected[at:at + len(content)] = content
        self.assertLessEqual(sent, sent_at_most)
        self.assertLessEqual(fetched, sent_at_most + MIB)
        self.assertEqual(hashlib.sha256(self.object("big")).digest(), hashlib.sha256(expected).digest())

    def test_of_a_large_object_only_what_changed_is_sent(self):
        expected = bytearray(os.urandom(MIB) * (SIZE // MIB))
        mount = self.mount(durability="writeback")
        begun = time.monotonic()
        with open(mount.place / "big", "wb") as file:
            file.write(expected)
            file.flush()
            os.fsync(file.fileno())
        print(f"whole: {time.monotonic() - begun:.2f} s", file=sys.stderr)
        again = self.mount(name="again", durability="writeback")
        self.change(again, "append 1 KiB", SIZE, b"a" * 1024, expected, 1024)
        self.change(again, "patch 4 KiB in the middle", SIZE // 2 + 12345, b"b" * 4096, expected, 5 * MIB)
        self.change(again, "patch 4 KiB at the start", 0, b"c" * 4096, expected, 5 * MIB)
        self.change(again, "append 1 MiB", SIZE + 1024, b"d" * MIB, expected, MIB)
        self.assertEqual((again.place / "big").read_bytes(), expected)


if __name__ == "__main__":
    harness.main()
