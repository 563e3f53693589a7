#!/usr/bin/env python3
"""A directory of a million names, as a little S3 tells them: what memory and the disk hold of them."""

import os
import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

COUNT = 1_000_000
MEMORY_MIB = 64 + COUNT * 200 / (1 << 20)  # at most, listing and all
DISK_BYTES = 350  # of a name in the catalog
META = {"mode": "33188", "uid": "1000", "gid": "1000", "mtime": "1790000000.123456789", "ctime": "1790000000.987654321",
        "skyvol-id": "0123456789abcdef0123456789abcdef"}


class Peak(threading.Thread):
    """The most that a mount held while this ran."""

    def __init__(self, mount):
        super().__init__(daemon=True)
        self.mount, self.ended, self.mib = mount, threading.Event(), 0

    def run(self):
        while not self.ended.wait(0.05):
            self.mib = max(self.mib, self.mount.rss_mib())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.join()


def count_names(place):
    """As ls -f: nothing is looked up."""
    with os.scandir(place) as entries:
        return sum(1 for _ in entries)


class TestMillion(harness.Workshop):
    server_per_test = True

    def test_a_million_names_cost_64_mib_and_200_bytes_each(self):
        server = self.little(list_metadata=True)
        server.control("fill", prefix="d/shard-", count=COUNT, meta=META)
        mount = self.mount(self.bucket, server=server, memory="256M", log_level="info")
        place = mount.place / "d"
        with Peak(mount) as peak:
            self.assertEqual(count_names(place), COUNT)
            for number in range(0, COUNT, 500):
                self.assertEqual(os.stat(place / f"shard-{number:08}").st_uid, 1000)
            told = mount.status()
            listed = {op: told["server_requests"].get(op, 0) for op in ("HEAD", "LIST")}
        catalog, = (self.work / "mount1.cache").rglob("data.mdb")
        disk = catalog.stat().st_blocks * 512 / COUNT
        print(f"{COUNT} names: {peak.mib:.0f} MiB at most, {mount.rss_mib():.0f} MiB then, {disk:.0f} bytes of the disk each, {listed}",
              file=sys.stderr)
        self.assertLessEqual(peak.mib, MEMORY_MIB)
        self.assertLessEqual(disk, DISK_BYTES)
        self.assertGreaterEqual(told["catalog"]["entries"], COUNT)
        self.assertLess(listed["HEAD"], 100)
        self.assertEqual(server.violations(), [])


if __name__ == "__main__":
    harness.main()
