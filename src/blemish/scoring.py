"""From anomaly map to verdict: image score, threshold from good images alone, regions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import BlemishError
from blemish.sample_size import lowest_rate
from blemish.sample_size import n_needed as n_needed  # where it has always been found


def smoothed_maximum(anomaly_map: Tensor, window_px: int = 21) -> Tensor:
    """Image score of DRÆM, eq. (5): maximum of the local mean. Exportable.

    Parameters
    ----------
    anomaly_map : (B, 1, H, W) float
        Higher is worse.
    window_px : int, odd
        Side of the square of the mean. Beyond the border the map counts as zero, so a blemish at the edge
        scores lower than the same one inside.

    Returns
    -------
    (B,) float, same dtype
    """
    if window_px < 1 or window_px % 2 == 0:
        raise BlemishError(f"window_px must be odd and positive, not {window_px}")
    reach_px = window_px // 2
    # A square mean is a mean of means along rows and columns: 2 * 21 instead of 21 * 21 reads per pixel.
    mean = F.avg_pool2d(anomaly_map, (window_px, 1), stride=1, padding=(reach_px, 0))
    mean = F.avg_pool2d(mean, (1, window_px), stride=1, padding=(0, reach_px))
    return mean.amax(dim=(1, 2, 3))


@dataclass(frozen=True)
class Threshold:
    """Where good ends: an image is rejected when its score is greater than `value`.

    Attributes
    ----------
    value : float
        In units of the image score.
    false_reject_rate : float in (0, 1)
        The rate asked for.
    n_calibration : int
        Good images the threshold was taken from.
    n_needed : int
        Fewest images with which the rate can be promised.
    """

    value: float
    false_reject_rate: float
    n_calibration: int
    n_needed: int

    @property
    def is_promised(self) -> bool:
        """Whether a further good image is rejected with a probability of at most `false_reject_rate`.

        The probability is over the draw of the calibration images as well as of the further one.
        """
        return self.n_calibration >= self.n_needed

    def explain(self) -> str:
        """One sentence for the user."""
        if self.n_calibration == 0:
            return f"Nothing is promised: no good images were held out. {self.n_needed} would do."
        images = "image" if self.n_calibration == 1 else "images"
        given = f"With {self.n_calibration} held-out good {images} a false-reject rate of"
        rate = f"{100 * self.false_reject_rate:g} %"
        if self.is_promised:
            return f"{given} {rate} is promised ({self.n_needed} would do)."
        lowest = lowest_rate(self.n_calibration)
        return f"{given} {rate} cannot be promised (the lowest that can is {lowest}); {self.n_needed} would do."


def conformal_threshold(scores: Sequence[float] | npt.ArrayLike | Tensor, false_reject_rate: float) -> Threshold:
    """Threshold from the scores of good images that training has not seen: the split-conformal quantile.

    The ceil((n + 1)(1 - rate))-th smallest of n scores. If a further good image is exchangeable with these
    (same parts, same camera, same light), it is rejected with a probability of at most `rate`, whatever the
    distribution of scores. If that rank exceeds n, the value is the largest score and nothing is promised.

    Source: V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", 2005.

    Parameters
    ----------
    scores : (n,) float, n >= 1, finite
        Taken as float64, which holds float32 scores exactly: compare in the precision they were made in.
    false_reject_rate : float in (0, 1)

    Raises
    ------
    BlemishError
        If there is no score, one is NaN or infinite, or the rate is out of range.
    """
    needed = n_needed(false_reject_rate)
    given = scores.detach().double().cpu() if isinstance(scores, Tensor) else scores
    values = np.asarray(given, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise BlemishError(f"a threshold needs one score per held-out good image, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise BlemishError("the scores of the held-out good images contain NaN or infinity: train again")
    n = values.size
    # The decimal the user wrote: in floats 100 * (1 - 0.01) may land on either side of 99.
    rate = Fraction(str(float(false_reject_rate)))
    kth = min(math.ceil((n + 1) * (1 - rate)), n)
    return Threshold(
        value=float(np.partition(values, kth - 1)[kth - 1]),
        false_reject_rate=float(false_reject_rate),
        n_calibration=n,
        n_needed=needed,
    )


@dataclass(frozen=True)
class Region:
    """One blemish.

    Attributes
    ----------
    bbox_xyxy : tuple of int
        Left, top, right, bottom in pixels; right and bottom are exclusive.
    area_px : int
    peak : float
        Largest value of the anomaly map inside.
    """

    bbox_xyxy: tuple[int, int, int, int]
    area_px: int
    peak: float


def outline(anomaly_map: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """What to outline in the map of a defective image: hysteresis below its own highest value.

    Regions that reach half of it, each out to 35 % of it: a second blemish that is fainter by half is kept, and
    specks in the background are not. It promises nothing of single pixels.

    Parameters
    ----------
    anomaly_map : (H, W) float, >= 0

    Returns
    -------
    (H, W) bool
    """
    peak = float(anomaly_map.max())
    wide = anomaly_map > 0.35 * peak
    n_labels, labels = cv2.connectedComponents(wide.view(np.uint8), connectivity=8)
    reaches = np.zeros(n_labels, np.bool_)
    reaches[labels[anomaly_map > 0.5 * peak]] = True
    return np.asarray(reaches[labels])


def regions(anomaly_map: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> list[Region]:
    """8-connected regions of a mask, the worst first.

    Parameters
    ----------
    anomaly_map : (H, W) float
    mask : (H, W) bool

    Raises
    ------
    BlemishError
        If the shapes differ.
    """
    if anomaly_map.ndim != 2 or anomaly_map.shape != mask.shape:
        raise BlemishError(f"anomaly map {anomaly_map.shape} and mask {mask.shape} must be (H, W) of the same size")
    inside = mask.astype(np.bool_, copy=False)
    if not inside.any():
        return []
    left, top, width, height = cv2.boundingRect(inside.view(np.uint8))  # counting is slow: only where some are
    part = slice(top, top + height), slice(left, left + width)
    inside, values = np.ascontiguousarray(inside[part]), anomaly_map[part]
    n_labels, labels, stats, _ = cv2.connectedComponentsWithStats(inside.view(np.uint8), connectivity=8)
    peaks = np.full(n_labels, -np.inf)
    np.maximum.at(peaks, labels[inside].astype(np.intp), values[inside])
    found = [
        Region((left + x, top + y, left + x + width, top + y + height), area_px=area, peak=peak)
        for (x, y, width, height, area), peak in zip(stats[1:].tolist(), peaks[1:].tolist(), strict=True)
    ]
    return sorted(found, key=lambda region: region.peak, reverse=True)
