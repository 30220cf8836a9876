"""How parts are brought to one scale and weighed: by tiny maps whose answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from blemish.errors import BlemishError
from blemish.learning.joining import (
    CELLS,
    LEAST,
    LEAST_SHARE,
    MIN_PLACE,
    Damaged,
    chosen,
    fitted,
    scale_values,
    tail_exponents,
    votes,
)
from blemish.learning.unknown_damage import KINDS, damaged_copies
from blemish.methods.base import Method
from blemish.methods.draem import DRAEM, DRAEMSettings

TINY = DRAEMSettings(image_size_px=32, reconstructive_widths=(4, 8), discriminative_widths=(4, 8), score_window_px=5)


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


def images_of(values: Tensor) -> Tensor:
    """Maps (N, P, 8, 8) that are each of one value, given as (N, P)."""
    return values[:, :, None, None].expand(-1, -1, 8, 8)


@pytest.mark.parametrize("alpha", [2.0, 8.0])
def test_the_exponent_of_a_tail_is_found(alpha: float) -> None:
    """1 + z = u^(-1 / alpha) with u uniform in (0, 1] exceeds x with probability x^-alpha."""
    u = 1.0 - noise(8000, 2)
    z = images_of(u ** (-1 / torch.tensor([alpha, 4.0])) - 1.0)
    assert tail_exponents(z).tolist() == pytest.approx([alpha, 4.0], rel=0.05)


def test_the_tail_is_that_of_images_not_of_their_cells() -> None:
    """One part errs in a few cells of every image alike, the other in all cells of a few images."""
    z = torch.zeros(40, 2, 8, 8)
    z[:, 0, 0, :4] = 3.0 + 0.1 * noise(40, 4)
    z[::10, 1] = 3.0
    alike, rare = tail_exponents(z).tolist()
    assert alike > 3 * rare


def test_a_part_without_a_tail_does_not_decide_alone() -> None:
    z = images_of(torch.cat([noise(4, 1), torch.zeros(4, 1)], 1))
    with_tail, without = tail_exponents(z).tolist()
    assert without == pytest.approx(8.0 * with_tail)  # a quarter of the mean, which is half of the other's length
    assert torch.isfinite(tail_exponents(torch.zeros(4, 2, CELLS, CELLS))).all()
    one_image = tail_exponents(noise(1, 2, CELLS, CELLS))
    assert one_image[0] == one_image[1]


def test_a_part_whose_good_images_are_seldom_conspicuous_weighs_more() -> None:
    """Whatever unit a part counts in."""
    often, seldom = noise(60, 1), (noise(60, 1) > 0.95).float()
    of_images = torch.cat([often, 1000.0 * seldom], 1)
    maps = of_images[:, :, None, None] + torch.tensor([0.01, 10.0])[:, None, None] * noise(60, 2, CELLS, CELLS)
    light, heavy = scale_values(maps, "image").weight.tolist()
    assert heavy + light == pytest.approx(1.0)
    assert heavy > 0.6


def test_parts_that_err_at_the_same_places_share_a_vote() -> None:
    alone, both = noise(40, 1, CELLS, CELLS), noise(40, 1, CELLS, CELLS, seed=1)
    own, first, second = votes(torch.cat([alone, both, both + 1e-3 * alone], 1)).tolist()
    assert own == pytest.approx(1.0 / 1.1, rel=0.02)
    assert first == pytest.approx(second, rel=0.02)
    assert first + second == pytest.approx(1.0, rel=0.06)


def test_parts_vote_alike_where_nothing_can_be_told() -> None:
    assert votes(torch.zeros(3, 4, CELLS, CELLS)).tolist() == pytest.approx([1.0 / 1.1] * 4)


def test_a_part_that_another_holds_and_errs_more_has_no_say() -> None:
    """What both say is said better by the first: never a weight below 0."""
    first, more = noise(40, 1, CELLS, CELLS), noise(40, 1, CELLS, CELLS, seed=1)
    of_parts = votes(torch.cat([first, more, torch.expm1(torch.log1p(first) + torch.log1p(more))], 1))
    assert of_parts.min() == 0.0
    assert of_parts.sum() > 1.0


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


def test_a_part_that_answers_nothing_is_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    methods: dict[str, Method] = {name: DRAEM(TINY) for name in ("draem", "draem-2")}
    good = (noise(6, 3, 32, 32) * 255).byte()
    maps = torch.cat([noise(6, 1, 32, 32), torch.zeros(6, 1, 32, 32)], 1)
    monkeypatch.setattr("blemish.learning.joining._measured", lambda network, images: maps)
    for sources, name in (((), "draem-2"), (("runs/a", "runs/b"), "runs/b")):
        with pytest.raises(BlemishError, match=f"^{name}: its map is the same for all good images; leave it out"):
            fitted(methods, good, seed=0, sources=sources)
