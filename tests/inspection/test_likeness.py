"""Photographs unlike the good images: each kind by its reason, defects not, and what is kept in the file."""

from __future__ import annotations

import json
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.inspection.likeness import FIGURES, Likeness, _student_quantile

Image = NDArray[np.uint8]
SIZE_HW = (96, 96)


def part(seed: int, *, colour: bool = True) -> Image:
    """A round, brown, grained part on a light ground, as a camera sees it: light, place and grain vary a little."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    x_px, y_px = 40 + generator.normal(0, 0.7), 48 + generator.normal(0, 0.7)
    disc = np.clip(30 - np.hypot(x - x_px, y - y_px), 0, 1)[..., None]
    grain = cv2.GaussianBlur(generator.normal(0, 40, SIZE_HW).astype(np.float32), (0, 0), 1.0)[..., None]
    body = np.array([150, 95, 60] if colour else [100, 100, 100], np.float32)
    image = 205 + disc * (body + grain - 205) + 0.1 * grain
    return np.clip(image * generator.normal(1, 0.02), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def likeness() -> Likeness:
    return Likeness.of([part(seed) for seed in range(30)], [SIZE_HW] * 30)


def shifted(image: Image) -> Image:
    return cv2.copyMakeBorder(image, 0, 0, 24, 0, cv2.BORDER_REPLICATE)[:, :96]


def grey(image: Image) -> Image:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def half_covered(image: Image) -> Image:
    covered = image.copy()
    covered[:, :48] = 128
    return covered


def noise() -> Image:
    return np.random.default_rng(9).integers(0, 60, (*SIZE_HW, 3), np.uint8)


def stripes(image: Image) -> Image:
    return np.broadcast_to(np.where(np.arange(96) % 12 < 6, 60, 200)[None, :, None], image.shape).astype(np.uint8)


SPOILED: dict[str, tuple[Callable[[Image], Image], str]] = {
    "blank": (lambda image: np.full_like(image, 128), "less contrast"),
    "black": (np.zeros_like, "darker"),
    "white": (lambda image: np.full_like(image, 255), "brighter"),
    "blurred": (lambda image: cv2.GaussianBlur(image, (0, 0), 4), "blurred"),
    "noisy": (lambda image: cv2.add(image, noise()), "noisier"),
    "shifted": (shifted, "another place"),
    "mirrored": (lambda image: image[:, ::-1].copy(), "another place"),
    "negative": (lambda image: 255 - image, "something else"),
    "grey": (grey, "less colour"),
    "blue light": (lambda image: (image * [0.6, 0.8, 1.0]).astype(np.uint8), ""),
    "half as bright": (lambda image: (image * 0.5).astype(np.uint8), "darker"),
    "half covered": (half_covered, ""),
    "stripes": (stripes, ""),
}  # fmt: skip


@pytest.mark.parametrize("way", SPOILED)
def test_a_spoiled_photograph_is_unlike_for_the_right_reason(likeness: Likeness, way: str) -> None:
    spoil, reason = SPOILED[way]
    for seed in range(100, 105):
        reasons = likeness.reasons(np.ascontiguousarray(spoil(part(seed))), SIZE_HW)
        assert any(reason in text for text in reasons), reasons


def test_new_good_parts_are_like_the_good_ones(likeness: Likeness) -> None:
    assert not any(likeness.reasons(part(seed), SIZE_HW) for seed in range(200, 400))


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 0, 0)], ids=["black", "white", "red"])
def test_a_defect_is_not_unlike(likeness: Likeness, colour: tuple[int, int, int]) -> None:
    for seed in range(100, 120):
        x_px, y_px = np.random.default_rng(seed).integers(25, 60, 2)
        stained, scratched = part(seed), part(seed)
        cv2.circle(stained, (int(x_px), int(y_px)), 10, colour, -1)
        cv2.line(scratched, (int(x_px), 10), (int(y_px), 80), colour, 2)
        assert not likeness.reasons(stained, SIZE_HW)
        assert not likeness.reasons(scratched, SIZE_HW)


def test_the_photograph_counts_not_what_it_was_resized_to(likeness: Likeness) -> None:
    assert not likeness.reasons(part(1), (480, 480))
    assert likeness.reasons(part(1), (48, 96)) == [FIGURES["aspect"].above]
    assert likeness.reasons(part(1), (96, 48)) == [FIGURES["aspect"].below]


def test_of_grey_images_a_coloured_photograph_is_unlike_and_of_coloured_ones_it_is_not(likeness: Likeness) -> None:
    of_grey = Likeness.of([part(seed, colour=False) for seed in range(30)], [SIZE_HW] * 30)
    assert not of_grey.reasons(part(100, colour=False), SIZE_HW)
    assert FIGURES["colour"].above in of_grey.reasons(part(100), SIZE_HW)
    _, encoded = cv2.imencode(".jpg", part(100, colour=False))
    assert not of_grey.reasons(cv2.imdecode(encoded, cv2.IMREAD_COLOR), SIZE_HW)
    red = part(100)
    red[40:60, 30:50] = 255, 0, 0
    assert not likeness.reasons(red, SIZE_HW)


def test_equal_good_images_leave_room() -> None:
    """As those of a simulation or of a still camera: the deviations are 0."""
    likeness = Likeness.of([part(0)] * 10, [SIZE_HW] * 10)
    assert not likeness.reasons(part(0), SIZE_HW)
    assert not likeness.reasons(cv2.add(part(0), 3), SIZE_HW)
    assert likeness.reasons(shifted(part(0)), SIZE_HW)


def test_very_different_good_images_allow_much() -> None:
    generator = np.random.default_rng(0)
    images = [generator.integers(0, generator.integers(20, 255), (*SIZE_HW, 3), np.uint8) for _ in range(30)]
    sizes_hw = [(int(height), 100) for height in generator.integers(50, 200, 30)]
    likeness = Likeness.of(images, sizes_hw)
    assert not likeness.reasons(images[0], (75, 100))


def test_ten_images_are_enough_and_more_than_a_thousand_are_thinned() -> None:
    few = Likeness.of([part(seed) for seed in range(10)], [SIZE_HW] * 10)
    assert not any(few.reasons(part(seed), SIZE_HW) for seed in range(20, 40))
    many = Likeness.of([part(seed % 40) for seed in range(1500)], [SIZE_HW] * 1500)
    assert not many.reasons(part(2), SIZE_HW)


def test_it_survives_json_with_equal_reasons(likeness: Likeness) -> None:
    again = Likeness.from_description(json.loads(json.dumps(likeness.description())))
    assert dict(again.limits) == dict(likeness.limits)
    for seed in range(100, 105):
        for spoil, _ in SPOILED.values():
            image = np.ascontiguousarray(spoil(part(seed)))
            assert again.reasons(image, SIZE_HW) == likeness.reasons(image, SIZE_HW)


def test_figures_of_a_newer_version_are_refused(likeness: Likeness) -> None:
    description = likeness.description()
    description["limits"]["smell"] = [0, 1]
    with pytest.raises(BlemishError, match="smell"):
        Likeness.from_description(description)


def test_quantiles_of_student_are_those_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for n_degrees in (9, 20, 100, 1000):
        for probability in (0.99, 0.9999):
            expected = stats.t.ppf(probability, n_degrees)
            assert _student_quantile(probability, n_degrees) == pytest.approx(expected, rel=0.02)
