"""The threshold between good and defective, set from good images alone, and the false-reject rate it guarantees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Context, Decimal
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from blemish.errors import BlemishError

MIN_IMAGES = 10
"""Fewest good images that training takes, including those held out."""
MIN_HELD_OUT = 5
"""Fewest good images to set a threshold from."""
HELD_OUT = 0.1
"""Share of the good images that is held out when the caller passes no calibration images."""


MOST_HELD_OUT = 0.15
"""Share that is held out if no less allows the usual promise."""
USUAL_RATE = 0.01
"""The false-reject rate that is promised if nothing else is asked for."""


def n_held_out(n_good: int) -> int:
    """How many of ``n_good`` good images are held out to set the threshold from.

    A tenth, at least 5; or the 99 that a promise of 1 % needs, if they are 15 % of the images or less.
    """
    enough = n_needed(USUAL_RATE)
    return max(MIN_HELD_OUT, round(HELD_OUT * n_good), enough if enough <= MOST_HELD_OUT * n_good else 0)


def n_needed(false_reject_rate: float) -> int:
    """How many good images must be held out to guarantee a false-reject rate in (0, 1): 99 for 1 %."""
    if not 0 < false_reject_rate < 1:
        raise BlemishError(f"the false-reject rate must lie between 0 and 1, not {false_reject_rate}: 0.01 is 1 %")
    return math.ceil(1 / Fraction(str(float(false_reject_rate)))) - 1  # (n + 1)(1 - rate) <= n, solved for n


def lowest_rate(n_calibration: int) -> str:
    """The lowest false-reject rate that this many held-out good images guarantee, as text: "4.6 %" for 21."""
    # Rounded up, so that the text never claims a lower rate than is guaranteed.
    percent = Context(prec=2, rounding=ROUND_CEILING).divide(Decimal(100), Decimal(n_calibration + 1))
    return f"{percent:f} %"


@dataclass(frozen=True)
class Threshold:
    """The limit of good images: an image is rejected when its score is greater than `value`.

    Attributes
    ----------
    value : float
        In units of the image score.
    false_reject_rate : float in (0, 1)
        The requested rate.
    n_calibration : int
        Good images that the threshold was computed from.
    n_needed : int
        Fewest images with which the rate can be guaranteed.
    doubt : str
        Why nothing can be guaranteed with any number of these images, such as that they were trained on; "" if
        nothing is known against it.
    """

    value: float
    false_reject_rate: float
    n_calibration: int
    n_needed: int
    doubt: str = ""

    @property
    def is_promised(self) -> bool:
        """Whether a further good image is rejected with a probability of at most `false_reject_rate`.

        The probability is over the draw of the calibration images and of the further image.
        """
        return self.n_calibration >= self.n_needed and not self.doubt

    def explain(self) -> str:
        """One sentence for the user."""
        if self.n_calibration == 0:
            reason = self.doubt or "no good images were held out"
            return f"Nothing is promised: {reason}. {self.n_needed} held-out good images would do."
        images = "image" if self.n_calibration == 1 else "images"
        rate = f"{100 * self.false_reject_rate:g} %"
        held_out = "" if self.doubt else "held-out "  # what is in doubt may be just that
        start = f"With {self.n_calibration} {held_out}good {images} a false-reject rate of {rate}"
        if self.is_promised:
            return f"{start} is promised ({self.n_needed} would do)."
        if self.doubt:
            return f"{start} cannot be promised: {self.doubt}."
        lowest = lowest_rate(self.n_calibration)
        return f"{start} cannot be promised (the lowest that can is {lowest}); {self.n_needed} would do."


def conformal_threshold(scores: npt.ArrayLike, false_reject_rate: float) -> Threshold:
    """Threshold from the scores of good images that training has not seen: the split-conformal quantile.

    It is the ceil((n + 1)(1 - rate))-th smallest of n scores. If a further good image is exchangeable with these
    (same parts, same camera, same light), it is rejected with a probability of at most `rate`, for any distribution
    of scores. If that rank exceeds n, the value is the largest score and nothing is guaranteed.

    Source: V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", 2005.

    Parameters
    ----------
    scores : (n,) float, n >= 1, finite
        Converted to float64, which holds float32 scores exactly: compare in the precision they were computed in.
    false_reject_rate : float in (0, 1)

    Raises
    ------
    BlemishError
        If there is no score, a score is NaN or infinite, or the rate is out of range.
    """
    needed = n_needed(false_reject_rate)
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise BlemishError(f"a threshold needs one score per held-out good image, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise BlemishError("the scores of the held-out good images contain NaN or infinity: train again")
    n = values.size
    # Exact arithmetic on the decimal that the user wrote: in floats 100 * (1 - 0.01) may be above or below 99.
    rate = Fraction(str(float(false_reject_rate)))
    kth = min(math.ceil((n + 1) * (1 - rate)), n)
    return Threshold(
        value=float(np.partition(values, kth - 1)[kth - 1]),
        false_reject_rate=float(false_reject_rate),
        n_calibration=n,
        n_needed=needed,
    )


def raised_threshold(held_out: Sequence[float], chosen: Sequence[float], false_reject_rate: float) -> Threshold:
    """Threshold from held-out good images, raised by good images that somebody has chosen.

    People choose which parts they review, mostly rejected ones, so these are no random draw. Those that score above
    the threshold of the held-out images can only raise it: a further good image is rejected no more often than these
    promise. Those below are left out. They would lower it, and the promise would be lost. So the promise counts the
    held-out images alone.

    Parameters
    ----------
    held_out, chosen : scores.
    false_reject_rate : in (0, 1).

    Raises
    ------
    BlemishError
        As of ``conformal_threshold``.
    """
    threshold = conformal_threshold(held_out, false_reject_rate)
    above = [score for score in chosen if score > threshold.value]
    return replace(threshold, value=conformal_threshold([*held_out, *above], false_reject_rate).value)
