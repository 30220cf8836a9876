"""Video files: every frame comes as it was written, or is told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.inspection.sources import Photograph
from blemish.inspection.video import frames, is_video
from blemish.inspection.video_packets import checksum, ffv1_slices

N_FRAMES = 24
CODECS = [("FFV1", ".mkv"), ("FFV1", ".avi"), ("MJPG", ".avi"), ("MJPG", ".mkv"), ("mp4v", ".mp4"), ("mp4v", ".avi")]


def pictures(shape: tuple[int, ...] = (48, 64, 3), dtype: type[np.generic] = np.uint8) -> list[NDArray[np.generic]]:
    """RGB or grey pictures of noise, all different."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True) for _ in range(N_FRAMES)]


def write(path: Path, codec: str, images: list[NDArray[np.generic]]) -> bytes:
    height, width = images[0].shape[:2]
    settings = [cv2.VIDEOWRITER_PROP_IS_COLOR, int(images[0].ndim == 3)]
    if images[0].dtype == np.uint16:
        settings += [cv2.VIDEOWRITER_PROP_DEPTH, cv2.CV_16U]
    fourcc = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 25.0, (width, height), settings)
    assert writer.isOpened()
    for image in images:
        writer.write(image[..., ::-1] if image.ndim == 3 else image)
    writer.release()
    return path.read_bytes()


def start_of_frame(path: Path, number: int) -> int:
    """At which byte of a file the data of a frame begin."""
    packets = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_FORMAT, -1])
    data = [packets.read()[1].tobytes() for _ in range(number)]
    return path.read_bytes().index(data[-1])


def faults(photographs: list[Photograph]) -> list[str]:
    return [photograph.fault for photograph in photographs if photograph.fault is not None]


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_lossless_frames_are_what_was_written(tmp_path: Path, suffix: str) -> None:
    path, images = tmp_path / f"clip{suffix}", pictures()
    write(path, "FFV1", images)
    photographs = list(frames(path))
    assert [photograph.label for photograph in photographs[:2]] == [f"{path}#1", f"{path}#2"]
    assert [photograph.name for photograph in photographs[10:12]] == ["clip_000011", "clip_000012"]
    for photograph, image in zip(photographs, images, strict=True):
        np.testing.assert_array_equal(photograph.read(), image)


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_grey_frames_are_what_was_written(tmp_path: Path, suffix: str) -> None:
    images = pictures((48, 64))
    write(tmp_path / f"clip{suffix}", "FFV1", images)
    for photograph, image in zip(frames(tmp_path / f"clip{suffix}"), images, strict=True):
        np.testing.assert_array_equal(photograph.read(), image[..., None].repeat(3, 2))


def test_16_bit_grey_frames_keep_their_values(tmp_path: Path) -> None:
    images = [image >> 4 for image in pictures((48, 64), np.uint16)]  # as of a camera with 12 bits
    write(tmp_path / "clip.mkv", "FFV1", images)
    for photograph, image in zip(frames(tmp_path / "clip.mkv"), images, strict=True):
        np.testing.assert_array_equal(photograph.image, image)
        np.testing.assert_array_equal(photograph.read(12)[..., 0], image >> 4)


@pytest.mark.parametrize(("codec", "suffix"), CODECS)
def test_whole_files_have_no_faults(tmp_path: Path, codec: str, suffix: str) -> None:
    write(tmp_path / f"clip{suffix}", codec, pictures())
    photographs = list(frames(tmp_path / f"clip{suffix}"))
    assert len(photographs) == N_FRAMES
    assert not faults(photographs)


@pytest.mark.parametrize(("codec", "suffix"), CODECS)
def test_a_file_that_is_cut_short_is_told_and_no_wrong_frame_is_given(
    tmp_path: Path, codec: str, suffix: str
) -> None:
    path = tmp_path / f"clip{suffix}"
    content = write(path, codec, pictures())
    whole = [photograph.read() for photograph in frames(path)]
    for share in (0.97, 0.8, 0.5, 0.02):
        path.write_bytes(content[: int(share * len(content))])
        photographs = list(frames(path))
        assert len(faults(photographs)) == 1
        assert "cut short; copy or record it again" in (photographs[-1].fault or "")
        assert photographs[-1].path == str(path)
        sound = [photograph for photograph in photographs if photograph.fault is None]
        assert len(sound) < N_FRAMES
        for photograph, image in zip(sound, whole, strict=False):
            np.testing.assert_array_equal(photograph.read(), image)


def test_the_last_frame_of_a_cut_file_is_not_given_even_if_it_looks_whole(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    content = write(path, "MJPG", pictures())
    path.write_bytes(content[: start_of_frame(path, 13) - 8 - 1])  # without the last byte, or the one that fills up
    photographs = list(frames(path))
    assert [photograph.fault is None for photograph in photographs] == 11 * [True] + [False]


def test_the_fault_counts_the_frames(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    content = write(path, "MJPG", pictures())
    path.write_bytes(content[: len(content) // 2])
    n_sound = sum(photograph.fault is None for photograph in frames(path))
    assert n_sound > 5
    *_, last = frames(path)
    assert last.fault == (
        f"{path}: {n_sound} of {N_FRAMES} frames could be read, as the file is cut short; copy or record it again"
    )


@pytest.mark.parametrize(("codec", "suffix"), CODECS[:3])
def test_damaged_frames_are_not_given(tmp_path: Path, codec: str, suffix: str) -> None:
    path = tmp_path / f"clip{suffix}"
    content = bytearray(write(path, codec, pictures()))
    whole = [photograph.read() for photograph in frames(path)]
    number = 9 if codec == "FFV1" else 12  # of FFV1, frames up to the 12th are built on it
    inside = start_of_frame(path, number) + 1000
    content[inside : inside + 300] = bytes(300)
    path.write_bytes(content)
    photographs = list(frames(path))
    assert len(photographs) == N_FRAMES
    assert len(faults(photographs)) in range(1, 13)
    assert faults(photographs)[0].endswith("is damaged, or built on a frame that is; copy or record it again")
    for photograph, image in zip(photographs, whole, strict=True):
        if photograph.fault is None:
            np.testing.assert_array_equal(photograph.read(), image)


@pytest.mark.parametrize(("codec", "suffix"), CODECS)
def test_a_codec_whose_damage_cannot_be_seen_is_told_once(tmp_path: Path, codec: str, suffix: str) -> None:
    path, lines = tmp_path / f"clip{suffix}", list[str]()
    write(path, codec, pictures())
    list(frames(path, lines.append))
    line = f"{path}: a damaged frame may look whole, as its codec (FMP4) has no checksums; record FFV1 in .mkv"
    assert [line[: line.index(", which")] for line in lines] == [line] * (codec == "mp4v")


def test_ffv1_without_checksums_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.inspection.video_packets.ffv1_slices", lambda packet: None)
    lines = list[str]()
    write(tmp_path / "clip.mkv", "FFV1", pictures())
    assert not faults(list(frames(tmp_path / "clip.mkv", lines.append)))
    (line,) = lines
    assert "(FFV1) has no checksums" in line


@pytest.mark.parametrize(("codec", "n_sound"), [("mp4v", 0), ("MJPG", N_FRAMES - 1)])
def test_a_damaged_container_is_told(tmp_path: Path, codec: str, n_sound: int) -> None:
    path = tmp_path / "clip.mkv"
    content = write(path, codec, pictures())
    block = start_of_frame(path, 12)
    path.write_bytes(content[: block - 8] + bytes(8) + content[block:])
    photographs = list(frames(path))
    assert "as the file is damaged at byte" in (photographs[-1].fault or "")
    assert sum(photograph.fault is None for photograph in photographs) in range(n_sound and 10, n_sound + 1)


def test_a_wrong_duration_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    content = write(path, "MJPG", pictures())
    at = content.index(b"\x44\x89\x88") + 3  # Matroska's Duration, a float of 8 bytes
    path.write_bytes(content[:at] + np.array(99000.0, ">f8").tobytes() + content[at + 8 :])
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) > 2000
    assert not faults(list(frames(path)))


def test_frames_that_an_edit_list_leaves_out_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    content = write(path, "mp4v", pictures())
    at = content.index(b"elst") + 16  # where in the track the movie begins
    clock_at = content.index(b"mdhd") + 16
    clock = int.from_bytes(content[clock_at : clock_at + 4])
    path.write_bytes(content[:at] + (12 * clock // 25).to_bytes(4) + content[at + 4 :])
    photographs = list(frames(path))
    assert len(photographs) == N_FRAMES - 12
    assert not faults(photographs)


def test_rotated_video_is_upright(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    images = [np.zeros((48, 64, 3), np.uint8) for _ in range(3)]
    for image in images:
        image[:24] = 255
    content = write(path, "mp4v", images)
    at = content.index(b"tkhd") + 4 + 40
    turned = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(content[:at] + turned + content[at + 36 :])
    image = next(frames(path)).read()
    assert image.shape == (64, 48, 3)
    assert image[:, 40].min() > 200 > 50 > image[:, 8].max()  # the top is on the right


def test_what_is_no_video_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.mkv").touch()
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "header.avi").write_bytes(b"RIFF\x04\0\0\0AVI ")
    (tmp_path / os.fsdecode(b"\xe4.mkv")).write_bytes(b"\x1a\x45\xdf\xa3")
    ends = {
        "empty.mkv": "is empty, so it has no frames; copy or record it again",
        "text.mp4": "is not a video; save it as .mkv, .mp4 or .avi",
        "gone.mp4": "cannot be read (No such file or directory); check path and permissions",
        os.fsdecode(b"\xe4.mkv"): "cannot be opened, as its name is not in UTF-8; rename it",
    }
    for name, end in ends.items():
        (photograph,) = frames(tmp_path / name)
        assert photograph.fault == f"{tmp_path / name}: {end}"
    (photograph,) = frames(tmp_path / "header.avi")
    assert "no frame can be read" in (photograph.fault or "")


def test_is_video_goes_by_the_content(tmp_path: Path) -> None:
    write(tmp_path / "clip.mp4", "mp4v", pictures())
    (tmp_path / "clip.mp4").rename(tmp_path / "clip.png")
    (tmp_path / "text.mp4").write_text("text")
    assert is_video(tmp_path / "clip.png")
    assert not is_video(tmp_path / "text.mp4")
    with pytest.raises(BlemishError, match="check path"):
        is_video(tmp_path / "gone.mp4")


def test_names_with_a_meaning_for_ffmpeg_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "clip.mkv", "FFV1", pictures())
    (tmp_path / "clip.mkv").rename(tmp_path / "rtsp:%03d.mkv")
    monkeypatch.chdir(tmp_path)
    photographs = list(frames(Path("rtsp:%03d.mkv")))
    assert not faults(photographs)
    assert photographs[0].label == "rtsp:%03d.mkv#1"


def test_nothing_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    content = write(path, "MJPG", pictures())
    path.write_bytes(content[: len(content) // 2].replace(b"\xff\xd9", b"\0\0"))
    code = f"from pathlib import Path; from blemish.inspection.video import frames; list(frames(Path({str(path)!r})))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == (b"", b"")


def test_the_checksum_of_ffv1() -> None:
    assert checksum(b"") == 0
    assert checksum(b"\x01\x04\xc1\x1d\xb7") == 0  # the polynomial itself, with its highest bit
    assert checksum(b"\x01\x04\xc1\x1d\xb6") != 0
    body = bytes(range(10))
    footer = len(body).to_bytes(3) + bytes(5)
    assert ffv1_slices(2 * (body + footer)) == 2 * [body + footer]
    assert ffv1_slices(body) is None
