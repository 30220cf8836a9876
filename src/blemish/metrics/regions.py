"""AUPRO: how much of each defect is marked before too much of the good area is marked.

P. Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021 (per-region overlap, PRO).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError
from blemish.metrics.arrays import BoolArray, FloatArray, as_maps_and_masks
from blemish.metrics.ranking import Ranking, rank

if TYPE_CHECKING:
    from blemish.metrics.arrays import Values


def aupro(maps: Values, masks: Values, max_fpr: float = 0.3) -> float:
    """Area under per-region overlap against false-positive rate, exact, divided by `max_fpr`.

    The overlap is the mean, over the 8-connected regions of all masks, of the share of the region at or
    above the threshold; the rate is that of all pixels outside the masks. Between thresholds, and at the
    limit, the curve is linear.

    Parameters
    ----------
    maps : (N, H, W) or (N, 1, H, W) float array or tensor, finite
        Higher means more anomalous.
    masks : same shape, bool
    max_fpr : float in (0, 1]
        The literature uses 0.3, and 0.05 where that no longer tells detectors apart.

    Returns
    -------
    float
        In [0, 1]; NaN if no pixel is defective or none is good.

    Raises
    ------
    BlemishError
        If shapes differ, a map holds NaN or infinity, or `max_fpr` is out of range.
    """
    check_max_fpr(max_fpr)
    scores, labels = as_maps_and_masks(maps, masks)
    pixels = rank(scores, labels, "anomaly maps")
    return overlap_area(pixels, pixels.lift(region_weights(labels)), max_fpr)


def overlap_area(pixels: Ranking, lift: FloatArray, max_fpr: float) -> float:
    """Area under (false-positive rate, overlap) up to `max_fpr`, divided by `max_fpr`; NaN if a class is missing.

    `lift` (K,) is the increase of the overlap at each threshold, and sums to 1. The positives at a threshold raise
    the curve by a ramp as wide as the negatives tied with them; the area is the sum of what each threshold adds up
    to the limit.
    """
    if pixels.why_undefined():
        return float("nan")
    limit = max_fpr * pixels.n_negative
    start, end = pixels.false_positives_above, pixels.false_positives
    ramp = np.clip(limit, start, end) - start
    area = ramp * ramp / (2 * np.maximum(end - start, 1)) + np.maximum(limit - end, 0)
    return min(float(np.dot(lift, area)) / limit, 1.0)  # the lifts may sum to 1 + 1e-16


def region_shares(mask: BoolArray) -> tuple[npt.NDArray[np.float64], int]:
    """Return 1 / area_px of the 8-connected region of each True pixel of a mask, and the number of regions.

    Parameters
    ----------
    mask : (H, W) bool

    Returns
    -------
    (mask.sum(),) float64
        In the order of `anomaly_map[mask]`; sums to the number of regions.
    int
    """
    if not mask.any():
        return np.empty(0), 0
    n_labels, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    region = labels[mask]
    return 1.0 / np.bincount(region)[region], n_labels - 1  # label 0 is the background


def region_weights(masks: BoolArray) -> npt.NDArray[np.float64]:
    """Weight of each defective pixel in the mean overlap: 1 / (area of its region * number of regions).

    Parameters
    ----------
    masks : (N, H, W) bool

    Returns
    -------
    (masks.sum(),) float64
        In the order of `maps[masks]`; sums to 1.
    """
    shares, counts = zip(*map(region_shares, masks), strict=True) if len(masks) else ((np.empty(0),), (0,))
    return np.asarray(np.concatenate(shares) / max(sum(counts), 1))


def check_max_fpr(max_fpr: float) -> None:
    """Refuse a limit that is not a rate."""
    if not 0 < max_fpr <= 1:
        raise BlemishError(f"max_fpr must be in (0, 1], not {max_fpr}: the literature uses 0.3 and 0.05")
