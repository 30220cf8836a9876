"""AUPRO: how much of each defect is found before too much of the good area is marked.

P. Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021 (per-region overlap, PRO).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError
from blemish.metrics.curves import BoolArray, FloatArray, as_labels, as_scores, rank

if TYPE_CHECKING:
    from blemish.metrics.curves import Values


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

    Returns
    -------
    float
        In [0, 1]; NaN if no pixel is defective or none is good.

    Raises
    ------
    BlemishError
        If shapes differ, a map holds NaN or infinity, or `max_fpr` is out of range.
    """
    if not 0 < max_fpr <= 1:
        raise BlemishError(f"max_fpr must be in (0, 1], not {max_fpr}")
    scores, labels = as_maps_and_masks(maps, masks)
    return rank(scores, labels, "anomaly maps").overlap_area(region_weights(labels), max_fpr)


def region_weights(masks: BoolArray) -> npt.NDArray[np.float64]:
    """What each defective pixel adds to the mean overlap: 1 / (area of its region * number of regions).

    Parameters
    ----------
    masks : (N, H, W) bool

    Returns
    -------
    (masks.sum(),) float64
        In the order of `maps[masks]`; sums to 1.
    """
    regions = [np.empty(0, np.intp)]
    n_regions = 0
    for mask in masks:
        if mask.any():
            n_labels, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
            regions.append(labels[mask] - 1 + n_regions)  # label 0 is the background
            n_regions += n_labels - 1
    region = np.concatenate(regions)
    area_px = np.bincount(region)
    return 1.0 / (area_px[region] * n_regions)


def as_maps_and_masks(maps: Values, masks: Values) -> tuple[FloatArray, BoolArray]:
    """Maps as (N, H, W) floats and masks as (N, H, W) bool, from arrays or tensors, (N, 1, H, W) squeezed."""
    scores, labels = as_scores(maps), as_labels(masks)
    given = f"anomaly maps have shape {scores.shape} and masks {labels.shape}"
    if scores.ndim == 4 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if labels.ndim == 4 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if scores.ndim != 3 or scores.shape != labels.shape:
        raise BlemishError(f"{given}: give both as (N, H, W) or (N, 1, H, W) of the same size")
    return scores, labels
