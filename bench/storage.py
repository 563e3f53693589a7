"""The jobs of bench/run for the storage operations: `skyvol upload`, `download`, `rm` beside raw HTTP and rclone.

Raw HTTP as in the other jobs: PUTs by upload.c and GETs by curl, with as many connections as skyvol has; it computes no checksum, carries no
metadata, and writes what it gets into files without fsync. Raw removal: DeleteObjects of 1000 keys, one after the other.
rclone: as it comes, with 16 transfers.
"""

import base64
import hashlib
import os
import resource
import shutil
import subprocess
import time

PART = 8 << 20
SMALL = 4096
CONNECTIONS = 16


def measure(bench, result, command, mb, count=None, environment=None):
    """`result` makes a Result: of one program that does the whole job."""
    server, before, start = bench.server_cpu(), resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   env=os.environ | (environment or {}))
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return result(seconds, mb, count=count, server=bench.server_cpu() - server,
                  client=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


class Operations:
    """One contender's five jobs; `words` gives the command of each."""

    def __init__(self, bench, result):
        self.bench, self.result = bench, result
        self.tree = bench.work / "tree"
        self.mb, self.small_mb = bench.size / 1e6, bench.options.files * SMALL / 1e6

    def make_tree(self):
        if self.tree.exists():
            return
        self.tree.mkdir()
        for index in range(self.bench.options.files):
            (self.tree / f"{index:06}").write_bytes(index.to_bytes(8, "big") * (SMALL // 8))

    def target(self, kind):
        """Where downloads go; nothing is there. Trees stay until the bench ends: ext4 gives no number of an inode away again within 5 s,
        and who makes files right after many were removed pays for the search."""
        place = self.bench.work / f"landing-{kind}-{self.name}-{self.bench.round}"
        place.mkdir()
        return place

    def run(self, command, mb, count=None):
        self.bench.rest()
        return measure(self.bench, self.result, command, mb, count, self.environment())

    def environment(self):
        return {}

    def up(self):
        return self.run(self.words_up(self.bench.pattern, f"up-{self.name}-{self.bench.round}"), self.mb)

    def down(self):
        place = self.target("large")
        result = self.run(self.words_down("big.bin", place / "big.bin"), self.mb)
        shutil.rmtree(place)
        return result

    def small_up(self):
        self.make_tree()
        return self.run(self.words_tree_up(self.tree, f"tree-{self.name}"), self.small_mb, self.bench.options.files)

    def small_down(self):
        return self.run(self.words_tree_down(f"tree-{self.name}", self.target("small")), self.small_mb, self.bench.options.files)

    def small_rm(self):
        return self.run(self.words_rm(f"tree-{self.name}"), self.small_mb, self.bench.options.files)


class Skyvol(Operations):
    name = "skyvol"

    def words(self, command, *words):
        return [self.bench.options.skyvol, command, "--preset", "minio", "--endpoint", self.bench.minio.endpoint, "bench", *words]

    def words_up(self, path, key):
        return self.words("upload", path, "--key", key)

    words_tree_up = words_up

    def words_down(self, key, path):
        return self.words("download", key, path)

    def words_tree_down(self, key, path):
        return self.words("download", key, path, "--recursive")

    def words_rm(self, key):
        return self.words("rm", key, "--recursive")


class Rclone(Operations):
    name = "rclone"

    def environment(self):
        # With a bundle rclone 1.60 refuses its own HTTP transport.
        return {"AWS_CA_BUNDLE": "", "RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_B_TYPE": "s3", "RCLONE_CONFIG_B_PROVIDER": "Minio",
                "RCLONE_CONFIG_B_ENV_AUTH": "true", "RCLONE_CONFIG_B_ENDPOINT": self.bench.minio.endpoint}

    def words(self, command, *words):
        return ["rclone", command, "--transfers", str(CONNECTIONS), "--checkers", str(CONNECTIONS), "--s3-upload-concurrency",
                str(CONNECTIONS), "--s3-chunk-size", "8M", "--s3-no-check-bucket", *words]

    def words_up(self, path, key):
        return self.words("copyto", path, f"b:bench/{key}")

    words_tree_up = words_up

    def words_down(self, key, path):
        return self.words("copyto", f"b:bench/{key}", path)

    words_tree_down = words_down

    def words_rm(self, key):
        return self.words("delete", f"b:bench/{key}")


class Raw(Operations):
    name = "raw"

    def up(self):
        return self.bench.raw_write(f"up-raw-{self.bench.round}")

    def curl(self, lines, mb, count=None):
        config = self.bench.work / "curl.storage"
        config.write_text("\n".join(lines) + "\n")
        return self.run(["curl", "-sSf", "-Z", "--parallel-max", CONNECTIONS, "--parallel-immediate", "-K", config], mb, count)

    def down(self):
        url, place, lines = self.bench.minio.s3.presign("GET", "bench", "big.bin"), self.target("large"), []
        for start in range(0, self.bench.size, PART):
            lines += [f'url = "{url}"', f'range = "{start}-{start + PART - 1}"', f'output = "{place}/{start}"', "next"]
        result = self.curl(lines[:-1], self.mb)
        shutil.rmtree(place)
        return result

    def small_up(self):
        return self.bench.raw_small_write(CONNECTIONS, "tree-raw")

    def small_down(self):
        place, lines = self.target("small"), []
        for index in range(self.bench.options.files):
            url = self.bench.minio.s3.presign("GET", "bench", f"tree-raw/{index:06}")
            lines += [f'url = "{url}"', f'output = "{place}/{index:06}"', "next"]
        return self.curl(lines[:-1], self.small_mb, self.bench.options.files)

    def small_rm(self):
        self.bench.rest()
        server, start = self.bench.server_cpu(), time.monotonic()
        keys = [f"tree-raw/{index:06}" for index in range(self.bench.options.files)]
        for first in range(0, len(keys), 1000):
            body = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys[first:first + 1000])
            body = f"<Delete><Quiet>true</Quiet>{body}</Delete>".encode()
            self.bench.minio.s3.request("POST", "bench", "", {"delete": ""}, body=body, headers={
                "content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()})
        return self.result(time.monotonic() - start, self.small_mb, count=len(keys), server=self.bench.server_cpu() - server)


def storage_jobs(bench, result):
    """{job: {contender: run}}; the small ones in this order, as each finds what the one before left."""
    contenders = [kind(bench, result) for kind in (Raw, Skyvol)]
    if "rclone" in bench.options.peers and shutil.which("rclone"):
        contenders.append(Rclone(bench, result))
    steps = {"up": "up", "down": "down", "small-up": "small_up", "small-down": "small_down", "small-rm": "small_rm"}
    return {f"storage-{job}": {one.name: getattr(one, step) for one in contenders}
            for job, step in steps.items()}


def promises_of_storage(found, promise):
    promises = []
    for job in (name for name in found if name.startswith("storage-")):
        raw, own = found[job]["raw"], found[job]["skyvol"]
        promises.append(promise(job, "rate to that of raw HTTP", (o.rate() / r.rate() for o, r in zip(own, raw)), 0.9))
        if "rclone" in found[job]:
            promises.append(promise(job, "rate to rclone's",
                                    (o.rate() / r.rate() for o, r in zip(own, found[job]["rclone"])), 1.0))
    return promises
