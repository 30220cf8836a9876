"""The demo's images: a photograph that comes with scikit-image, and defects drawn by hand.

A brick pavement (512 x 512 px, grey, CC0) is cut so that training, threshold and inspection share no pixel: the right
half is for training; of the left half, rows 0 to 216 are for the threshold, and rows 288 to 416 for inspection. The
defects are fixed drawings. They share nothing with the damage that the methods train on.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.reading import read_image
from blemish.errors import BlemishError
from blemish.files import make_folder, replace_file

PATCH_PX = 128
LIGHTS = (0.95, 1.0, 1.05)
LEFT, RIGHT = (0, 256), (256, 512)
HEIGHT_PX = 416  # below it, on the left only, the joints are thicker than any on the right
TRAIN_ROWS, CALIBRATION_ROWS, TEST_ROWS = (0, HEIGHT_PX), (0, 216), (288, HEIGHT_PX)
# Between rows 216 and 288 there is a real defect: a brick at column 156 is chipped.

Grey = NDArray[np.float32]
"""(128, 128) float32: grey values in [0, 255], or the opacity of a drawn layer in [0, 1]."""

_Y, _X = np.mgrid[:PATCH_PX, :PATCH_PX].astype(np.float32)
_FINE = 8  # drawings are made this many times larger, then shrunk: soft edges at fractions of a pixel


def _strokes(lines: Sequence[tuple[Sequence[tuple[float, float]], float]], blur_px: float = 0.0) -> Grey:
    """Opacity of lines. Each line is its (x, y) points and its width, in pixels."""
    canvas = np.zeros((PATCH_PX * _FINE, PATCH_PX * _FINE), np.uint8)
    for points, width_px in lines:
        fine = np.round(np.asarray(points) * _FINE).astype(np.int32)
        cv2.polylines(canvas, [fine], False, 255, max(1, round(width_px * _FINE)), cv2.LINE_AA)
    return _shrink(canvas, blur_px)


def _area(points: Sequence[tuple[float, float]], blur_px: float = 0.0) -> Grey:
    """Opacity of a filled polygon of (x, y) points in pixels."""
    canvas = np.zeros((PATCH_PX * _FINE, PATCH_PX * _FINE), np.uint8)
    cv2.fillPoly(canvas, [np.round(np.asarray(points) * _FINE).astype(np.int32)], 255, cv2.LINE_AA)
    return _shrink(canvas, blur_px)


def _shrink(canvas: NDArray[np.uint8], blur_px: float) -> Grey:
    opacity = cv2.resize(canvas.astype(np.float32) / 255, (PATCH_PX, PATCH_PX), interpolation=cv2.INTER_AREA)
    return _blur(opacity, blur_px) if blur_px else np.asarray(opacity, dtype=np.float32)


def _blur(opacity: NDArray[Any], sigma_px: float) -> Grey:
    return np.asarray(cv2.GaussianBlur(opacity, (0, 0), sigma_px), dtype=np.float32)


def _round_outline(x: float, y: float, radius_px: float, waves: Sequence[tuple[int, float, float]]) -> Any:
    """Points (120, 2) of an irregular disc; each wave (count, share, phase) modulates its radius."""
    angle = np.linspace(0, 2 * np.pi, 120)
    radius = radius_px * (1 + sum(share * np.sin(count * angle + phase) for count, share, phase in waves))
    return np.stack([x + radius * np.cos(angle), y + 0.85 * radius * np.sin(angle)], axis=1)


def _shift(opacity: Grey, right_px: float, down_px: float) -> Grey:
    move = np.array([[1, 0, right_px], [0, 1, down_px]], dtype=np.float32)
    return np.asarray(cv2.warpAffine(opacity, move, (PATCH_PX, PATCH_PX)), dtype=np.float32)


def _blend(image: Grey, opacity: Grey, target: Grey | float) -> Grey:
    return np.asarray(image + opacity * (target - image), dtype=np.float32)


# Each function takes a good patch and returns the damaged patch, and the opacity of the drawing.


def _scratch(image: Grey) -> tuple[Grey, Grey]:
    """A bright, uneven groove with a dark edge, and a shorter one beside it."""
    long = [(21.0, 97.0), (33.0, 86.2), (46.0, 73.1), (58.0, 62.0), (71.0, 48.3), (86.0, 34.6), (99.0, 21.0)]
    widths_px = (0.7, 1.3, 1.9, 1.4, 1.7, 0.8)
    parts = [(long[i : i + 2], width_px) for i, width_px in enumerate(widths_px)]
    parts += [([(57.0, 73.0), (66.0, 64.3), (83.0, 46.5)], 0.8)]
    bright = _strokes(parts, 0.45)
    dark = _shift(bright, 1.0, 1.1)
    return _blend(_blend(image, 0.5 * dark, 0.4 * image), 0.8 * bright, 205), np.maximum(bright, dark)


def _crack(image: Grey) -> tuple[Grey, Grey]:
    """A dark, jagged line that becomes thinner and branches."""
    trunk = [(30, 14), (33, 20), (31, 26), (35, 30), (34, 37), (39, 42), (38, 47), (43, 53), (48, 56), (47, 61)]
    trunk += [(53, 66), (54, 73), (60, 77), (61, 84), (66, 88), (65, 95), (70, 100), (72, 108)]
    widths_px = np.linspace(2.5, 0.7, len(trunk) - 1) * (1 + 0.25 * np.sin(np.arange(len(trunk) - 1) * 2.4))
    parts = [(trunk[i : i + 2], width_px) for i, width_px in enumerate(widths_px.tolist())]
    parts += [
        ([(43, 53), (41, 59), (44, 63), (42, 68)], 1.3),
        ([(42, 68), (44, 73), (41, 79)], 0.8),
        ([(54, 73), (60, 70), (63, 71), (68, 65)], 1.2),
        ([(68, 65), (74, 66), (79, 62)], 0.7),
        ([(65, 95), (61, 99), (62, 104)], 0.7),
    ]
    dark = _strokes(parts, 0.35)
    rim = np.clip(_shift(dark, -1.2, 0.6) - dark, 0, 1)  # the lit edge of the gap
    return _blend(_blend(image, 0.25 * rim, 190), 0.9 * dark, 24), np.maximum(dark, rim)


def _dent(image: Grey) -> tuple[Grey, Grey]:
    """A shallow hollow: the side towards the light is in shadow, the far side is bright."""
    x, y = (_X - 70) / 18, (_Y - 58) / 15
    depth = np.exp(-((x**2 + y**2) ** 2))
    slope = (x + y) * depth  # of the surface, along the light
    opacity = np.clip(2.2 * depth - 0.2, 0, 1)
    return _blend(image, opacity, image * (1 + 0.45 * slope) + 14 * slope - 6 * depth), opacity


def _stain(image: Grey) -> tuple[Grey, Grey]:
    """Oil: it darkens the surface, which stays visible; the rim is darkest."""
    spread = _area(_round_outline(62, 66, 19, [(2, 0.16, 0.5), (3, 0.12, 2.0), (5, 0.05, 0.0)]), 1.2)
    drop = _area(_round_outline(91, 46, 4.5, [(2, 0.15, 1.0)]), 0.8)
    opacity = np.maximum(spread, drop)
    inner = _blur(opacity, 3.5) ** 2
    return _blend(image, opacity, image * (0.3 + 0.22 * inner) + 5), opacity


def _hole(image: Grey) -> tuple[Grey, Grey]:
    """A pit: black at the bottom, a lit wall at the lower right, broken edges around it."""
    edge = _area(_round_outline(56, 62, 13.0, [(5, 0.08, 0.3), (9, 0.06, 1.0), (2, 0.1, 0.0)]), 0.5)
    pit = _area(_round_outline(55, 61, 10.5, [(5, 0.1, 0.3), (7, 0.05, 0.0)]), 0.9)
    wall = np.clip((_X - 56 + _Y - 62) / 18, -1, 1)
    damaged = _blend(image, edge, image * (0.75 + 0.5 * wall) + 25 * wall)
    return _blend(damaged, pit, 24 + 26 * np.clip(wall, 0, 1)), edge


def _fibre(image: Grey) -> tuple[Grey, Grey]:
    """A bright thread that lies on the surface and casts a shadow."""
    t = np.linspace(0, 1, 200)
    x = 20 + 86 * t + 12 * np.sin(6.4 * t)
    y = 66 + 21 * np.sin(5.6 * t + 0.4) - 14 * t
    thread = _strokes([(np.stack([x, y], axis=1).tolist(), 2.4)], 0.35)
    shadow = _shift(_blur(thread, 0.7), 1.5, 1.9)
    return _blend(_blend(image, 0.7 * shadow, 0.3 * image), 0.95 * thread, 228), np.maximum(thread, shadow)


def _paint(image: Grey) -> tuple[Grey, Grey]:
    """A glossy splash of paint: one large drop with a run, and small ones around it."""
    splash = [
        _area(_round_outline(60, 56, 12.5, [(2, 0.14, 0.9), (3, 0.1, 0.4), (5, 0.07, 2.0), (8, 0.04, 0.0)]), 0.5),
        _strokes([([(66.0, 58.0), (72.0, 70.0), (73.0, 77.0)], 3.4), ([(72.0, 70.0), (73.5, 80.0)], 4.2)], 0.5),
    ]
    for x, y, radius_px in [(82, 44, 3.2), (88, 38, 1.7), (41, 70, 2.4), (47, 38, 1.9), (79, 58, 1.4), (35, 78, 1.3)]:
        splash.append(_area(_round_outline(x, y, radius_px, [(2, 0.15, x)]), 0.4))
    paint = np.maximum.reduce(splash)
    body = _blur(paint, 1.8)
    gloss = _shift(body, 1.2, 1.2) - _shift(body, -1.2, -1.2)  # bright above left, dark below right
    return _blend(image, 0.97 * paint, 200 - 60 * gloss + 0.08 * image), paint


def _misplaced(image: Grey) -> tuple[Grey, Grey]:
    """A piece of the same surface that is rotated by 74 degrees, with a faint seam around it."""
    turn = cv2.getRotationMatrix2D((80, 61), 74, 1.0)
    turned = cv2.warpAffine(image, turn, (PATCH_PX, PATCH_PX), borderMode=cv2.BORDER_REFLECT).astype(np.float32)
    corners = [(64.0, 47.0), (94.0, 43.0), (98.0, 75.0), (66.0, 78.0)]
    piece, seam = _area(corners, 0.5), _strokes([([*corners, corners[0]], 1.0)], 0.5)
    return _blend(_blend(image, piece, turned), 0.45 * seam, 0.4 * image), np.maximum(piece, seam)


Defect = Callable[[Grey], tuple[Grey, Grey]]


@dataclass(frozen=True)
class DemoPatch:
    """One image of the demo: where it is cut out, and which defect is drawn on it.

    `left_px` and `top_px` are the upper left corner of the (128, 128) patch. `defect` is None for a good patch; a
    defect is drawn rotated by `quarter_turns`. `is_mirrored` swaps left and right. `light` is a factor on the grey
    values.
    """

    left_px: int
    top_px: int
    defect: Defect | None = None
    quarter_turns: int = 0
    is_mirrored: bool = False
    light: float = 1.0

    @property
    def kind(self) -> str:
        """Name of the defect, or "good"."""
        return self.defect.__name__.lstrip("_") if self.defect else "good"

    @property
    def stem(self) -> str:
        """Name of the file, without suffix."""
        return f"x{self.left_px:03d}_y{self.top_px:03d}{'_mirrored' * self.is_mirrored}"


def _cuts(
    columns: tuple[int, int], rows: tuple[int, int], stride_xy: tuple[int, int], is_mirrored: bool = False
) -> list[DemoPatch]:
    """All good patches within the columns and rows, at a stride in x and y, in pixels."""
    lefts = range(columns[0], columns[1] - PATCH_PX + 1, stride_xy[0])
    tops = range(rows[0], rows[1] - PATCH_PX + 1, stride_xy[1])
    return [DemoPatch(left, top, is_mirrored=is_mirrored) for left in lefts for top in tops]


def _defective(*defects: tuple[int, Defect, int]) -> list[DemoPatch]:
    """Test patches with a defect, each from (left_px, defect, quarter turns)."""
    return [DemoPatch(left, TEST_ROWS[0], defect, turns) for left, defect, turns in defects]


def _in_changing_light(patches: Sequence[DemoPatch]) -> tuple[DemoPatch, ...]:
    return tuple(replace(patch, light=LIGHTS[number % len(LIGHTS)]) for number, patch in enumerate(patches))


# The joints lean in opposite directions on the left and on the right, and have more contrast on the left. So each
# training patch is also used mirrored, and the light varies. Scores of good patches depend most on where joints meet
# the border, and so on the place: threshold and inspection take patches at all places across the left half.
TRAIN = _in_changing_light(
    [*_cuts(RIGHT, TRAIN_ROWS, (16, 32)), *_cuts(RIGHT, TRAIN_ROWS, (16, 32), is_mirrored=True)]
)
CALIBRATION = tuple(_cuts(LEFT, CALIBRATION_ROWS, (8, 16)))
TEST = (
    *_defective((32, _scratch, 0), (96, _crack, 0), (40, _stain, 0), (112, _misplaced, 0)),
    *_defective((120, _dent, 0), (48, _hole, 0), (72, _scratch, 1), (64, _fibre, 0)),
    *_defective((128, _paint, 0), (8, _crack, 2), (104, _stain, 1), (16, _fibre, 1)),
    *_cuts(LEFT, TEST_ROWS, (14, 1)),
)
"""The patches to inspect, defective ones first."""


def cut(photograph: NDArray[np.uint8], patch: DemoPatch) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Cut a patch out of the photograph, and draw its defect if it has one.

    Parameters
    ----------
    photograph : (512, 512) uint8

    Returns
    -------
    The patch, (128, 128) uint8, and the true mask, (128, 128) bool. Pixels outside the mask are unchanged.
    """
    y, x = patch.top_px, patch.left_px
    good = photograph[y : y + PATCH_PX, x : x + PATCH_PX]
    if patch.is_mirrored:
        good = good[:, ::-1]
    if patch.light != 1.0:
        good = np.clip(np.round(patch.light * good.astype(np.float32)), 0, 255).astype(np.uint8)
    if patch.defect is None:
        return good, np.zeros(good.shape, np.bool_)
    rotated = np.ascontiguousarray(np.rot90(good, patch.quarter_turns), dtype=np.float32)
    damaged, opacity = (np.rot90(layer, -patch.quarter_turns) for layer in patch.defect(rotated))
    mask = opacity > 0.1
    return np.where(mask, np.clip(np.round(damaged), 0, 255), good).astype(np.uint8), mask


def photograph() -> NDArray[np.uint8]:
    """Read the photograph of bricks, (512, 512) uint8, from the installed scikit-image; downloads nothing.

    Raises
    ------
    BlemishError
        If scikit-image is not installed, or is installed without its photographs.
    """
    package = importlib.util.find_spec("skimage")
    if package is None or package.origin is None:
        raise BlemishError('the demo needs a photograph of scikit-image; pip install "blemish[demo]"')
    return read_image(Path(package.origin).parent / "data" / "brick.png")[..., 0]


def make_demo_images(folder: Path) -> None:
    """Write the demo's images: `train/good`, `calibration`, `test/<defect>`, `ground_truth/<defect>`.

    They are the same every time: grey PNG, 128 x 128 px.

    Raises
    ------
    BlemishError
        See `photograph`; or if the folder cannot be written to.
    """
    bricks = photograph()
    for patches, split in ((TRAIN, "train/good"), (CALIBRATION, "calibration"), (TEST, "test")):
        for patch in patches:
            image, mask = cut(bricks, patch)
            subfolder = Path(split, patch.kind) if split == "test" else Path(split)
            _write_grey(folder / subfolder / f"{patch.stem}.png", image)
            if patch.defect:
                _write_grey(folder / "ground_truth" / patch.kind / f"{patch.stem}_mask.png", mask * np.uint8(255))


def _write_grey(path: Path, image: NDArray[np.uint8]) -> None:
    make_folder(path.parent)
    _, encoded = cv2.imencode(".png", image)
    with replace_file(path) as file:
        file.write(encoded.tobytes())
