"""Metrics against scikit-learn, and against loops that spell out the definitions."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score, roc_auc_score

from blemish.errors import BlemishError
from blemish.metrics import aupro, auroc, average_precision, evaluate_maps, f1_max, smoothed_maxima
from blemish.scoring import smoothed_maximum

KEYS = {
    "image_auroc",
    "image_ap",
    "image_f1_max",
    "pixel_auroc",
    "pixel_ap",
    "pixel_aupro",
    "n_good",
    "n_defective",
}


def naive_f1_max(scores: np.ndarray, labels: np.ndarray) -> float:
    best = 0.0
    for threshold in np.unique(scores):
        marked = scores >= threshold
        best = max(best, 2 * (marked & labels).sum() / (marked.sum() + labels.sum()))
    return best


def naive_regions(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        frontier = [left.pop()]
        region = []
        while frontier:
            y, x = frontier.pop()
            region.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            frontier += near
        found.append(region)
    return found


def naive_aupro(maps: np.ndarray, masks: np.ndarray, max_fpr: float) -> float:
    fprs, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        marked = maps >= threshold
        shares = [
            np.mean([marked[image][pixel] for pixel in region])
            for image in range(len(maps))
            for region in naive_regions(masks[image])
        ]
        fprs.append(marked[~masks].mean())
        overlaps.append(float(np.mean(shares)))
    area = 0.0
    for x0, x1, y0, y1 in zip(fprs, fprs[1:], overlaps, overlaps[1:], strict=False):
        if x1 > max_fpr > x0:
            x1, y1 = max_fpr, y0 + (y1 - y0) * (max_fpr - x0) / (x1 - x0)
        if x1 <= max_fpr:
            area += (x1 - x0) * (y0 + y1) / 2
    return area / max_fpr


def maps_and_masks(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Small maps with masks that hold both classes."""
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(2, 5))
    pairs = shapes.flatmap(
        lambda shape: st.tuples(hnp.arrays(np.float32, shape, elements=values), hnp.arrays(bool, shape))
    )
    return pairs.filter(lambda pair: pair[1].any() and not pair[1].all())


TIED = st.sampled_from([-2.0, -0.5, -0.0, 0.0, 0.25, 1.0])
ANY_FLOAT = st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(deadline=None)
@given(maps_and_masks(TIED | ANY_FLOAT))
def test_curves_agree_with_scikit_learn_and_loops(pair: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = pair
    flat, truth = scores.ravel(), labels.ravel()
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(truth, flat), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(truth, flat), abs=1e-12)
    f1, threshold = f1_max(scores, labels)
    assert f1 == pytest.approx(naive_f1_max(flat, truth), abs=1e-12)
    marked = flat >= threshold
    assert f1 == pytest.approx(2 * (marked & truth).sum() / (marked.sum() + truth.sum()), abs=1e-12)


@settings(deadline=None)
@given(maps_and_masks(TIED | ANY_FLOAT), st.sampled_from([0.05, 0.1, 0.3, 0.5, 1.0]))
def test_aupro_agrees_with_the_definition(pair: tuple[np.ndarray, np.ndarray], max_fpr: float) -> None:
    maps, masks = pair
    assert aupro(maps, masks, max_fpr) == pytest.approx(naive_aupro(maps, masks, max_fpr), abs=1e-9)


def test_many_scores_with_ties_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.random(50_000) < 0.03
    scores = (np.round(rng.normal(size=50_000), 2) + labels).astype(np.float32)
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)


def test_scores_apart_by_one_float64_step_are_not_tied() -> None:
    assert auroc(np.array([1.0, np.nextafter(1.0, 2.0)]), np.array([False, True])) == 1.0


def test_constant_maps_know_nothing() -> None:
    maps = np.full((2, 4, 4), 7.0, dtype=np.float32)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[0, 0, :2] = True
    assert auroc(maps, masks) == 0.5
    assert average_precision(maps, masks) == pytest.approx(2 / 32)
    assert f1_max(maps, masks) == (pytest.approx(4 / 34), 7.0)
    assert aupro(maps, masks, 0.3) == pytest.approx(0.15)  # the diagonal up to 0.3


def test_aupro_weighs_small_and_large_regions_alike_up_to_the_border() -> None:
    masks = np.zeros((1, 6, 8), dtype=bool)
    masks[0, :4, :4] = True  # touches two borders
    masks[0, 5, 7] = True  # a corner
    maps = np.where(masks, 0.0, -1.0)
    assert aupro(maps, masks) == pytest.approx(1.0)
    maps[0, 5, 7] = -2.0  # the single pixel is missed: half of the regions, not 1/17 of the pixels
    assert aupro(maps, masks) == pytest.approx(0.5)


def test_aupro_joins_regions_that_touch_at_a_corner() -> None:
    masks = np.zeros((1, 4, 6), dtype=bool)
    masks[0, 0, 0:3] = masks[0, 1, 3] = True  # one region of 4 pixels; 4-connected it would be 3 and 1
    maps = np.zeros(masks.shape)
    maps[0, 0, 0:3] = 1.0
    maps[0, 1, 3] = -1.0
    assert aupro(maps, masks) == pytest.approx(0.75)


def test_aupro_does_not_join_regions_of_neighbouring_images() -> None:
    masks = np.ones((2, 1, 3), dtype=bool)
    masks[:, :, 2] = False
    masks[1, :, 1] = False
    maps = np.where(masks, 1.0, 0.0)
    maps[1, 0, 0] = -1.0
    assert aupro(maps, masks, 1.0) == pytest.approx(0.5)


@pytest.mark.parametrize("max_fpr", [0.0, -0.1, 1.5, math.nan])
def test_aupro_refuses_a_limit_out_of_range(max_fpr: float) -> None:
    with pytest.raises(BlemishError, match="max_fpr"):
        aupro(np.zeros((1, 2, 2)), np.eye(2, dtype=bool)[None], max_fpr)


@pytest.mark.parametrize("label", [False, True])
def test_one_class_missing_is_nan(label: bool) -> None:
    maps, masks = np.arange(8.0).reshape(2, 2, 2), np.full((2, 2, 2), label)
    assert math.isnan(auroc(maps, masks))
    assert math.isnan(average_precision(maps, masks))
    assert all(math.isnan(value) for value in f1_max(maps, masks))
    assert math.isnan(aupro(maps, masks))
    result = evaluate_maps(maps, masks)
    assert all(math.isnan(result[key]) for key in KEYS - {"n_good", "n_defective"})
    assert (result["n_good"], result["n_defective"]) == ((0, 2) if label else (2, 0))


def example() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    masks = np.zeros((6, 30, 40), dtype=bool)
    masks[0, 3:9, 5:20] = masks[1, 0, 0] = masks[1, 20:, 33:] = True
    return rng.normal(size=masks.shape).astype(np.float32) + masks, masks


def test_evaluate_maps_gives_every_key_from_the_right_scores() -> None:
    maps, masks = example()
    image_scores = np.array([0.9, 0.2, 0.3, 0.1, 0.2, 0.0])
    result = evaluate_maps(maps, masks, image_scores)
    defective = np.array([True, True, False, False, False, False])
    assert set(result) == KEYS
    assert result["image_auroc"] == pytest.approx(roc_auc_score(defective, image_scores))
    assert result["image_ap"] == pytest.approx(average_precision_score(defective, image_scores))
    assert result["image_f1_max"] == pytest.approx(naive_f1_max(image_scores, defective))
    assert result["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    assert result["pixel_ap"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()))
    assert result["pixel_aupro"] == aupro(maps, masks)
    assert (result["n_good"], result["n_defective"]) == (4, 2)
    assert all(type(value) in (int, float) for value in result.values())


def test_tensors_and_channel_axis_give_what_arrays_give() -> None:
    maps, masks = example()
    expected = evaluate_maps(maps, masks)
    tensor = torch.from_numpy(maps).unsqueeze(1).requires_grad_()
    assert evaluate_maps(tensor, torch.from_numpy(masks)[:, None]) == expected
    assert evaluate_maps(maps[:, None], masks.astype(np.uint8) * 255) == expected
    assert evaluate_maps(maps.transpose(0, 2, 1), masks.transpose(0, 2, 1)) == pytest.approx(expected)
    halved = torch.from_numpy(maps).bfloat16()
    assert evaluate_maps(halved, masks) == evaluate_maps(halved.float(), masks)


@pytest.mark.parametrize("size", [(30, 40), (9, 50), (64, 64)])
def test_default_image_score_is_that_of_scoring(size: tuple[int, int]) -> None:
    maps = np.random.default_rng(2).normal(size=(3, *size)).astype(np.float32)
    expected = smoothed_maximum(torch.from_numpy(maps)[:, None]).numpy()
    np.testing.assert_allclose(smoothed_maxima(maps), expected, rtol=1e-5, atol=1e-6)
    masks = np.zeros(maps.shape, dtype=bool)
    masks[0, 4:6, 4:6] = True
    assert evaluate_maps(maps, masks) == evaluate_maps(maps, masks, expected)


def test_labels_can_be_given_for_defects_without_a_mask() -> None:
    maps, masks = example()
    scores = [0.9, 0.8, 0.7, 0.1, 0.1, 0.0]
    result = evaluate_maps(maps, masks, scores, is_defective=[True, True, True, False, False, False])
    assert (result["n_good"], result["n_defective"], result["image_auroc"]) == (3, 3, 1.0)
    assert result["pixel_auroc"] == evaluate_maps(maps, masks, scores)["pixel_auroc"]
    with pytest.raises(BlemishError, match="image 1 is called good"):
        evaluate_maps(maps, masks, scores, is_defective=[True, False, True, False, False, False])


def test_mistakes_are_told() -> None:
    maps, masks = example()
    with pytest.raises(BlemishError, match=r"\(6, 30, 40\) and masks \(6, 30, 30\)"):
        evaluate_maps(maps, masks[..., :30])
    with pytest.raises(BlemishError, match=r"\(30, 40\) and masks \(30, 40\)"):
        aupro(maps[0], masks[0])
    with pytest.raises(BlemishError, match=r"image scores have shape \(5,\) but labels \(6,\)"):
        evaluate_maps(maps, masks, np.zeros(5))
    with pytest.raises(BlemishError, match=r"is_defective has shape \(2,\)"):
        evaluate_maps(maps, masks, is_defective=[True, True])
    with pytest.raises(BlemishError, match="image scores contain NaN"):
        evaluate_maps(maps, masks, [math.nan, 0, 0, 0, 0, 0])
    with pytest.raises(BlemishError, match="not fractions"):
        evaluate_maps(maps, masks * 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_broken_map_is_named(value: float) -> None:
    maps, masks = example()
    maps[3, 2, 2] = value
    with pytest.raises(BlemishError, match=r"anomaly maps contain NaN or infinity \(image 3 first"):
        evaluate_maps(maps, masks)
    with pytest.raises(BlemishError, match="anomaly maps contain NaN"):
        aupro(maps, masks)
    with pytest.raises(BlemishError, match="scores contain NaN"):
        auroc(maps, masks)


def test_importing_metrics_does_not_import_torch() -> None:
    code = "import sys, blemish.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
