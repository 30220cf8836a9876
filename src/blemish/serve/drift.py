"""Do good parts still look as they did at calibration? Alarms with a stated rate of false ones.

Two charts, each a cumulative sum (CUSUM) that returns to zero as long as nothing changes:

- **Scores of good parts**, upwards and downwards. They have no known distribution, so each is replaced by its rank
  among the calibration scores and the good parts since, as a normal score. In control these sequential ranks are
  independent and uniform whatever the distribution, and however few calibration scores there are (McDonald 1990,
  "A CUSUM procedure based on sequential ranks"): the average run length to a false alarm is as stated. Ranks among
  the calibration scores alone would not do, since these are a sample themselves: designed for 100,000 parts, one set
  of 18 in ten would alarm every 1,800 parts or more often, one set of 200 in ten every 21,000.
- **Share of parts that are unlike the good images**, upwards (Reynolds and Stoumbos 1999, "A CUSUM chart for
  monitoring a proportion when inspecting continuously"). Its run length is as stated if at most ``USUAL_UNLIKE`` of
  the photographs are called unlike while all is well, for which the limits of likeness are made.

Both take the parts as independent. Scores that hang together, such as with the light of the day, alarm more often,
and rightly so: the light did change.

A part is in the first chart if it is judged good, with a score not above the threshold. The reference is made alike:
the scores below the one that the threshold was set from. Given that one, they have the distribution of such a part.

Measured by simulation, two-sided, with one false alarm in 100,000 parts: 97,000 +- 17,000 parts to a false alarm
with 18 calibration scores, 106,000 +- 15,000 with 100, 97,000 +- 15,000 with 200, 100,000 +- 11,000 with none. Parts
to the alarm after a lasting shift of the scores by so many standard deviations (median; nine in ten); "-" if it is
not found within 1,000 parts, because later parts are compared with earlier ones that are shifted themselves:

    calibration  good parts before     0.5 sd       1 sd     1.5 sd       2 sd       3 sd
             18                  0       -; -       -; -       -; -      25; -     16; 36
             50                  0       -; -      85; -     16; 29     11; 16      9; 10
            100                  0       -; -     27; 88     14; 21     10; 12       7; 8
            200                  0       -; -     24; 40     12; 18      9; 12       6; 7
             18                200       -; -     21; 41     11; 17      8; 11       6; 7
            100              1,000     100; -     20; 36     10; 15      8; 10       5; 6
            100              5,000    68; 274     18; 30      9; 15      7; 10       5; 6

So with 18 calibration scores only coarse shifts between calibration and the first parts can be told from the chance
of the sample (at this rate of false alarms no test does much better); after 200 good parts all are found alike.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np

FALSE_ALARM_PARTS = 100_000
"""Parts between two false alarms of a chart, on average."""
RATE = f"false alarms: 1 in {FALSE_ALARM_PARTS // 2:,} parts"
"""Of both charts together."""
SHIFT = 1.0
"""Shift of the normal scores for which the first chart is the fastest, standard deviations."""
MOST_REFERENCE = 5_000
"""Scores in the reference at most; the later ones are compared with these."""
USUAL_UNLIKE, MANY_UNLIKE = 0.001, 0.02
"""Share of photographs that are called unlike while all is well, and the share to detect."""
_NORMAL = NormalDist()

Kind = Literal["scores higher", "scores lower", "unlike"]


@dataclass
class Cusum:
    """A cumulative sum that is never below zero. It alarms above its limit, until it is back at zero."""

    limit: float
    value: float = 0.0
    alarm: bool = False
    since: int | None = None
    """The part at which the sum last left zero: where the change began, as far as can be told."""

    def add(self, step: float, part: int) -> bool:
        """Add the step of a part, and say whether an alarm has begun or ended."""
        if self.value <= 0.0:
            self.since = part
        self.value = min(self.value + step, 2.0 * self.limit)  # so that a long change is over soon after it is mended
        if self.value <= 0.0:
            self.value, self.since = 0.0, None
        was, self.alarm = self.alarm, self.value > self.limit or (self.alarm and self.value > 0.0)
        return was != self.alarm


@dataclass(frozen=True)
class DriftState:
    """How a chart stands."""

    kind: Kind
    statistic: float
    """>= 0; it alarms above ``limit``."""
    limit: float
    alarm: bool
    since: int | None
    """Number of the part at which the change began, as far as can be told; None at zero."""

    @property
    def text(self) -> str:
        """One line for people."""
        what = {
            "scores higher": "good parts score higher than at calibration: light, focus or the parts have changed; "
            "more good parts will be rejected",
            "scores lower": "good parts score lower than at calibration: check focus and light; defects may be "
            "missed",
            "unlike": "more photographs than usual are unlike the good images: check camera, light and position",
        }[self.kind]
        return f"{what} ({RATE})" if self.alarm else f"{self.kind}: no drift"


@dataclass
class Drift:
    """The charts of a product: takes its parts one by one.

    Parameters
    ----------
    calibration_scores : of the detector, any number; with none, later good parts are compared with the first ones.
    threshold : of the detector; it is taken as set from one of these scores if it is equal to one, or a hair above.
    false_alarm_parts : parts between two false alarms of each chart, on average.
    """

    calibration_scores: Sequence[float] = ()
    threshold: float = math.inf
    false_alarm_parts: float = FALSE_ALARM_PARTS
    _reference: list[float] = field(init=False, repr=False)
    _charts: dict[Kind, Cusum] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, as after a repair: all sums at zero, and the calibration scores are the reference."""
        self._reference = reference_of(self.calibration_scores, self.threshold)
        limit = score_limit(2 * self.false_alarm_parts)  # each direction alarms half as often
        self._charts = {
            "scores higher": Cusum(limit),
            "scores lower": Cusum(limit),
            "unlike": Cusum(unlike_limit(self.false_alarm_parts)),
        }

    def take(self, verdict: str, score: float | None, part: int) -> list[DriftState]:
        """Take a part, and return the charts whose alarm begins or ends with it.

        Parameters
        ----------
        verdict : good, defective, unlike or not_inspected; the last changes nothing.
        score : of the part.
        part : its number, rising; what ``since`` names.
        """
        steps: dict[Kind, float] = {}
        if verdict in ("good", "defective", "unlike"):
            steps["unlike"] = float(_STEPS_PER_UNLIKE - 1) if verdict == "unlike" else -1.0
        if verdict == "good" and score is not None and score <= self.threshold:
            z = normal_score(score, self._reference)
            steps |= {"scores higher": z - SHIFT / 2, "scores lower": -z - SHIFT / 2}
        changed = [kind for kind, step in steps.items() if self._charts[kind].add(step, part)]
        learns = not (self._charts["scores higher"].alarm or self._charts["scores lower"].alarm)
        if "scores higher" in steps and learns and len(self._reference) < MOST_REFERENCE:
            assert score is not None
            insort(self._reference, score)
        return [self._state(kind) for kind in changed]

    @property
    def states(self) -> list[DriftState]:
        """How each chart stands."""
        return [self._state(kind) for kind in self._charts]

    @property
    def alarm(self) -> bool:
        """Whether any chart alarms."""
        return any(chart.alarm for chart in self._charts.values())

    @property
    def n_reference(self) -> int:
        """Scores that a new one is compared with."""
        return len(self._reference)

    def _state(self, kind: Kind) -> DriftState:
        chart = self._charts[kind]
        return DriftState(kind, chart.value, chart.limit, chart.alarm, chart.since)


def reference_of(scores: Sequence[float], threshold: float) -> list[float]:
    """The calibration scores that good parts are compared with, sorted: those below the one that is the threshold."""
    below = sorted(score for score in scores if score <= threshold)
    if below and math.isclose(below[-1], threshold, rel_tol=1e-4):
        del below[-1]
    return below


def normal_score(score: float, reference: Sequence[float]) -> float:
    """Normal score of the rank of a score among itself and a sorted reference; equal ones share their rank."""
    n_below, n_not_above = bisect_left(reference, score), bisect_right(reference, score)
    return _NORMAL.inv_cdf((n_below + n_not_above + 1) / (2 * len(reference) + 2))


def score_run_length(limit: float, shift: float = 0.0) -> float:
    """Average run length of the upward sum of normal scores: Siegmund's formula (1985), within 2 % from a limit of 3.

    Parameters
    ----------
    shift : of the normal scores' mean, standard deviations.
    """
    drift, reach = shift - SHIFT / 2, limit + 1.166
    if abs(drift) < 1e-9:
        return reach**2
    return (math.exp(-2 * drift * reach) + 2 * drift * reach - 1) / (2 * drift**2)


def score_limit(run_length: float) -> float:
    """The limit of the upward sum of normal scores that has this average run length in control."""
    low, high = 0.0, 1.0
    while score_run_length(high) < run_length:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if score_run_length(middle) < run_length else (low, middle)
    return high


_PER_LIKE = -math.log((1 - MANY_UNLIKE) / (1 - USUAL_UNLIKE))
_STEPS_PER_UNLIKE = round(math.log(MANY_UNLIKE / USUAL_UNLIKE) / _PER_LIKE) + 1
"""The logarithm of the likelihood ratio, in whole steps: each part counts -1, one that is unlike so many more."""


def unlike_run_length(limit: int, share: float = USUAL_UNLIKE) -> float:
    """Average number of parts to an alarm of the sum of unlike parts, exactly, by its Markov chain.

    Parameters
    ----------
    limit : in steps; it alarms above.
    share : of parts that are unlike.
    """
    n = limit + 1  # the values 0 ... limit
    here = np.arange(n)
    chain = np.zeros((n, n))
    np.add.at(chain, (here, np.maximum(here - 1, 0)), 1 - share)
    stays = here + _STEPS_PER_UNLIKE - 1 < n
    chain[here[stays], here[stays] + _STEPS_PER_UNLIKE - 1] += share
    return float(np.linalg.solve(np.eye(n) - chain, np.ones(n))[0])


@lru_cache(maxsize=8)
def unlike_limit(run_length: float) -> int:
    """The lowest limit, in steps, of the sum of unlike parts that has this average run length at least in control."""
    low, high = 0, _STEPS_PER_UNLIKE
    while unlike_run_length(high) < run_length:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if unlike_run_length(middle) < run_length else (low, middle)
    return high
