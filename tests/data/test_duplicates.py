"""Copies of a photograph are recognized, different photographs of the same kind are not."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from blemish.data.duplicates import Fingerprint, find_same, first_shown

Pixels = NDArray[np.uint8]
SIDE_PX = 128


def colour(grey: NDArray[np.floating]) -> Pixels:
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def texture(seed: int) -> Pixels:
    rng = np.random.default_rng(seed)
    return colour(128 + 200 * cv2.GaussianBlur(rng.normal(0, 1, (SIDE_PX, SIDE_PX)), (0, 0), 3))


def alike_part(seed: int) -> Pixels:
    """A washer that fills the picture and hardly moves, with grain of its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    radius = np.hypot(y - 64 - rng.uniform(-1, 1), x - 64 - rng.uniform(-1, 1))
    grain = cv2.GaussianBlur(rng.normal(0, 12, (SIDE_PX, SIDE_PX)), (0, 0), 1)
    return colour(60 + 120 * ((radius < 50) & (radius > 20)) + grain)


def striped(seed: int) -> Pixels:
    rng = np.random.default_rng(seed)
    x = np.arange(SIDE_PX)
    return colour(128 + 60 * np.sin(2 * np.pi * (x / 16 + rng.random())) + rng.normal(0, 2, (SIDE_PX, SIDE_PX)))


def board(seed: int) -> Pixels:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX] + rng.integers(0, 16, (2, 1, 1))
    return colour(60.0 + 60 * (y % 16 < 5) + 60 * (x % 16 < 5) + rng.normal(0, 3, (SIDE_PX, SIDE_PX)))


def uniform(seed: int) -> Pixels:
    return colour(120 + np.random.default_rng(seed).normal(0, 1.5, (SIDE_PX, SIDE_PX)))


def as_jpeg(image: Pixels, quality: int = 90) -> Pixels:
    content = BytesIO()
    Image.fromarray(image).save(content, "JPEG", quality=quality)
    return np.array(Image.open(content))


def halved(image: Pixels) -> Pixels:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def brighter(image: Pixels) -> Pixels:
    return np.clip(image.astype(int) + 5, 0, 255).astype(np.uint8)


KINDS = [texture, alike_part, striped, board, uniform]


def fingerprints(images: list[Pixels]) -> list[Fingerprint]:
    return [Fingerprint.of(image) for image in images]


@pytest.mark.parametrize("kind", KINDS)
def test_different_photographs_of_a_kind_are_not_the_same(kind: Callable[[int], Pixels]) -> None:
    images = fingerprints([kind(seed) for seed in range(60)])
    assert find_same(images[:20], images[20:]).tolist() == [-1] * 20
    assert find_same(images[:5], images[5:15]).tolist() == [-1] * 5
    assert first_shown(images).tolist() == list(range(60))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_pixels_are_the_same(kind: Callable[[int], Pixels]) -> None:
    images = fingerprints([kind(seed) for seed in range(12)])
    assert find_same([images[7], images[2]], images).tolist() == [7, 2]
    assert first_shown([*images, images[7], images[7]]).tolist() == [*range(12), 7, 7]


@pytest.mark.parametrize("change", [as_jpeg, lambda image: as_jpeg(image, 50), halved, brighter])
@pytest.mark.parametrize("kind", [texture, alike_part])
def test_a_photograph_saved_again_is_the_same(
    kind: Callable[[int], Pixels], change: Callable[[Pixels], Pixels]
) -> None:
    images = [kind(seed) for seed in range(30)]
    copies = fingerprints([change(images[number]) for number in (3, 17, 0)])
    known = fingerprints(images)
    assert find_same([*copies, Fingerprint.of(kind(99))], known).tolist() == [3, 17, 0, -1]


def test_copies_among_photographs_point_to_the_first() -> None:
    images = [texture(seed) for seed in range(12)]
    again = [as_jpeg(images[4]), halved(images[4]), brighter(as_jpeg(images[4])), texture(50)]
    assert first_shown(fingerprints(images + again)).tolist() == [*range(12), 4, 4, 4, 15]


def test_flat_images_are_the_same_only_if_their_pixels_are() -> None:
    flat = [np.full((SIDE_PX, SIDE_PX, 3), value, np.uint8) for value in (0, 90, 90, 255)]
    assert first_shown(fingerprints(flat)).tolist() == [0, 1, 1, 3]
    assert find_same(fingerprints(flat), fingerprints(flat[:1])).tolist() == [0, -1, -1, -1]
    larger = np.zeros((SIDE_PX + 1, SIDE_PX, 3), np.uint8)
    assert find_same(fingerprints([larger]), fingerprints(flat)).tolist() == [-1]


def test_few_photographs_and_different_sizes() -> None:
    image = texture(0)
    small, large = Fingerprint.of(image[:9, :9]), Fingerprint.of(np.asarray(cv2.resize(image, (1500, 900)), np.uint8))
    assert find_same([], [small]).tolist() == []
    assert first_shown([]).tolist() == []
    assert find_same([small], []).tolist() == [-1]
    assert find_same([small, large], [large]).tolist() == [-1, 0]
    assert find_same([small], [large, Fingerprint.of(texture(1))]).tolist() == [-1]
    assert first_shown([small, large]).tolist() == [0, 1]


def test_more_photographs_than_are_compared_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.data.duplicates.BLOCK", 4)
    images = [texture(seed) for seed in range(10)]
    images += [as_jpeg(images[9]), as_jpeg(images[1])]
    assert first_shown(fingerprints(images)).tolist() == [*range(10), 9, 1]
    assert find_same(fingerprints(images[7:]), fingerprints(images[:7])).tolist() == [-1, -1, -1, -1, 1]
