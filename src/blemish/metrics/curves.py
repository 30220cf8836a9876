"""ROC, PR and PRO curves as points to draw, from the same ranking as the metrics.

The area under the points, joined by straight lines, is the metric itself: AUROC, average precision, AUPRO.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from blemish.errors import BlemishError
from blemish.metrics.arrays import FloatArray
from blemish.metrics.ranking import Ranking
from blemish.metrics.regions import check_max_fpr

MAX_POINTS = 2000


class Curve(NamedTuple):
    """Points in drawing order, to be joined by straight lines; empty where the metric is NaN."""

    x: FloatArray
    """(n,) in [0, 1], never decreasing."""
    y: FloatArray
    """(n,) in [0, 1]."""


_EMPTY_CURVE = Curve(np.empty(0), np.empty(0))


def roc_curve(ranking: Ranking, max_points: int = MAX_POINTS) -> Curve:
    """Recall against false-positive rate, from (0, 0) to (1, 1).

    Returns
    -------
    Curve
        At most `max_points` of the curve's corners. Omitted corners lie within 3 / `max_points` of the lines:
        less than a pixel with the default in a figure of 650 pixels.

    Raises
    ------
    BlemishError
        If `max_points` is less than 8.
    """
    return overlap_curve(ranking, ranking.positives / max(ranking.n_positive, 1), 1.0, max_points)


def overlap_curve(pixels: Ranking, lift: FloatArray, max_fpr: float = 0.3, max_points: int = MAX_POINTS) -> Curve:
    """PRO: mean overlap of regions against false-positive rate, from (0, 0) to `max_fpr`.

    `lift` (K,) is the increase of the overlap at each threshold, and sums to 1. Returns and raises as `roc_curve`,
    with x in units of `max_fpr` for the accuracy.
    """
    check_max_fpr(max_fpr)
    _check(max_points)
    if pixels.why_undefined():
        return _EMPTY_CURVE
    # From the highest threshold down: each step starts before the negatives tied with it and ends after them.
    ends = np.stack([pixels.false_positives_above, pixels.false_positives], axis=1)[::-1].ravel()
    total = np.minimum(np.cumsum(lift[::-1]), 1.0)
    x = np.concatenate([[0.0], ends / pixels.n_negative, [1.0]])
    y = np.concatenate([[0.0, 0.0], np.repeat(total, 2)])
    inside = int(np.searchsorted(x, max_fpr, side="right"))
    if inside < len(x):
        x, y = np.append(x[:inside], max_fpr), np.append(y[:inside], np.interp(max_fpr, x, y))
    # x and y never decrease, so between two kept corners the curve stays in their rectangle: cells of equal length
    # along the curve bound the error.
    return _thinned(x, y, along=x / max_fpr + y, max_points=max_points)


def pr_curve(ranking: Ranking, max_points: int = MAX_POINTS) -> Curve:
    """Precision against recall in steps, as average precision sums it: x is recall, y precision.

    Returns
    -------
    Curve
        At most `max_points` of the steps' corners: for each of `max_points` / 4 columns of equal width the
        first, last, lowest and highest (M4 of U. Jugel et al., VLDB 2014), which draw the same picture at that
        many pixels.

    Raises
    ------
    BlemishError
        If `max_points` is less than 8.
    """
    _check(max_points)
    if ranking.why_undefined():
        return _EMPTY_CURVE
    recall = ranking.true_positives[::-1] / ranking.n_positive
    precision = (ranking.true_positives / (ranking.true_positives + ranking.false_positives))[::-1]
    x = np.concatenate([[0.0], np.repeat(recall, 2)[:-1]])
    return _thinned(x, np.repeat(precision, 2), along=x, max_points=max_points)


def _thinned(x: FloatArray, y: FloatArray, along: FloatArray, max_points: int) -> Curve:
    """Return the first, last, lowest and highest point of each cell of `along`, which never decreases."""
    if len(x) <= max_points:
        return Curve(x, y)
    cells = max_points // 4
    cell = np.minimum(along / along[-1] * cells, cells - 1).astype(np.intp)
    by_height = np.lexsort((y, cell))
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    last = np.append(first[1:], len(cell)) - 1
    kept = np.unique(np.concatenate([first, last, by_height[first], by_height[last]]))
    return Curve(x[kept], y[kept])


def _check(max_points: int) -> None:
    if max_points < 8:
        raise BlemishError(f"max_points must be at least 8, not {max_points}: a curve needs corners")
