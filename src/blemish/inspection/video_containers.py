"""How many frames a video file holds, and whether it is whole, by the structure of its container; nothing is decoded.

OpenCV ends without an error where a file is cut short, and what it calls the number of frames is for many files only
the duration times the frame rate. The containers themselves are exact: AVI (https://learn.microsoft.com/windows/win32/
directshow/avi-riff-file-reference), MP4 and QuickTime (ISO/IEC 14496-12), Matroska and WebM (RFC 9559).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Contents:
    """What the structure of a video file says."""

    n_frames: int | None = None
    """Frames of the first video track; None if that cannot be said."""
    broken_at: int | None = None
    """The byte where the structure breaks off; None if it is whole, or the container is of another kind."""
    is_cut: bool = False
    """Whether it breaks off because the file ends."""


class _Broken(Exception):
    """The structure breaks off at a byte."""

    def __init__(self, at: int, is_cut: bool = False) -> None:
        super().__init__(at)
        self.at, self.is_cut = at, is_cut


def contents(path: Path) -> Contents:
    """Return what a video file holds by its structure.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(12)
        size = file.seek(0, 2)
        for reader, is_its in (
            (_Avi, start[8:12] == b"AVI "),
            (_IsoMedia, start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide")),
            (_Matroska, start[:4] == b"\x1a\x45\xdf\xa3"),
            (_Flash, start[:4] == b"FLV\x01"),
            (_WindowsMedia, start[:8] == b"0&\xb2u\x8ef\xcf\x11"),
        ):
            if is_its:
                structure = reader(file, size)
                try:
                    structure.walk()
                except _Broken as broken:
                    return Contents(structure.announced(), broken.at, broken.is_cut)
                return Contents(structure.counted())
    return Contents()


class _Structure:
    """A file that is walked from one header to the next."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def bytes_at(self, position: int, count: int) -> bytes:
        self.file.seek(position)
        data = self.file.read(count)
        if len(data) < count:
            raise _Broken(self.size, is_cut=True)
        return data

    def check_end(self, end: int) -> None:
        """Check that what begins before ``end`` ends within the file."""
        if end > self.size:
            raise _Broken(self.size, is_cut=True)


_MOST_LISTS = 4
"""No AVI file has more lists in each other."""


class _Avi(_Structure):
    """Counts the chunks of the first video stream; those without bytes are no frames, but a pause of the camera."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(file, size)
        self._n_streams = self._n_chunks = 0
        self._stream: bytes | None = None
        self._announced = 0

    def announced(self) -> int | None:
        return self._announced or None

    def counted(self) -> int | None:
        return self._n_chunks or self.announced()

    def walk(self) -> None:
        position = 0
        while position + 12 <= self.size:
            identity, size = self._header(position)
            if identity != b"RIFF":
                return  # something was appended
            self._walk_list(position + 12, position + 8 + size)
            position += 8 + size + size % 2

    def _header(self, position: int) -> tuple[bytes, int]:
        """Identity and size of a chunk; one that holds others and was not closed goes on to the end of the file."""
        data = self.bytes_at(position, 8)
        identity, size = data[:4], int.from_bytes(data[4:], "little")
        is_open = size in (0, 2**32 - 1) and identity in (b"RIFF", b"LIST")
        return identity, self.size - position - 8 if is_open else size

    def _walk_list(self, position: int, end: int, depth: int = 0) -> None:
        while position + 8 <= end:
            identity, size = self._header(position)
            if not all(32 <= byte < 127 for byte in identity):
                raise _Broken(position)
            if identity == b"LIST" and depth < _MOST_LISTS:
                self._walk_list(position + 12, position + 8 + size, depth + 1)
            elif identity == b"strh":
                self._take_stream(self.bytes_at(position + 8, min(size, 36)))
            elif identity[:2] == self._stream and identity[2:] in (b"dc", b"db") and size:
                self._n_chunks += 1
            self.check_end(position + 8 + size)
            position += 8 + size + size % 2

    def _take_stream(self, header: bytes) -> None:
        if header[:4] == b"vids" and self._stream is None:
            self._stream = b"%02d" % self._n_streams
            self._announced = int.from_bytes(header[32:36], "little") % 2**30  # FFmpeg's sign of an unknown number
        self._n_streams += 1


class _IsoMedia(_Structure):
    """Adds the samples that the tables and the fragments of the first video track list."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(file, size)
        self._track: bytes | None = None
        self._n_samples = 0
        self._is_trimmed = False

    def announced(self) -> int | None:
        return None if self._is_trimmed else self._n_samples or None

    counted = announced

    def walk(self) -> None:
        has_index, cut = False, None
        for kind, start, end in self._boxes(0, self.size):
            if kind == b"moov":
                has_index = True
                self._take_index(start, end)
            elif kind == b"moof":
                self._take_fragment(start, end)
            if end > self.size:
                cut = _Broken(self.size, is_cut=True)
        if cut or not has_index:
            raise cut or _Broken(self.size, is_cut=True)

    def _boxes(self, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
        """Kind, start and end of the contents of each box."""
        while position + 8 <= end:
            data = self.bytes_at(position, 8)
            size, start = int.from_bytes(data[:4]), position + 8
            if size == 1:
                size, start = int.from_bytes(self.bytes_at(start, 8)), start + 8
            stop = position + size if size else end
            if stop < start:
                raise _Broken(position)
            yield data[4:], start, stop
            position = stop

    def _within(self, start: int, end: int, *kinds: bytes) -> tuple[int, int] | None:
        """Start and end of the first box of these kinds, one in the other."""
        for kind, first, last in self._boxes(start, min(end, self.size)):
            if kind == kinds[0]:
                return self._within(first, last, *kinds[1:]) if kinds[1:] else (first, last)
        return None

    def _number(self, position: int, count: int = 4) -> int:
        return int.from_bytes(self.bytes_at(position, count))

    def _take_index(self, start: int, end: int) -> None:
        for kind, first, last in self._boxes(start, end):
            handler = self._within(first, last, b"mdia", b"hdlr") if kind == b"trak" else None
            if handler is None or self.bytes_at(handler[0] + 8, 4) != b"vide" or self._track is not None:
                continue
            header = self._within(first, last, b"tkhd")
            if header:
                self._track = self.bytes_at(header[0] + (20 if self._number(header[0], 1) else 12), 4)
            table = self._within(first, last, b"mdia", b"minf", b"stbl")
            for name in (b"stsz", b"stz2"):
                if table and (sizes := self._within(*table, name)):
                    self._n_samples += self._number(sizes[0] + 8)
            self._is_trimmed = self._has_edits(first, last, table)

    def _has_edits(self, first: int, last: int, table: tuple[int, int] | None) -> bool:
        """Whether an edit list leaves out frames; one that only makes up for the order of decoding does not."""
        edits = self._within(first, last, b"edts", b"elst")
        header = self._within(first, last, b"mdia", b"mdhd")
        if edits is None or header is None or self._number(edits[0] + 4) == 0:
            return False
        wide = 8 if self._number(edits[0], 1) else 4
        starts = [
            self._number(edits[0] + 8 + number * (2 * wide + 4) + wide, wide)
            for number in range(min(self._number(edits[0] + 4), 3))
        ]
        starts = [start for start in starts if start != 2 ** (8 * wide) - 1]  # -1: a pause at the beginning
        offsets = self._within(*table, b"ctts") if table else None
        delay = self._number(offsets[0] + 12) if offsets and self._number(offsets[0] + 4) else 0
        if len(starts) != 1 or starts[0] > delay:
            return True
        return self._ends_early(edits, header, wide, starts[0])

    def _ends_early(self, edits: tuple[int, int], header: tuple[int, int], wide: int, start: int) -> bool:
        """Whether the last edit is shorter than the track, by more than the rounding of its clock."""
        movie = self._movie_clock()
        n_edits = self._number(edits[0] + 4)
        shown = self._number(edits[0] + 8 + (n_edits - 1) * (2 * wide + 4), wide)
        clock_at = header[0] + (20 if self._number(header[0], 1) else 12)
        clock, length = self._number(clock_at), self._number(clock_at + 4, 8 if self._number(header[0], 1) else 4)
        return bool(movie and clock and shown) and (shown + 2) / movie < (length - start) / clock

    def _movie_clock(self) -> int:
        """Ticks a second of the edit list."""
        header = self._within(0, self.size, b"moov", b"mvhd")
        return self._number(header[0] + (20 if self._number(header[0], 1) else 12)) if header else 0

    def _take_fragment(self, start: int, end: int) -> None:
        for kind, first, last in self._boxes(start, end):
            header = self._within(first, last, b"tfhd") if kind == b"traf" else None
            if header is None or self.bytes_at(header[0] + 4, 4) != self._track:
                continue
            for name, run, _ in self._boxes(first, last):
                if name == b"trun":
                    self._n_samples += self._number(run + 4)


_TRACK_ENTRY, _SIMPLE_BLOCK, _BLOCK = 0xAE, 0xA3, 0xA1
_DESCENDED = {0x18538067, 0x1F43B675, 0x1654AE6B, 0xA0}
"""Segment, Cluster, Tracks and BlockGroup: walked as if their contents stood beside them."""
_SKIPPED = {
    0x1A45DFA3, 0x114D9B74, 0x1549A966, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367,  # in files and segments
    0xEC, 0xBF, 0xE7, 0x5854, 0xA7, 0xAB, 0xAF,  # in clusters
    0x75A1, 0x9B, 0xFA, 0xFB, 0xFD, 0xA4, 0x75A2, 0x8E, 0xC8, 0xA2,  # in block groups
}  # fmt: skip


class _Matroska(_Structure):
    """Counts the blocks of the first video track; those of VP8 that are never shown are no frames."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(file, size)
        self._n_blocks = 0
        self._track: int | None = None
        self._is_vp8 = False

    def announced(self) -> int | None:
        return None

    def counted(self) -> int | None:
        return self._n_blocks

    def walk(self) -> None:
        position, furthest = 0, 0
        while position < self.size:
            identity, start = self._number(position, keep_marker=True)
            size, start = self._number(start)
            is_open = size == 2 ** (7 * self._width) - 1  # of a recording that was not closed, or is a stream
            if identity in _DESCENDED:
                furthest = max(furthest, 0 if is_open else start + size)
                position = start
                continue
            if is_open or identity not in _SKIPPED | {_TRACK_ENTRY, _SIMPLE_BLOCK, _BLOCK}:
                raise _Broken(position)
            self.check_end(start + size)
            if identity == _TRACK_ENTRY:
                self._take_track(start, start + size)
            elif identity in (_SIMPLE_BLOCK, _BLOCK):
                self._take_block(start)
            position = start + size
        self.check_end(furthest)

    def _number(self, position: int, keep_marker: bool = False) -> tuple[int, int]:
        """A number of 1 to 8 bytes, and where it ends; ``_width`` is set to its bytes."""
        first = self.bytes_at(position, 1)[0]
        self._width = 9 - first.bit_length()
        if self._width > (4 if keep_marker else 8):
            raise _Broken(position)
        number = int.from_bytes(self.bytes_at(position, self._width))
        return number if keep_marker else number - (1 << 7 * self._width), position + self._width

    def _take_track(self, position: int, end: int) -> None:
        values = {}
        while position < end:
            identity, start = self._number(position, keep_marker=True)
            size, start = self._number(start)
            if size <= 64:
                values[identity] = self.bytes_at(start, size)
            position = start + size
        if self._track is None and values.get(0x83) == b"\x01":
            self._track = int.from_bytes(values.get(0xD7, b""))
            self._is_vp8 = values.get(0x86) == b"V_VP8"

    def _take_block(self, start: int) -> None:
        track, start = self._number(start)
        if track == self._track and not (self._is_vp8 and not self.bytes_at(start + 3, 1)[0] & 16):
            self._n_blocks += 1


_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
"""Identity of an object of the Advanced Systems Format (section 3.2), which holds the size of the file."""


class _WindowsMedia(_Structure):
    """Compares the size that the file announces."""

    def announced(self) -> int | None:
        return None

    counted = announced

    def walk(self) -> None:
        header = self.bytes_at(0, min(self.size, 2**16))
        at = header.find(_FILE_PROPERTIES)
        if at >= 0:
            self.check_end(int.from_bytes(header[at + 40 : at + 48], "little"))


class _Flash(_Structure):
    """Walks the tags; whether frames are missing after the last one cannot be seen."""

    def announced(self) -> int | None:
        return None

    counted = announced

    def walk(self) -> None:
        position = int.from_bytes(self.bytes_at(5, 4)) + 4
        while position < self.size:
            position += 11 + int.from_bytes(self.bytes_at(position + 1, 3)) + 4
            self.check_end(position)
