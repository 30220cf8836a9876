"""Region of interest: the part of a photograph that is learned and judged; what lies outside is never looked at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.loading import resize
from blemish.data.masks import read_mask
from blemish.data.reading import read_values
from blemish.errors import BlemishError
from blemish.inspection.encodings import mask_of_runs, runs_of
from blemish.inspection.framing import Framing
from blemish.settings import MIN_SIDE_PX

OUTSIDE = 128
"""Grey level of the pixels outside of the region: the same in every photograph, so that nothing there counts."""


@dataclass(frozen=True)
class RegionOfInterest(Framing):
    """The box around a region, framed as ``inner`` says; in it, what is outside of the region is grey.

    The camera does not move: photographs have to have the size for which the region was drawn. Maps are those of the
    photograph, and 0 outside of the region.

    Parameters
    ----------
    inner : frames the box as if it were the photograph.
    size_hw : height and width of the photographs, px.
    runs : the mask of the region as run lengths; see ``encodings.runs_of``.
    """

    inner: Framing
    size_hw: tuple[int, int]
    runs: str

    @classmethod
    def of(cls, inner: Framing, mask: NDArray[np.bool_]) -> RegionOfInterest:
        """The region that is true in a mask (H, W)."""
        return cls(inner, (mask.shape[0], mask.shape[1]), runs_of(mask))

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool, true inside."""
        return mask_of_runs(self.runs, self.size_hw)

    @cached_property
    def box_xyxy(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the box around the region, px; right and bottom are exclusive."""
        return box_of(self.mask)

    @cached_property
    def _outside(self) -> NDArray[np.bool_] | None:
        """(h, w) bool, which pixels of the box are outside of the region; None if none is."""
        outside = ~self.crop(self.mask)
        return outside if outside.any() else None

    @property
    def tile_hw(self) -> tuple[int, int]:
        return self.inner.tile_hw

    @property
    def is_one_tile(self) -> bool:
        return self.inner.is_one_tile

    def crop(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """The box of a photograph, or of its map or mask (H, W, ...): a view."""
        left, top, right, bottom = self.box_xyxy
        return pixels[top:bottom, left:right]

    def _inside(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The box of a photograph (H, W, 3), grey outside of the region."""
        if photograph.shape[:2] != self.size_hw:
            (height, width), (own_height, own_width) = photograph.shape[:2], self.size_hw
            raise BlemishError(
                f"{width}x{height} px, but the region of interest is that of {own_width}x{own_height} px; take "
                f"photographs of that size, or fit with a region for this one"
            )
        box = self.crop(photograph)
        if self._outside is None:
            return box
        box = box.copy()
        box[self._outside] = OUTSIDE
        return box

    def cut(self, photograph: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        return self.inner.cut(self._inside(photograph))

    def overview(self, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self.inner.overview(self._inside(photograph))

    @property
    def box_hw(self) -> tuple[int, int]:
        """Height and width of the box, px."""
        left, top, right, bottom = self.box_xyxy
        return bottom - top, right - left

    def n_tiles(self, photograph_hw: tuple[int, int]) -> int:
        return self.inner.n_tiles(self.box_hw)

    def shrinking(self, photograph_hw: tuple[int, int]) -> float:
        return self.inner.shrinking(self.box_hw)

    def join(self, maps: Iterable[NDArray[np.float32]], photograph_hw: tuple[int, int]) -> NDArray[np.float32]:
        """Return the map at the photograph's own resolution, 0 outside of the region."""
        inside = np.asarray(resize(self.inner.join(maps, self.box_hw), self.box_hw))
        joined = np.zeros(photograph_hw, np.float32)
        self.crop(joined)[...] = inside
        joined[~self.mask] = 0.0
        return joined

    def join_pictures(
        self, pictures: Iterable[NDArray[np.uint8]], photograph_hw: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """Return the picture at the photograph's own resolution, grey outside of the box."""
        joined = np.full((*photograph_hw, 3), OUTSIDE, np.uint8)
        self.crop(joined)[...] = resize(self.inner.join_pictures(pictures, self.box_hw), self.box_hw)
        return joined

    def judged(self, anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
        return anomaly_map[self.mask]


def region_of(framing: Framing) -> NDArray[np.bool_] | None:
    """(H, W) bool, the region of interest of a framing; None if it has none."""
    return framing.mask if isinstance(framing, RegionOfInterest) else None


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The box around what is true in a mask (H, W): left, top, right, bottom, px."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    return left, top, left + width, top + height


def read_region(path: Path, photograph: Path) -> NDArray[np.bool_]:
    """Read a region of interest for photographs of the size of one of them.

    Parameters
    ----------
    path : an image of the photographs' size, white (or not black) inside of the region; or a .json file with
        polygons, points [x, y] in px of the photographs: a list of them, or as LabelMe saves them (``shapes``).

    Returns
    -------
    (H, W) bool, true inside.

    Raises
    ------
    BlemishError
        If it cannot be read, is of another size, or holds nothing.
    """
    height, width = read_values(photograph).shape[:2]
    mask = _drawn(path, (height, width)) if path.suffix.lower() == ".json" else read_mask(path, (height, width))
    if not mask.any():
        raise BlemishError(f"{path}: nothing of the photographs is in the region; draw it white, or in their px")
    left, top, right, bottom = box_of(mask)
    if min(right - left, bottom - top) < MIN_SIDE_PX:
        raise BlemishError(
            f"{path}: the region is {right - left}x{bottom - top} px; at least {MIN_SIDE_PX}x{MIN_SIDE_PX} are needed"
        )
    return mask


def _drawn(path: Path, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill the polygons of a file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BlemishError(f"{path}: cannot be read as JSON ({str(error).splitlines()[0]})") from error
    if isinstance(content, dict):
        drawn_for = content.get("imageHeight", size_hw[0]), content.get("imageWidth", size_hw[1])
        if drawn_for != size_hw:
            raise BlemishError(
                f"{path}: is drawn for {drawn_for[1]}x{drawn_for[0]} px, but the photographs have "
                f"{size_hw[1]}x{size_hw[0]} px; draw it on one of them"
            )
        shapes = content.get("shapes")
        content = [_points_of(shape, path) for shape in shapes] if isinstance(shapes, list) else None
    polygons = [_polygon(points) for points in content] if isinstance(content, list) and content else [None]
    mask = np.zeros(size_hw, np.uint8)
    for polygon in polygons:
        if polygon is None:
            raise BlemishError(
                f"{path}: should hold polygons of at least 3 points in px, such as [[[10, 10], [90, 10], [50, 80]]]"
            )
        cv2.fillPoly(mask, [polygon], 1)
    return mask.astype(np.bool_)


def _points_of(shape: Any, path: Path) -> Any:
    """The points of a shape that LabelMe saved; a rectangle has two."""
    points = shape.get("points") if isinstance(shape, dict) else None
    kind = shape.get("shape_type", "polygon") if isinstance(shape, dict) else "polygon"
    if kind == "rectangle" and isinstance(points, list) and len(points) == 2:
        (left, top), (right, bottom) = points
        return [[left, top], [right, top], [right, bottom], [left, bottom]]
    if kind == "circle" and isinstance(points, list) and len(points) == 2:
        (x, y), (edge_x, edge_y) = points
        radius, angles = np.hypot(edge_x - x, edge_y - y), np.linspace(0, 2 * np.pi, 180, endpoint=False)
        return np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1).tolist()
    if kind != "polygon":
        raise BlemishError(f"{path}: holds a {kind}; draw polygons, rectangles or circles")
    return points


def _polygon(points: Any) -> NDArray[np.int32] | None:
    """Points (N, 2) in whole px; None if they are none."""
    if not isinstance(points, Sequence) or len(points) < 3:
        return None
    try:
        values = np.asarray(points, np.float64)
    except (ValueError, TypeError):
        return None
    is_polygon = values.ndim == 2 and values.shape[1] == 2 and bool(np.isfinite(values).all())
    return np.round(values).astype(np.int32) if is_polygon else None
