"""AUROC, average precision and F1-max: exact, ties included, from one sort of the scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError

if TYPE_CHECKING:
    import torch

    Values = npt.ArrayLike | torch.Tensor

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Ranking:
    """How many samples of either class reach each score that a positive has.

    Every curve here moves in a way that counts only where a positive stands: recall, F1's optimum and the
    steps of ROC and PRO. So the K distinct scores of the positives are all the thresholds there are.

    Attributes
    ----------
    thresholds : (K,) float, ascending
    positives : (K,) int
        Positives whose score equals the threshold.
    group : (n_positive,) int
        For each positive, in the order given, the index of its threshold.
    true_positives, false_positives : (K,) int
        Samples of either class with score >= threshold.
    false_positives_above : (K,) int
        Negatives with score > threshold. The difference to `false_positives` are ties across the classes.
    n_positive, n_negative : int
    """

    thresholds: FloatArray
    positives: IntArray
    group: IntArray
    true_positives: IntArray
    false_positives: IntArray
    false_positives_above: IntArray
    n_positive: int
    n_negative: int

    @property
    def lacks_a_class(self) -> bool:
        """Whether there is nothing to separate; every metric is NaN then."""
        return self.n_positive == 0 or self.n_negative == 0

    def auroc(self) -> float:
        """Area under the ROC curve: P(positive > negative) + P(tie) / 2."""
        if self.lacks_a_class:
            return float("nan")
        # Twice the negatives below, plus the tied ones: integers, so the sum is exact.
        beaten_twice = 2 * self.n_negative - self.false_positives - self.false_positives_above
        return int(np.dot(self.positives, beaten_twice)) / (2 * self.n_positive * self.n_negative)

    def average_precision(self) -> float:
        """Sum of precision times the step in recall, without interpolation."""
        if self.lacks_a_class:
            return float("nan")
        precision = self.true_positives / (self.true_positives + self.false_positives)
        return float(np.dot(self.positives, precision)) / self.n_positive

    def f1_max(self) -> tuple[float, float]:
        """Largest F1 over all thresholds, and the lowest threshold (score >= threshold) that has it."""
        if self.lacks_a_class:
            return float("nan"), float("nan")
        f1 = 2 * self.true_positives / (self.true_positives + self.false_positives + self.n_positive)
        best = int(np.argmax(f1))
        return float(f1[best]), float(self.thresholds[best])

    def overlap_area(self, weights: FloatArray, max_fpr: float) -> float:
        """Area under (false-positive rate, weighted recall) up to `max_fpr`, divided by `max_fpr`.

        `weights` (n_positive,) belong to the positives in the order given and sum to 1. At its score a
        positive lifts the curve, by a ramp as wide as the negatives tied with it, and keeps it lifted: the
        area is the sum of what each threshold adds left of the limit.
        """
        if self.lacks_a_class:
            return float("nan")
        limit = max_fpr * self.n_negative
        start, end = self.false_positives_above, self.false_positives
        ramp = np.clip(limit, start, end) - start
        area = ramp * ramp / (2 * np.maximum(end - start, 1)) + np.maximum(limit - end, 0)
        lift = np.bincount(self.group, weights, minlength=len(self.thresholds))
        return min(float(np.dot(lift, area)) / limit, 1.0)  # the weights may sum to 1 + 1e-16


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
    scores, labels = as_scores(scores), as_labels(labels)
    if scores.shape != labels.shape:
        raise BlemishError(f"{what} have shape {scores.shape} but labels {labels.shape}: give one label for each")
    if not np.isfinite(scores).all():
        raise BlemishError(f"{what} contain NaN or infinity and cannot be ranked: check what produced them")

    negatives = scores[~labels]
    negatives.sort()
    thresholds, group, positives = np.unique(scores[labels], return_inverse=True, return_counts=True)
    return Ranking(
        thresholds=thresholds,
        positives=positives,
        group=group,
        true_positives=np.cumsum(positives[::-1])[::-1],
        false_positives=len(negatives) - np.searchsorted(negatives, thresholds, side="left"),
        false_positives_above=len(negatives) - np.searchsorted(negatives, thresholds, side="right"),
        n_positive=len(group),
        n_negative=len(negatives),
    )


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


def as_scores(values: Values) -> FloatArray:
    """Array or tensor, on any device, to floats that compare as the values given do."""
    array = _to_numpy(values)
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def as_labels(values: Values) -> BoolArray:
    """Array or tensor to bool; a float other than 0 and 1 (a mask resized with interpolation) is refused."""
    array = _to_numpy(values)
    if array.dtype.kind == "f" and not ((array == 0) | (array == 1)).all():
        raise BlemishError("masks and labels must be bool, not fractions: threshold them or resize with 'nearest'")
    return array.astype(np.bool_, copy=False)


def _to_numpy(values: Any) -> npt.NDArray[Any]:
    if not hasattr(values, "detach"):
        return np.asarray(values)
    tensor = values.detach().cpu()
    if "bfloat16" in str(tensor.dtype):  # numpy has no such type
        tensor = tensor.float()
    return np.asarray(tensor.numpy())
