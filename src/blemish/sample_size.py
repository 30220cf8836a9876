"""How many good images it takes: to train, and to promise a false-reject rate."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction

from blemish.errors import BlemishError

MIN_IMAGES = 10
"""Fewest good images to train on, those that are held out included."""
MIN_HELD_OUT = 5
"""Fewest good images to set a threshold from."""
HELD_OUT = 0.1
"""Share of the good images that is held out where no calibration images are given."""


def n_held_out(n_good: int) -> int:
    """How many of the good images are held out to set the threshold from."""
    return max(MIN_HELD_OUT, round(HELD_OUT * n_good))


def n_needed(false_reject_rate: float) -> int:
    """How many good images have to be held out to promise a false-reject rate in (0, 1): 99 for 1 %."""
    if not 0 < false_reject_rate < 1:
        raise BlemishError(f"the false-reject rate must lie between 0 and 1, not {false_reject_rate}: 0.01 is 1 %")
    return math.ceil(1 / Fraction(str(float(false_reject_rate)))) - 1  # (n + 1)(1 - rate) <= n, solved for n


def lowest_rate(n_calibration: int) -> str:
    """The lowest false-reject rate that this many held-out good images can promise, in words: "4.6 %" for 21."""
    # Rounded up: the words must not claim a lower rate than can be had.
    percent = Context(prec=2, rounding=ROUND_CEILING).divide(Decimal(100), Decimal(n_calibration + 1))
    return f"{percent:f} %"
