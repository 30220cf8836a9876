"""AUsPRO compared with a loop that follows the definition, exactly and from histograms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles import ANY_FLOAT, TIED, example, maps_and_masks, naive_auspro, naive_regions

from blemish.errors import BlemishError
from blemish.metrics import Region, StreamingMetrics, aupro, auspro, evaluate_maps
from blemish.metrics.saturated import UNKNOWN

NAMES = ("pixel_auspro", "pixel_auspro_05")


@st.composite
def maps_and_regions(draw: st.DrawFn) -> tuple[np.ndarray, list[list[Region]]]:
    """Small maps, each with up to three regions that may overlap; both classes have pixels."""
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(2, 5)))
    maps = draw(hnp.arrays(np.float32, shape, elements=TIED | ANY_FLOAT))
    masks = st.lists(hnp.arrays(bool, shape[1:]).filter(np.any), max_size=3)
    areas = st.floats(0.1, 30) | st.integers(1, 30)
    regions = [[Region(mask, draw(areas)) for mask in draw(masks)] for _ in range(shape[0])]
    union = united(regions, shape)
    if not union.any():
        union[0, 0, 0] = True
        regions[0].append(Region(union[0].copy(), 1.0))
    if union.all():
        regions[0] = []
        if shape[0] == 1:
            corner = np.zeros(shape[1:], bool)
            corner[0, 0] = True
            regions[0] = [Region(corner, 0.5)]
    return maps, regions


def united(regions: list[list[Region]], shape: tuple[int, ...]) -> np.ndarray:
    union = np.zeros(shape, bool)
    for index, of_image in enumerate(regions):
        for region in of_image:
            union[index] |= region.mask
    return union


@settings(deadline=None, max_examples=200)
@given(maps_and_regions(), st.sampled_from([0.05, 0.3, 1.0]))
def test_auspro_agrees_with_the_definition(pair: tuple[np.ndarray, list[list[Region]]], max_fpr: float) -> None:
    assert auspro(*pair, max_fpr) == pytest.approx(naive_auspro(*pair, max_fpr), abs=1e-9)


@settings(deadline=None)
@given(maps_and_masks(TIED | ANY_FLOAT), st.sampled_from([0.05, 0.3, 1.0]))
def test_without_saturation_and_with_connected_regions_it_is_aupro(
    pair: tuple[np.ndarray, np.ndarray], max_fpr: float
) -> None:
    maps, masks = pair
    regions = []
    for mask in masks:
        parts = [np.zeros_like(mask) for _ in naive_regions(mask)]
        for part, pixels in zip(parts, naive_regions(mask), strict=True):
            part[tuple(np.transpose(pixels))] = True
        regions.append([Region(part, part.sum()) for part in parts])
    assert auspro(maps, regions, max_fpr) == pytest.approx(aupro(maps, masks, max_fpr), abs=1e-12)


def test_the_highest_pixels_saturate_a_region() -> None:
    mask = np.zeros((1, 10), bool)
    mask[0, :4] = True
    maps = np.array([[[9.0, 8, 1, 2, 5, 4, 3, 3, 3, 3]]])  # two of the region above all others, two below
    assert auspro(maps, [[Region(mask, 2)]], 1.0) == 1.0
    assert auspro(maps, [[Region(mask, 4)]], 1.0) == 0.5
    assert auspro(maps, [[Region(mask, 2.5)]], 1.0) == pytest.approx(0.8)
    assert auspro(maps, [[Region(mask, 1000)]], 1.0) == 0.5  # no more than the region's area


def test_a_region_in_two_parts_is_one_and_overlapping_regions_are_two() -> None:
    first, second = np.zeros((2, 1, 10), bool)
    first[0, [0, 5]] = second[0, [5, 6]] = True
    maps = np.arange(10.0)[None, None] % 5 * -1  # pixels 0 and 5 are the highest
    assert auspro(maps, [[Region(first, 2)]], 1.0) == 1.0
    regions = [[Region(first, 2), Region(second, 1)]]
    assert auspro(maps, regions, 1.0) == 1.0  # pixel 5 is enough for the second
    assert auspro(maps, [[Region(first, 2), Region(second, 2)]], 1.0) < 1.0


def test_the_rate_counts_all_pixels_outside_of_defects() -> None:
    mask = np.zeros((2, 1, 10), bool)
    mask[0, 0, 0] = True
    maps = np.zeros(mask.shape)
    maps[0, 0, 1] = 3.0  # 1 of 19, in the defective image
    maps[0, 0, 0] = 2.0
    assert auspro(maps, [[Region(mask[0], 1)], []], 1.0) == pytest.approx(18 / 19)
    assert auspro(maps, [[Region(mask[0], 1)], []]) == 0.0


def regions_of(masks: np.ndarray) -> list[list[Region]]:
    """Each mask as one region that a third of it saturates, and its upper rows as another."""
    regions: list[list[Region]] = []
    for mask in masks:
        upper = mask & (np.arange(len(mask)) < 8)[:, None]
        regions.append([Region(part, part.sum() / 3) for part in (mask, upper) if part.any()])
    return regions


def test_it_is_a_metric_only_where_saturation_areas_are_given() -> None:
    maps, masks = example()
    assert not set(NAMES) & set(evaluate_maps(maps, masks))
    result = evaluate_maps(maps, masks, regions=regions_of(masks))
    assert result["pixel_auspro_05"] == pytest.approx(naive_auspro(maps, regions_of(masks), 0.05))
    assert result["pixel_auspro"] == pytest.approx(naive_auspro(maps, regions_of(masks), 0.3))
    assert not set(NAMES) & set(result["reasons"])
    rest = {name: value for name, value in result.items() if name not in NAMES and name != "pixel_aupimo"}
    assert rest == {name: value for name, value in evaluate_maps(maps, masks).items() if name in rest}


@settings(deadline=None, max_examples=200)
@given(maps_and_regions(), st.sampled_from([2, 3, 64, 4096]), st.sampled_from([(0.0, 1.0), (-3.0, 0.1)]))
def test_the_bounds_of_the_stream_hold(
    pair: tuple[np.ndarray, list[list[Region]]], n_bins: int, score_range: tuple[float, float]
) -> None:
    maps, regions = pair
    masks = united(regions, maps.shape)
    metrics = StreamingMetrics(score_range, n_bins)
    for index in range(len(maps)):
        metrics.update(maps[index : index + 1], masks[index : index + 1], regions=regions[index : index + 1])
    binned = metrics.compute()
    for name, max_fpr in zip(NAMES, (0.3, 0.05), strict=True):
        assert abs(binned[name] - auspro(maps, regions, max_fpr)) <= binned["error_bounds"][name]


def test_a_stream_without_saturation_areas_has_no_auspro() -> None:
    maps, masks = example()
    metrics = StreamingMetrics((-5, 5))
    metrics.update(maps, masks)
    assert not set(NAMES) & set(metrics.compute())
    assert not set(NAMES) & set(metrics.compute()["error_bounds"])


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("replacement", [{0: None}, {0: [], 1: []}])
def test_without_a_saturation_area_of_each_image_it_is_nan_with_a_reason(
    is_streamed: bool, replacement: dict[int, list[Region] | None]
) -> None:
    maps, masks = example()
    regions = [replacement.get(index, of_image) for index, of_image in enumerate(regions_of(masks))]
    metrics = StreamingMetrics((-5, 5))
    metrics.update(maps, masks, regions=regions)
    result = metrics.compute() if is_streamed else evaluate_maps(maps, masks, regions=regions)
    for name in NAMES:
        assert math.isnan(result[name])
        assert result["reasons"][name] == UNKNOWN
    assert not math.isnan(result["pixel_aupro"])


@pytest.mark.parametrize("is_streamed", [False, True])
def test_without_defects_the_reason_is_that_of_all_pixel_metrics(is_streamed: bool) -> None:
    maps, masks = example()
    metrics = StreamingMetrics((-5, 5))
    metrics.update(maps[2:], masks[2:], regions=[[]] * 4)
    result = metrics.compute() if is_streamed else evaluate_maps(maps[2:], masks[2:], regions=[[]] * 4)
    assert result["reasons"]["pixel_auspro_05"] == result["reasons"]["pixel_ap"] == "no defective pixel"
    assert math.isnan(auspro(maps[2:], [[]] * 4))


def test_mistakes_are_reported_and_change_nothing() -> None:
    maps, masks = example()
    regions = regions_of(masks)
    wrong = {
        "5 lists of regions but 6 masks": regions[:5],
        r"a region is \(2, 2\), its image \(30, 40\)": [[Region(np.ones((2, 2), bool), 1)], *regions[1:]],
        "reaches out of the mask": [regions[1], *regions[1:]],
        "must be above 0 px, not 0": [[Region(masks[0], 0)], *regions[1:]],
        "must be above 0 px, not nan": [[Region(masks[0], math.nan)], *regions[1:]],
    }
    metrics = StreamingMetrics((-5, 5))
    for message, given_regions in wrong.items():
        with pytest.raises(BlemishError, match=message):
            evaluate_maps(maps, masks, regions=given_regions)
        with pytest.raises(BlemishError, match=message):
            metrics.update(maps, masks, regions=given_regions)
    assert metrics.compute()["n_defective"] == 0
    with pytest.raises(BlemishError, match="max_fpr"):
        auspro(maps, regions, 0.0)
    with pytest.raises(BlemishError, match=r"a region is \(2, 2\)"):
        auspro(maps, [[Region(np.ones((2, 2), bool), 1)], *regions[1:]])
    with pytest.raises(BlemishError, match=r"maps have shape"):
        auspro(maps, regions[:5])
