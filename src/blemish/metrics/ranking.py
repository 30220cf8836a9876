"""AUROC, average precision and F1-max: exact, ties included, from one sort of the scores."""

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
    """How many samples of either class reach each score that a positive has.

    Every curve here moves in a way that counts only where a positive stands: recall, F1's optimum and the
    steps of ROC, PRO and PIMO. So the K distinct scores of the positives are all the thresholds there are.

    Attributes
    ----------
    thresholds : (K,) float, ascending
    positives : (K,) int
        Positives whose score equals the threshold.
    group : (n_positive,) int
        For each positive, in the order given, the index of its threshold.
    false_positives : (K,) int
        Negatives with score >= threshold.
    false_positives_above : (K,) int
        Negatives with score > threshold. The difference to `false_positives` are ties across the classes.
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
        """Scores (n_positive,) of the positives, ranked, against no negatives yet."""
        thresholds, group, counts = np.unique(positives, return_inverse=True, return_counts=True)
        none = np.zeros(len(thresholds), np.intp)
        return cls(thresholds, counts, group, none, none, 0)

    def with_negatives(self, negatives: FloatArray) -> Ranking:
        """The same positives against further negatives: (n,) float, **ascending**, of the positives' dtype."""
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
        """Positives in all."""
        return int(self.positives.sum())

    def why_undefined(self, thing: str = "sample") -> str:
        """Why every metric is NaN, such as "no good sample"; empty if both classes are there."""
        missing = [name for name, n in (("defective", self.n_positive), ("good", self.n_negative)) if n == 0]
        return f"no {' and no '.join(missing)} {thing}" if missing else ""

    @property
    def _lacks_a_class(self) -> bool:
        return self.n_negative == 0 or len(self.positives) == 0

    def auroc(self) -> float:
        """Area under the ROC curve: P(positive > negative) + P(tie) / 2. NaN if a class is missing."""
        if self._lacks_a_class:
            return float("nan")
        # A negative tied with a positive counts half: it is in one of the two counts.
        beaten = 1 - (self.false_positives + self.false_positives_above) / (2 * self.n_negative)
        return float(np.dot(self.positives, beaten)) / self.n_positive

    def average_precision(self) -> float:
        """Sum of precision times the step in recall, without interpolation. NaN if a class is missing."""
        if self._lacks_a_class:
            return float("nan")
        precision = self.true_positives / (self.true_positives + self.false_positives)
        return float(np.dot(self.positives, precision)) / self.n_positive

    def f1_max(self) -> tuple[float, float]:
        """Largest F1 over all thresholds, and the lowest threshold (score >= threshold) that has it."""
        if self._lacks_a_class:
            return float("nan"), float("nan")
        f1 = 2 * self.true_positives / (self.true_positives + self.false_positives + self.n_positive)
        best = int(np.argmax(f1))
        return float(f1[best]), float(self.thresholds[best])

    def lift(self, weights: FloatArray) -> npt.NDArray[np.float64]:
        """What the positives at each threshold weigh together: (n_positive,) in the order given, to (K,)."""
        return np.asarray(np.bincount(self.group, weights, minlength=len(self.thresholds)), np.float64)


def rank(scores: Values, labels: Values, what: str = "scores") -> Ranking:
    """Rank scores once for all metrics.

    Parameters
    ----------
    scores : array or tensor of any shape, finite, any sign
        Higher means more anomalous. float32 and float64 are compared as they are.
    labels : array or tensor of the same shape
        Bool, or numbers of which 0 is negative.
    what : str
        What the error message calls the scores.

    Returns
    -------
    Ranking
        Besides it, memory holds one sorted copy of the negatives for the time of the call.

    Raises
    ------
    BlemishError
        If shapes differ or a score is NaN or infinite.
    """
    labels = as_labels(labels)
    scores = as_finite_scores(scores, labels, what)
    return Ranking.of(scores[labels]).with_negatives(in_order(scores[~labels]))


def in_order(scores: FloatArray) -> FloatArray:
    """Scores (n,) sorted in place: for what indexing has just copied."""
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

    Arguments as for `rank`. The threshold has seen the labels: it describes a test set and decides nothing.
    """
    return rank(scores, labels).f1_max()
