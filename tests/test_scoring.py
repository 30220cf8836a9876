"""From anomaly map to decision: image score, conformal threshold, regions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import BlemishError
from blemish.regions import Region, outline, regions
from blemish.scoring import smoothed_maximum
from blemish.thresholds import conformal_threshold, n_held_out, raised_threshold


def test_smoothed_maximum_counts_zero_padding() -> None:
    maps = torch.zeros(3, 1, 40, 40)
    maps[0, 0, 20, 20] = 441.0  # one pixel inside: its share of the window
    maps[1] = 1.0  # full windows exist
    maps[2, 0, 0, 0] = -5.0  # nothing above zero elsewhere
    torch.testing.assert_close(smoothed_maximum(maps), torch.tensor([1.0, 1.0, 0.0]))
    whole = smoothed_maximum(torch.ones(1, 1, 10, 10))  # smaller than the window
    torch.testing.assert_close(whole, torch.tensor([100 / 441]))


@pytest.mark.parametrize("window_px", [1, 3, 21])
def test_smoothed_maximum_is_the_square_mean(window_px: int) -> None:
    maps = torch.rand(2, 1, 33, 17, generator=torch.Generator().manual_seed(0))
    mean = F.avg_pool2d(maps, window_px, stride=1, padding=window_px // 2, count_include_pad=True)
    torch.testing.assert_close(smoothed_maximum(maps, window_px), mean.flatten(1).max(1).values)


def test_smoothed_maximum_exports_with_free_sizes() -> None:
    class Score(torch.nn.Module):
        def forward(self, anomaly_map: torch.Tensor) -> torch.Tensor:
            return smoothed_maximum(anomaly_map)

    free = torch.export.Dim.DYNAMIC
    program = torch.export.export(Score(), (torch.rand(2, 1, 32, 48),), dynamic_shapes=({0: free, 2: free, 3: free},))
    maps = torch.rand(5, 1, 40, 25)  # of another size
    torch.testing.assert_close(program.module()(maps), smoothed_maximum(maps))


@pytest.mark.parametrize("window_px", [0, -3, 20])
def test_smoothed_maximum_refuses_a_window_without_a_centre(window_px: int) -> None:
    with pytest.raises(BlemishError, match="window_px must be odd"):
        smoothed_maximum(torch.zeros(1, 1, 8, 8), window_px)


@pytest.mark.parametrize(
    ("n", "rate", "value"),
    [
        (99, 0.01, 99),
        (199, 0.01, 198),
        (19, 0.05, 19),
        (20, 0.05, 20),
        (39, 0.05, 38),
        (9, 0.3, 7),
        (1, 0.5, 1),
        (9, 0.7, 3),  # in floats 10 * (1 - 0.7) is above 3
    ],
)
def test_threshold_is_the_conformal_rank(n: int, rate: float, value: int) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1, n + 1)).astype(float)
    threshold = conformal_threshold(scores, rate)
    assert threshold.value == value
    assert threshold.is_promised
    assert threshold.n_calibration == n


@pytest.mark.parametrize(("rate", "n_needed"), [(0.01, 99), (0.05, 19), (0.1, 9), (0.3, 3), (0.5, 1), (0.9, 1)])
def test_n_needed_is_the_fewest_that_can_promise(rate: float, n_needed: int) -> None:
    exact = Fraction(str(rate))
    fewest = next(n for n in range(1, 200) if math.ceil((n + 1) * (1 - exact)) <= n)
    assert conformal_threshold([1.0], rate).n_needed == n_needed == fewest


def test_too_few_images_give_the_largest_score_and_no_promise() -> None:
    threshold = conformal_threshold([3.0, 1.0, 2.0], 0.01)
    assert threshold.value == 3.0
    assert not threshold.is_promised
    assert conformal_threshold(np.arange(98.0), 0.01).is_promised is False


@settings(deadline=None)
@given(
    scores=st.lists(st.integers(-5, 30), min_size=2, max_size=60),
    rate=st.sampled_from([0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7]),
)
def test_the_promise_holds_for_exchangeable_scores(scores: list[int], rate: float) -> None:
    """Each score in turn is the new image, and the rest calibrate: all turns are equally likely."""
    rejected, promised = 0, True
    for turn, score in enumerate(scores):
        threshold = conformal_threshold([float(s) for s in scores[:turn] + scores[turn + 1 :]], rate)
        rejected += score > threshold.value
        promised = threshold.is_promised
    if promised:
        assert Fraction(rejected, len(scores)) <= Fraction(str(rate))
    if len(set(scores)) == len(scores):  # without ties, the rate is reached exactly
        allowed = math.floor(len(scores) * Fraction(str(rate)))
        assert rejected == (allowed if promised else 1)


def test_threshold_takes_tensors_and_keeps_the_precision_of_the_scores() -> None:
    scores = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float32)
    assert conformal_threshold(scores, 0.3).value == float(scores[2])
    assert not bool(scores[2] > conformal_threshold(scores, 0.3).value)
    assert conformal_threshold([0.1, 0.2, 0.3], 0.3).value == 0.3


def test_explain_says_what_is_promised_and_how_many_would_do() -> None:
    assert conformal_threshold(range(20), 0.01).explain() == (
        "With 20 held-out good images a false-reject rate of 1 % cannot be promised "
        "(the lowest that can is 4.8 %); 99 would do."
    )
    assert conformal_threshold([1.0], 0.005).explain() == (
        "With 1 held-out good image a false-reject rate of 0.5 % cannot be promised "
        "(the lowest that can is 50 %); 199 would do."
    )
    assert "(the lowest that can is 4.4 %)" in conformal_threshold(range(22), 0.01).explain()  # 4.348, never 4.3
    assert conformal_threshold(range(120), 0.01).explain() == (
        "With 120 held-out good images a false-reject rate of 1 % is promised (99 would do)."
    )


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0, math.nan])
def test_rates_out_of_range_are_refused(rate: float) -> None:
    with pytest.raises(BlemishError, match="false-reject rate must lie between 0 and 1"):
        conformal_threshold([1.0, 2.0], rate)


@pytest.mark.parametrize(
    ("scores", "message"),
    [([], "shape"), ([[1.0]], "shape"), ([1.0, math.nan], "NaN"), ([math.inf, 1.0], "NaN")],
)
def test_unusable_scores_are_refused(scores: list[float], message: str) -> None:
    with pytest.raises(BlemishError, match=message):
        conformal_threshold(scores, 0.1)


def test_regions_are_outlined_and_the_worst_comes_first() -> None:
    anomaly_map = np.zeros((6, 9), dtype=np.float32)
    mask = np.zeros(anomaly_map.shape, dtype=bool)
    mask[0, 0] = mask[1, 1] = True  # joined by a corner
    mask[3:6, 6:9] = True
    mask[4, 2:4] = True
    anomaly_map[1, 1], anomaly_map[5, 8], anomaly_map[4, 2:4] = 0.5, 2.0, -1.0
    anomaly_map[0, 8] = 9.0  # outside the mask
    assert regions(anomaly_map, mask) == [
        Region(bbox_xyxy=(6, 3, 9, 6), area_px=9, peak=2.0),
        Region(bbox_xyxy=(0, 0, 2, 2), area_px=2, peak=0.5),
        Region(bbox_xyxy=(2, 4, 4, 5), area_px=2, peak=-1.0),
    ]


def test_regions_of_the_empty_and_the_full_mask() -> None:
    anomaly_map = np.arange(12.0).reshape(3, 4)
    assert regions(anomaly_map, np.zeros((3, 4), dtype=bool)) == []
    assert regions(anomaly_map, np.ones((3, 4), dtype=bool)) == [Region((0, 0, 4, 3), 12, 11.0)]
    (region,) = regions(anomaly_map, np.ones((3, 4), dtype=bool))
    assert all(type(value) is int for value in (*region.bbox_xyxy, region.area_px))


def test_regions_refuse_a_mask_of_another_size() -> None:
    with pytest.raises(BlemishError, match=r"\(3, 4\) and mask \(4, 3\)"):
        regions(np.zeros((3, 4)), np.zeros((4, 3), dtype=bool))


def test_outline_keeps_what_reaches_half_the_peak_out_to_a_third() -> None:
    anomaly_map = np.array([[0.8, 0.3, 0.1, 0.35, 0.0, 0.45, 0.3, 0.0]])
    expected = [[True, True, False, False, False, True, True, False]]
    np.testing.assert_array_equal(outline(anomaly_map), expected)
    np.testing.assert_array_equal(outline(0.001 * anomaly_map), expected)
    assert not outline(np.zeros((3, 4))).any()
    assert outline(np.ones((3, 4), np.float32)).all()


def test_shares_of_the_peak_are_counted_from_the_floor() -> None:
    """Distances as of PatchCore, at 15 where nothing is; half of the way to the peak is 27.5, 35 % of it 23.75."""
    anomaly_map = np.array([[15.0, 16.0, 27.0, 40.0, 22.0, 15.0, 24.0, 17.0]])
    np.testing.assert_array_equal(outline(anomaly_map), [[False, False, True, True, False, False, False, False]])


@pytest.mark.parametrize("usual", [30.0, 50.0])
def test_nothing_usual_is_outlined_but_the_top_of_the_map(usual: float) -> None:
    anomaly_map = np.array([[15.0, 16.0, 27.0, 40.0, 22.0, 15.0, 24.0, 17.0]])
    np.testing.assert_array_equal(outline(anomaly_map, usual), [[number == 3 for number in range(8)]])


@pytest.mark.parametrize(
    ("n_good", "expected"), [(8, 5), (209, 21), (659, 66), (660, 99), (990, 99), (1000, 100), (5000, 500)]
)
def test_a_tenth_is_held_out_or_what_the_usual_promise_needs(n_good: int, expected: int) -> None:
    assert n_held_out(n_good) == expected
    assert conformal_threshold([0.5] * expected, 0.01).is_promised == (n_good >= 660)


def test_chosen_good_images_raise_the_threshold_by_rank() -> None:
    """Of 19 scores at 10 %, the 18th is the threshold; with two more above it, the 20th of 21."""
    held_out = [float(number) for number in range(1, 20)]
    assert conformal_threshold(held_out, 0.1).value == 18.0
    raised = raised_threshold(held_out, [18.5, 30.0, 3.0, 3.0, 3.0], 0.1)
    assert (raised.value, raised.n_calibration, raised.is_promised) == (19.0, 19, True)
    assert raised_threshold(held_out, [0.0] * 50, 0.1) == conformal_threshold(held_out, 0.1)


score_lists = st.lists(st.integers(0, 50).map(float), max_size=60)


@given(score_lists.filter(len), score_lists, st.sampled_from([0.01, 0.05, 0.1, 0.3]))
@settings(deadline=None)
def test_chosen_good_images_never_lower_the_threshold(
    held_out: list[float], chosen: list[float], rate: float
) -> None:
    plain, raised = conformal_threshold(held_out, rate), raised_threshold(held_out, chosen, rate)
    assert raised.value >= plain.value
    assert raised.value in {plain.value, *held_out, *chosen}
    assert (raised.n_calibration, raised.is_promised) == (plain.n_calibration, plain.is_promised)
