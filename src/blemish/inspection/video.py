"""A video file as a source of photographs: each frame is one, in order; one that is missing is told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.kinds import kind_of
from blemish.errors import BlemishError
from blemish.inspection.captures import capture
from blemish.inspection.sources import Photograph, portable
from blemish.inspection.video_containers import Contents, contents
from blemish.inspection.video_packets import packets_of

_GREY_16_BITS = int.from_bytes(b"Y1\0\x10", "little")
"""FFmpeg's tag of the pixel format gray16le."""
_MOST_FAILURES = 100
"""So many frames in a row that cannot be decoded are taken as the end."""
_MISSING_S, _MISSING_SHARE = 1.0, 0.1
_COPY = "copy or record it again"


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its first bytes.

    Raises
    ------
    BlemishError
        If it cannot be read.
    """
    try:
        return kind_of(path).name == "video"
    except OSError as error:
        raise BlemishError(f"{path}: cannot be read ({error.strerror}); check path and permissions") from error


def frames(path: Path) -> Iterator[Photograph]:
    """Yield the frames of a video file in order, as photographs labelled ``PATH#1``, ``PATH#2``, ...

    They are (H, W, 3) uint8 RGB, upright by the file's rotation; of 16-bit grey video (H, W) uint16. Other video of
    more than 8 bits is reduced to 8 by FFmpeg. One frame is in memory at a time.

    A frame that cannot be decoded, or is damaged and of a codec that shows it (FFV1, MJPG), is a photograph with a
    fault, in its place. If the file is no video, is cut short or damaged, or fewer frames came than it holds, the
    last photograph has a fault that says so. What counts is the container: AVI, MP4, QuickTime, Matroska and WebM are
    exact. Others only announce a duration: there, frames are missing if the last one comes more than 1 s and more
    than a tenth of the duration before its end.
    """
    fault = _unusable(path)
    if fault is not None:
        yield _end(path, fault)
        return
    video = capture(str(path.absolute()))  # absolute, as FFmpeg takes "rtsp:1.mkv" for a URL
    try:
        number, n_read, last_s = 0, 0, 0.0
        is_open, announced = video.isOpened(), _announced(video)
        for image in _images(video, path):
            number += 1
            if image is not None:
                n_read, last_s = n_read + 1, video.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
            yield _photograph(path, number, image)
    finally:
        video.release()
    fault = _shortfall(path, n_read, number, contents(path), announced, last_s) if is_open else _not_opened(path)
    if fault is not None:
        yield _end(path, fault)


def _unusable(path: Path) -> str | None:
    """Why a file is not even opened as a video."""
    try:
        str(path).encode()  # OpenCV crashes with other names
        if path.is_file() and path.stat().st_size == 0:
            return f"{path}: is empty, so it has no frames; {_COPY}"
        if not is_video(path):
            return f"{path}: is not a video; save it as .mkv, .mp4 or .avi"
    except UnicodeEncodeError:
        return f"{path}: cannot be opened, as its name is not in UTF-8; rename it"
    except BlemishError as error:
        return str(error)
    return None


def _images(video: cv2.VideoCapture, path: Path) -> Iterator[NDArray[Any] | None]:
    """Frames as OpenCV decodes them; None for one that is damaged, or that cannot be decoded and others follow."""
    is_grey = int(video.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT)) == _GREY_16_BITS
    if is_grey:  # only so its values stay; of any other format this would hand over undecoded planes
        video.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    with packets_of(path, int(video.get(cv2.CAP_PROP_FOURCC))) as packets:
        n_failed = 0
        while n_failed < _MOST_FAILURES:
            is_read, image = video.read()
            is_whole = packets.next_is_whole()
            if not is_read:
                n_failed += 1
                continue
            for _ in range(n_failed):
                yield None
            n_failed = 0
            if is_whole:
                yield image if is_grey else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            else:
                yield None


def _photograph(path: Path, number: int, image: NDArray[Any] | None) -> Photograph:
    name, label = f"{portable(path.stem)}_{number:06d}", f"{path}#{number}"
    if image is None:
        fault = f"{label}: is damaged; {_COPY}"
        return Photograph(np.empty((0, 0), np.uint8), name, fault, label)
    return Photograph(image, name, None, label)


def _end(path: Path, fault: str) -> Photograph:
    return Photograph(path, f"{portable(path.stem)}_end", fault)


def _not_opened(path: Path) -> str:
    held = contents(path)
    if held.is_cut:
        return f"{path}: no frame can be read, as the file is cut short; {_COPY}"
    return (
        f"{path}: no frame can be read: it is damaged, or of a kind that OpenCV's FFmpeg does not decode; {_COPY}, "
        f"or convert it to FFV1 in .mkv"
    )


def _announced(video: cv2.VideoCapture) -> tuple[float, float]:
    """The number of frames as OpenCV estimates it, and the duration in s; 0 where a file announces neither."""
    count, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
    if not (math.isfinite(rate) and rate > 0 and 0 < count < 2**40):
        return 0.0, 0.0
    return count, count / rate


def _shortfall(
    path: Path, n_read: int, n_told: int, held: Contents, announced: tuple[float, float], last_s: float
) -> str | None:
    """What is missing beside the ``n_told`` frames that were yielded, in one line; None if nothing is."""
    estimate, duration_s = announced
    if held.n_frames is not None:
        of = f"{n_read} of {held.n_frames} frames could be read"
    elif estimate > n_read:
        of = f"{n_read} of about {estimate:.0f} frames could be read"
    else:
        of = f"{n_read} {'frame' if n_read == 1 else 'frames'} could be read"
    if held.is_cut:
        return f"{path}: {of}, as the file is cut short; {_COPY}"
    if held.broken_at is not None:
        return f"{path}: {of}, as the file is damaged at byte {held.broken_at}; {_COPY}"
    if n_told == 0:
        return f"{path}: no frame could be read; {_COPY}"
    if held.n_frames is not None:
        return f"{path}: {of}, as others are damaged; {_COPY}" if n_told < held.n_frames else None
    if held.is_exact:
        return None
    missing_s = duration_s - last_s - duration_s / max(estimate, 1.0)
    if missing_s > max(_MISSING_S, _MISSING_SHARE * duration_s):
        return f"{path}: {of}, the last at {last_s:.1f} s of {duration_s:.1f} s, as the file is cut short; {_COPY}"
    return None
