"""AUsPRO: how much of each annotated defect is marked, of as much as is needed to find it.

P. Bergmann et al., "Beyond Dents and Scratches: Logical Constraints in Unsupervised Anomaly Detection and
Localization", IJCV 2022 (saturated per-region overlap, sPRO, section 4). Where a part is missing, any place where it
could lie is annotated, and marking one of them is enough: each region has a saturation area, and its overlap is the
marked area divided by that, at most 1. A region is what one annotation shows, connected or not; regions may overlap.

The minimum is no sum over pixels, but it is one in the order of the scores: from the highest score down, each pixel
of a region adds 1 / saturation area until the region is saturated, and the others add nothing. So the curve needs
only the ranking of the pixels that all metrics have. Of tied pixels only the sum counts, whichever comes first.

The authors' code samples the curve at some thousands of thresholds; here it has all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError
from blemish.metrics.arrays import BoolArray, FloatArray, IntArray, as_maps_and_masks, as_scores
from blemish.metrics.ranking import rank
from blemish.metrics.regions import check_max_fpr, overlap_area

if TYPE_CHECKING:
    from blemish.metrics.arrays import Values

UNKNOWN = "a defect without a saturation area"
"""Why AUsPRO is undefined if the `Regions` of an image with a mask are None, or no image has one."""


class Region(NamedTuple):
    """One annotated defect of an image."""

    mask: BoolArray
    """(H, W) bool, true on the defect."""
    saturation_px: float
    """From which area on it counts as found, above 0; more than the area of the mask means that area."""


Regions: TypeAlias = Sequence[Region] | None
"""The regions of one image; of a good image an empty list, or None if their saturation areas are not known."""


def auspro(maps: Values, regions: Sequence[Sequence[Region]], max_fpr: float = 0.05) -> float:
    """Area under saturated per-region overlap against false-positive rate, exact, divided by `max_fpr`.

    The overlap is the mean over all regions; the rate is that of all pixels outside of all regions, those of good
    images and those around defects. Between thresholds, and at the limit, the curve is linear.

    Parameters
    ----------
    maps : (N, H, W) or (N, 1, H, W) float array or tensor, finite
        Higher means more anomalous.
    regions : N sequences of `Region`
        Empty for good images. Regions without a pixel do not count.
    max_fpr : float in (0, 1]
        The paper's main figure has 0.05.

    Returns
    -------
    float
        In [0, 1]; NaN if no pixel is defective or none is good. With one region for each connected component and
        its area as saturation area it is `aupro`.

    Raises
    ------
    BlemishError
        If shapes differ, a map holds NaN or infinity, a saturation area is not above 0, or `max_fpr` is out of range.
    """
    check_max_fpr(max_fpr)
    scores = as_scores(maps)
    masks = np.zeros((len(regions), *scores.shape[-2:]), np.bool_)
    for union, of_image in zip(masks, regions, strict=True):
        for region in of_image:
            if region.mask.shape == union.shape:  # others are refused below
                union |= region.mask
    scores, labels = as_maps_and_masks(scores.reshape(-1, *scores.shape[-2:]), masks)
    pixels = rank(scores, labels, "anomaly maps")
    return overlap_area(pixels, pixels.lift(saturated_weights(scores, labels, regions)), max_fpr)


def saturated_shares(
    scores: FloatArray | IntArray, mask: BoolArray, regions: Sequence[Region]
) -> tuple[npt.NDArray[np.float64], int]:
    """Return what each True pixel of a mask adds to the overlaps of the regions, and the number of regions.

    Parameters
    ----------
    scores : (H, W) float, or int where scores are counted in bins
    mask : (H, W) bool
    regions : the regions of one image, as `check_regions` wants them; those without a pixel are not counted.

    Returns
    -------
    (mask.sum(),) float64
        In the order of `scores[mask]`; sums to the number of regions. A pixel of two regions adds to both. Which of
        several tied pixels add, the order of the pixels decides.
    int
    """
    shares = np.zeros(np.count_nonzero(mask))
    scores_of_mask, n_regions = scores[mask], 0
    for region in regions:
        members = np.flatnonzero(region.mask[mask])  # (area,) places of the region's pixels among the mask's
        if members.size:
            from_the_highest = members[np.argsort(scores_of_mask[members])[::-1]]
            saturation_px = min(region.saturation_px, members.size)
            # Each pixel within the saturation area adds one, the last a part of one if the area is no integer.
            shares[from_the_highest] += np.clip(saturation_px - np.arange(members.size), 0, 1) / saturation_px
            n_regions += 1
    return shares, n_regions


def saturated_weights(maps: FloatArray, masks: BoolArray, regions: Sequence[Regions]) -> npt.NDArray[np.float64]:
    """What each defective pixel adds to the mean saturated overlap of all regions.

    Parameters
    ----------
    maps, masks : (N, H, W) float and bool
    regions : `Regions` of each image.

    Returns
    -------
    (masks.sum(),) float64
        In the order of `maps[masks]`; sums to 1. All NaN if the regions of an image with a mask are not known,
        because a mean without these would be that of other defects, or if there is no region.

    Raises
    ------
    BlemishError
        As `check_regions`.
    """
    check_regions(masks, regions)
    images = zip(maps, masks, regions, strict=True)
    if any(of_image is None and mask.any() for _, mask, of_image in images):
        return np.full(np.count_nonzero(masks), np.nan)
    images = zip(maps, masks, regions, strict=True)
    parts = [saturated_shares(anomaly_map, mask, of_image or ()) for anomaly_map, mask, of_image in images]
    n_regions = sum(n_regions for _, n_regions in parts)
    return np.asarray(np.concatenate([np.empty(0), *(shares for shares, _ in parts)]) / (n_regions or np.nan))


def check_regions(masks: BoolArray, regions: Sequence[Regions]) -> None:
    """Refuse regions that do not belong to masks (N, H, W) bool.

    Raises
    ------
    BlemishError
        If there is not one item for each mask, a region has another size or a pixel outside of its mask, or a
        saturation area is not above 0.
    """
    if len(regions) != len(masks):
        raise BlemishError(
            f"there are {len(regions)} lists of regions but {len(masks)} masks: give one list for each"
        )
    for mask, of_image in zip(masks, regions, strict=True):
        for region in of_image or ():
            if region.mask.shape != mask.shape:
                raise BlemishError(f"a region is {region.mask.shape}, its image {mask.shape}: give both at one size")
            if (region.mask & ~mask).any():
                raise BlemishError("a region reaches out of the mask of its image: give masks that hold all regions")
            if not region.saturation_px > 0:
                raise BlemishError(f"a saturation area must be above 0 px, not {region.saturation_px}")
