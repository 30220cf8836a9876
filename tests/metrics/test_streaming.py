"""Streaming metrics compared with exact ones: within the stated bounds, and in constant memory."""

from __future__ import annotations

import doctest
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import ANY_FLOAT, TIED, example, large_example, maps_and_masks

import blemish.metrics.streaming
from blemish.errors import BlemishError
from blemish.metrics import StreamingMetrics, auroc, evaluate_maps
from blemish.metrics.streaming import lowest_average_precision

BOUNDED = {"pixel_auroc", "pixel_ap", "pixel_f1_max", "pixel_aupro", "pixel_aupro_05", "pixel_aupimo"}


def streamed(maps: np.ndarray, masks: np.ndarray, batch: int = 1, **settings: object) -> StreamingMetrics:
    metrics = StreamingMetrics(**settings)
    for start in range(0, len(maps), batch):
        metrics.update(maps[start : start + batch], masks[start : start + batch])
    return metrics


def assert_within_bounds(metrics: StreamingMetrics, maps: np.ndarray, masks: np.ndarray) -> None:
    exact, binned = evaluate_maps(maps, masks), metrics.compute()
    assert set(binned["error_bounds"]) == BOUNDED
    for name, bound in binned["error_bounds"].items():
        assert math.isnan(exact[name]) == math.isnan(binned[name]) == math.isnan(bound)
        assert math.isnan(bound) or abs(binned[name] - exact[name]) <= bound
    for name in ("n_good", "n_defective", "reasons"):
        assert binned[name] == exact[name]
    for name in ("image_auroc", "image_ap", "image_f1_max", "image_f1_max_threshold"):
        assert binned[name] == pytest.approx(exact[name], abs=1e-12, nan_ok=True)


@settings(deadline=None, max_examples=300)
@given(
    maps_and_masks(TIED | ANY_FLOAT | st.floats(0, 1, width=32)),
    st.sampled_from([2, 3, 7, 64, 4096]),
    st.sampled_from([(0.0, 1.0), (-3.0, 0.1), (1e-3, 1e30)]),
)
def test_the_bounds_hold(pair: tuple[np.ndarray, np.ndarray], n_bins: int, score_range: tuple[float, float]) -> None:
    assert_within_bounds(streamed(*pair, n_bins=n_bins, score_range=score_range), *pair)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_bins", [30, 1000, 2**18])
def test_the_bounds_hold_with_pixels_enough_for_aupimo(seed: int, n_bins: int) -> None:
    maps, masks = large_example(seed)
    metrics = streamed(maps, masks, n_bins=n_bins)
    assert_within_bounds(metrics, maps, masks)
    assert max(metrics.compute()["error_bounds"].values()) < 20 / n_bins  # and the bounds are tight


def same_bin(lead: float) -> tuple[np.ndarray, np.ndarray]:
    """Defective pixels all above (or all below) all other pixels, but so close that they share one of two bins."""
    masks = np.zeros((2, 500, 500), dtype=bool)
    masks[0, :20, :20] = True
    noise = np.random.default_rng(0).random(masks.shape) / 100
    return 0.2 + lead * masks + noise, masks


def test_the_worst_case_attains_the_bounds() -> None:
    maps, masks = same_bin(lead=0.02)
    binned = streamed(maps, masks, n_bins=2).compute()
    assert binned["pixel_auroc"] == 0.5
    for name, exact in evaluate_maps(maps, masks).items():
        if name in BOUNDED:
            assert exact == pytest.approx(1.0, abs=1e-12)
            assert binned[name] + binned["error_bounds"][name] == pytest.approx(exact, abs=1e-9), name
    maps, masks = same_bin(lead=-0.02)
    binned = streamed(maps, masks, n_bins=2).compute()
    assert evaluate_maps(maps, masks)["pixel_auroc"] == 0.0
    assert binned["pixel_auroc"] - binned["error_bounds"]["pixel_auroc"] == pytest.approx(0.0, abs=1e-9)


def test_the_bound_on_the_lowest_average_precision_is_tight() -> None:
    # A third of the positives rank first, in a bin of their own; the rest are in one bin, below all its negatives.
    labels = np.r_[np.ones(100), np.zeros(500), np.ones(200)].astype(bool)[None, None]
    scores = np.r_[np.full(100, 0.9), np.linspace(0.2, 0.1, 700)][None, None]
    lowest = evaluate_maps(scores, labels)["pixel_ap"]
    bound = lowest_average_precision(streamed(scores, labels, n_bins=4).rankings().pixels)
    assert lowest - 1e-6 < bound <= lowest


def test_scores_that_fill_their_bins_are_exact() -> None:
    maps, masks = large_example()
    maps = np.floor(maps * 256) / 256
    exact, binned = evaluate_maps(maps, masks, threshold=0.3), streamed(maps, masks, n_bins=256).compute(0.3)
    assert binned.pop("error_bounds")["pixel_auroc"] > 0
    assert binned.pop("reasons") == exact.pop("reasons") == {}
    assert binned == pytest.approx(exact, abs=1e-12)


def test_scores_above_the_range_keep_their_order() -> None:
    """PatchCore's distances are far above 1: counted in one bin, every detector had a pixel AUROC of 0.5."""
    maps, masks = large_example()
    maps = maps * np.array([0.1, 1.0, 40.0, 7.0, 90.0, 3.0])[: len(maps), None, None]
    metrics = streamed(maps, masks)
    assert_within_bounds(metrics, maps, masks)
    assert metrics.score_range[1] >= maps.max() > metrics.score_range[1] / 2
    assert max(metrics.compute()["error_bounds"].values()) < 1e-3


def test_batches_do_not_matter() -> None:
    maps, masks = large_example()
    single, whole = streamed(maps, masks, batch=1).compute(), streamed(maps, masks, batch=6).compute()
    assert single.pop("error_bounds") == pytest.approx(whole.pop("error_bounds"), abs=1e-12)
    assert single.pop("reasons") == whole.pop("reasons")
    assert single == pytest.approx(whole, abs=1e-12)


def test_memory_does_not_grow_with_the_maps() -> None:
    maps, masks = large_example(n=4, size_px=64)
    metrics = StreamingMetrics(n_bins=1024)
    held, peaks = [], []
    tracemalloc.start()
    for _ in range(3):
        tracemalloc.reset_peak()
        for _ in range(250):
            metrics.update(maps, masks)
        current, peak = tracemalloc.get_traced_memory()
        held.append(current)
        peaks.append(peak)
    tracemalloc.stop()
    assert (
        held[2] - held[1] < 1000 * 20
    )  # a thousand images: their scores and labels, and spare capacity of the arrays
    assert peaks[2] - peaks[1] < 1000 * 40
    assert metrics.compute()["n_good"] == 1500


def test_labels_and_scores_of_images_can_be_given() -> None:
    maps, masks = example()
    scores, defective = [0.9, 0.8, 0.7, 0.1, 0.1, 0.0], [True, True, True, False, False, False]
    metrics = StreamingMetrics((-5, 5))
    metrics.update(maps, masks, scores, defective)
    binned, exact = metrics.compute(0.5), evaluate_maps(maps, masks, scores, defective, 0.5)
    for name in ("image_auroc", "n_defective", "tpr", "tnr", "ca"):
        assert binned[name] == exact[name]
    assert abs(binned["pixel_auroc"] - exact["pixel_auroc"]) <= binned["error_bounds"]["pixel_auroc"] < 1e-3


def test_curves_come_from_the_same_counts() -> None:
    maps, masks = large_example()
    curves = streamed(maps, masks).rankings().curves(10**9)
    roc = curves["pixel_roc"]
    exact = evaluate_maps(maps, masks)["pixel_auroc"]
    area = np.dot(np.diff(roc.x), (roc.y[1:] + roc.y[:-1]) / 2)
    assert area == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("label", [None, False, True])
def test_a_class_missing_is_nan_with_a_reason(label: bool | None) -> None:
    metrics = StreamingMetrics()
    if label is not None:
        metrics.update(np.zeros((2, 4, 4)), np.full((2, 4, 4), label))
    result = metrics.compute(0.5)
    missing = {None: "no defective and no good", False: "no defective", True: "no good"}[label]
    assert result["reasons"]["pixel_auroc"] == f"{missing} pixel"
    assert all(math.isnan(bound) for bound in result["error_bounds"].values())


def test_maps_of_several_sizes_have_all_metrics_but_aupimo() -> None:
    maps, masks = example()
    metrics = streamed(maps, masks, score_range=(-4, 4))
    metrics.update(maps[..., :30], masks[..., :30])
    result = metrics.compute()
    pixels = [np.concatenate([images.ravel(), images[..., :30].ravel()]) for images in (maps, masks)]
    assert abs(result["pixel_auroc"] - auroc(*pixels)) <= result["error_bounds"]["pixel_auroc"]
    assert math.isnan(result["pixel_aupimo"])
    assert math.isnan(result["error_bounds"]["pixel_aupimo"])
    assert result["reasons"] == {"pixel_aupimo": "maps of several sizes"}


def test_images_without_known_masks_count_as_images_only() -> None:
    maps, masks = example()
    metrics = streamed(maps, masks, score_range=(-4, 4))
    before = metrics.compute()
    metrics.update_images([9.0, -9.0], [True, True])
    after = metrics.compute()
    assert after["n_defective"] == before["n_defective"] + 2
    assert after["image_auroc"] != before["image_auroc"]
    assert after["pixel_ap"] == before["pixel_ap"]


def test_mistakes_are_reported_and_change_nothing() -> None:
    for score_range in [(1.0, 0.0), (0.0, 0.0), (0.0, math.inf), (math.nan, 1.0)]:
        with pytest.raises(BlemishError, match="score_range"):
            StreamingMetrics(score_range)
    with pytest.raises(BlemishError, match="n_bins"):
        StreamingMetrics(n_bins=1)
    maps, masks = example()
    metrics = streamed(maps, masks, score_range=(-4, 4))
    before = metrics.compute()
    with pytest.raises(BlemishError, match="image scores contain NaN"):
        metrics.update(maps, masks, [math.nan] * 6)
    with pytest.raises(BlemishError, match="image 0 is called good"):
        metrics.update(maps, masks, is_defective=[False] * 6)
    after = metrics.compute()
    assert (after["n_good"], after["pixel_ap"]) == (before["n_good"], before["pixel_ap"])


def test_the_example_runs() -> None:
    assert doctest.testmod(blemish.metrics.streaming) == (0, 5)
