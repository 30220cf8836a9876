"""Curves to draw: the area under them is the metric, and omitting points makes no visible difference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from oracles import ANY_FLOAT, TIED, large_example, maps_and_masks, naive_aupro
from sklearn.metrics import auc, precision_recall_curve
from sklearn.metrics import roc_curve as sklearn_roc_curve

from blemish.errors import BlemishError
from blemish.metrics import Curve, pr_curve, rank, rank_maps, roc_curve


def distance_to(curve: Curve, x: np.ndarray, y: np.ndarray) -> float:
    """Largest distance of the points (x, y) from the lines that join the points of the curve."""
    corners = np.stack([curve.x, curve.y], axis=1)
    start, step = corners[:-1, None], np.diff(corners, axis=0)[:, None]
    offset = np.stack([x, y], axis=1)[None] - start
    length = np.maximum((step**2).sum(2), 1e-300)
    share = np.clip((offset * step).sum(2) / length, 0, 1)
    return float(np.sqrt(((offset - share[..., None] * step) ** 2).sum(2)).min(axis=0).max())


@settings(deadline=None)
@given(maps_and_masks(TIED | ANY_FLOAT))
def test_areas_under_the_curves_are_the_metrics(pair: tuple[np.ndarray, np.ndarray]) -> None:
    rankings = rank_maps(*pair)
    metrics, curves = rankings.metrics(), rankings.curves()
    assert auc(*curves["pixel_roc"]) == pytest.approx(metrics["pixel_auroc"], abs=1e-12)
    assert auc(*curves["pixel_pr"]) == pytest.approx(metrics["pixel_ap"], abs=1e-12)
    assert auc(*curves["pixel_pro"]) / 0.3 == pytest.approx(naive_aupro(*pair, 0.3), abs=1e-9)
    assert curves["pixel_pro"].x[-1] == 0.3
    for curve in curves.values():
        assert ((curve.x >= 0) & (curve.x <= 1) & (curve.y >= 0) & (curve.y <= 1)).all()


def test_the_points_of_scikit_learn_lie_on_the_curves() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(400) < 0.3
    scores = np.round(rng.normal(size=400) + labels, 1)
    ranking = rank(scores, labels)
    fpr, tpr, _ = sklearn_roc_curve(labels, scores, drop_intermediate=False)
    assert distance_to(roc_curve(ranking), fpr, tpr) < 1e-12
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    gains = np.flatnonzero(
        np.isin(thresholds, scores[labels])
    )  # at other thresholds recall does not change, nor the area
    assert distance_to(pr_curve(ranking), recall[gains], precision[gains]) < 1e-12


@pytest.mark.parametrize("lead", [0.0, 0.4])  # a steep curve has its corner within the first columns
@pytest.mark.parametrize("max_points", [8, 50, 400])
def test_points_left_out_are_not_missed(max_points: int, lead: float) -> None:
    maps, masks = large_example(n=2)
    rankings = rank_maps(maps + lead * masks, masks)
    thin, full = rankings.curves(max_points), rankings.curves(10**9)
    for name in ("pixel_roc", "pixel_pr", "pixel_pro"):
        assert len(thin[name].x) <= max_points < len(full[name].x)
        corners = set(zip(*full[name], strict=True))
        assert set(zip(*thin[name], strict=True)) <= corners
        assert (thin[name].x[[0, -1]] == full[name].x[[0, -1]]).all()
        assert (thin[name].y[[0, -1]] == full[name].y[[0, -1]]).all()
    for name, width in (("pixel_roc", 1.0), ("pixel_pro", 0.3)):
        thinned, complete = (Curve(curve.x / width, curve.y) for curve in (thin[name], full[name]))
        assert distance_to(thinned, complete.x[::97], complete.y[::97]) < 3 / max_points


@pytest.mark.parametrize("max_points", [8, 50, 400])
def test_every_column_of_precision_keeps_its_range(max_points: int) -> None:
    ranking = rank(np.random.default_rng(0).random(5000), np.arange(5000) % 3 == 0)
    n_columns = max_points // 4

    def ranges(curve: Curve) -> list[tuple[float, float]]:
        column = np.minimum(curve.x * n_columns, n_columns - 1).astype(int)
        return [(curve.y[column == index].min(), curve.y[column == index].max()) for index in range(n_columns)]

    assert ranges(pr_curve(ranking, max_points)) == ranges(pr_curve(ranking, 10**9))


def test_without_both_classes_there_is_nothing_to_draw() -> None:
    curves = rank_maps(np.zeros((2, 4, 4)), np.zeros((2, 4, 4), dtype=bool)).curves()
    assert all(len(curve.x) == len(curve.y) == 0 for curve in curves.values())


def test_too_few_points_are_refused() -> None:
    ranking = rank([0.0, 1.0], [0, 1])
    for curve in (roc_curve, pr_curve):
        with pytest.raises(BlemishError, match="max_points must be at least 8"):
            curve(ranking, 7)
