"""The same metrics from batch after batch, in memory that does not grow with the maps, and how far off they are.

Scores are counted in bins of equal width. Binning keeps their order, so all that is lost is the order within a bin:
its pixels become ties. If every tie were lost by the positives, or every tie won, each metric would move one way;
the true value lies between.
"""

from __future__ import annotations

import math
from array import array
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
from blemish.metrics.summary import Rankings, smoothed_maxima

if TYPE_CHECKING:
    from blemish.metrics.arrays import BoolArray, Values

ROUNDING = 1e-12
"""Added to every error bound for the rounding of float64 sums."""


class StreamingMetrics:
    """Metrics of a set of anomaly maps that need not fit in memory.

    Beside five histograms (40 bytes a bin: 10 MB) it keeps 9 bytes of each image, its score and its label, so that
    the image metrics are exact; of the maps it keeps nothing.

    Parameters
    ----------
    score_range : (float, float)
        Where the maps' scores lie; DRÆM's and DSR's are probabilities. Scores outside count in the first or
        last bin: no error, but a looser bound.
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
        self._sizes_hw: set[tuple[int, ...]] = set()
        self._image_scores, self._is_defective = array("d"), array("b")

    def update(
        self,
        maps: Values,
        masks: Values,
        image_scores: Values | None = None,
        is_defective: Values | None = None,
    ) -> None:
        """Count a batch. Arguments and errors as for `evaluate_maps`; AUPIMO takes maps of one size."""
        scores, labels = as_maps_and_masks(maps, masks)
        defective = as_image_labels(labels, is_defective)
        scores_of_images = smoothed_maxima(scores) if image_scores is None else image_scores
        self.update_images(scores_of_images, defective)
        self._sizes_hw.add(scores.shape[1:])
        for anomaly_map, mask, is_bad in zip(scores, labels, defective, strict=True):
            self._count(self._bins_of(anomaly_map), mask, bool(is_bad))

    def update_images(self, image_scores: Values, is_defective: Values) -> None:
        """Count images whose masks are not known: (N,) float and bool. Their pixels count nowhere."""
        defective = as_labels(is_defective)
        self._image_scores.extend(as_finite_scores(image_scores, defective, "image scores").tolist())
        self._is_defective.extend(defective.tolist())

    def rankings(self) -> Rankings:
        """What was counted so far, each score rounded to its bin: for the curves, and for `compute`."""
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
        return Rankings(
            image_scores=np.array(self._image_scores),
            is_defective=np.array(self._is_defective, np.bool_),
            pixels=_with_counts(good_pixels, bins, self._other_negatives),
            good_pixels=good_pixels,
            region_lift=self._region_lift[bins] / max(self._n_regions, 1),
            image_lift=self._image_lift[bins] / max(self._n_masked, 1),
            of_one_size=len(self._sizes_hw) < 2,
        )

    def compute(self, threshold: float | None = None) -> dict[str, Any]:
        """The metrics of `evaluate_maps`, of all batches so far, and `error_bounds`.

        `error_bounds` (dict of float) holds for each pixel metric what it can differ by, at most, from the exact
        one, and NaN where the metric is. Image metrics are exact. `pixel_f1_max_threshold` is the lower edge
        of a bin, at which `pixel_f1_max` is reached; the threshold that is best by a hair more can be another.
        """
        rankings = self.rankings()
        return {**rankings.metrics(threshold), "error_bounds": error_bounds(rankings)}

    def _bins_of(self, anomaly_map: FloatArray) -> IntArray:
        """(H, W) bin of each pixel. Each step keeps the order, rounding included."""
        position = (anomaly_map.astype(np.float64) - self.score_range[0]) * self._bins_per_unit
        return np.clip(position, 0, self.n_bins - 1).astype(np.intp)

    def _count(self, bins: IntArray, mask: BoolArray, is_defective: bool) -> None:
        if not is_defective:
            self._good_negatives += np.bincount(bins.ravel(), minlength=self.n_bins)
            return
        self._other_negatives += np.bincount(bins[~mask], minlength=self.n_bins)
        shares, n_regions = region_shares(mask)
        if n_regions:
            marked = bins[mask]
            np.add.at(self._positives, marked, 1)
            np.add.at(self._region_lift, marked, shares)
            np.add.at(self._image_lift, marked, 1 / len(marked))
            self._n_regions += n_regions
            self._n_masked += 1


def error_bounds(rankings: Rankings) -> dict[str, float]:
    """How far each pixel metric can be from that of any scores which these became by merging neighbours.

    Returns
    -------
    dict of str to float
        The largest difference either way. For AUROC, AUPRO and AUPIMO the worst order within the bins attains it.
    """
    pixels, good = rankings.pixels, rankings.good_pixels
    told = rankings.pixel_metrics()
    best = replace(rankings, pixels=_ties_won(pixels), good_pixels=_ties_won(good)).pixel_metrics()
    worst = replace(rankings, pixels=_ties_lost(pixels), good_pixels=_ties_lost(good)).pixel_metrics()
    worst["pixel_ap"] = lowest_average_precision(pixels)
    return {
        name: max(best[name] - value, value - worst[name]) + ROUNDING
        for name, value in told.items()
        if name != "pixel_f1_max_threshold"
    }


def _ties_won(ranking: Ranking) -> Ranking:
    """Every positive ahead of the negatives of its bin.

    No order within the bins gives more: at a positive there are then as many true positives and as few false
    ones as there can be.
    """
    return replace(ranking, false_positives=ranking.false_positives_above)


def _ties_lost(ranking: Ranking) -> Ranking:
    """Every positive behind the negatives of its bin: no order gives less, but for average precision."""
    return replace(ranking, false_positives_above=ranking.false_positives)


def lowest_average_precision(ranking: Ranking) -> float:
    """Average precision when in each bin the negatives come first and the positives one after another.

    The j-th of p positives of a bin with a above it has precision (a + j) / (a + j + f), f false positives
    included. Over j that is p - f * (1 / (a + f + 1) + ... + 1 / (a + f + p)), and the sum of reciprocals is
    less than log((a + f + p + 1/2) / (a + f + 1/2)), since 1/x is convex.
    """
    if ranking.why_undefined():
        return float("nan")
    above = ranking.true_positives - ranking.positives + ranking.false_positives
    reciprocals = np.log1p(ranking.positives / (above + 0.5))
    return float((ranking.positives - ranking.false_positives * reciprocals).sum()) / ranking.n_positive


def _with_counts(ranking: Ranking, bins: IntArray, negatives: IntArray) -> Ranking:
    """`Ranking.with_negatives` from a histogram (n_bins,); `bins` (K,) are those of the thresholds."""
    at_least = np.cumsum(negatives[::-1])[::-1]
    return replace(
        ranking,
        false_positives=ranking.false_positives + at_least[bins],
        false_positives_above=ranking.false_positives_above + at_least[bins] - negatives[bins],
        n_negative=ranking.n_negative + int(negatives.sum()),
    )
