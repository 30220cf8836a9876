"""Is a photograph one of the kind that a detector has learned? Coarse figures of it against those of good images.

A detector judges what it is shown, also a blank frame, another product or a blurred picture, and may call it good. So
a few figures of the whole photograph are compared with those of the good images. The figures are chosen so that a
defect, which covers a part of the photograph, moves them little: they are averages, or quantiles over 16x16 cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError

CELLS = 16
"""Cells along each side of the coarse picture."""
FALSE_ALARMS = 0.001
"""Share of good photographs that may be called unlike, by all figures together, if the figures of good photographs
are normally distributed. It is apart from the promise on false rejects, and is not promised itself."""
MAX_IMAGES = 1000
"""Good images that the limits are computed from; of more, as many evenly spaced ones."""
CHANGED_SHARE = 0.7
"""Quantile over the cells: less than 30 % of the photograph may differ in any way."""
MIN_SPREAD = 4.0
"""Lowest standard deviation of a cell, grey levels: less is noise of the camera."""


@dataclass(frozen=True)
class Figure:
    """A figure of a photograph, its words for what lies outside of its limits, and the least distance to the limits.

    ``slack`` is what the limits keep from the outermost good image at least, in units of the figure.
    """

    slack: float
    below: str
    above: str


FIGURES = {
    "aspect": Figure(0.02, "taller and narrower than any good image", "wider and lower than any good image"),
    "brightness": Figure(8.0, "much darker than any good image", "much brighter than any good image"),
    "contrast": Figure(0.1, "much less contrast than any good image", "much more contrast than any good image"),
    "sharpness": Figure(0.4, "blurred: much less detail than any good image", ""),
    "noise": Figure(0.4, "", "much noisier or grainier than any good image"),
    "colour": Figure(0.3, "much less colour than any good image", ""),
    "tint": Figure(0.4, "", "much more colour than any good image"),
    "picture": Figure(0.1, "", "shows something else than the good images, or the part is shifted or turned"),
}
"""By name, in the order in which reasons are listed. An empty text means that there is no such limit.

``aspect`` is the logarithm of width / height. ``brightness`` is the mean grey value in [0, 255]; ``contrast`` the
logarithm of the grey values' standard deviation. ``sharpness`` and ``noise`` are logarithms of the absolute
Laplacian: its mean, which any blur lowers, and its lower quartile over the cells, which a local defect does not
raise. ``colour`` and ``tint`` are the same of the difference between a pixel's largest and smallest channel.
``picture`` is the logarithm of how many standard deviations the cells differ from their mean over good images, the
``CHANGED_SHARE`` quantile.
"""


@dataclass(frozen=True)
class Likeness:
    """What good photographs are like at large."""

    mean: NDArray[np.float32]
    """(16, 16, 3) mean grey values of the cells, [0, 255]."""
    spread: NDArray[np.float32]
    """(16, 16, 3) their standard deviations, at least ``MIN_SPREAD``."""
    limits: Mapping[str, tuple[float, float]]
    """Lowest and highest figure of a photograph of the kind, by the names of ``FIGURES``."""

    @classmethod
    def of(cls, images: Sequence[NDArray[np.uint8]], sizes_hw: Sequence[tuple[int, int]]) -> Likeness:
        """Learn from good images. How far each is from their mean picture is measured on that of the others.

        Parameters
        ----------
        images : (h, w, 3) uint8 images of the network's size; two at least.
        sizes_hw : height and width of the photographs before they were resized, px.
        """
        n_images = len(images)
        numbers = np.linspace(0, n_images - 1, min(n_images, MAX_IMAGES)).astype(int)
        measured = [_measured(images[number], sizes_hw[number]) for number in numbers]
        cells = np.stack([picture for _, picture in measured]).astype(np.float64)  # (N, 16, 16, 3)
        n, total, squares = len(cells), cells.sum(0), (cells**2).sum(0)
        for figures, picture in measured:
            mean = (total - picture) / (n - 1)
            spread = np.sqrt(np.maximum((squares - picture**2) / (n - 1) - mean**2, MIN_SPREAD**2))
            figures["picture"] = _distance(picture, mean, spread)
        limits = {
            name: _limits([figures[name] for figures, _ in measured], figure) for name, figure in FIGURES.items()
        }
        mean, spread = cells.mean(0), np.maximum(cells.std(0), MIN_SPREAD)
        return cls(mean.astype(np.float32), spread.astype(np.float32), limits)

    def reasons(self, image: NDArray[np.uint8], photograph_hw: tuple[int, int]) -> list[str]:
        """Why a photograph is unlike the good ones, in words; empty if it is like them.

        Parameters
        ----------
        image : (h, w, 3) uint8, the photograph at the network's size.
        photograph_hw : its own height and width, px.
        """
        figures, picture = _measured(image, photograph_hw)
        figures["picture"] = _distance(picture, self.mean, self.spread)
        reasons = []
        for name, (lowest, highest) in self.limits.items():
            if figures[name] < lowest:
                reasons.append(FIGURES[name].below)
            elif figures[name] > highest:
                reasons.append(FIGURES[name].above)
        return reasons

    def description(self) -> dict[str, Any]:
        """For JSON."""
        values = asdict(self)
        cells = {name: np.round(values[name], 2).tolist() for name in ("mean", "spread")}
        limits = {
            name: [limit if math.isfinite(limit) else None for limit in pair] for name, pair in self.limits.items()
        }
        return {**cells, "limits": limits}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Likeness:
        """The inverse of ``description``.

        Raises
        ------
        BlemishError
            If it names figures that this version does not know.
        """
        if unknown := sorted(set(description["limits"]) - set(FIGURES)):
            raise BlemishError(f"likeness figures {', '.join(unknown)} are unknown")
        mean, spread = (np.asarray(description[name], dtype=np.float32) for name in ("mean", "spread"))
        limits = {
            name: (-math.inf if lowest is None else lowest, math.inf if highest is None else highest)
            for name, (lowest, highest) in description["limits"].items()
        }
        return cls(mean, spread, limits)


def _measured(
    image: NDArray[np.uint8], photograph_hw: tuple[int, int]
) -> tuple[dict[str, float], NDArray[np.float32]]:
    """The figures of a photograph, all but ``picture``, and its cells (16, 16, 3)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)  # (h, w)
    detail = cv2.convertScaleAbs(cv2.Laplacian(grey, cv2.CV_16S))
    red, green, blue = cv2.split(image)
    saturation = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    mean, deviation = cv2.meanStdDev(grey)
    figures = {
        "aspect": math.log(photograph_hw[1] / photograph_hw[0]),
        "brightness": float(mean[0, 0]),
        "contrast": math.log(float(deviation[0, 0]) + 1),
        "sharpness": math.log(cv2.mean(detail)[0] + 0.25),
        "noise": math.log(float(np.quantile(_cells(detail), 0.25)) + 0.25),
        "colour": math.log(cv2.mean(saturation)[0] + 2),
        "tint": math.log(float(np.quantile(_cells(saturation), 0.25)) + 8),
    }
    return figures, _cells(image)


def _cells(image: NDArray[Any]) -> NDArray[np.float32]:
    """Means of 16x16 cells."""
    shrunk = cv2.resize(image.astype(np.float32), (CELLS, CELLS), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, dtype=np.float32)


def _distance(picture: NDArray[np.float32], mean: NDArray[np.float32], spread: NDArray[np.float32]) -> float:
    """How far the cells (16, 16, 3) are from their means, in standard deviations: the figure ``picture``."""
    deviations = (np.abs(picture - mean) / spread).mean(2)
    return math.log(float(np.quantile(deviations, CHANGED_SHARE)) + 0.1)


def _limits(values: Sequence[float], figure: Figure) -> tuple[float, float]:
    """Limits that a further good photograph exceeds with a probability of ``FALSE_ALARMS`` over the number of limits.

    They are a prediction interval for normally distributed values, but at least a quarter of the good images' range
    and ``slack`` away from the outermost good image.
    """
    n_limits = sum(bool(text) for figure in FIGURES.values() for text in (figure.below, figure.above))
    n = len(values)
    mean, deviation = float(np.mean(values)), float(np.std(values, ddof=1)) if n > 1 else 0.0
    reach = _student_quantile(1 - FALSE_ALARMS / n_limits, n - 1) * math.sqrt(1 + 1 / n) * deviation
    beyond = max(figure.slack, 0.25 * (max(values) - min(values)))
    lowest = min(mean - reach, min(values) - beyond) if figure.below else -math.inf
    highest = max(mean + reach, max(values) + beyond) if figure.above else math.inf
    return lowest, highest


def _student_quantile(probability: float, n_degrees: int) -> float:
    """Quantile of Student's t, by its expansion in the normal quantile (Abramowitz and Stegun 26.7.5)."""
    x = NormalDist().inv_cdf(probability)
    n = max(n_degrees, 1)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
    )
    return float(x + sum(term / n**power for power, term in enumerate(terms, 1)))
