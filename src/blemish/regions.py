"""Regions of an anomaly map: the blemishes of a defective image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError


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


def outline(anomaly_map: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Mask to outline on a defective image: hysteresis thresholds relative to the map's own peak.

    It keeps the regions whose values reach more than 50 % of the peak, each out to 35 % of the peak. So a second
    blemish of half the strength is kept, and specks in the background are not. There is no guarantee for single
    pixels.

    Parameters
    ----------
    anomaly_map : (H, W) float, >= 0

    Returns
    -------
    (H, W) bool
    """
    peak = float(anomaly_map.max())
    wide = anomaly_map > 0.35 * peak  # (H, W)
    n_labels, labels = cv2.connectedComponents(wide.view(np.uint8), connectivity=8)  # (H, W) int32
    is_kept = np.zeros(n_labels, np.bool_)
    is_kept[labels[anomaly_map > 0.5 * peak]] = True
    return np.asarray(is_kept[labels])  # (H, W)


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
