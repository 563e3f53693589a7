#!/usr/bin/env python3
"""What training does with files, on a real mount of a real MinIO: checkpoints that are replaced while others read them, arrays that are
mapped, tables in Parquet. numpy and DuckDB come from the Python that ./test installs."""

import hashlib
import json
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import textwrap
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

MIB = 1 << 20


def pack(step, size):
    """As safetensors lays it out: the header's length, the header, the bytes."""
    content = bytes([step % 251]) * size
    header = json.dumps({"__metadata__": {"step": str(step), "sha256": hashlib.sha256(content).hexdigest()},
                         "weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + content


def unpack(data):
    """The step, when it is whole."""
    length = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + length])
    content = data[8 + length:]
    assert header["weight"]["data_offsets"][1] == len(content), "torn"
    assert header["__metadata__"]["sha256"] == hashlib.sha256(content).hexdigest(), "mixed"
    return int(header["__metadata__"]["step"])


def save(path, data):
    """As careful programs do: whole under another name, on the disk, then over the old one."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(temporary, path)


class Reader(threading.Thread):
    """Looks again and again until stopped; what it saw, and what went wrong."""

    def __init__(self, look):
        super().__init__(daemon=True)
        self.look, self.ended, self.seen, self.error = look, threading.Event(), [], None

    def run(self):
        try:
            while not self.ended.is_set():
                self.seen.append(self.look())
        except Exception as error:  # pylint: disable=broad-except
            self.error = error


class TestCheckpoints(harness.Workshop):
    def mount(self, **options):
        return super().mount(**{"durability": None, **options})

    def elsewhere(self, mount):
        """The same bucket for somebody else, when all of it has gone up."""
        self.assertEqual(mount.run("flush", str(mount.place)).returncode, 0)
        return self.mount()

    def python(self, script, *words):
        done = subprocess.run([harness.find_python(), "-c", textwrap.dedent(script), *map(str, words)], capture_output=True, text=True,
                              timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def replace_and_read(self, pack, unpack, sizes):
        """A checkpoint is replaced while the same mount and another client read it: each sees an old one or a new one, whole."""
        mount = self.mount()
        path = mount.place / "model.ckpt"
        save(path, pack(0, sizes[0]))
        self.assertEqual(mount.run("flush", str(mount.place)).returncode, 0)
        readers = [Reader(lambda: unpack(path.read_bytes())), Reader(lambda: unpack(self.object("model.ckpt")))]
        for reader in readers:
            reader.start()
        try:
            for step in range(1, 41):
                save(path, pack(step, sizes[step % len(sizes)]))
                if step % 10 == 0:  # the rename goes up behind: fsync of the directory waits for it
                    folder = os.open(mount.place, os.O_RDONLY)
                    os.fsync(folder)
                    os.close(folder)
                    self.assertEqual(unpack(self.object("model.ckpt")), step)
        finally:
            for reader in readers:
                reader.ended.set()
                reader.join(60)
        for reader in readers:
            self.assertIsNone(reader.error)
            self.assertEqual(reader.seen, sorted(reader.seen), "no older one after a newer")
            self.assertGreater(len(set(reader.seen)), 2)
        other = self.elsewhere(mount)
        self.assertEqual(unpack((other.place / "model.ckpt").read_bytes()), 40)
        self.assertEqual(self.keys(), ["model.ckpt"])

    def test_a_reader_sees_the_old_pickle_or_the_new_one(self):
        def pack_pickle(step, size):
            return pickle.dumps({"step": step, "rows": [step] * (size // 1000), "content": bytes([step % 251]) * size})

        def unpack_pickle(data):
            found = pickle.loads(data)
            step, content = found["step"], found["content"]
            assert set(found["rows"]) == {step} and content == bytes([step % 251]) * len(content), "mixed"
            return step

        self.replace_and_read(pack_pickle, unpack_pickle, (200_000, 50_000, 400_000))

    def test_a_reader_sees_the_old_tensors_or_the_new_ones(self):
        self.replace_and_read(pack, unpack, (3 * MIB, 9 * MIB, MIB))

    def test_a_mapped_array_is_written_and_read(self):
        mount = self.mount()
        told = self.python("""
            import numpy, sys
            path = sys.argv[1] + "/array"
            array = numpy.memmap(path, dtype="float32", mode="w+", shape=(1500, 1000))
            array[:] = numpy.arange(1500000, dtype="float32").reshape(1500, 1000)
            array.flush()
            del array
            array = numpy.memmap(path, dtype="float32", mode="r+", shape=(1500, 1000))
            array[::100] *= -1
            array.flush()
            del array
            array = numpy.memmap(path, dtype="float32", mode="r", shape=(1500, 1000))
            print(array.sum(dtype="float64"), array[700, 3])
            numpy.save(sys.argv[1] + "/array.npy", array)
            """, mount.place)
        other = self.elsewhere(mount)
        self.assertEqual(told, self.python("""
            import numpy, sys
            array = numpy.load(sys.argv[1] + "/array.npy", mmap_mode="r")
            assert array.tobytes() == open(sys.argv[1] + "/array", "rb").read()
            print(array.sum(dtype="float64"), array[700, 3])
            """, other.place))
        values = struct.unpack("<1500000f", self.object("array"))
        self.assertEqual(values[700_003], -700_003)
        self.assertEqual(values[701_003], 701_003)

    def test_duckdb_writes_parquet_and_reads_it_elsewhere(self):
        mount = self.mount()
        self.python("""
            import duckdb, sys
            base = duckdb.connect()
            base.sql("create table t as select i, i % 4 as part, 'row ' || i as text from range(200000) r(i)")
            base.sql(f"copy t to '{sys.argv[1]}/t.parquet' (format parquet)")
            base.sql(f"copy t to '{sys.argv[1]}/parts' (format parquet, partition_by (part))")
            """, mount.place)
        other = self.elsewhere(mount)
        self.assertEqual(sorted({key.split("/")[1] for key in self.keys("parts/") if key != "parts/"}),
                         [f"part={n}" for n in range(4)])
        self.assertEqual(self.python("""
            import duckdb, sys
            one = duckdb.sql(f"select count(*), sum(i), max(text) from '{sys.argv[1]}/t.parquet'").fetchall()
            many = duckdb.sql(f"select count(*), sum(i), max(text) from read_parquet('{sys.argv[1]}/parts/*/*.parquet')").fetchall()
            part = duckdb.sql(f"select count(*) from read_parquet('{sys.argv[1]}/parts/*/*.parquet', hive_partitioning=true) "
                              "where part = 3").fetchall()
            print(one == many, one, part)
            """, other.place).strip(), f"True [(200000, {sum(range(200000))}, 'row 99999')] [(50000,)]")

    def test_a_duckdb_database_lives_on_the_mount(self):
        mount = self.mount()
        for turn in range(3):
            self.python("""
                import duckdb, sys
                base = duckdb.connect(sys.argv[1] + "/base.duckdb")
                base.sql("create table if not exists t (turn integer, i bigint)")
                base.sql(f"insert into t select {sys.argv[2]}, i from range(50000) r(i)")
                base.execute("begin")
                base.sql("delete from t")
                base.execute("rollback")
                base.close()
                """, mount.place, turn)
        other = self.elsewhere(mount)
        self.assertEqual(self.python("""
            import duckdb, sys
            base = duckdb.connect(sys.argv[1] + "/base.duckdb", read_only=True)
            print(base.sql("select turn, count(*), sum(i) from t group by turn order by turn").fetchall())
            """, other.place).strip(), str([(turn, 50000, sum(range(50000))) for turn in range(3)]))
        self.assertEqual(self.keys(), ["base.duckdb"])


if __name__ == "__main__":
    harness.main()
