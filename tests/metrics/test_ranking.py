"""AUROC, average precision and F1 compared with scikit-learn, torchmetrics and a loop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from oracles import ANY_FLOAT, TIED, maps_and_masks, naive_f1_max
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from blemish.errors import BlemishError
from blemish.metrics import auroc, average_precision, f1_max, rank


@settings(deadline=None)
@given(maps_and_masks(TIED | ANY_FLOAT))
def test_metrics_agree_with_scikit_learn_and_a_loop(pair: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = pair
    flat, truth = scores.ravel(), labels.ravel()
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(truth, flat), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(truth, flat), abs=1e-12)
    f1, threshold = f1_max(scores, labels)
    assert f1 == pytest.approx(naive_f1_max(flat, truth), abs=1e-12)
    marked = flat >= threshold
    assert f1 == pytest.approx(2 * (marked & truth).sum() / (marked.sum() + truth.sum()), abs=1e-12)


@pytest.mark.parametrize("decimals", [2, 16])
def test_many_scores_agree_with_scikit_learn_and_torchmetrics(decimals: int) -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(50_000) < 0.03
    scores = np.round(
        0.7 * rng.random(50_000) + 0.3 * labels, decimals
    )  # in [0, 1]: torchmetrics applies a sigmoid to others
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    tensors = torch.from_numpy(scores), torch.from_numpy(labels).long()
    assert auroc(scores, labels) == pytest.approx(binary_auroc(*tensors).item(), abs=1e-6)
    assert average_precision(scores, labels) == pytest.approx(binary_average_precision(*tensors).item(), abs=1e-6)


def test_scores_apart_by_one_float64_step_are_not_tied() -> None:
    assert auroc(np.array([1.0, np.nextafter(1.0, 2.0)]), np.array([False, True])) == 1.0


def test_f1_takes_the_lowest_of_equally_good_thresholds() -> None:
    # Marking the best one: 2 * 1 / (1 + 2). Marking all four: 2 * 2 / (4 + 2). Both are 2/3.
    assert f1_max([4.0, 3.0, 2.0, 1.0], [1, 0, 0, 1]) == (pytest.approx(2 / 3), 1.0)


def test_constant_scores_know_nothing() -> None:
    scores, labels = np.full(32, 7.0, dtype=np.float32), np.arange(32) < 2
    assert auroc(scores, labels) == 0.5
    assert average_precision(scores, labels) == pytest.approx(2 / 32)
    assert f1_max(scores, labels) == (pytest.approx(4 / 34), 7.0)


@pytest.mark.parametrize(("labels", "why"), [([0, 0], "no defective"), ([1, 1], "no good"), ([], "no defective and")])
def test_a_class_missing_is_nan_with_a_reason(labels: list[int], why: str) -> None:
    scores = np.arange(float(len(labels)))
    assert math.isnan(auroc(scores, labels))
    assert math.isnan(average_precision(scores, labels))
    assert all(math.isnan(value) for value in f1_max(scores, labels))
    assert rank(scores, labels).why_undefined().startswith(why)


def test_a_ranking_against_two_heaps_of_negatives_is_that_against_both() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 20, 300).astype(np.float32), rng.random(300) < 0.2
    whole = rank(scores, labels)
    first, second = np.sort(scores[~labels][:50]), np.sort(scores[~labels][50:])
    parts = rank(scores[labels], np.ones(labels.sum())).with_negatives(first).with_negatives(second)
    assert (parts.auroc(), parts.average_precision()) == (whole.auroc(), whole.average_precision())


def test_mistakes_are_reported() -> None:
    with pytest.raises(BlemishError, match=r"scores have shape \(3,\) but labels \(2,\)"):
        auroc(np.zeros(3), np.zeros(2, dtype=bool))
    with pytest.raises(BlemishError, match="scores contain NaN"):
        auroc([0.0, math.nan], [0, 1])
