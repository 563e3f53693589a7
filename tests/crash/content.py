"""Bytes that say where they come from, and what a file must hold, as a list of whose bytes stand where.

The 16 bytes at offset o of what version v of file f wrote are

      0      4         8      9
      | f u32 | v u32 | o/16 % 256 | o/4096, 7 bytes |        little-endian

so that any 16 bytes found in a wrong place name the write that they are of. A hole is version 0: zeros.
"""

import struct

PAGE = 4096
UNIT = 16
SLOTS = int.from_bytes(b"".join(struct.pack("<IIQ", 0, 0, slot) for slot in range(PAGE // UNIT)), "little")


def page_of(file, version, number):
    head = struct.pack("<IIQ", file, version, number << 8) * (PAGE // UNIT)
    return (int.from_bytes(head, "little") | SLOTS).to_bytes(PAGE, "little")


def pattern(file, version, start, end):
    """What `version` of `file` writes at [start, end)."""
    if version == 0:
        return bytes(end - start)
    first = start // PAGE
    pages = b"".join(page_of(file, version, number) for number in range(first, (end + PAGE - 1) // PAGE))
    return pages[start - first * PAGE:end - first * PAGE]


class Content:
    """[(start, end, version)] without gaps from 0 to size."""

    def __init__(self, parts=()):
        self.parts = list(parts)

    @property
    def size(self):
        return self.parts[-1][1] if self.parts else 0

    def copy(self):
        return Content(self.parts)

    def cut(self, size):
        """As ftruncate: shorter, or longer by a hole."""
        if size > self.size:
            self.parts.append((self.size, size, 0))
        self.parts = [(start, min(end, size), version) for start, end, version in self.parts if start < size]

    def write(self, start, end, version):
        if start > self.size:
            self.cut(start)
        left = [(s, min(e, start), v) for s, e, v in self.parts if s < start]
        right = [(max(s, end), e, v) for s, e, v in self.parts if e > end]
        self.parts = left + [(start, end, version)] + right

    def bytes(self, file, start=0, end=None):
        end = self.size if end is None else min(end, self.size)
        return b"".join(pattern(file, v, max(s, start), min(e, end)) for s, e, v in self.parts if s < end and e > start)

    def __str__(self):
        return f"{self.size} bytes: " + runs_text(self.parts)


def runs_text(runs):
    shown = [f"[{s}, {e}) {'zeros' if v == 0 else v if isinstance(v, str) else f'version {v}'}" for s, e, v in runs]
    return ", ".join(shown if len(shown) <= 12 else shown[:8] + [f"... {len(shown) - 12} more ..."] + shown[-4:]) or "none"


def unit_label(found, offset, file):
    """Whose bytes these are: a version of this file, or words."""
    if not any(found):
        return 0
    whose, version, place = struct.unpack("<IIQ", found)
    at = (place >> 8) * PAGE + (place & 255) * UNIT
    if at >= 1 << 40 or version >= 1 << 24:
        return "mixed"  # a write began or ended within these bytes
    if (whose, at) == (file, offset):
        return version
    return (f"version {version} of {'this file' if whose == file else f'file {whose}'}" +
            ("" if at == offset else f", moved by {offset - at}"))


def runs_of(found, file):
    """What stands in `found`, as Content.parts, exact to 16 bytes; a shorter end is counted to what stands before it."""
    runs = []
    for offset in range(0, len(found), UNIT):
        unit = found[offset:offset + UNIT]
        label = unit_label(unit, offset, file) if len(unit) == UNIT else runs[-1][2] if runs else unit.hex()
        if runs and runs[-1][2] == label:
            runs[-1] = (runs[-1][0], offset + len(unit), label)
        else:
            runs.append((offset, offset + len(unit), label))
    return runs


def difference(found, expected, file):
    """None when `found` is what `expected` says, else words."""
    wanted = expected.bytes(file)
    if found == wanted:
        return None
    length = min(len(found), len(wanted))
    at = next((offset for offset in range(0, length, PAGE)
               if found[offset:offset + PAGE] != wanted[offset:offset + PAGE]), length)
    while at < length and found[at] == wanted[at]:
        at += 1
    return (f"differs from offset {at}\n      expected {expected}\n"
            f"      found    {len(found)} bytes: {runs_text(runs_of(found, file))}")


def torn(found, before, after, file):
    """The Content that `found` is, when a write that turns `before` into `after` was on its way at the kill; None: it is no such.

    A write goes to the daemon in requests of at most 1 MiB that end at page boundaries; of each, first the bytes go into the
    local file, page by page, then its record makes them count, also for the size. So
      - the size is the old one, the new one, or where a request ended: a page boundary in between;
      - what lies beyond the old size, with the page it begins in, is new: the record that makes it count came after its bytes;
      - below, each page is old or new (bytes in a range that counted as written here before are seen without a record).
    """
    size = len(found)
    if size not in (before.size, after.size) and not (before.size < size < after.size and size % PAGE == 0):
        return None
    old, new = before.bytes(file), after.bytes(file)[:size]
    sure_from = before.size // PAGE * PAGE if size > before.size else size
    parts = []
    for offset in range(0, size, PAGE):
        end = min(offset + PAGE, size)
        page = found[offset:end]
        if page == new[offset:end]:
            source = after
        elif page == old[offset:end] and offset < sure_from:
            source = before
        else:
            return None
        parts += [(max(s, offset), min(e, end), v) for s, e, v in source.parts if s < end and e > offset]
    return merged(parts)


def merged(parts):
    joined = []
    for start, end, version in parts:
        if joined and joined[-1][2] == version:
            joined[-1] = (joined[-1][0], end, version)
        else:
            joined.append((start, end, version))
    return Content(joined)
