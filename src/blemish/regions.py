"""From the anomaly map of a defective image to its blemishes."""

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
    """What to outline in the map of a defective image: hysteresis below its own highest value.

    Regions that reach half of it, each out to 35 % of it: a second blemish that is fainter by half is kept, and
    specks in the background are not. It promises nothing of single pixels.

    Parameters
    ----------
    anomaly_map : (H, W) float, >= 0

    Returns
    -------
    (H, W) bool
    """
    peak = float(anomaly_map.max())
    wide = anomaly_map > 0.35 * peak
    n_labels, labels = cv2.connectedComponents(wide.view(np.uint8), connectivity=8)
    reaches = np.zeros(n_labels, np.bool_)
    reaches[labels[anomaly_map > 0.5 * peak]] = True
    return np.asarray(reaches[labels])


def regions(anomaly_map: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> list[Region]:
    """8-connected regions of a mask, the worst first.

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
    left, top, width, height = cv2.boundingRect(inside.view(np.uint8))  # counting is slow: only where some are
    part = slice(top, top + height), slice(left, left + width)
    inside, values = np.ascontiguousarray(inside[part]), anomaly_map[part]
    n_labels, labels, stats, _ = cv2.connectedComponentsWithStats(inside.view(np.uint8), connectivity=8)
    peaks = np.full(n_labels, -np.inf)
    np.maximum.at(peaks, labels[inside].astype(np.intp), values[inside])
    found = [
        Region((left + x, top + y, left + x + width, top + y + height), area_px=area, peak=peak)
        for (x, y, width, height, area), peak in zip(stats[1:].tolist(), peaks[1:].tolist(), strict=True)
    ]
    return sorted(found, key=lambda region: region.peak, reverse=True)
