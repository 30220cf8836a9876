"""What the values of a mask mean: one rule for `evaluate`, `fit` and `data`, and none that guesses.

Black and one other value are a mask, whatever the other value is, and so are black and white with soft edges or the
noise of a JPEG file. Anything else (class numbers, grey levels, values to be ignored, transparency, a defect drawn in
black) could be read in several ways, and is refused until the user says in which: `--mask-values`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.reading import file_kind, read_alpha, read_orientation, read_values
from blemish.errors import BlemishError

MASK_VALUES = ("auto", "white", "nonzero", "inverted", "alpha")
"""Words that say which pixels of a mask are defective; `checked_mask_values` says what they mean."""

LARGE_SHARE = 0.5
"""A mask that covers more than this share of its image is reported: it may be inverted."""

_BORDER_SHARE = 0.75  # an inverted mask covers more than this share of the image's border
_DARK, _BRIGHT = 32, 223  # of 255: noise of a JPEG file keeps black below, and white above, on average
_GREY = 64  # of 255: how far single values are off by noise
_MAX_LEVELS = 8  # with more values in a file, they come from noise or soft edges rather than classes
_NOISE_PX, _SOFT_PX = 3, 1  # how far from an edge of the mask blurred, and soft edges, reach


def checked_mask_values(text: str) -> str:
    """Check which pixels of masks are defective, as the option `--mask-values` says it.

    Parameters
    ----------
    text
        - auto: those that are not black, if a mask has black and one other value (or black and white with soft
          edges); any other mask is refused;
        - white: those above half of the range of values;
        - nonzero: those that are not black;
        - inverted: those that are black, in a mask of two values;
        - alpha: those that are more opaque than transparent;
        - numbers, separated by commas: those that have one of these values, as they are in the file.

    Returns
    -------
    The same text, without blanks and in lower case.

    Raises
    ------
    BlemishError
        If it is none of these.
    """
    values = "".join(str(text).split()).lower()
    if values not in MASK_VALUES and not all(number.isdecimal() for number in values.split(",")):
        raise BlemishError(
            f"mask values {text!r} are unknown; use {', '.join(MASK_VALUES)}, or the values of defective pixels: 1,2"
        )
    return values


def read_mask(path: str | Path, size_hw: tuple[int, int], values: str = "auto") -> NDArray[np.bool_]:
    """Read the mask of an image.

    Parameters
    ----------
    path
        An image file that `read_image` can read.
    size_hw
        Height and width of the image it belongs to, in pixels.
    values
        Which pixels are defective, as `checked_mask_values` defines it.

    Returns
    -------
    (H, W) bool, true where the image is defective.

    Raises
    ------
    BlemishError
        As `read_image`; if the mask has another size; or if `values` does not say how to read what it holds.
    """
    path = Path(path)
    return as_mask(read_values(path), path, size_hw, values)


def as_mask(raw: NDArray[Any], path: Path, size_hw: tuple[int, int], values: str = "auto") -> NDArray[np.bool_]:
    """`read_mask` of a file whose values (H, W) or (H, W, 3) are read already."""
    if raw.shape[:2] != tuple(size_hw):
        mask_px, image_px = (f"{width}x{height} px" for height, width in (raw.shape[:2], size_hw))
        is_turned = raw.shape[:2] == tuple(size_hw)[::-1]
        cause = (
            "; if EXIF turns only one of them, save both upright, without an EXIF orientation" if is_turned else ""
        )
        raise BlemishError(f"{path}: the mask is {mask_px}, its image {image_px}; save both at the same size{cause}")
    read = _READERS.get(values)
    return read(raw, path) if read is not None else _read_numbers(raw, path, values)


def mask_doubts(paths: Sequence[Path], image: Path, mask: NDArray[np.bool_]) -> list[str]:
    """Return what makes it doubtful that a mask shows the defects of its image, one line for each doubt.

    Parameters
    ----------
    paths : the mask's files.
    image : the image's file.
    mask : (H, W) bool, as it was read, united.

    Raises
    ------
    BlemishError
        As `read_image`, for faults that the headers of the files show.
    """
    doubts, path = [], paths[0]
    share = float(mask.mean())
    if share == 0.0:
        doubts.append(f"{path}: the mask is empty, but its image is defective; draw the defect")
    if share > LARGE_SHARE:
        doubts.append(
            f"{path}: the mask covers {_percent(share)} of its image; check it, and if the defect is drawn in black, "
            f"give --mask-values inverted"
        )
    image_turn = read_orientation(image)
    for path in paths:
        turn = read_orientation(path)
        if turn != image_turn:
            doubts.append(
                f"{path}: EXIF turns the mask otherwise (orientation {turn}) than its image {image} (orientation "
                f"{image_turn}; 1 is upright), so they may not match; save both upright, without an EXIF orientation"
            )
    return doubts


# --- the readers: raw values (H, W) or (H, W, 3) to (H, W) bool -------------------------------------------------


def _read_auto(raw: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    mask = _read_two_values(raw, path, is_alpha_known=False)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    if LARGE_SHARE < mask.mean() < 1.0 and border.mean() > _BORDER_SHARE:
        raise BlemishError(
            f"{path}: the mask covers {_percent(float(mask.mean()))} of its image, and its border, so the defect "
            f"seems to be drawn in black; give --mask-values inverted, or white if so much of the image is defective"
        )
    return mask


def _read_inverted(raw: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    return ~_read_two_values(raw, path, is_alpha_known=True)


def _read_white(raw: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    full = np.iinfo(raw.dtype).max
    mask = _brightest(raw) > full // 2
    if raw.any() and not mask.any() and len(np.unique(raw)) <= 2:
        raise BlemishError(
            f"{path}: a mask of 0 and {raw.max()} would be empty; save it as 0 and {full}, or give "
            f"--mask-values nonzero"
        )
    return mask


def _read_nonzero(raw: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    return _brightest(raw) > 0


def _read_opaque(raw: NDArray[Any], path: Path) -> NDArray[np.bool_]:
    alpha = read_alpha(path)
    if alpha is None:
        raise BlemishError(f"{path}: has no alpha channel; save the mask in one, or leave out --mask-values alpha")
    mask: NDArray[np.bool_] = alpha > 127
    return mask


def _read_numbers(raw: NDArray[Any], path: Path, values: str) -> NDArray[np.bool_]:
    if raw.ndim == 3 and (raw != raw[..., :1]).any():
        raise BlemishError(f"{path}: has colours, not numbers; save the mask in grey, or give --mask-values nonzero")
    grey = raw if raw.ndim == 2 else raw[..., 0]
    mask: NDArray[np.bool_] = np.isin(grey, [int(number) for number in values.split(",")])
    return mask


_READERS: dict[str, Callable[[NDArray[Any], Path], NDArray[np.bool_]]] = {
    "auto": _read_auto, "white": _read_white, "nonzero": _read_nonzero, "inverted": _read_inverted,
    "alpha": _read_opaque,
}  # fmt: skip


# --- what is a mask of two values --------------------------------------------------------------------------------


def _read_two_values(raw: NDArray[Any], path: Path, is_alpha_known: bool) -> NDArray[np.bool_]:
    """Read a mask of black and another value, or of black and white with soft edges: true where it is not black."""
    full = int(np.iinfo(raw.dtype).max)
    brightness = _brightest(raw)
    colours = _colours(raw)
    mask: NDArray[np.bool_] | None = None
    if len(colours) <= 2 and not colours[0].any():
        mask = brightness > 0
    elif len(colours) == 1 and colours.min() == full:
        mask = np.ones(brightness.shape, np.bool_)
    else:
        level = (brightness * np.float32(255 / full)).astype(np.float32)
        has_one_hue = colours.ndim == 1 or (len(colours) > _MAX_LEVELS and _has_one_hue(raw, level))
        if (has_one_hue or len(colours) == 2) and _is_black_and_white(level, len(colours), path):
            mask = level > 127.5
    if not is_alpha_known:
        alpha = read_alpha(path)
        is_transparent = alpha is not None and bool((alpha != alpha[0, 0]).any())
        if alpha is not None and is_transparent and (mask is None or ((alpha > 127) != mask).any()):
            raise BlemishError(
                f"{path}: parts of it are transparent, and the colours show something else; give --mask-values alpha "
                f"if what is opaque is defective, or white or nonzero to read the colours"
            )
    if mask is None:
        raise BlemishError(_refusal(path, colours))
    return mask


def _is_black_and_white(level: NDArray[np.float32], n_colours: int, path: Path) -> bool:
    """Return whether (H, W) values in [0, 255] are black and white, but for soft edges or JPEG noise."""
    import cv2  # not needed for most masks, and `blemish data` starts faster without

    if n_colours == 2:
        return bool(level.min() <= _DARK and level.max() >= _BRIGHT)
    is_jpeg = file_kind(path).startswith("JPEG")
    if not is_jpeg and n_colours <= _MAX_LEVELS:  # perhaps classes: all but black and white must be one pixel wide
        near_black, near_white = (_grown(level == extreme, _SOFT_PX) for extreme in (0, 255))
        return bool(((level == 0) | (level == 255) | (near_black & near_white)).all() and near_white.any())
    is_white = level > 127.5
    is_edge = _grown(is_white, _NOISE_PX) & _grown(~is_white, _NOISE_PX)
    means = cv2.blur(level, (3, 3))
    is_plain = ((level <= _GREY) & (means <= _DARK)) | ((level >= 255 - _GREY) & (means >= _BRIGHT))
    if not (is_plain | is_edge).all() or not is_white.any():
        return False
    square = np.ones((3, 3), np.uint8)
    is_flat = cv2.dilate(level, square) == cv2.erode(level, square)
    is_between = (level > 0) & (level < 255)
    return is_jpeg or bool((is_flat & is_between).sum() <= 0.1 * is_between.sum())  # numbers of classes fill areas


def _has_one_hue(raw: NDArray[Any], level: NDArray[np.float32]) -> bool:
    """Return whether the bright pixels of (H, W, 3) values have one colour, but for noise; else they are classes."""
    bright = raw[level > 127.5].astype(np.float32) * np.float32(255 / np.iinfo(raw.dtype).max)  # (N, 3)
    is_other = np.abs(bright - np.median(bright, axis=0)).max(axis=1) > _GREY if len(bright) else np.zeros(1)
    return bool(is_other.mean() < 0.05)


def _grown(area: NDArray[np.bool_], reach_px: int) -> NDArray[np.bool_]:
    """(H, W) bool: pixels at most so far from the area, along both axes."""
    import cv2

    side_px = 2 * reach_px + 1
    grown: NDArray[np.bool_] = cv2.dilate(area.astype(np.uint8), np.ones((side_px, side_px), np.uint8)) > 0
    return grown


def _refusal(path: Path, colours: NDArray[Any]) -> str:
    """The message about a mask of values (N,) or (N, 3) that can be read in several ways."""
    is_grey = colours.ndim == 1
    names = ["/".join(map(str, np.atleast_1d(colour).tolist())) for colour in colours]
    n_values = len(names)
    shown = ", ".join(names[:12]) + (f" ... {names[-1]}" if n_values > 12 else "")
    remedy = "nonzero (all but black), white (the brighter half)"
    remedy += ", or the values of the defects, as in --mask-values 1,2" if is_grey else ""
    return (
        f"{path}: a mask holds black and one other value, but this file holds {n_values} "
        f"value{'s' * (n_values != 1)}: {shown}; say which are defective by --mask-values: {remedy}"
    )


def _colours(raw: NDArray[Any]) -> NDArray[Any]:
    """The different values of a mask in rising order, black first: (N,) of a grey one, else (N, 3)."""
    if raw.ndim == 3 and (raw == raw[..., :1]).all():
        raw = raw[..., 0]
    if raw.ndim == 2:
        return np.flatnonzero(np.bincount(raw.ravel()))
    codes = np.unique(raw.astype(np.int64) @ np.array([1 << 32, 1 << 16, 1]))
    return np.stack([codes >> 32, codes >> 16 & 0xFFFF, codes & 0xFFFF], axis=1)


def _brightest(raw: NDArray[Any]) -> NDArray[Any]:
    return raw if raw.ndim == 2 else raw.max(axis=2)


def _percent(share: float) -> str:
    """A share in whole per cent, but never 100 % of what is not all."""
    return f"{100 if share == 1.0 else min(99, round(100 * share))} %"
