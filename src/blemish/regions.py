"""Regions of an anomaly map: the blemishes of a defective image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError

FLOOR_ROWS = 64
"""The floor of a map is that of so many of its rows."""


@dataclass(frozen=True)
class Region:
    """One blemish.

    Attributes
    ----------
    bbox_xyxy : tuple of int
        Left, top, right, bottom in pixels; right and bottom are exclusive.
    area_px : int
    peak : float
        Largest value of the anomaly map inside.
    """

    bbox_xyxy: tuple[int, int, int, int]
    area_px: int
    peak: float


def outline(anomaly_map: npt.NDArray[Any], usual: float = 0.0) -> npt.NDArray[np.bool_]:
    """Mask to outline on a defective image: hysteresis thresholds between the map's own floor and its peak.

    It keeps the regions whose values reach more than 50 % of the way from the floor to the peak, each out to 35 % of
    it, but nothing that is ``usual``. So a second blemish of half the strength is kept, and specks in the background
    are not. The floor is what 10 % of the map does not exceed: about 0, or the distances that PatchCore finds
    everywhere. There is no guarantee for single pixels.

    Parameters
    ----------
    anomaly_map : (H, W) float, >= 0
    usual : value that few pixels of good images exceed; what reaches 90 % of the peak is kept even so.

    Returns
    -------
    (H, W) bool
    """
    peak = float(anomaly_map.max())
    sparse = anomaly_map[:: -(-anomaly_map.shape[0] // FLOOR_ROWS)]
    floor = float(np.quantile(sparse, 0.1))
    if floor == peak:
        floor = 0.0
    low, high = (max(floor + share * (peak - floor), min(usual, 0.9 * peak)) for share in (0.35, 0.5))
    wide = anomaly_map > low  # (H, W)
    n_labels, labels = cv2.connectedComponents(wide.view(np.uint8), connectivity=8)  # (H, W) int32
    is_kept = np.zeros(n_labels, np.bool_)
    is_kept[labels[anomaly_map > high]] = True
    return np.asarray(is_kept[labels])  # (H, W)


def region_masks(mask: npt.NDArray[np.bool_], regions: Sequence[Region]) -> Iterator[npt.NDArray[np.bool_]]:
    """Yield each region of a mask (H, W) alone, (h, w) bool in the size of its box; other regions there are False."""
    used = Counter[tuple[tuple[int, int, int, int], int]]()
    for region in regions:
        left, top, right, bottom = region.bbox_xyxy
        crop = np.ascontiguousarray(mask[top:bottom, left:right])
        _, labels, stats, _ = cv2.connectedComponentsWithStats(crop.view(np.uint8), connectivity=8)
        whole_box = [0, 0, right - left, bottom - top, region.area_px]
        twins = [label for label, box in enumerate(stats.tolist()) if label and box == whole_box]
        key = region.bbox_xyxy, region.area_px
        yield labels == twins[used[key]]
        used[key] += 1


def only(mask: npt.NDArray[np.bool_], regions: Sequence[Region], kept: Sequence[Region]) -> npt.NDArray[np.bool_]:
    """The mask (H, W) with only the regions to keep, which are some of its own."""
    cleared = mask.copy()
    for region, inside in zip(regions, region_masks(mask, regions), strict=True):
        if region not in kept:
            left, top, right, bottom = region.bbox_xyxy
            cleared[top:bottom, left:right] &= ~inside
    return cleared


def regions(anomaly_map: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> list[Region]:
    """8-connected regions of a mask, the highest peak first.

    Parameters
    ----------
    anomaly_map : (H, W) float
    mask : (H, W) bool

    Raises
    ------
    BlemishError
        If the shapes differ.
    """
    if anomaly_map.ndim != 2 or anomaly_map.shape != mask.shape:
        raise BlemishError(f"anomaly map {anomaly_map.shape} and mask {mask.shape} must be (H, W) of the same size")
    inside = mask.astype(np.bool_, copy=False)
    if not inside.any():
        return []
    left, top, width, height = cv2.boundingRect(inside.view(np.uint8))  # labelling is slow: crop to the mask first
    crop = slice(top, top + height), slice(left, left + width)
    inside, values = np.ascontiguousarray(inside[crop]), anomaly_map[crop]
    n_labels, labels, stats, _ = cv2.connectedComponentsWithStats(inside.view(np.uint8), connectivity=8)
    peaks = np.full(n_labels, -np.inf)
    np.maximum.at(peaks, labels[inside].astype(np.intp), values[inside])
    blemishes = [
        Region((left + x, top + y, left + x + width, top + y + height), area_px=area, peak=peak)
        for (x, y, width, height, area), peak in zip(stats[1:].tolist(), peaks[1:].tolist(), strict=True)
    ]
    return sorted(blemishes, key=lambda region: region.peak, reverse=True)
