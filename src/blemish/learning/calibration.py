"""Calibration: the thresholds of a trained method, from good images that were not used for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blemish.detector import Detector
from blemish.inspection.framing import Framing
from blemish.inspection.likeness import Likeness
from blemish.inspection.sources import photographs
from blemish.inspection.stream import Judgement, judge
from blemish.methods.base import Method
from blemish.thresholds import conformal_threshold

MARGIN = 2.0**-14
"""The threshold is this share above the score that it comes from. Otherwise a photograph that has just this score
would be rejected by another runtime, which rounds otherwise (by up to a hundred thousandth)."""
MOST_VALUES = 50_000_000
"""Values of maps that the pixel threshold is computed from; of more, as many evenly spaced ones."""
REMEDY = "train it longer, or with a lower learning_rate"
TRAINED_ON = "the threshold comes from images that were trained on"


def calibrated(
    method: Method,
    images: Tensor | Sequence[Path],
    false_reject_rate: float,
    provenance: dict[str, Any] | None = None,
    bits: int | None = 16,
    likeness: Likeness | None = None,
    doubt: str = "",
    framing: Framing | None = None,
) -> Detector:
    """Return a detector with a trained method and thresholds from good images.

    Parameters
    ----------
    images : good photographs that were not used for training: (N, 3, H, W) uint8, or their files.
    false_reject_rate : in (0, 1); see ``thresholds.conformal_threshold``.
    bits : how many bits of 16-bit values the images were read with, and photographs will be; None if none has 16.
    likeness : what good photographs are like; None calls no photograph unlike them.
    doubt : why the false-reject rate cannot be promised, although it is the scores' quantile; empty if it can.
    framing : how photographs become what the network sees; None resizes them to it.
    """
    detector = Detector.uncalibrated(method, 0.0, false_reject_rate, provenance)
    detector.bits = bits
    detector.framing = framing or detector.framing
    set_thresholds(detector, images, false_reject_rate, doubt)
    detector.likeness = likeness
    return detector


def set_thresholds(
    detector: Detector, images: Tensor | Sequence[Path], false_reject_rate: float, doubt: str = ""
) -> None:
    """Set a detector's thresholds from good photographs. Parameters as of ``calibrated``."""
    arrays = images.permute(0, 2, 3, 1).contiguous().numpy() if isinstance(images, Tensor) else images
    n_values = MOST_VALUES // len(arrays)

    def score_and_values(judgement: Judgement) -> tuple[float, NDArray[np.float32]]:
        values = detector.framing.judged(judgement.checked().map)
        return judgement.score, values[:: -(-len(values) // n_values)]

    scores, values = zip(*judge(detector, photographs(arrays), score_and_values), strict=True)
    if len(scores) > 1 and min(scores) == max(scores):
        doubt = f"all {len(scores)} good images score the same, {scores[0]:.4g}: the network tells nothing; {REMEDY}"
    threshold = conformal_threshold(np.asarray(scores), false_reject_rate)
    detector.threshold = replace(threshold, value=threshold.value * (1.0 + MARGIN), doubt=doubt)
    detector.calibration_scores = scores
    detector.pixel_threshold = pixel_threshold(np.concatenate(values))


def calibrated_on_training(
    method: Method,
    images: Tensor | Sequence[Path],
    false_reject_rate: float,
    provenance: dict[str, Any] | None = None,
    bits: int | None = 16,
    likeness: Likeness | None = None,
    framing: Framing | None = None,
) -> Detector:
    """Return a detector whose thresholds come from the images that it was trained on, and promise nothing.

    Parameters as of ``calibrated``.
    """
    detector = calibrated(method, images, false_reject_rate, provenance, bits, likeness, TRAINED_ON, framing)
    detector.threshold = replace(detector.threshold, n_calibration=0)
    detector.calibration_scores = ()
    return detector


def pixel_threshold(values: NDArray[np.float32]) -> float:
    """Return the value that few pixels of good images reach: the 99.5 % quantile of the values (N,) of their maps."""
    rank = int(0.995 * (len(values) - 1))
    return float(np.partition(values, rank)[rank])
