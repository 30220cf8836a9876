"""AUROC, average precision and F1-max: exact, including ties, from one sort of the scores."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from blemish.metrics.arrays import FloatArray, IntArray, as_finite_scores, as_labels

if TYPE_CHECKING:
    from blemish.metrics.arrays import Values


@dataclass(frozen=True)
class Ranking:
    """How many samples of either class reach each distinct score of the positives.

    Recall, the optimum of F1 and the steps of ROC, PRO and PIMO change only at scores of positives. So the K distinct
    scores of the positives are the only thresholds needed.

    Attributes
    ----------
    thresholds : (K,) float, ascending
    positives : (K,) int
        Positives whose score equals the threshold.
    group : (n_positive,) int
        For each positive, in the order of the input, the index of its threshold.
    false_positives : (K,) int
        Negatives with score >= threshold.
    false_positives_above : (K,) int
        Negatives with score > threshold. The difference to `false_positives` is the number of negatives tied with
        positives.
    n_negative : int
    """

    thresholds: FloatArray
    positives: IntArray
    group: IntArray
    false_positives: IntArray
    false_positives_above: IntArray
    n_negative: int

    @classmethod
    def of(cls, positives: FloatArray) -> Ranking:
        """Rank the scores (n_positive,) of the positives, without negatives yet."""
        thresholds, group, counts = np.unique(positives, return_inverse=True, return_counts=True)
        zeros = np.zeros(len(thresholds), np.intp)
        return cls(thresholds, counts, group, zeros, zeros, 0)

    def with_negatives(self, negatives: FloatArray) -> Ranking:
        """Return the ranking with further negatives: (n,) float, **ascending**, of the positives' dtype."""
        at_least = len(negatives) - np.searchsorted(negatives, self.thresholds, side="left")
        above = len(negatives) - np.searchsorted(negatives, self.thresholds, side="right")
        return replace(
            self,
            false_positives=self.false_positives + at_least,
            false_positives_above=self.false_positives_above + above,
            n_negative=self.n_negative + len(negatives),
        )

    @cached_property
    def true_positives(self) -> IntArray:
        """Positives with score >= threshold, (K,) int."""
        return np.cumsum(self.positives[::-1])[::-1]

    @property
    def n_positive(self) -> int:
        """Number of positives."""
        return int(self.positives.sum())

    def why_undefined(self, noun: str = "sample") -> str:
        """Return the reason why every metric is NaN, such as "no good sample"; empty if both classes are present."""
        missing = [name for name, n in (("defective", self.n_positive), ("good", self.n_negative)) if n == 0]
        return f"no {' and no '.join(missing)} {noun}" if missing else ""

    @property
    def _lacks_a_class(self) -> bool:
        return self.n_negative == 0 or len(self.positives) == 0

    def auroc(self) -> float:
        """Area under the ROC curve: P(positive > negative) + P(tie) / 2. NaN if a class is missing."""
        if self._lacks_a_class:
            return float("nan")
        # A negative tied with a positive counts half: it is in only one of the two counts.
        share_below = 1 - (self.false_positives + self.false_positives_above) / (2 * self.n_negative)
        return float(np.dot(self.positives, share_below)) / self.n_positive

    def average_precision(self) -> float:
        """Sum of precision times the step in recall, without interpolation. NaN if a class is missing."""
        if self._lacks_a_class:
            return float("nan")
        precision = self.true_positives / (self.true_positives + self.false_positives)
        return float(np.dot(self.positives, precision)) / self.n_positive

    def f1_max(self) -> tuple[float, float]:
        """Largest F1 over all thresholds, and the lowest threshold (score >= threshold) that reaches it."""
        if self._lacks_a_class:
            return float("nan"), float("nan")
        f1 = 2 * self.true_positives / (self.true_positives + self.false_positives + self.n_positive)
        best = int(np.argmax(f1))
        return float(f1[best]), float(self.thresholds[best])

    def lift(self, weights: FloatArray) -> npt.NDArray[np.float64]:
        """Sum the weights (n_positive,), in the order of the positives, over those at each threshold: (K,)."""
        return np.asarray(np.bincount(self.group, weights, minlength=len(self.thresholds)), np.float64)


def rank(scores: Values, labels: Values, name: str = "scores") -> Ranking:
    """Rank scores once for all metrics.

    Parameters
    ----------
    scores : array or tensor of any shape, finite, any sign
        Higher means more anomalous. float32 and float64 are compared as they are.
    labels : array or tensor of the same shape
        Bool, or numbers of which 0 is negative.
    name : str
        Name of the scores in error messages.

    Returns
    -------
    Ranking
        During the call, memory also holds one sorted copy of the negatives.

    Raises
    ------
    BlemishError
        If shapes differ or a score is NaN or infinite.
    """
    labels = as_labels(labels)
    scores = as_finite_scores(scores, labels, name)
    return Ranking.of(scores[labels]).with_negatives(sorted_in_place(scores[~labels]))


def sorted_in_place(scores: FloatArray) -> FloatArray:
    """Sort scores (n,) in place and return them: for arrays that are already a copy."""
    scores.sort()
    return scores


def auroc(scores: Values, labels: Values) -> float:
    """Area under the ROC curve, in [0, 1]; NaN if a class is missing. Arguments as for `rank`."""
    return rank(scores, labels).auroc()


def average_precision(scores: Values, labels: Values) -> float:
    """Step-wise area under precision against recall, in (0, 1]; NaN if a class is missing.

    Arguments as for `rank`.
    """
    return rank(scores, labels).average_precision()


def f1_max(scores: Values, labels: Values) -> tuple[float, float]:
    """Largest F1 of `score >= threshold`, in (0, 1], and that threshold; both NaN if a class is missing.

    Arguments as for `rank`. The threshold depends on the labels: it describes a test set and
    must not be used for decisions.
    """
    return rank(scores, labels).f1_max()
