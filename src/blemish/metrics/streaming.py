"""The same metrics batch by batch, in memory that does not grow with the maps, with bounds on their error.

Scores are counted in bins of equal width. Binning loses only the order within a bin: its pixels become ties. If the
positives lose every tie, each metric is lowest; if they win every tie, it is highest. The true value lies between.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.errors import BlemishError
from blemish.metrics.arrays import (
    FloatArray,
    IntArray,
    as_finite_scores,
    as_image_labels,
    as_labels,
    as_maps_and_masks,
)
from blemish.metrics.ranking import Ranking
from blemish.metrics.regions import region_shares
from blemish.metrics.saturated import Regions, check_regions, saturated_shares
from blemish.metrics.summary import Rankings, smoothed_maxima

if TYPE_CHECKING:
    from blemish.metrics.arrays import BoolArray, Values

ROUNDING = 1e-12
"""Added to every error bound for the rounding of float64 sums."""


class StreamingMetrics:
    """Metrics of a set of anomaly maps that need not fit in memory.

    Memory holds six histograms (48 bytes per bin: 12 MB) and 9 bytes per image for its score and label, so that
    the image metrics are exact. The maps are not kept.

    Parameters
    ----------
    score_range : (float, float)
        Range of the maps' scores; those of DRÆM and DSR are probabilities. A score above it (distances such as
        PatchCore's have no upper limit) doubles the range, and the width of the bins, until it is inside. Scores
        below count in the first bin: that is not an error, but the bound is looser.
    n_bins : int

    Raises
    ------
    BlemishError
        If the range is empty or not finite, or there are fewer than 2 bins.

    Examples
    --------
    >>> import numpy as np
    >>> metrics, rng = StreamingMetrics(), np.random.default_rng(0)
    >>> for _ in range(3):
    ...     maps, masks = rng.random((2, 64, 64)), np.zeros((2, 64, 64), bool)
    ...     masks[0, :8, :8] = True
    ...     metrics.update(maps, masks)
    >>> result = metrics.compute()
    >>> abs(result["pixel_auroc"] - 0.5) < 0.1, result["error_bounds"]["pixel_auroc"] < 1e-4
    (True, True)
    """

    def __init__(self, score_range: tuple[float, float] = (0.0, 1.0), n_bins: int = 2**18) -> None:
        lower, upper = map(float, score_range)
        if not lower < upper or not math.isfinite(upper - lower):
            raise BlemishError(f"score_range must be finite and rising, not {score_range}: give (lowest, highest)")
        if n_bins < 2:
            raise BlemishError(f"n_bins must be at least 2, not {n_bins}: the bound on the error shrinks with it")
        self.score_range, self.n_bins = (lower, upper), n_bins
        self._bins_per_unit = n_bins / (upper - lower)
        self._positives = np.zeros(n_bins, np.intp)
        self._good_negatives = np.zeros(n_bins, np.intp)  # of good images
        self._other_negatives = np.zeros(n_bins, np.intp)  # of defective images, around their masks
        self._region_lift, self._image_lift = np.zeros(n_bins), np.zeros(n_bins)
        self._n_regions = self._n_masked = 0
        self._saturated_lift, self._n_saturated = np.zeros(n_bins), 0
        self._has_saturations, self._lacks_saturations = False, False
        self._sizes_hw: set[tuple[int, ...]] = set()
        self._image_scores, self._is_defective = array("d"), array("b")

    def update(
        self,
        maps: Values,
        masks: Values,
        image_scores: Values | None = None,
        is_defective: Values | None = None,
        regions: Sequence[Regions] | None = None,
        counted: BoolArray | None = None,
    ) -> None:
        """Count a batch. Arguments and errors as for `rank_maps`; AUPIMO requires maps of equal size."""
        scores, labels = as_maps_and_masks(maps, masks)
        defective = as_image_labels(labels, is_defective)
        known = [None] * len(labels) if regions is None else regions
        check_regions(labels, known)
        scores_of_images = smoothed_maxima(scores) if image_scores is None else image_scores
        self.update_images(scores_of_images, defective)
        self._sizes_hw.add(scores.shape[1:])
        self._has_saturations |= regions is not None
        for anomaly_map, mask, has_defect, of_image in zip(scores, labels, defective, known, strict=True):
            self._count(self._bins_of(anomaly_map), mask, bool(has_defect), of_image, counted)

    def update_images(self, image_scores: Values, is_defective: Values) -> None:
        """Count images without a known mask: scores (N,) float and labels (N,) bool. Their pixels are not counted."""
        defective = as_labels(is_defective)
        self._image_scores.extend(as_finite_scores(image_scores, defective, "image scores").tolist())
        self._is_defective.extend(defective.tolist())

    def rankings(self) -> Rankings:
        """Return the rankings of all batches so far, each score rounded to its bin: for the curves and `compute`."""
        bins = np.flatnonzero(self._positives)
        defects = Ranking(
            thresholds=self.score_range[0] + bins / self._bins_per_unit,
            positives=self._positives[bins],
            group=np.arange(len(bins)),
            false_positives=np.zeros(len(bins), np.intp),
            false_positives_above=np.zeros(len(bins), np.intp),
            n_negative=0,
        )
        good_pixels = _with_counts(defects, bins, self._good_negatives)
        n_saturated = math.nan if self._lacks_saturations else self._n_saturated or math.nan
        return Rankings(
            image_scores=np.array(self._image_scores),
            is_defective=np.array(self._is_defective, np.bool_),
            pixels=_with_counts(good_pixels, bins, self._other_negatives),
            good_pixels=good_pixels,
            region_lift=self._region_lift[bins] / max(self._n_regions, 1),
            image_lift=self._image_lift[bins] / max(self._n_masked, 1),
            has_equal_sizes=len(self._sizes_hw) < 2,
            saturated_lift=self._saturated_lift[bins] / n_saturated if self._has_saturations else None,
        )

    def compute(self, threshold: float | None = None) -> dict[str, Any]:
        """Return the metrics of `evaluate_maps` over all batches so far, and `error_bounds`.

        `error_bounds` (dict of float) holds for each pixel metric the largest possible difference from the exact
        value, and NaN where the metric is NaN. Image metrics are exact. `pixel_f1_max_threshold` is the lower
        edge of the bin at which `pixel_f1_max` is reached; the exact optimum can lie at another threshold.
        """
        rankings = self.rankings()
        return {**rankings.metrics(threshold), "error_bounds": error_bounds(rankings)}

    def _bins_of(self, anomaly_map: FloatArray) -> IntArray:
        """Return the (H, W) bin of each pixel. Each step keeps the order, including rounding."""
        self._widen_to(float(anomaly_map.max(initial=-math.inf)))
        position = (anomaly_map.astype(np.float64) - self.score_range[0]) * self._bins_per_unit
        return np.clip(position, 0, self.n_bins - 1).astype(np.intp)

    def _widen_to(self, highest: float) -> None:
        """Double the range, and put every two bins of the histograms together, until it holds this score."""
        lower, upper = self.score_range
        while highest > upper and math.isfinite(upper + (upper - lower)):
            upper += upper - lower
            for name, counts in vars(self).items():
                if isinstance(counts, np.ndarray):
                    pairs = np.add.reduceat(counts, np.arange(0, self.n_bins, 2))
                    setattr(self, name, np.pad(pairs, (0, self.n_bins - len(pairs))))
        self.score_range, self._bins_per_unit = (lower, upper), self.n_bins / (upper - lower)

    def _count(
        self, bins: IntArray, mask: BoolArray, is_defective: bool, regions: Regions, counted: BoolArray | None
    ) -> None:
        negatives = np.bincount(bins[~mask if counted is None else ~mask & counted], minlength=self.n_bins)
        if not is_defective:
            self._good_negatives += negatives
            return
        self._other_negatives += negatives
        shares, n_regions = region_shares(mask)
        if n_regions:
            defect_bins = bins[mask]
            np.add.at(self._positives, defect_bins, 1)
            np.add.at(self._region_lift, defect_bins, shares)
            np.add.at(self._image_lift, defect_bins, 1 / len(defect_bins))
            self._n_regions += n_regions
            self._n_masked += 1
            self._lacks_saturations |= regions is None
            # Ranked by their bins, the pixels of a region add to each bin as much as they do ranked by their scores.
            saturated, n_saturated = saturated_shares(bins, mask, regions or ())
            np.add.at(self._saturated_lift, defect_bins, saturated)
            self._n_saturated += n_saturated


def error_bounds(rankings: Rankings) -> dict[str, float]:
    """Return how far each pixel metric can be from its exact value, for any order of the scores within the bins.

    Returns
    -------
    dict of str to float
        The largest difference in either direction. For AUROC, AUPRO, AUsPRO and AUPIMO the worst order reaches it.
    """
    pixels, good = rankings.pixels, rankings.good_pixels
    binned = rankings.pixel_metrics()
    best = replace(rankings, pixels=_ties_won(pixels), good_pixels=_ties_won(good)).pixel_metrics()
    worst = replace(rankings, pixels=_ties_lost(pixels), good_pixels=_ties_lost(good)).pixel_metrics()
    worst["pixel_ap"] = lowest_average_precision(pixels)
    return {
        name: max(best[name] - value, value - worst[name]) + ROUNDING
        for name, value in binned.items()
        if name != "pixel_f1_max_threshold"
    }


def _ties_won(ranking: Ranking) -> Ranking:
    """Return the ranking with every positive above the negatives of its bin.

    This order gives the highest metrics: at each positive, the number of true positives is as high and the number of
    false positives as low as possible.
    """
    return replace(ranking, false_positives=ranking.false_positives_above)


def _ties_lost(ranking: Ranking) -> Ranking:
    """Return the ranking with every positive below the negatives of its bin.

    This order gives the lowest metrics, except for average precision.
    """
    return replace(ranking, false_positives_above=ranking.false_positives)


def lowest_average_precision(ranking: Ranking) -> float:
    """Average precision if in each bin the negatives rank above the positives, and no two positives are tied.

    A bin has p positives, with a positives above the bin, and f false positives down to its end. The j-th of its
    positives has precision (a + j) / (a + j + f). Summed over j this is p - f * (1 / (a + f + 1) + ... +
    1 / (a + f + p)), and the sum of reciprocals is less than log((a + f + p + 1/2) / (a + f + 1/2)), since 1/x is
    convex.
    """
    if ranking.why_undefined():
        return float("nan")
    above = ranking.true_positives - ranking.positives + ranking.false_positives
    reciprocals = np.log1p(ranking.positives / (above + 0.5))
    return float((ranking.positives - ranking.false_positives * reciprocals).sum()) / ranking.n_positive


def _with_counts(ranking: Ranking, bins: IntArray, negatives: IntArray) -> Ranking:
    """`Ranking.with_negatives` from a histogram (n_bins,); `bins` (K,) are the bins of the thresholds."""
    at_least = np.cumsum(negatives[::-1])[::-1]
    return replace(
        ranking,
        false_positives=ranking.false_positives + at_least[bins],
        false_positives_above=ranking.false_positives_above + at_least[bins] - negatives[bins],
        n_negative=ranking.n_negative + int(negatives.sum()),
    )
