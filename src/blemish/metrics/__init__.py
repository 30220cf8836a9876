"""Image and pixel metrics of many anomaly maps, from one sort of their scores. Does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from blemish.errors import BlemishError
from blemish.metrics.curves import (
    BoolArray,
    FloatArray,
    as_labels,
    as_scores,
    auroc,
    average_precision,
    f1_max,
    rank,
)
from blemish.metrics.regions import as_maps_and_masks, aupro, region_weights

if TYPE_CHECKING:
    from blemish.metrics.curves import Values

__all__ = ["aupro", "auroc", "average_precision", "evaluate_maps", "f1_max"]


def evaluate_maps(
    maps: Values,
    masks: Values,
    image_scores: Values | None = None,
    is_defective: Values | None = None,
) -> dict[str, float | int]:
    """Compare anomaly maps with ground-truth masks.

    Parameters
    ----------
    maps : (N, H, W) or (N, 1, H, W) float array or tensor, finite
        Higher means more anomalous.
    masks : same shape, bool
        True where defective. Pixel metrics are over the pixels of all N images together.
    image_scores : (N,) float, optional
        Default: the maximum of the 21x21 mean of each map, zero padding counted (DRÆM eq. 5).
    is_defective : (N,) bool, optional
        Default: images whose mask has a True pixel. Give it when a defect is known but not drawn, or too
        small to survive resizing; the pixels of such an image still count as good.

    Returns
    -------
    dict
        `image_auroc`, `image_ap`, `image_f1_max`, `pixel_auroc`, `pixel_ap`, `pixel_aupro` (up to a
        false-positive rate of 0.3) as fractions of 1, NaN where a class is missing; `n_good`,
        `n_defective` as int. All exact.

    Raises
    ------
    BlemishError
        If shapes differ, a map or score is NaN or infinite, or an image called good has a mask.
    """
    scores, labels = as_maps_and_masks(maps, masks)
    broken = np.flatnonzero(~np.isfinite(scores).all(axis=(1, 2)))
    if broken.size:
        raise BlemishError(
            f"anomaly maps contain NaN or infinity (image {broken[0]} first, {broken.size} in all): "
            "check the detector that produced them"
        )
    defective = _image_labels(labels, is_defective)
    images = rank(
        smoothed_maxima(scores) if image_scores is None else as_scores(image_scores),
        defective,
        "image scores",
    )
    pixels = rank(scores, labels, "anomaly maps")
    return {
        "image_auroc": images.auroc(),
        "image_ap": images.average_precision(),
        "image_f1_max": images.f1_max()[0],
        "pixel_auroc": pixels.auroc(),
        "pixel_ap": pixels.average_precision(),
        "pixel_aupro": pixels.overlap_area(region_weights(labels), max_fpr=0.3),
        "n_good": images.n_negative,
        "n_defective": images.n_positive,
    }


def smoothed_maxima(maps: FloatArray, window_px: int = 21) -> FloatArray:
    """`blemish.scoring.smoothed_maximum` without torch: (N, H, W) float to (N,), same dtype."""
    window = (window_px, window_px)
    maxima = [cv2.blur(anomaly_map, window, borderType=cv2.BORDER_CONSTANT).max() for anomaly_map in maps]
    return np.array(maxima, dtype=maps.dtype)


def _image_labels(masks: BoolArray, is_defective: Values | None) -> BoolArray:
    has_mask = np.asarray(masks.any(axis=(1, 2)))
    if is_defective is None:
        return has_mask
    defective = as_labels(is_defective)
    if defective.shape != has_mask.shape:
        raise BlemishError(f"is_defective has shape {defective.shape}, masks {masks.shape}: give one per image")
    contradicted = np.flatnonzero(has_mask & ~defective)
    if contradicted.size:
        raise BlemishError(f"image {contradicted[0]} is called good but its mask is not empty: mend one of them")
    return defective
