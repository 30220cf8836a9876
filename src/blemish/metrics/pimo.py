"""AUPIMO: how much of each defective image's mask is marked before almost any pixel of good images is marked.

J. P. C. Bertoldo et al., "AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High Speed and Low
Tolerance", BMVC 2024. The per-image overlap (PIMO) at a threshold is the share of one image's mask at or above it.
Its rate axis is shared by all images: the mean, over the *good images only*, of the share of their pixels at or
above the threshold; it is logarithmic, and only a small range near zero counts.

The authors' code uses 300,000 equidistant thresholds. It takes the area between the two thresholds whose rates are
nearest to the bounds, and divides it by the range of the bounds. This module uses the bounds for both. With few good
pixels the results differ (by 2e-3 at 26 pixels for the lower bound); with the same bounds they agree to 1e-6.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError
from blemish.metrics.arrays import BoolArray, FloatArray, as_image_labels, as_maps_and_masks
from blemish.metrics.ranking import Ranking, sorted_in_place

if TYPE_CHECKING:
    from blemish.metrics.arrays import Values

FPR_BOUNDS = (1e-5, 1e-4)


def aupimo(
    maps: Values,
    masks: Values,
    fpr_bounds: tuple[float, float] = FPR_BOUNDS,
    is_defective: Values | None = None,
) -> float:
    """Mean of `aupimo_per_image` over the images with a mask, in [0, 1]; NaN if undefined. Same arguments."""
    areas = aupimo_per_image(maps, masks, fpr_bounds, is_defective)
    areas = areas[~np.isnan(areas)]
    return float(areas.mean()) if areas.size else float("nan")


def aupimo_per_image(
    maps: Values,
    masks: Values,
    fpr_bounds: tuple[float, float] = FPR_BOUNDS,
    is_defective: Values | None = None,
) -> npt.NDArray[np.float64]:
    """Area under each image's overlap against the logarithm of the good images' false-positive rate, exact.

    The area is divided by the range of the logarithm, so it is the mean overlap within the bounds. Between thresholds
    the curve is linear in the rate, as ROC and PRO are, also on this logarithmic axis: scores tied across the classes
    count as if in random order.

    Parameters
    ----------
    maps : (N, H, W) or (N, 1, H, W) float array or tensor, finite
        Higher means more anomalous. All maps have the same size, so the mean of the images' rates is the rate
        over all their pixels.
    masks : same shape, bool
    fpr_bounds : (float, float), 0 < lower < upper <= 1
    is_defective : (N,) bool, optional
        Default: images whose mask has a True pixel. A defective image without a mask is left out: it has no
        overlap, and its pixels do not count as good.

    Returns
    -------
    (N,) float64
        In [0, 1]; NaN for images without a mask. All NaN if there is no good image, or if the good images
        have fewer than 1 / lower bound pixels: a single pixel would exceed the bound.

    Raises
    ------
    BlemishError
        If shapes differ, a map holds NaN or infinity, the bounds are out of range, or an image called good has
        a mask.
    """
    check_fpr_bounds(fpr_bounds)
    scores, labels = as_maps_and_masks(maps, masks)
    is_good = ~as_image_labels(labels, is_defective)
    pixels = Ranking.of(scores[labels]).with_negatives(sorted_in_place(scores[is_good].ravel()))
    per_image = np.full(len(labels), np.nan)
    if not why_undefined(pixels, fpr_bounds):
        area_px = labels.sum(axis=(1, 2))
        image_index = np.repeat(np.arange(len(labels)), area_px)  # (n_positive,), the image of each defective pixel
        areas = np.bincount(image_index, overlap_areas(pixels, fpr_bounds)[pixels.group], minlength=len(labels))
        has_mask = area_px > 0
        per_image[has_mask] = areas[has_mask] / area_px[has_mask]
    return per_image


def mean_overlap(good_pixels: Ranking, lift: FloatArray, fpr_bounds: tuple[float, float] = FPR_BOUNDS) -> float:
    """AUPIMO from the pixels of the masks, ranked against the pixels of good images.

    `lift` (K,) is the increase of the images' mean overlap at each threshold, and sums to 1.
    """
    if why_undefined(good_pixels, fpr_bounds):
        return float("nan")
    return min(float(np.dot(lift, overlap_areas(good_pixels, fpr_bounds))), 1.0)


def overlap_areas(good_pixels: Ranking, fpr_bounds: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Return, for each threshold, the AUPIMO of an overlap that rises from 0 to 1 at this threshold: (K,) in [0, 1].

    The overlap is a ramp from `start` to `end` false positives, whose integral over d(log z) has a closed form, and
    1 above `end`.
    """
    lower, upper = (bound * good_pixels.n_negative for bound in fpr_bounds)
    start, end = good_pixels.false_positives_above, good_pixels.false_positives
    left, right = np.clip(start, lower, upper), np.clip(end, lower, upper)
    ramp = (right - left - start * np.log(right / left)) / np.maximum(end - start, 1)
    return np.asarray((ramp + np.log(upper / right)) / math.log(upper / lower))


def image_weights(masks: BoolArray) -> npt.NDArray[np.float64]:
    """Weight of each defective pixel in the images' mean overlap: 1 / (area in its image * images with a mask).

    Parameters
    ----------
    masks : (N, H, W) bool

    Returns
    -------
    (masks.sum(),) float64
        In the order of `maps[masks]`; sums to 1.
    """
    area_px = masks.sum(axis=(1, 2))
    area_px = area_px[area_px > 0]
    return np.repeat(1.0 / (area_px * max(len(area_px), 1)), area_px)


def why_undefined(good_pixels: Ranking, fpr_bounds: tuple[float, float] = FPR_BOUNDS) -> str:
    """Return the reason why AUPIMO is NaN, or an empty string if it is defined."""
    if good_pixels.n_negative == 0:
        return "no good image"
    n_needed = math.ceil(1 / fpr_bounds[0])
    if good_pixels.n_positive and good_pixels.n_negative < n_needed:
        return (
            f"good images hold {good_pixels.n_negative} pixels: a false-positive rate of {fpr_bounds[0]:g} "
            f"takes {n_needed}"
        )
    return good_pixels.why_undefined("pixel")


def check_fpr_bounds(fpr_bounds: tuple[float, float]) -> None:
    """Refuse bounds that are not a range of rates."""
    lower, upper = fpr_bounds
    if not 0 < lower < upper <= 1:
        raise BlemishError(f"fpr_bounds must be 0 < lower < upper <= 1, not {fpr_bounds}: the paper has {FPR_BOUNDS}")
