"""How parts are brought to one scale and weighed: by tiny maps whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blemish.learning.joining import (
    CELLS,
    LEAST,
    LEAST_SHARE,
    MIN_PLACE,
    Damaged,
    chosen,
    scale_values,
    tail_exponents,
)
from blemish.learning.unknown_damage import KINDS, damaged_copies


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_the_scale_of_an_image_is_the_median_and_what_few_cells_exceed() -> None:
    maps = torch.zeros(1, 2, CELLS, CELLS)
    maps[0, 0] = torch.arange(CELLS * CELLS).view(CELLS, CELLS) / 1024.0
    maps[0, 1] = 7.0  # no spread at all: a share of the largest value
    centre, spread, weight = scale_values(maps, "image")
    assert centre.flatten().tolist() == pytest.approx([511 / 1024, 7.0])
    assert spread.flatten().tolist() == pytest.approx([0.99 * 1023 / 1024 - 511 / 1024, LEAST * 7.0])
    assert weight.sum() == pytest.approx(1.0)


def test_each_place_has_the_scale_of_the_cells_around_it() -> None:
    maps = 0.1 * noise(40, 1, 64, 64)
    maps[:, :, :, 32:] += 5.0 * noise(40, 1, 64, 32, seed=1)  # the right half differs from image to image
    centre, spread = (values[0] for values in scale_values(maps, "place")[:2])
    assert centre.shape == spread.shape == (CELLS, CELLS)
    assert centre[:, :15].max() < 0.1
    assert centre[:, 17:].min() > 2.0
    assert spread[:, 17:].min() > 2.0
    of_image = scale_values(maps, "image").spread.item()
    torch.testing.assert_close(spread[:, :14], torch.full((CELLS, 14), LEAST_SHARE * of_image))


@pytest.mark.parametrize("alpha", [2.0, 8.0])
def test_the_exponent_of_a_tail_is_found(alpha: float) -> None:
    """1 + z = u^(-1 / alpha) with u uniform in (0, 1] exceeds x with probability x^-alpha."""
    u = 1.0 - noise(60, 1, CELLS, CELLS)
    other = 1.0 - noise(60, 1, CELLS, CELLS, seed=1)
    z = torch.cat([u ** (-1 / alpha), other ** (-1 / 4.0)], 1) - 1.0
    assert tail_exponents(z).tolist() == pytest.approx([alpha, 4.0], rel=0.07)


def test_a_part_without_a_tail_does_not_decide_alone() -> None:
    z = torch.cat([noise(4, 1, CELLS, CELLS), torch.zeros(4, 1, CELLS, CELLS)], 1)
    with_tail, without = tail_exponents(z).tolist()
    assert without == pytest.approx(8.0 * with_tail)  # a quarter of the mean, which is half of the other's length
    assert torch.isfinite(tail_exponents(torch.zeros(4, 2, CELLS, CELLS))).all()


def test_a_part_that_is_rarely_wrong_by_far_weighs_more() -> None:
    """In proportion to the exponents, whatever unit a part counts in."""
    u = 1.0 - noise(60, 2, CELLS, CELLS)
    maps = torch.cat([u[:, :1] ** (-1 / 2.0), 1000.0 * u[:, 1:] ** (-1 / 8.0)], 1)
    heavy, light = scale_values(maps, "image").weight.tolist()
    assert heavy + light == pytest.approx(1.0)
    assert light > 0.6


def damaged_of(good: Tensor, strength: float) -> Damaged:
    """A square of damage in each image that all parts see so strongly."""
    maps, masks = good.clone(), torch.zeros(len(good), 1, *good.shape[2:], dtype=torch.bool)
    masks[:, :, 8:14, 8:14] = True
    maps[:, :, 8:14, 8:14] += strength
    return Damaged(maps, masks)


def test_parts_that_always_lie_alike_get_a_scale_for_each_place() -> None:
    """Where good images are bright, the damage is no brighter than elsewhere good ones are."""
    good = noise(40, 2, CELLS, CELLS)
    good[:, :, :, 20:] += 8.0
    choice = chosen(good, [damaged_of(good, 4.0)], torch.arange(40))
    assert choice.scale == "place"
    assert choice.pixel_ap["place"] > choice.pixel_ap["image"]
    assert choice.image_auroc > 0.95


def test_of_equal_scales_that_of_the_image_is_taken() -> None:
    good = noise(MIN_PLACE, 2, CELLS, CELLS)
    choice = chosen(good, [damaged_of(good, 9.0)], torch.arange(MIN_PLACE))
    assert choice.pixel_ap == {"image": 1.0, "place": 1.0}
    assert choice.scale == "image"


def test_few_images_get_one_scale_for_all_places() -> None:
    good = noise(MIN_PLACE - 1, 2, CELLS, CELLS)
    assert [*chosen(good, [damaged_of(good[:4], 1.0)], torch.arange(4)).pixel_ap] == ["image"]


def test_damage_is_marked_where_it_is_seen() -> None:
    good = (noise(6, 3, 64, 64) * 255).byte()
    copies = list(damaged_copies(good, seed=3))
    assert len(copies) == len(KINDS)
    for damaged, masks in copies:
        assert masks.shape == (6, 1, 64, 64)
        assert masks.any()
        assert (damaged.amin(), damaged.amax()) >= (0.0, 0.0)
        assert damaged.amax() <= 1.0
        changed = ((damaged - good.float() / 255).abs().amax(1, keepdim=True)) > 1 / 255
        assert torch.equal(changed & ~masks, torch.zeros_like(masks))
    again = next(iter(damaged_copies(good, seed=3)))
    assert torch.equal(again[0], copies[0][0])
