"""All metrics of a test set, from one ranking of its images and one of its pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError
from blemish.metrics.arrays import (
    BoolArray,
    FloatArray,
    as_finite_scores,
    as_image_labels,
    as_labels,
    as_maps_and_masks,
)
from blemish.metrics.curves import MAX_POINTS, Curve, overlap_curve, pr_curve, roc_curve
from blemish.metrics.pimo import image_weights, mean_overlap, why_undefined
from blemish.metrics.ranking import Ranking, rank, sorted_in_place
from blemish.metrics.regions import overlap_area, region_weights
from blemish.metrics.saturated import UNKNOWN, Regions, saturated_weights

if TYPE_CHECKING:
    from blemish.metrics.arrays import Values


@dataclass(frozen=True)
class Rankings:
    """A ranked test set, from which every metric and curve is computed.

    Attributes
    ----------
    image_scores : (N,) float
    is_defective : (N,) bool
    pixels : Ranking
        Defective pixels against all other pixels, including those around defects.
    good_pixels : Ranking
        Defective pixels against the pixels of good images only; same thresholds as `pixels`.
    region_lift, image_lift : (K,) float
        Increase of the mean overlap of regions (PRO) and of images (PIMO) at each threshold; each sums to 1.
    has_equal_sizes : bool
        Whether all maps have the same size. AUPIMO, a mean over images, requires it.
    saturated_lift : (K,) float or None
        As `region_lift`, of the saturated overlap (sPRO); all NaN if the saturation area of a defect is not known.
        None if the data have none at all: there is no AUsPRO among the metrics then.
    """

    image_scores: FloatArray
    is_defective: BoolArray
    pixels: Ranking
    good_pixels: Ranking
    region_lift: npt.NDArray[np.float64]
    image_lift: npt.NDArray[np.float64]
    has_equal_sizes: bool = True
    saturated_lift: npt.NDArray[np.float64] | None = None

    def metrics(self, threshold: float | None = None) -> dict[str, Any]:
        """Return all metrics by name, as `evaluate_maps` does."""
        images = rank(self.image_scores, self.is_defective, "image scores")
        image_f1, image_f1_threshold = images.f1_max()
        values = {
            "image_auroc": images.auroc(),
            "image_ap": images.average_precision(),
            "image_f1_max": image_f1,
            "image_f1_max_threshold": image_f1_threshold,
            **self.pixel_metrics(),
        }
        reasons = {"image": images.why_undefined("image"), "pixel": self.pixels.why_undefined("pixel")}
        why = {name: reasons[name.split("_")[0]] for name in values}
        why["pixel_aupimo"] = why_undefined(self.good_pixels) if self.has_equal_sizes else "maps of several sizes"
        if self.saturated_lift is not None and np.isnan(self.saturated_lift).any():
            why |= dict.fromkeys(("pixel_auspro", "pixel_auspro_05"), reasons["pixel"] or UNKNOWN)
        if threshold is not None:
            rates = rates_at(self.image_scores, self.is_defective, threshold)
            values |= rates._asdict()
            why |= {"tpr": "no defective image", "tnr": "no good image", "ca": "no image"}
        return {
            **values,
            "n_good": images.n_negative,
            "n_defective": images.n_positive,
            "reasons": {name: why[name] for name, value in values.items() if math.isnan(value)},
        }

    def pixel_metrics(self) -> dict[str, float]:
        """Return the metrics whose name begins with `pixel`."""
        f1, f1_threshold = self.pixels.f1_max()
        saturated = {}
        if self.saturated_lift is not None:
            saturated = {
                "pixel_auspro": overlap_area(self.pixels, self.saturated_lift, max_fpr=0.3),
                "pixel_auspro_05": overlap_area(self.pixels, self.saturated_lift, max_fpr=0.05),
            }
        return {
            "pixel_auroc": self.pixels.auroc(),
            "pixel_ap": self.pixels.average_precision(),
            "pixel_f1_max": f1,
            "pixel_f1_max_threshold": f1_threshold,
            "pixel_aupro": overlap_area(self.pixels, self.region_lift, max_fpr=0.3),
            "pixel_aupro_05": overlap_area(self.pixels, self.region_lift, max_fpr=0.05),
            "pixel_aupimo": mean_overlap(self.good_pixels, self.image_lift) if self.has_equal_sizes else math.nan,
            **saturated,
        }

    def curves(self, max_points: int = MAX_POINTS) -> dict[str, Curve]:
        """Return points to draw: `image_roc`, `image_pr`, `pixel_roc`, `pixel_pr`, `pixel_pro` (up to a rate of 0.3).

        Each has at most `max_points` points (at least 8) without visible change, and is empty where its area is NaN.
        """
        images = rank(self.image_scores, self.is_defective, "image scores")
        return {
            "image_roc": roc_curve(images, max_points),
            "image_pr": pr_curve(images, max_points),
            "pixel_roc": roc_curve(self.pixels, max_points),
            "pixel_pr": pr_curve(self.pixels, max_points),
            "pixel_pro": overlap_curve(self.pixels, self.region_lift, 0.3, max_points),
        }


def evaluate_maps(
    maps: Values,
    masks: Values,
    image_scores: Values | None = None,
    is_defective: Values | None = None,
    threshold: float | None = None,
    regions: Sequence[Regions] | None = None,
) -> dict[str, Any]:
    """Compare anomaly maps with ground-truth masks.

    Parameters
    ----------
    maps : (N, H, W) or (N, 1, H, W) float array or tensor, finite
        Higher means more anomalous.
    masks : same shape, bool
        True where defective. Pixel metrics are over the pixels of all N images together.
    image_scores : (N,) float, optional
        Default: the maximum of the 21x21 mean of each map; the zero padding counts in the mean (DRÆM eq. 5).
    is_defective : (N,) bool, optional
        Default: images whose mask has a True pixel. Pass it if a defect is known but not drawn, or too small to
        survive resizing; the pixels of such an image still count as good, except for AUPIMO.
    threshold : float, optional
        Threshold of the detector, in units of the image score: an image is called defective above it.
    regions : N sequences of `Region`, optional
        The annotated defects of each image with their saturation areas, within its mask: for AUsPRO. Empty for good
        images, None where they are not known.

    Returns
    -------
    dict
        Fractions of 1, all exact: `image_auroc`, `image_ap`, `image_f1_max`, `pixel_auroc`, `pixel_ap`,
        `pixel_f1_max`, `pixel_aupro` (up to a false-positive rate of 0.3), `pixel_aupro_05` (up to 0.05),
        `pixel_aupimo` (rates of 1e-5 to 1e-4 on good images); if `regions` are given, `pixel_auspro` (up to 0.3) and
        `pixel_auspro_05`; if `threshold` is given, `tpr`, `tnr` and `ca`. In units of the scores:
        `image_f1_max_threshold`, `pixel_f1_max_threshold`, the lowest thresholds that reach the best F1. As int:
        `n_good`, `n_defective`. A metric that is undefined because a class is missing is NaN, and `reasons` (dict of
        str) holds the reason by the name of the metric.

    Raises
    ------
    BlemishError
        If shapes differ, a map or score is NaN or infinite, or an image called good has a mask.

    Notes
    -----
    Besides its arguments, memory holds one sorted copy of the good images' pixels or of the good pixels in defective
    images, whichever is larger, and about 100 bytes per defective pixel. For maps that do not fit in memory, use
    `blemish.metrics.StreamingMetrics`.
    """
    return rank_maps(maps, masks, image_scores, is_defective, regions).metrics(threshold)


def rank_maps(
    maps: Values,
    masks: Values,
    image_scores: Values | None = None,
    is_defective: Values | None = None,
    regions: Sequence[Regions] | None = None,
    counted: BoolArray | None = None,
) -> Rankings:
    """Rank a test set once for all its metrics and curves. Arguments and errors as for `evaluate_maps`.

    Only the good pixels in ``counted`` (H, W) count, of each image; None counts all. Defective ones have to be in it.
    """
    scores, labels = as_maps_and_masks(maps, masks)
    defective = as_image_labels(labels, is_defective)
    scores_of_images = smoothed_maxima(scores) if image_scores is None else image_scores
    scores_of_images = as_finite_scores(scores_of_images, defective, "image scores")
    # Each good pixel is sorted once: first those of good images, then those around defects.
    of_good = scores[~defective].ravel() if counted is None else scores[~defective][:, counted].ravel()
    good_pixels = Ranking.of(scores[labels]).with_negatives(sorted_in_place(of_good))
    around = ~labels & defective[:, None, None] & (True if counted is None else counted)
    pixels = good_pixels.with_negatives(sorted_in_place(scores[around]))
    return Rankings(
        image_scores=scores_of_images,
        is_defective=defective,
        pixels=pixels,
        good_pixels=good_pixels,
        region_lift=pixels.lift(region_weights(labels)),
        image_lift=pixels.lift(image_weights(labels)),
        saturated_lift=None if regions is None else pixels.lift(saturated_weights(scores, labels, regions)),
    )


class Rates(NamedTuple):
    """Shares of images judged correctly, in [0, 1]; NaN where there is no such image."""

    tpr: float
    """Share of the defective images judged defective."""
    tnr: float
    """Share of the good images judged good."""
    ca: float
    """Share of all images judged correctly: the classification accuracy of the DAGM protocol."""


def rates_at(image_scores: Values, is_defective: Values, threshold: float) -> Rates:
    """Compare the verdicts `score > threshold`, as of `blemish.thresholds.Threshold`, with the labels.

    Parameters
    ----------
    image_scores : (N,) float, finite
    is_defective : (N,) bool
    threshold : float
        In units of the image score; must be chosen without these labels.

    Raises
    ------
    BlemishError
        If shapes differ, a score is NaN or infinite, or the threshold is NaN.
    """
    labels = as_labels(is_defective)
    scores = as_finite_scores(image_scores, labels, "image scores")
    if math.isnan(threshold):
        raise BlemishError("threshold is NaN: give the threshold of the detector, or none")
    is_correct = (scores.astype(np.float64) > threshold) == labels  # numpy would round the threshold to float32
    return Rates(
        *(
            float(group.mean()) if group.size else math.nan
            for group in (is_correct[labels], is_correct[~labels], is_correct)
        )
    )


def smoothed_maxima(maps: FloatArray, window_px: int = 21) -> FloatArray:
    """`blemish.scoring.smoothed_maximum` without torch: (N, H, W) float to (N,), same dtype."""
    window = (window_px, window_px)
    maxima = [cv2.blur(anomaly_map, window, borderType=cv2.BORDER_CONSTANT).max() for anomaly_map in maps]
    return np.array(maxima, dtype=maps.dtype)
