"""The drift charts against simulation by brute force: false alarms, shifts, few calibration scores, ties."""

from __future__ import annotations

import math

import numpy as np
import pytest

from blemish.serve.drift import (
    FALSE_ALARM_PARTS,
    MANY_UNLIKE,
    MOST_REFERENCE,
    USUAL_UNLIKE,
    Drift,
    normal_score,
    reference_of,
    score_limit,
    score_run_length,
    unlike_limit,
    unlike_run_length,
)
from blemish.thresholds import conformal_threshold


def run_length(drift: Drift, rng: np.random.Generator, shift: float = 0.0, most: int = 100_000) -> float:
    """Good parts until the alarm; their scores are log-normal."""
    part = 0
    while part < most:
        for score in np.exp(rng.standard_normal(500) + shift).tolist():
            part += 1
            if any(state.alarm for state in drift.take("good", score, part)):
                return part
    return math.inf


def calibrated(n: int, rng: np.random.Generator, false_alarm_parts: float) -> Drift:
    return Drift(np.exp(rng.standard_normal(n)).tolist(), false_alarm_parts=false_alarm_parts)


@pytest.mark.parametrize("n", [0, 18, 99, 200])
def test_false_alarms_are_as_rare_as_stated_with_any_number_of_calibration_scores(n: int) -> None:
    rng = np.random.default_rng(n)
    lengths = [run_length(calibrated(n, rng, 300), rng) for _ in range(250)]
    assert 0.8 * 300 < np.mean(lengths) < 1.3 * 300  # its standard error is 6 %


def test_it_is_so_for_good_parts_below_a_threshold_that_was_set_from_the_same_scores() -> None:
    """Rejected parts are not in the chart, and what remains has no long tail: the reference is cut off alike."""
    rng = np.random.default_rng(5)
    lengths = []
    for _ in range(250):
        scores = np.exp(rng.standard_normal(40))
        threshold = conformal_threshold(scores, 0.1).value * (1 + 2.0**-14)
        drift, part = Drift(scores.tolist(), threshold, 300), 0
        for score in np.exp(rng.standard_normal(20_000)).tolist():
            part += score <= threshold
            if any(state.alarm for state in drift.take("good" if score <= threshold else "defective", score, part)):
                break
        lengths.append(part)
    assert 0.8 * 300 < np.mean(lengths) < 1.3 * 300


def test_a_shift_of_one_standard_deviation_is_found_soon() -> None:
    rng = np.random.default_rng(1)
    up = [run_length(calibrated(200, rng, FALSE_ALARM_PARTS), rng, 1.0, 1000) for _ in range(60)]
    down = [run_length(calibrated(200, rng, FALSE_ALARM_PARTS), rng, -1.0, 1000) for _ in range(60)]
    assert 15 < np.median(up) < 35
    assert 15 < np.median(down) < 35
    few = [run_length(calibrated(18, rng, FALSE_ALARM_PARTS), rng, 3.0, 1000) for _ in range(60)]
    assert np.median(few) < 30


def test_it_says_which_way_and_since_when_and_is_over_when_it_is_mended() -> None:
    rng = np.random.default_rng(2)
    drift = Drift(rng.standard_normal(100).tolist())
    changes = []
    for part in range(3000):
        shift = 2.0 if 1000 <= part < 1200 else 0.0
        changes += [(part, state) for state in drift.take("good", float(rng.standard_normal() + shift), part)]
    (began, alarm), (ended, end) = changes
    assert (alarm.kind, alarm.alarm, end.kind, end.alarm) == ("scores higher", True, "scores higher", False)
    assert 1000 < began < 1020
    assert alarm.since is not None
    assert 980 < alarm.since <= began
    assert alarm.statistic > alarm.limit == score_limit(2 * FALSE_ALARM_PARTS)
    assert 1200 < ended < 1300
    assert not drift.alarm
    assert "score higher than at calibration" in alarm.text
    assert end.text == "scores higher: no drift"


def test_what_drifts_is_not_learned() -> None:
    drift = Drift([float(score) for score in range(100)])
    for part in range(500):
        drift.take("good", 1000.0 + part, part)
    assert drift.alarm
    assert drift.n_reference < 110
    drift.reset()
    assert not drift.alarm
    assert drift.n_reference == 100


def test_the_reference_is_bounded_and_equal_scores_are_no_drift() -> None:
    drift = Drift([0.0] * 20)
    for part in range(MOST_REFERENCE + 100):
        assert drift.take("good", 0.0, part) == []
    assert drift.n_reference == MOST_REFERENCE


def test_only_good_parts_below_the_threshold_and_unlike_ones_count() -> None:
    drift = Drift([1.0, 2.0, 3.0], threshold=2.5)
    for verdict, score in (
        ("defective", 9.0),
        ("not_inspected", None),
        ("good", 9.0),
        ("good", None),
        ("unlike", 9.0),
    ):
        drift.take(verdict, score, 1)
    assert drift.n_reference == 2
    assert [state.statistic > 0 for state in drift.states] == [False, False, True]


def test_the_reference_lies_below_the_score_that_is_the_threshold() -> None:
    scores = [5.0, 1.0, 3.0, 4.0, 2.0]
    assert reference_of(scores, math.inf) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert reference_of(scores, 3.5) == [1.0, 2.0, 3.0]  # given by hand
    assert reference_of(scores, 4.0) == [1.0, 2.0, 3.0]
    assert reference_of(scores, 4.0 * (1 + 2.0**-14)) == [1.0, 2.0, 3.0]
    assert reference_of([], 1.0) == []


def test_normal_scores() -> None:
    assert normal_score(0.5, []) == 0.0
    assert normal_score(2.0, [1.0, 3.0]) == pytest.approx(0.0)
    assert normal_score(4.0, [1.0, 3.0]) == pytest.approx(0.9674, abs=1e-4)  # the quantile of 5/6
    assert normal_score(1.0, [1.0, 1.0, 1.0]) == 0.0


def test_run_lengths_of_normal_scores_against_simulation() -> None:
    rng = np.random.default_rng(3)
    limit = score_limit(400)
    assert score_run_length(limit) == pytest.approx(400)
    for shift in (0.0, 0.5, 1.0):
        sums, lengths, alive = np.zeros(4000), np.zeros(4000), np.full(4000, True)
        while alive.any():
            sums[alive] = np.maximum(sums[alive] + rng.standard_normal(alive.sum()) + shift - 0.5, 0)
            lengths[alive] += 1
            alive &= sums <= limit
        assert lengths.mean() == pytest.approx(score_run_length(limit, shift), rel=0.08)


@pytest.mark.parametrize("share", [USUAL_UNLIKE, MANY_UNLIKE, 0.5])
def test_run_lengths_of_unlike_parts_against_simulation(share: float) -> None:
    rng = np.random.default_rng(4)
    lengths = []
    limit = unlike_limit(2000)
    for _ in range(150):
        drift, part = Drift(false_alarm_parts=2000), 0
        while not drift.alarm:
            part += 1
            drift.take("unlike" if rng.random() < share else "defective", None, part)
        lengths.append(part)
    assert np.mean(lengths) == pytest.approx(unlike_run_length(limit, share), rel=0.25)
    assert unlike_run_length(limit) >= 2000 > unlike_run_length(limit - 1) or limit == 156


def test_the_usual_limit_of_unlike_parts() -> None:
    """Three in a row, or one in fifty for some 160 parts; a single one every thousand parts is usual."""
    limit = unlike_limit(FALSE_ALARM_PARTS)
    assert FALSE_ALARM_PARTS <= unlike_run_length(limit) < 1.05 * FALSE_ALARM_PARTS
    assert unlike_run_length(limit, 1.0) == pytest.approx(3)
    assert unlike_run_length(limit, MANY_UNLIKE) < 170
