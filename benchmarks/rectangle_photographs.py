"""Photographs of 500x1250 px after KolektorSDD: a grainy surface, and thin irregular dark cracks across it.

Each is another surface, with the grain of one photograph of a real one: noise with its spectrum, of which nothing
ever comes twice (Galerne, Gousseau and Morel, "Random phase textures: theory and synthesis", 2011). Good photographs,
too, have dark pits and light scratches; each has its own light and the noise of a camera.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Grey = NDArray[np.float32]
"""(H, W) grey levels, or differences of them."""

SIZE_HW = (1250, 500)
N_TRAIN, N_GOOD, N_CRACKED = 60, 40, 40
COARSE = 6
"""How many times larger the unevenness of the surface is than its grain."""
GRAIN, UNEVENNESS, NOISE = 9.0, 5.0, 2.5
"""Standard deviations, grey levels."""
FINE = 8
"""Lines are drawn so many times larger, then shrunk."""


def make_dataset(texture: NDArray[np.uint8], out: Path, seed: int) -> None:
    """Write photographs and masks in MVTec AD's layout.

    Parameters
    ----------
    texture : (h, w) uint8, a photograph of a grainy surface without objects.
    """
    grain = _flattened(texture)
    for number in range(N_TRAIN):
        random = np.random.default_rng([seed, 0, number])
        _save(_photographed(_surface(grain, random), random), out / "train" / "good" / f"{number:03}.png")
    for number in range(N_GOOD):
        random = np.random.default_rng([seed, 1, number])
        _save(_photographed(_surface(grain, random), random), out / "test" / "good" / f"{number:03}.png")
    for number in range(N_CRACKED):
        random = np.random.default_rng([seed, 2, number])
        surface = _surface(grain, random)
        share, darker = _crack(random)
        _save(_photographed(surface - darker, random), out / "test" / "crack" / f"{number:03}.png")
        mask = np.where(share >= 0.5, 255, 0).astype(np.float32)
        _save(mask, out / "ground_truth" / "crack" / f"{number:03}_mask.png")


def _flattened(texture: NDArray[np.uint8]) -> Grey:
    """The grain of a photograph alone, half as large again: without what changes slowly."""
    large = cv2.resize(texture, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return np.asarray(large - cv2.GaussianBlur(large, (0, 0), 24), np.float32)


def _grown(grain: Grey, size_hw: tuple[int, int], random: Generator) -> Grey:
    """A surface of any size with the spectrum of ``grain``, of standard deviation 1: it filters white noise."""
    noise = random.normal(0, 1, size_hw).astype(np.float32)
    surface = cv2.filter2D(noise, cv2.CV_32F, grain, borderType=cv2.BORDER_WRAP)
    return np.asarray(surface / np.sqrt((grain**2).sum()), np.float32)


def _surface(grain: Grey, random: Generator) -> Grey:
    """A good surface around grey level 0, with pits and scratches."""
    height, width = SIZE_HW
    small_hw = (height // COARSE + 1, width // COARSE + 1)
    uneven = cv2.resize(_grown(grain, small_hw, random), (width, height), interpolation=cv2.INTER_CUBIC)
    surface = GRAIN * _grown(grain, SIZE_HW, random) + UNEVENNESS * uneven
    rows, columns = np.arange(height)[:, None], np.arange(width)
    for _ in range(random.integers(10, 40)):
        y, x, radius = random.uniform(0, height), random.uniform(0, width), random.uniform(1.0, 3.0)
        distance = np.hypot(rows - y, (columns - x) * random.uniform(0.7, 1.4))
        surface -= random.uniform(15, 50) * np.clip(radius + 0.5 - distance, 0, 1)
    for _ in range(random.integers(0, 4)):
        start, angle = random.uniform(0, 1, 2) * (width, height), random.uniform(0, np.pi)
        end = start + random.uniform(50, 300) * np.array([np.cos(angle), np.sin(angle)])
        surface += random.uniform(6, 16) * _drawn(np.stack([start, end]), np.array([random.uniform(1, 2)]))
    return np.asarray(surface, np.float32)


def _crack(random: Generator) -> tuple[Grey, Grey]:
    """The share of each pixel that is cracked, and how many grey levels darker it is.

    A crack is 40 to 200 px long and 2 to 4 px wide, turns as it goes, and is fainter in some places than in others.
    """
    height, width = SIZE_HW
    length, step = random.uniform(40, 200), 4.0
    n = round(length / step)
    wander = np.cumsum(random.normal(0, 0.18, n))
    angle = random.normal(0, 0.35) + wander - wander.mean() + random.normal(0, 0.35, n)
    points = np.cumsum(step * np.stack([np.cos(angle), np.sin(angle)], axis=1), axis=0)
    size = np.ptp(points, axis=0)
    points += random.uniform((30, 30), np.array([width - 30, height - 30]) - size) - points.min(axis=0)
    thicker = cv2.GaussianBlur(random.normal(0, 1.5, (n, 1)), (1, 0), 3, sigmaY=3)[:, 0]
    share = _drawn(points, np.clip(random.uniform(2.2, 3.6) + thicker, 2, 4))
    fading = cv2.GaussianBlur(random.normal(0, 1, SIZE_HW).astype(np.float32), (0, 0), 12)
    fading = 1 + 0.3 * fading / fading.std()
    return share, np.asarray(random.uniform(18, 55) * np.clip(fading, 0.4, 1.6) * share, np.float32)


def _drawn(points: NDArray[np.float64], widths: NDArray[np.float64]) -> Grey:
    """The share of each pixel that a line through (x, y) ``points`` covers; ``widths`` are of its pieces, px."""
    height, width = SIZE_HW
    left, top = np.floor(points.min(axis=0)).astype(int) - 8
    right, bottom = np.ceil(points.max(axis=0)).astype(int) + 8
    canvas = np.zeros(((bottom - top) * FINE, (right - left) * FINE), np.uint8)
    fine = np.round((points - (left, top)) * FINE).astype(int)
    for start, end, width_px in zip(fine[:-1].tolist(), fine[1:].tolist(), widths, strict=False):
        cv2.line(canvas, start, end, 255, max(1, round(width_px * FINE)))
    box = cv2.resize(canvas, (right - left, bottom - top), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    y, x = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    share = np.zeros(SIZE_HW, np.float32)
    if y.start < y.stop and x.start < x.stop:
        share[y, x] = box[y.start - top : y.stop - top, x.start - left : x.stop - left]
    return share


def _photographed(surface: Grey, random: Generator) -> Grey:
    """The photograph of a surface: light that falls off towards the sides, blur, noise."""
    height, width = SIZE_HW
    across = (np.arange(width) - width / 2 - random.normal(0, 8)) / (width / 2)
    along = np.linspace(-1, 1, height)[:, None]
    light = random.uniform(0.93, 1.07) * (1 + 0.04 * random.normal() * along) * (1 - 0.35 * np.abs(across) ** 5)
    seen = cv2.GaussianBlur(((130 + surface) * light).astype(np.float32), (0, 0), 0.6)
    return np.asarray(seen + random.normal(0, NOISE, SIZE_HW), np.float32)


def _save(pixels: Grey, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels.round().clip(0, 255).astype(np.uint8))
