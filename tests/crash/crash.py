#!/usr/bin/env python3
"""Kills skyvol at random moments and looks whether anything that was acknowledged is lost.

Many threads create, overwrite, append, truncate, rename and unlink on a real mount of a real MinIO; skyvol is killed with -9, mounted
again, left to drain, and then what every system call promised is compared with what another client reads from the server, and with
what the mount shows. tests/README.md tells more. Needs root.

    python3 tests/crash/crash.py --seconds 3600 --durability writeback --faults
"""

import argparse
import errno
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402
from check import Finding, Mounted, Server, check_all, check_landed  # noqa: E402
from model import Tree  # noqa: E402
from worker import Worker  # noqa: E402

BUCKET, PREFIX = "test", "crash"
NO_PROGRESS = 40  # seconds in which a drain must move
TOLERABLE = ["both-names",       # sync: a rename on its way at the kill leaves the old name too
             "late-attributes",  # sync: chmod and truncate just after a close return before the server has them
             "probes",           # an object that a condition was tried on stays, in sight, when killed before its DELETE
             "local-files"]      # what was open and sent keeps its local file until the mount after the next


def read_options(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="of all that is chosen; printed")
    add("--seconds", type=float, default=60, help="no cycle begins after so long")
    add("--cycles", type=int, default=10**9, help="the most cycles")
    add("--workers", type=int, default=12, help="threads of load, each in its own directory")
    add("--durability", choices=["sync", "writeback"], default="sync")
    add("--faults", action="store_true", help="MinIO is frozen, or ended and started again, during the load")
    add("--orderly", action="store_true", help="umount instead of kill: shows that the test itself is right")
    add("--keep", action="store_true", help="the working directory stays, also when all was well")
    add("--binary", default=harness.SKYVOL, help="the skyvol to test")
    add("--tolerate", action="append", default=[], choices=TOLERABLE, help="a fault that is known and not mended yet")
    add("--option", action="append", default=[], metavar="NAME=VALUE", help="a mount option more")
    return parser.parse_args(words)


class Trouble(threading.Thread):
    """Takes the server away for a while, again and again, until it is told to stop; then the server is there."""

    def __init__(self, minio, seed):
        super().__init__(daemon=True)
        self.minio, self.random, self.stop, self.count = minio, random.Random(seed), threading.Event(), 0
        self.start()

    def run(self):
        while not self.stop.wait(self.random.uniform(0.2, 2)):
            self.count += 1
            if self.random.random() < 0.5:
                self.minio.freeze()
                self.stop.wait(self.random.uniform(0.5, 4))
                self.minio.thaw()
            else:
                self.shut_down()
                self.stop.wait(self.random.uniform(0, 3))
                self.minio.start()

    def shut_down(self):
        """What is under way may end, mostly."""
        self.minio.process.terminate()
        try:
            self.minio.process.wait(15)
        except subprocess.TimeoutExpired:
            pass
        self.minio.stop()

    def end(self):
        """By the main thread: a server that another thread started ends with that thread (die_with_parent)."""
        self.stop.set()
        self.join()
        self.shut_down()
        self.minio.start()


class Crash:
    def __init__(self, options, work):
        self.options, self.work = options, work
        self.minio = harness.Minio(work)
        self.minio.s3.make_bucket(BUCKET)
        self.place, self.cache = work / "mount", work / "cache"
        self.trees = [Tree(f"w{number:02}") for number in range(options.workers)]
        self.workers, self.mount, self.trouble = [], None, None
        self.mounts, self.known, self.words = 0, {}, []
        self.killed, self.nameless = False, set()  # in this cycle; uploads that nobody can end

    # ---- The mount. ----

    def mount_again(self):
        self.mounts += 1
        for old in sorted(self.work.glob("log.*"))[:-6]:
            old.unlink()
        log = self.work / f"log.{self.mounts:05}"
        options = {"endpoint": self.minio.endpoint, "cache_dir": self.cache, "log": log, "log_level": "debug"}
        options["durability"] = self.options.durability
        if self.options.faults:
            options["io_timeout"] = self.random.choice(["2s", "10s", "60s"])
        options |= dict(word.partition("=")[::2] for word in self.options.option)
        self.mount = harness.Mount(f"{BUCKET}:{PREFIX}", self.place, options, harness.clean_environment(), log)

    def kill(self):
        if not self.mount.alive():
            raise Finding(self.died())
        self.killed = True
        self.mount.kill()
        dead = threading.Thread(target=lambda: harness.wait_until(self.is_dead), daemon=True)
        dead.start()  # its threads end after their process
        dead.join(60)
        if dead.is_alive():
            raise Finding(f"the mount of the dead skyvol hangs; what is left of it:\n{self.threads_left()}")

    def died(self):
        log = self.mount.log.read_text(errors="replace").splitlines()[-5:]
        calls = [f"{worker.tree.name}: {text}" for worker in self.workers for text, _ in list(worker.tree.history)[-1:]]
        return "\n".join(["skyvol died by itself; its last words, and each thread's last call:"] + log + calls)

    def threads_left(self):
        lines = []
        for task in pathlib.Path(f"/proc/{self.mount.pid}/task").glob("*"):
            try:
                lines.append(f"{task.name} {(task / 'comm').read_text().strip()} {(task / 'wchan').read_text()}\n"
                             f"{(task / 'stack').read_text()}")
            except OSError as error:
                lines.append(f"{task.name}: {error}")
        return "\n".join(lines) or "nothing"

    def is_dead(self):
        try:
            os.statvfs(self.place)
        except OSError as error:
            return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
        return False

    def umount(self):
        done = self.mount.umount(timeout=300)
        if done.returncode != 0:
            raise Finding(f"umount failed ({done.returncode}): {done.stderr}")
        harness.wait_until(lambda: not self.mount.alive(), what="the end of the daemon")

    def server(self):
        return Server(self.minio.s3, BUCKET, PREFIX, self.known)

    # ---- One cycle. ----

    def cycle(self, number):
        self.random = random.Random(f"{self.options.seed}/{number}")
        self.words, self.killed = [], False
        orderly = self.options.orderly or self.random.random() < 0.08
        self.load(number, orderly)
        self.end_load(orderly)
        snapshot(self.cache, self.work / "cache.at-the-kill")
        self.look_at_what_landed(number, orderly)
        self.mount_again()
        self.kill_again()
        if self.random.random() < 0.5:
            names = check_all(self.trees, Mounted(self.place, self.server()), "through the mount before the drain")
            self.words.append(f"{names} names seen before the drain")
        self.drain()
        names = check_all(self.trees, self.server(), "on the server after the drain")
        self.look_for_leftovers()
        check_all(self.trees, Mounted(self.place, self.server()), "through the mount after the drain")
        self.sweep()
        self.words.append(f"{names} names right")
        print(f"cycle {number}: " + ", ".join(self.words), flush=True)

    def sweep(self):
        for tree in self.trees:
            for path in tree.debris:
                whole = self.place / tree.name / path
                if path not in tree.nodes and whole.is_file():
                    whole.unlink()
            tree.debris = []

    def load(self, number, orderly):
        if not self.mount:
            self.mount_again()
        self.workers = [Worker(index, tree, self.place, self.options, f"{self.options.seed}/{number}/{index}")
                        for index, tree in enumerate(self.trees)]
        for worker in self.workers:
            worker.tree.loose = set()
            worker.tree.tolerate = self.options.tolerate
            if "" not in worker.tree.nodes:
                worker.make_root()
            worker.is_ghost = lambda path: self.server().shows_empty(path)
            if self.options.faults:
                worker.faulty.set()
        for worker in self.workers:
            worker.start()
        if self.options.faults:
            self.trouble = Trouble(self.minio, f"{self.options.seed}/{number}/trouble")
        seconds = self.random.choice([0.3, 1, 2, 4]) * self.random.uniform(0.3, 1.7)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not any(worker.failure for worker in self.workers):
            time.sleep(min(0.05, max(0, deadline - time.monotonic())))
        self.words.append(f"{'unmounted' if orderly else 'killed'} after {seconds:.2f} s")

    def end_load(self, orderly):
        for worker in self.workers if orderly else []:
            worker.stop.set()
        if not orderly:
            self.kill()
        elif not self.mount.alive():
            raise Finding(self.died())
        for worker in self.workers:
            worker.stop.set()
            worker.join(150)
            if worker.is_alive():
                raise Finding(f"{worker.name} still hangs in a system call:\n" + "\n".join(
                    text for text, _ in list(worker.tree.history)[-3:]))
        if self.trouble:
            self.words.append(f"{self.trouble.count} times without the server")
            self.trouble.end()
            self.trouble = None
        for worker in self.workers:
            if worker.failure:
                raise Finding(f"{worker.name}, {worker.tree.name}: {worker.failure!r}; " + worker.last_words())
        if orderly:
            for worker in self.workers:
                worker.close_all()
            self.umount()
        for worker in self.workers:
            worker.forget_handles()
        self.words.append(f"{sum(worker.calls for worker in self.workers)} calls, "
                          f"{sum(len(tree.doubts) for tree in self.trees)} in doubt")

    def look_at_what_landed(self, number, orderly):
        if self.options.durability != "sync" and orderly:
            return
        count = check_landed(self.trees, self.server(), self.options.durability, f"{self.options.seed}/{number}/landed")
        self.words.append(f"{count} had landed")

    def kill_again(self):
        """Also while it resumes."""
        kills = 0 if self.options.orderly else self.random.choice([0, 0, 1, 3])
        for _ in range(kills):
            time.sleep(self.random.choice([0, 0.05, 0.3]) * self.random.random())
            self.kill()
            self.mount_again()
        if kills:
            self.words.append(f"{kills} more kills")

    def drain(self):
        begun = last = time.monotonic()
        before = None
        while True:
            status = self.mount.status()
            if status["conflicts"]:
                raise Finding("a conflict, and nobody else writes here:\n" + self.unsent_text(status))
            if status["unsent_files"] == 0 and status["uploading"] == 0:
                break
            now = [status[name] for name in ("unsent_files", "unsent_bytes", "sent_files", "sent_bytes")]
            if now != before:
                before, last = now, time.monotonic()
            if time.monotonic() - last > NO_PROGRESS:
                raise Finding(f"the drain stands still since {NO_PROGRESS} s:\n" + self.unsent_text(status))
            time.sleep(0.05)
        self.words.append(f"drained in {time.monotonic() - begun:.1f} s")

    def unsent_text(self, status):
        lines = []
        for entry in status["unsent"][:5]:
            lines.append(str(entry))
            name, _, path = entry["key"][len(PREFIX) + 1:].partition("/")
            for tree in self.trees:
                if tree.name == name:
                    lines += ["  " + line for line in tree.told(path, tree.nodes.get(path))]
        return "\n".join(lines)

    def look_for_leftovers(self):
        """Unfinished uploads and local files. They may end a moment after the drain."""
        def left():
            return self.local_files() + self.unfinished()
        deadline = time.monotonic() + 10
        while left() and time.monotonic() < deadline:
            time.sleep(0.1)
        if left():
            raise Finding("left behind after the drain: " + ", ".join(left()[:10]))

    def local_files(self):
        """But for the catalog, which remembers what the bucket has and is bounded by itself."""
        paths = [path.relative_to(self.cache) for path in self.cache.rglob("*") if path.is_file()]
        return [str(path) for path in paths if path.parts[0] != "catalog" and not re.fullmatch(self.local_names(), path.name)]

    def local_names(self):
        return r"lock|mount\.json|journal-\d+" + (r"|(4k-|32k-)?[0-9a-f]{16}" if "local-files" in self.options.tolerate else "")

    def unfinished(self):
        """As ListMultipartUploads, which MinIO answers for exact keys only: its own directories tell of all.

        An upload whose Create was answered to nobody has no part, and nobody can know that it is ours: it is let be. One
        with parts was known, or one without in a cycle without kill and fault.
        """
        uploads = {path.parent for path in (self.work / "server/.minio.sys/multipart").glob("*/*/xl.meta")}
        if self.killed or self.options.faults:
            self.nameless |= {path for path in uploads if not list(path.glob("*/part.*")) or self.is_probe(path)}
        return [f"an unfinished upload ({path})" for path in uploads - self.nameless]

    def is_probe(self, upload):
        """What carries data says whose it is."""
        try:
            return "probes" in self.options.tolerate and b"X-Amz-Meta-" not in (upload / "xl.meta").read_bytes()
        except FileNotFoundError:
            return False

    def end(self):
        """Whatever happened."""
        for worker in self.workers:
            worker.stop.set()
        if self.trouble:
            self.trouble.end()
        if self.mount:
            self.mount.broken = True
            subprocess.run(["umount", "-f", str(self.place)], capture_output=True, check=False)  # also of a hanging one
            self.mount.clean_up()
        for worker in self.workers:
            worker.join(10)
            worker.forget_handles()
        self.minio.stop()


def snapshot(directory, copy):
    """The cache directory as the kill left it."""
    shutil.rmtree(copy, ignore_errors=True)
    subprocess.run(["cp", "-a", "--sparse=always", directory, copy], check=True)


def run(options):
    work = pathlib.Path(tempfile.mkdtemp(prefix="skyvol-crash."))
    print(f"seed {options.seed}, durability {options.durability}{', faults' if options.faults else ''}: {work}", flush=True)
    crash, number, status = None, 0, 1
    try:
        crash = Crash(options, work)
        deadline = time.monotonic() + options.seconds
        while number < options.cycles and time.monotonic() < deadline:
            number += 1
            crash.cycle(number)
        status = 0
        print(f"{number} cycles, nothing lost (seed {options.seed})")
    except Finding as finding:
        print(f"FAILED in cycle {number} with --seed {options.seed} --durability {options.durability}"
              f"{' --faults' if options.faults else ''} --workers {options.workers}"
              f"{''.join(' --tolerate ' + name for name in options.tolerate)} ({', '.join(crash.words)})\n{finding}\n"
              f"kept: {work} (log.*: the daemon's; cache.at-the-kill: its directory before the first remount)", flush=True)
    finally:
        if crash:
            crash.end()
        if status == 0 and not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    return status


def main():
    options = read_options(sys.argv[1:])
    harness.SKYVOL = options.binary
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if os.geteuid() != 0:
        sys.exit("the crash test mounts: it needs root")
    sys.exit(run(options))


if __name__ == "__main__":
    main()
