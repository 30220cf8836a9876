"""Structures of containers, made by hand: those that OpenCV does not write."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from blemish.inspection.video_containers import Contents, contents


def chunk(name: bytes, body: bytes, size: int | None = None) -> bytes:
    return name + struct.pack("<I", len(body) if size is None else size) + body + bytes(len(body) % 2)


def stream(kind: bytes, n_frames: int) -> bytes:
    return chunk(b"LIST", b"strl" + chunk(b"strh", kind + bytes(28) + struct.pack("<I", n_frames) + bytes(20)))


HEADER = chunk(b"LIST", b"hdrl" + chunk(b"avih", bytes(56)) + stream(b"auds", 9) + stream(b"vids", 4))
FRAME, SOUND, PAUSE = chunk(b"01dc", b"frame"), chunk(b"00wb", b"12"), chunk(b"01dc", b"")


def avi(movie: bytes) -> bytes:
    return chunk(b"RIFF", b"AVI " + HEADER + chunk(b"LIST", b"movi" + movie))


def box(kind: bytes, *bodies: bytes) -> bytes:
    body = b"".join(bodies)
    return struct.pack(">I", 8 + len(body)) + kind + body


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def movie(n_samples: int) -> bytes:
    """An index with a track of sound, number 1, and one of pictures, number 2."""
    tracks = []
    for number, handler in ((1, b"soun"), (2, b"vide")):
        table = box(b"stbl", box(b"stsz", numbers(0, 0, n_samples)))
        media = box(b"mdia", box(b"hdlr", numbers(0, 0), handler), box(b"minf", table))
        tracks.append(box(b"trak", box(b"tkhd", numbers(0, 0, 0, number)), media))
    return box(b"moov", *tracks)


def fragment(track: int, n_samples: int) -> bytes:
    run = box(b"trun", numbers(0, n_samples))
    return box(b"moof", box(b"traf", box(b"tfhd", numbers(0, track)), run, run)) + box(b"mdat", bytes(10))


def element(identity: str, body: bytes, is_open: bool = False) -> bytes:
    size = b"\xff" if is_open else (0x4000 | len(body)).to_bytes(2)
    return bytes.fromhex(identity) + size + body


def matroska(codec: bytes, *clusters: bytes, is_open: bool = False) -> bytes:
    sound = element("AE", element("D7", b"\x01") + element("83", b"\x02"))
    pictures = element("AE", element("D7", b"\x02") + element("83", b"\x01") + element("86", codec))
    parts = element("EC", bytes(5)) + element("1654AE6B", sound + pictures)
    body = parts + b"".join(element("1F43B675", cluster, is_open) for cluster in clusters)
    return element("1A45DFA3", b"") + element("18538067", body, is_open)


def block(track: int, data: bytes = b"\x10") -> bytes:
    return element("A3", bytes([0x80 | track]) + bytes(3) + data)


HIDDEN = block(2, b"\x00")
GROUP = element("A0", element("A1", b"\x82" + bytes(3) + b"\x10") + element("9B", b"\x01"))


@pytest.mark.parametrize(
    ("content", "n_frames"),
    [
        pytest.param(avi(4 * FRAME + 2 * SOUND), 4, id="sound beside"),
        pytest.param(avi(3 * FRAME + PAUSE), 3, id="pauses are no frames"),
        pytest.param(avi(chunk(b"LIST", b"rec " + SOUND + FRAME) + FRAME), 2, id="records"),
        pytest.param(avi(FRAME) + chunk(b"RIFF", b"AVIX" + chunk(b"LIST", b"movi" + 2 * FRAME)), 3, id="of parts"),
        pytest.param(avi(FRAME) + b"appended text", 1, id="appended"),
        pytest.param(
            b"RIFF\xff\xff\xff\xffAVI " + HEADER + b"LIST\xff\xff\xff\xffmovi" + 2 * FRAME, 2, id="never closed"
        ),
        pytest.param(box(b"ftyp", b"isom") + movie(5) + box(b"mdat", bytes(9)), 5, id="MP4"),
        pytest.param(box(b"ftyp", b"isom") + box(b"mdat", bytes(9)) + movie(5), 5, id="MP4, index behind"),
        pytest.param(
            box(b"ftyp", b"isom") + numbers(1) + b"mdat" + struct.pack(">Q", 20) + bytes(4) + movie(5),
            5,
            id="64",
        ),
        pytest.param(
            box(b"ftyp", b"isom") + movie(0) + fragment(2, 3) + fragment(1, 50) + fragment(2, 4), 14, id="fragments"
        ),
        pytest.param(matroska(b"V_MJPEG", block(2) + block(1), GROUP + HIDDEN), 3, id="Matroska"),
        pytest.param(matroska(b"V_VP8", block(2) + HIDDEN + GROUP), 2, id="hidden frames of VP8"),
        pytest.param(matroska(b"V_MJPEG", block(2), block(2), is_open=True), 2, id="live"),
        pytest.param(b"\0\0\x01\xba" + bytes(50), None, id="MPEG"),
        pytest.param(b"FLV\x01\x05\0\0\0\x09" + bytes(4) + b"\x09\0\0\x02" + bytes(7 + 2 + 4), None, id="FLV"),
    ],
)
def test_whole_files(tmp_path: Path, content: bytes, n_frames: int | None) -> None:
    path = tmp_path / "clip"
    path.write_bytes(content)
    assert contents(path) == Contents(n_frames)


@pytest.mark.parametrize(
    ("content", "n_frames"),
    [
        pytest.param(avi(4 * FRAME), 4, id="AVI"),
        pytest.param(box(b"ftyp", b"isom") + movie(5) + box(b"mdat", bytes(9)), 5, id="MP4"),
        pytest.param(box(b"ftyp", b"isom") + box(b"mdat", bytes(9)) + movie(5), None, id="MP4, index behind"),
        pytest.param(matroska(b"V_MJPEG", block(2) + block(2)), None, id="Matroska"),
        pytest.param(matroska(b"V_MJPEG", block(2) + block(2), is_open=True), None, id="live"),
        pytest.param(b"FLV\x01\x05\0\0\0\x09" + bytes(4) + b"\x09\0\0\x02" + bytes(7 + 2 + 4), None, id="FLV"),
    ],
)
def test_files_that_are_cut_short(tmp_path: Path, content: bytes, n_frames: int | None) -> None:
    path = tmp_path / "clip"
    for n_bytes in (1, 3):
        path.write_bytes(content[:-n_bytes])
        assert contents(path) == Contents(n_frames, len(content) - n_bytes, is_cut=True)


def test_files_that_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(avi(FRAME + b"\0\0\0\0\x05\0\0\0frame\0"))
    assert contents(path) == Contents(4, len(avi(FRAME)))
    path.write_bytes(matroska(b"V_MJPEG", block(2) + bytes(4) + block(2)))
    assert contents(path) == Contents(None, path.read_bytes().rindex(bytes(4)))


def test_lists_in_lists_in_lists_end(tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(b"RIFF\xff\xff\xff\xffAVI " + 5000 * b"LIST\xff\xff\xff\xffmovi")
    assert contents(path) == Contents()
