"""readdir while the directory changes, its positions, and rewinding, as the C library asks for them."""

import contextlib
import ctypes
import os
import pathlib
import random
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

COUNT = 2200  # three pages of LIST, and many of getdents


class Dirent(ctypes.Structure):
    _fields_ = [("number", ctypes.c_uint64), ("offset", ctypes.c_int64), ("length", ctypes.c_uint16),
                ("type", ctypes.c_uint8), ("name", ctypes.c_char * 256)]


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.opendir.restype = ctypes.c_void_p
LIBC.readdir.restype = ctypes.POINTER(Dirent)
LIBC.telldir.restype = ctypes.c_long
LIBC.readdir.argtypes = LIBC.telldir.argtypes = LIBC.rewinddir.argtypes = LIBC.closedir.argtypes = [ctypes.c_void_p]
LIBC.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


class Stream:
    """DIR *."""

    def __init__(self, path):
        self.stream = LIBC.opendir(os.fsencode(path))
        if not self.stream:
            raise OSError(ctypes.get_errno(), "opendir")

    def next(self):
        entry = LIBC.readdir(self.stream)
        return entry.contents.name.decode() if entry else None

    def rest(self):
        return list(iter(self.next, None))

    def tell(self):
        return LIBC.telldir(self.stream)

    def seek(self, place):
        LIBC.seekdir(self.stream, place)

    def rewind(self):
        LIBC.rewinddir(self.stream)

    def close(self):
        LIBC.closedir(self.stream)


def in_threads(count, items, do):
    threads = [threading.Thread(target=lambda share: [do(item) for item in share], args=(items[i::count],))
               for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class TestListing(harness.Workshop):
    def fill(self, known):
        """A directory of COUNT objects; known: of files made here, not all of which have gone up."""
        names = [f"stays{i:05}" for i in range(COUNT)]
        mount = self.mount(durability=None)
        self.place = mount.place
        (self.place / "d").mkdir()
        if known:
            for name in names:
                (self.place / "d" / name).write_bytes(b"")
        else:
            in_threads(8, names, lambda name: self.s3.put(self.bucket, self.key(f"d/{name}"), b""))
            mount.umount("--wait")
            self.place = self.mount(durability=None).place
        self.names = set(names)

    def check(self, seen, may=()):
        self.assertEqual(len(seen), len(set(seen)), "an entry came twice")
        missed = self.names - set(seen)
        self.assertFalse(missed, f"{len(missed)} that stayed were missed")
        self.assertFalse(set(seen) - self.names - set(may) - {".", ".."})

    def change_all_the_time(self, stop, made):
        """Creates, removes, renames and replaces, at both ends of the order of names and within; never what stays."""
        chance, alive = random.Random(1), []
        while not stop.is_set():
            name = f"{chance.choice(['a', 'stays01', 'stays02199', 'z'])}-{len(made)}"
            made.add(name)
            path = self.place / "d" / name
            if alive and chance.random() < 0.4:
                os.rename(alive.pop(chance.randrange(len(alive))), path)
            else:
                path.write_bytes(b"")
            alive.append(path)
            if chance.random() < 0.5:
                os.unlink(alive.pop(chance.randrange(len(alive))))
            kept = self.place / "d" / f"stays{chance.randrange(COUNT):05}"
            kept.write_bytes(b"again")

    def list_amid_changes(self, known):
        self.fill(known)
        stop, made = threading.Event(), set()
        changer = threading.Thread(target=self.change_all_the_time, args=(stop, made))
        changer.start()
        try:
            for _ in range(4):
                stream = Stream(self.place / "d")
                self.check(stream.rest(), made)
                stream.rewind()
                self.check(stream.rest(), made)
                stream.close()
                self.check([entry.name for entry in os.scandir(self.place / "d")], made)
        finally:
            stop.set()
            changer.join()

    def test_what_stays_is_listed_once_while_others_come_and_go(self):
        self.list_amid_changes(known=True)

    def test_so_it_is_where_the_server_is_asked_page_by_page(self):
        self.list_amid_changes(known=False)

    def test_what_is_removed_between_entries_hides_none(self):
        self.fill(known=False)
        stream, seen = Stream(self.place / "d"), []
        while name := stream.next():
            seen.append(name)
            if name.startswith("stays"):
                os.unlink(self.place / "d" / name)
        stream.close()
        self.check(seen)
        os.rmdir(self.place / "d")

    def test_what_is_renamed_between_entries_hides_none(self):
        self.fill(known=True)
        stream, seen = Stream(self.place / "d"), []
        while name := stream.next():
            seen.append(name)
            if name.startswith("stays") and int(name[5:]) % 3 == 0:
                os.rename(self.place / "d" / name, self.place / "d" / f"moved-{name}")
        stream.close()
        self.check(seen, {f"moved-{name}" for name in self.names})

    def test_a_position_means_the_same_entry_until_the_directory_is_closed(self):
        self.fill(known=False)
        stream, places = Stream(self.place / "d"), []
        while True:
            place, name = stream.tell(), stream.next()
            if not name:
                break
            places.append((place, name))
        chance, gone = random.Random(2), set()
        for _ in range(300):
            place, name = chance.choice(places)
            stream.seek(place)
            if name not in gone:
                self.assertEqual(stream.next(), name)
            if chance.random() < 0.2 and name.startswith("stays"):
                (self.place / "d" / name).unlink(missing_ok=True)
                gone.add(name)
        middle = len(places) // 2
        stream.seek(places[middle][0])
        rest = stream.rest()
        self.assertEqual([name for name in rest if name not in gone],
                         [name for _, name in places[middle:] if name not in gone])
        stream.close()

    def test_rewinding_shows_what_came_and_went(self):
        place = self.mount(durability=None).place
        (place / "old").write_bytes(b"")
        stream = Stream(place)
        self.assertEqual(sorted(stream.rest()), [".", "..", "old"])
        (place / "new").write_bytes(b"")
        os.unlink(place / "old")
        stream.rewind()
        self.assertEqual(sorted(stream.rest()), [".", "..", "new"])
        stream.close()


class TestWalk(harness.Workshop):
    """A tree of many small directories: one LIST answers for many of them."""

    def fill(self):
        self.names = {f"t/d{i:03}/{name}" for i in range(300) for name in ("f0", "f1")}
        self.names |= {f"t/d{i:03}/e/deep" for i in range(0, 300, 3)} | {"t/d007.x", "t/d007-x/f"}
        in_threads(8, sorted(self.names), lambda name: self.s3.put(self.bucket, self.key(name), name.encode()))
        self.s3.put(self.bucket, self.key("t/d011/"), b"", {"x-amz-meta-mode": "16832"})

    def walk(self, place):
        found = set()
        for path, _, files in os.walk(place):
            for name in files:
                whole = os.path.join(path, name)
                self.assertEqual(os.stat(whole).st_size, len(os.path.relpath(whole, place)), whole)
                found.add(os.path.relpath(whole, place))
        return found

    @staticmethod
    def wander(place):
        """Beside somebody who makes and removes: what it meets may have gone, or have no bytes yet."""
        for path, _, files in os.walk(place):
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    os.stat(os.path.join(path, name))

    def test_it_costs_a_few_lists_and_shows_what_was_put(self):
        self.fill()
        mount = self.mount(durability=None, attr_ttl=60)
        before = mount.status()
        self.assertEqual(self.walk(mount.place), self.names)
        after = mount.status()
        self.assertLessEqual(after["lists"] - before["lists"], 12, "of 402 directories")
        self.assertLessEqual(after["heads"] - before["heads"], 24, "of 402 directories")
        self.assertEqual((mount.place / "t/d011").stat().st_mode, 0o40700)

    def test_what_another_client_changes_is_seen_within_attr_ttl(self):
        self.fill()
        mount = self.mount(durability=None)
        self.assertEqual(self.walk(mount.place), self.names)
        self.s3.put(self.bucket, self.key("t/d123/new"), b"t/d123/new")
        self.s3.delete(self.bucket, self.key("t/d124/f0"))
        time.sleep(1.1)
        self.assertEqual(self.walk(mount.place), self.names - {"t/d124/f0"} | {"t/d123/new"})

    def test_what_changes_here_meanwhile_is_seen_at_once(self):
        self.fill()
        mount, chance = self.mount(durability=None), random.Random(3)
        for _ in range(6):
            walker = threading.Thread(target=self.wander, args=(mount.place,))
            walker.start()
            for _ in range(20):
                old = chance.choice(sorted(name for name in self.names if "/f" in name))
                new = f"t/d{chance.randrange(300):03}/n{chance.randrange(1 << 30)}"
                (mount.place / new).write_bytes(new.encode())
                os.unlink(mount.place / old)
                self.names = self.names - {old} | {new}
                self.assertIn(os.path.basename(new), os.listdir((mount.place / new).parent))
                if (mount.place / old).parent.exists():
                    self.assertNotIn(os.path.basename(old), os.listdir((mount.place / old).parent))
            walker.join()
            self.assertEqual(self.walk(mount.place), self.names)


if __name__ == "__main__":
    harness.main()
