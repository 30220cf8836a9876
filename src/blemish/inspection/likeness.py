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
MAX_MOVE = 4
"""Largest move of a photograph in search of the best match with the mean picture, cells."""
CHANGED_SHARE = 0.7
"""Quantile over the cells: less than 30 % of the photograph may differ in any way."""
GREY_LEVELS = 1.0
"""Mean difference between a pixel's channels up to which an image is grey: a JPEG of a grey image has traces."""
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
    "contrast": Figure(0.1, "much less contrast than any good image", ""),
    "sharpness": Figure(0.4, "blurred: much less detail than any good image", ""),
    "texture": Figure(
        0.8,
        "a large part has no detail: covered or overexposed",
        "much noisier or grainier than any good image",
    ),
    "colour": Figure(0.3, "much less colour than any good image", "in colour, and the good images are grey"),
    "tint": Figure(0.4, "", "much more colour than any good image"),
    "picture": Figure(2.0, "", "shows something else than the good images, or the part is shifted or turned"),
    "place": Figure(1.5, "", "the part is at another place than in any good image"),
}
"""By name. An empty text means that there is no such limit.

``aspect`` is the logarithm of width / height. ``brightness`` is the median over the cells of how much brighter they
are than their mean over good images, grey levels; ``contrast`` the logarithm of the grey values' standard
deviation, which a defect may raise. ``sharpness`` and ``texture`` are logarithms of the absolute Laplacian: its
mean, which any blur lowers, and its lower quartile over the cells, which a local defect does not move. ``colour``
and ``tint`` are the same of the difference between a pixel's largest and smallest channel; a coloured defect raises
the mean, so that has an upper limit only where no good image has any colour. ``picture`` is how many standard
deviations the cells differ from their mean over good images, the ``CHANGED_SHARE`` quantile. ``place`` is how many
cells the photograph has to be moved along an axis to match the mean picture best.
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
            figures |= _compared(picture, mean.astype(np.float32), spread.astype(np.float32))
        limits = {
            name: _limits([figures[name] for figures, _ in measured], figure) for name, figure in FIGURES.items()
        }
        are_grey = max(figures["colour"] for figures, _ in measured) < _colour(GREY_LEVELS)
        limits["colour"] = limits["colour"][0], _colour(3 * GREY_LEVELS) if are_grey else math.inf
        mean, spread = cells.mean(0), np.maximum(cells.std(0), MIN_SPREAD)
        return cls(mean.astype(np.float32), spread.astype(np.float32), limits)

    def reasons(self, image: NDArray[np.uint8], photograph_hw: tuple[int, int] | None) -> list[str]:
        """Why a photograph is unlike the good ones, in words, the strongest reason first; empty if it is like them.

        Parameters
        ----------
        image : (h, w, 3) uint8, the photograph at the network's size.
        photograph_hw : its own height and width, px; None does not compare its aspect.
        """
        figures, picture = _measured(image, photograph_hw or image.shape[:2])
        figures |= _compared(picture, self.mean, self.spread)
        reasons = []
        for name, (lowest, highest) in self.limits.items():
            if name == "aspect" and photograph_hw is None:
                continue
            excess = max(lowest - figures[name], figures[name] - highest) / FIGURES[name].slack
            if excess > 0:
                text = FIGURES[name].below if figures[name] < lowest else FIGURES[name].above
                # Anything that is wrong with the whole photograph moves its coarse picture very far.
                reasons.append((math.log1p(excess) if name == "picture" else excess, text))
        return [text for _, text in sorted(reasons, reverse=True)]

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
    """The figures of a photograph that need no good images, and its cells (16, 16, 3)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)  # (h, w)
    detail = cv2.convertScaleAbs(cv2.Laplacian(grey, cv2.CV_16S))
    red, green, blue = cv2.split(image)
    saturation = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    _, deviation = cv2.meanStdDev(grey)
    figures = {
        "aspect": math.log(photograph_hw[1] / photograph_hw[0]),
        "contrast": math.log(float(deviation[0, 0]) + 1),
        "sharpness": math.log(cv2.mean(detail)[0] + 0.25),
        "texture": math.log(_quantile(_cells(detail.astype(np.float32)), 0.25) + 0.25),
        "colour": _colour(cv2.mean(saturation)[0]),
        "tint": math.log(_quantile(_cells(saturation.astype(np.float32)), 0.25) + 8),
    }
    return figures, _cells(image)


def _colour(saturation: float) -> float:
    """The figure ``colour`` of a mean difference between channels, [0, 255]."""
    return math.log(saturation + 2)


def _cells(image: NDArray[Any]) -> NDArray[np.float32]:
    """Means of 16x16 cells; those of uint8 are rounded."""
    return np.asarray(cv2.resize(image, (CELLS, CELLS), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _quantile(values: NDArray[np.float32], share: float) -> float:
    """The value that this share of the values lies below; not interpolated, which would take longer."""
    position = int(share * values.size)
    return float(np.partition(values, position, axis=None)[position])


def _compared(
    picture: NDArray[np.float32], mean: NDArray[np.float32], spread: NDArray[np.float32]
) -> dict[str, float]:
    """The figures of the cells (16, 16, 3) against the good images: ``brightness``, ``picture``, ``place``."""
    differences = picture - mean
    deviations = (np.abs(differences) / spread).mean(2)
    grey, mean_grey = picture.mean(2), mean.mean(2)
    wide = np.pad(mean_grey, MAX_MOVE, "edge")
    matches = cv2.matchTemplate(wide, grey, cv2.TM_CCOEFF_NORMED)  # (9, 9), one for each move
    row, column = divmod(int(matches.argmax()), matches.shape[1])
    return {
        "brightness": _quantile(differences.mean(2), 0.5),
        "picture": _quantile(deviations, CHANGED_SHARE),
        "place": float(max(abs(row - MAX_MOVE), abs(column - MAX_MOVE))),
    }


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
