"""Flips and quarter turns."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from images import seeded, textured

from blemish.synthesis.geometry import randomly_mirror_and_turn

# --- flips and quarter turns -----------------------------------------------------------------------------------


def which_symmetry(original: np.ndarray, result: np.ndarray) -> tuple[bool, int]:
    """Whether the image was first mirrored left to right, and how many quarter turns followed; (C, H, W) arrays."""
    for mirrored in (False, True):
        for turns in range(4):
            candidate = np.rot90(original[:, :, ::-1] if mirrored else original, turns, (1, 2))
            if np.array_equal(candidate, result):
                return mirrored, turns
    raise AssertionError("the result is not a symmetry of the image")


ALL_EIGHT = {(mirrored, turns) for mirrored in (False, True) for turns in range(4)}
UPRIGHT = {(False, 0), (True, 0), (False, 2), (True, 2)}


@pytest.mark.parametrize(
    ("allowed", "square", "oblong"),
    [
        ("", {(False, 0)}, {(False, 0)}),
        ("h", {(False, 0), (True, 0)}, {(False, 0), (True, 0)}),
        ("v", {(False, 0), (True, 2)}, {(False, 0), (True, 2)}),
        ("hv", UPRIGHT, UPRIGHT),
        ("q", {(False, turns) for turns in range(4)}, {(False, 0), (False, 2)}),
        ("hq", ALL_EIGHT, UPRIGHT),
        ("vq", ALL_EIGHT, UPRIGHT),
        ("hvq", ALL_EIGHT, UPRIGHT),
    ],
)
def test_only_allowed_symmetries_occur_and_all_of_them(
    allowed: str, square: set[tuple[bool, int]], oblong: set[tuple[bool, int]]
) -> None:
    for size_hw, expected in (((4, 4), square), ((3, 5), oblong)):
        images = textured(100, size_hw)
        before = images.clone()
        chosen = {"horizontally": "h" in allowed, "vertically": "v" in allowed, "quarter_turns": "q" in allowed}
        turned = randomly_mirror_and_turn(images, seeded(), **chosen)
        assert torch.equal(images, before)
        assert turned.shape == images.shape
        symmetries = [which_symmetry(*pair) for pair in zip(images.numpy(), turned.numpy(), strict=True)]
        assert set(symmetries) == expected
        for symmetry in expected:  # all are equally frequent
            share = 1 / len(expected)
            assert abs(symmetries.count(symmetry) - 100 * share) < 4 * math.sqrt(100 * share * (1 - share)) + 1e-9


def test_the_same_seed_turns_the_same_way() -> None:
    images, chosen = textured(20, (4, 4)), {"horizontally": True, "vertically": True, "quarter_turns": True}
    turned, repeated, other_seed = (randomly_mirror_and_turn(images, seeded(seed), **chosen) for seed in (1, 1, 2))
    assert torch.equal(turned, repeated)
    assert not torch.equal(turned, other_seed)
