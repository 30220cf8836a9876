"""Calibration: the thresholds of a trained method, from good images that were not used for training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from blemish.detector import Detector
from blemish.inspection.likeness import Likeness
from blemish.methods.base import Method
from blemish.thresholds import conformal_threshold

REMEDY = "train it longer, or with a lower learning_rate"
TRAINED_ON = "the threshold comes from images that were trained on"


def calibrated(
    method: Method,
    images: Tensor,
    false_reject_rate: float,
    provenance: dict[str, Any] | None = None,
    bits: int | None = 16,
    likeness: Likeness | None = None,
    doubt: str = "",
) -> Detector:
    """Return a detector with a trained method and thresholds from good images.

    Parameters
    ----------
    images : (N, 3, H, W) uint8 good images that were not used for training.
    false_reject_rate : in (0, 1); see ``thresholds.conformal_threshold``.
    bits : how many bits of 16-bit values the images were read with, and photographs will be; None if none has 16.
    likeness : what good photographs are like; None calls no photograph unlike them.
    doubt : why the false-reject rate cannot be promised, although it is the scores' quantile; empty if it can.
    """
    detector = Detector.uncalibrated(method, 0.0, false_reject_rate, provenance)
    detector.bits = bits
    maps, scores = detector.maps_and_scores(images)
    if len(scores) > 1 and scores.min() == scores.max():
        doubt = f"all {len(scores)} good images score the same, {scores[0]:.4g}: the network tells nothing; {REMEDY}"
    detector.threshold = replace(conformal_threshold(scores.double().numpy(), false_reject_rate), doubt=doubt)
    detector.calibration_scores = tuple(scores.tolist())
    detector.pixel_threshold = pixel_threshold(maps)
    detector.likeness = likeness
    return detector


def calibrated_on_training(
    method: Method,
    images: Tensor,
    false_reject_rate: float,
    provenance: dict[str, Any] | None = None,
    bits: int | None = 16,
    likeness: Likeness | None = None,
) -> Detector:
    """Return a detector whose thresholds come from the images that it was trained on, and promise nothing.

    Parameters as of ``calibrated``.
    """
    detector = calibrated(method, images, false_reject_rate, provenance, bits, likeness, TRAINED_ON)
    detector.threshold = replace(detector.threshold, n_calibration=0)
    detector.calibration_scores = ()
    return detector


def pixel_threshold(maps: Tensor) -> float:
    """Return the value that few pixels of good images reach: the 99.5 % quantile of their maps (N, 1, H, W)."""
    values = maps.flatten()
    rank = int(0.995 * (len(values) - 1))
    return float(values.kthvalue(rank + 1).values)
