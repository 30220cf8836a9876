"""SSAE's modified images: exactly the masked pixels are changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from images import seeded, textured

from blemish.errors import BlemishError
from blemish.synthesis.elastic import (
    GRID,
    Patches,
    displacement_px,
    patch_grid,
    random_patches,
    sample_px,
    smooth_noise,
    soft_shapes,
)
from blemish.synthesis.modified_patches import KINDS, CorruptionSettings, corrupt, largest_share
from blemish.synthesis.pasted_textures import HALF_LEVEL
from blemish.synthesis.textures import TextureBank

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return TextureBank.procedural((24, 32), n=6)


# --- the damage ----------------------------------------------------------------------------------------------


class TestMasks:
    """Properties of masks for every kind, size and seed."""

    @settings(deadline=None, max_examples=60)
    @given(
        kind=st.sampled_from([*KINDS, "all"]),
        size_hw=st.sampled_from([(16, 16), (24, 40), (33, 17), (9, 64)]),
        n=st.integers(1, 4),
        seed=st.integers(0, 10_000),
        limit=st.sampled_from(["theorem", "half-width", "none"]),
        brightness=st.sampled_from([0.0, 1.0]),
        rotation=st.sampled_from([0.0, 0.5]),
        look=st.sampled_from(["noise", "plain", "stripes"]),
    )
    def test_tell_what_was_changed(
        self, bank: TextureBank, kind: str, size_hw: tuple[int, int], n: int, seed: int, look: str, **chosen: Any
    ) -> None:
        images = textured(n, size_hw, seed)
        if look == "plain":
            images = images[..., :1, :1].expand(n, 3, *size_hw).contiguous()
        if look == "stripes":
            images = images[..., :1, :].expand(n, 3, *size_hw).contiguous()
        corruption = CorruptionSettings(
            kinds=KINDS if kind == "all" else (kind,),  # type: ignore[arg-type]
            limit=chosen["limit"],
            brightness_probability=chosen["brightness"],
            rotation_probability=chosen["rotation"],
        )
        before = images.clone()
        changed, masks = corrupt(images, bank, seeded(seed), corruption, 0.2)
        assert torch.equal(images, before)
        assert changed.shape == images.shape
        assert masks.shape == (n, 1, *size_hw)
        assert changed.dtype == masks.dtype == torch.float32
        assert changed.min() >= 0.0
        assert changed.max() <= 1.0
        assert masks.min() >= 0.0
        assert masks.max() <= 1.0
        inside = masks > 0
        assert torch.equal(changed.where(~inside, 0.0), images.where(~inside, 0.0))
        moved = (changed - images).abs().amax(1, keepdim=True)
        assert bool((moved[inside] >= HALF_LEVEL).all())
        again, masks_again = corrupt(images, bank, seeded(seed), corruption, 0.2)
        assert torch.equal(changed, again)
        assert torch.equal(masks, masks_again)

    @pytest.mark.parametrize("kind", KINDS)
    def test_are_real_valued(self, bank: TextureBank, kind: str) -> None:
        _, masks = corrupt(textured(6, (24, 32)), bank, seeded(), CorruptionSettings(kinds=(kind,)), 0.2)  # type: ignore[arg-type]
        assert bool((masks > 0).flatten(1).any(1).all()), "noise shows every kind of damage"
        assert ((masks > 0.02) & (masks < 0.98)).float().mean() > 0.005
        assert masks.max() > 0.9

    def test_of_rotated_images_are_1_wherever_a_pixel_changed(self) -> None:
        images = textured(4, (24, 24))
        corruption = CorruptionSettings(limit="none", rotation_probability=1.0)
        changed, masks = corrupt(images, None, seeded(), corruption)
        assert set(masks.unique().tolist()) <= {0.0, 1.0}
        assert torch.equal(masks.bool(), (changed - images).abs().amax(1, keepdim=True) >= HALF_LEVEL)
        assert masks.mean() > 0.9

    def test_only_the_share_that_is_asked_for_is_turned(self) -> None:
        _, masks = corrupt(
            textured(60, (12, 12)), None, seeded(), CorruptionSettings(limit="none", rotation_probability=0.3)
        )
        turned = int(((masks == 1).float().mean((1, 2, 3)) > 0.8).sum())
        assert 8 < turned < 30

    def test_the_result_is_the_content_blended_by_the_mask(self) -> None:
        images = textured(3, (20, 28)) * 0.5 + 0.5  # nothing is near zero: a cut-out shows wherever the mask does
        changed, masks = corrupt(images, None, seeded(4), CorruptionSettings(kinds=("cut-out",), limit="none"))
        is_visible = masks > 2 * HALF_LEVEL
        torch.testing.assert_close(
            changed[is_visible.expand_as(changed)], (images * (1 - masks))[is_visible.expand_as(changed)]
        )


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_on_images_without_variance(bank: TextureBank, kind: str) -> None:
    images = torch.full((3, 3, 16, 16), 0.4)
    share, corruption = largest_share((images * 255).byte()), CorruptionSettings(kinds=(kind,), limit="theorem")  # type: ignore[arg-type]
    changed, masks = corrupt(images, bank, seeded(), corruption, share)
    assert torch.equal(changed, images)
    assert torch.equal(masks, torch.zeros_like(masks))


def test_an_elastic_deformation_of_a_plain_area_leaves_no_mask() -> None:
    images = torch.full((4, 3, 24, 24), 0.4)
    _, masks = corrupt(images, None, seeded(), CorruptionSettings(limit="none"))
    assert not masks.any()
    _, masks = corrupt(images, None, seeded(), CorruptionSettings(kinds=("cut-out",), limit="none"))
    assert masks.any()  # on the same images a cut-out is visible


def test_brightness_makes_a_plain_patch_show_in_both_directions() -> None:
    images = torch.full((30, 3, 16, 16), 0.5)
    corruption = CorruptionSettings(limit="none", brightness_probability=1.0, max_brightness=0.2)
    changed, masks = corrupt(images, None, seeded(), corruption)
    change = (changed - images)[:, 0].flatten(1)
    lighter, darker = change.amax(1) > 0, change.amin(1) < 0
    assert not bool((lighter & darker).any())
    assert lighter.any()
    assert darker.any()
    assert (masks > 0).flatten(1).any(1).float().mean() > 0.8
    assert change.abs().max() <= 0.2 + 1e-6
    _, masks = corrupt(images, None, seeded(), replace(corruption, brightness_probability=0.3))
    assert 2 <= int(masks.flatten(1).any(1).sum()) <= 18


@pytest.mark.parametrize("n", [1, 2, 3])
def test_swap_shows_other_images_of_the_batch(n: int) -> None:
    levels = torch.linspace(0.1, 0.9, n)
    images = levels.view(n, 1, 1, 1).expand(n, 3, 20, 20).contiguous()
    for seed in range(6):
        changed, masks = corrupt(images, None, seeded(seed), CorruptionSettings(kinds=("swap",), limit="none"))
        for number in range(n):
            strong = changed[number][masks[number].expand(3, -1, -1) > 0.999]
            partner_levels = levels[torch.arange(n) != number]
            if n > 1:
                assert len(strong)
                assert (strong[:, None] - partner_levels).abs().amin(1).max() < 2e-3
            else:
                assert not masks.any()  # a single plain image: its own content changes nothing


def test_swap_shifts_an_image_that_is_alone() -> None:
    _, masks = corrupt(textured(1, (20, 20)), None, seeded(), CorruptionSettings(kinds=("swap",), limit="none"))
    assert masks.any()


def test_occlusion_without_textures_is_refused() -> None:
    with pytest.raises(BlemishError, match="occlusion needs textures"):
        corrupt(textured(1, (8, 8)), None, seeded(), CorruptionSettings(kinds=("elastic", "occlusion"), limit="none"))


def test_occlusion_shows_the_textures_and_up_to_three_shapes() -> None:
    red = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    images = torch.full((24, 3, 64, 64), 0.5)
    corruption = CorruptionSettings(kinds=("occlusion",), min_side=0.1, max_side=0.15, limit="none", roughness=0.0)
    _, masks = corrupt(images, TextureBank(red, "red"), seeded(), corruption)
    side_px = 0.15 * 64
    counts = []
    for mask in masks[:, 0] > 0:
        pixels_left, count = mask.nonzero().tolist(), 0
        while pixels_left:  # a shape is smaller than its patch: remove all pixels within a patch of the first one
            y, x = pixels_left[0]
            pixels_left = [pixel for pixel in pixels_left if pixel[0] - y > side_px or abs(pixel[1] - x) > side_px]
            count += 1
        counts.append(count)
    assert max(counts) <= 3
    assert {1, 3} <= set(counts)


def test_each_kind_is_drawn() -> None:
    images = torch.full((40, 3, 16, 16), 0.5)
    images[:, :, :, ::2] = 0.7
    corruption = CorruptionSettings(kinds=("cut-out", "elastic"), limit="none")
    changed, _ = corrupt(images, None, seeded(), corruption)
    n_cut_out = int((changed.amin((1, 2, 3)) < 0.4).sum())  # only a cut-out is darker than the image
    assert 8 <= n_cut_out <= 32


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kinds": ()}, "setting kinds: none"),
        ({"kinds": ("scratch",)}, "kinds"),
        ({"min_side": 0.6}, "min_side, max_side: 0.6, 0.5"),
        ({"min_strength": 0.0}, "min_strength"),
        ({"max_smoothing": 1.5}, "min_smoothing, max_smoothing"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BlemishError, match=message):
        CorruptionSettings.from_dict(values)


# --- patches, fields and shapes --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    size_hw=st.tuples(st.integers(8, 80), st.integers(8, 80)),
    sides=st.sampled_from([(0.08, 0.5), (0.3, 0.3), (0.9, 1.0)]),
    seed=st.integers(0, 1000),
)
def test_patches_lie_in_the_image(size_hw: tuple[int, int], sides: tuple[float, float], seed: int) -> None:
    centre, side = random_patches(20, size_hw, sides, seeded(seed))
    extent = torch.tensor(size_hw)
    assert bool((centre - side / 2 >= -1e-4).all())
    assert bool((centre + side / 2 <= extent + 1e-4).all())
    assert bool((side >= sides[0] * min(size_hw) - 1e-4).all())
    assert bool((side <= sides[1] * min(size_hw) + 1e-4).all())


def test_patches_lie_everywhere() -> None:
    centre, side = random_patches(400, (40, 60), (0.1, 0.5), seeded())
    assert bool(((centre - side / 2).amin(0) < 1.0).all())
    assert bool(((centre + side / 2).amax(0) > torch.tensor([39.0, 59.0])).all())
    assert side.std(0).min() > 3.0  # height and width are drawn apart
    assert abs(float(torch.corrcoef(side.T)[0, 1])) < 0.2


def test_patch_grid_equals_its_definition() -> None:
    patches = Patches(torch.tensor([[2.0, 3.5], [4.0, 1.0]]), torch.tensor([[4.0, 2.0], [1.0, 6.0]]))
    grid = patch_grid(patches, (5, 7))
    expected = np.zeros((2, 5, 7, 2))
    for image, ((centre_y, centre_x), (height, width)) in enumerate(zip(*(p.tolist() for p in patches), strict=True)):
        for row in range(5):
            for column in range(7):
                expected[image, row, column] = (
                    2 * (column + 0.5 - centre_x) / width,
                    2 * (row + 0.5 - centre_y) / height,
                )
    np.testing.assert_allclose(grid.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_smooth_noise_is_standardized_and_smoother_under_a_wider_gaussian() -> None:
    field = smooth_noise(torch.tensor([0.02, 0.06, 0.15]), 2, seeded(), CPU)
    assert field.shape == (3, 2, GRID, GRID)
    torch.testing.assert_close(field.mean((2, 3)), torch.zeros(3, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(field.std((2, 3)), torch.ones(3, 2), atol=1e-4, rtol=0)
    rough = (field.diff(dim=3).square().mean((1, 2, 3)) + field.diff(dim=2).square().mean((1, 2, 3))).tolist()
    assert rough[0] > 2 * rough[1] > 4 * rough[2]


def test_smooth_noise_equals_a_naive_blur() -> None:
    sigma = 0.05
    noise = torch.randn(1, 1, GRID, GRID, generator=seeded(2))[0, 0].double().numpy()
    blurred = np.zeros_like(noise)
    for row in range(GRID):
        for column in range(GRID):
            y, x = np.mgrid[:GRID, :GRID]
            weight = np.exp(-0.5 * ((y - row) ** 2 + (x - column) ** 2) / (sigma * GRID) ** 2)
            blurred[row, column] = (weight * noise).sum()
    blurred -= blurred.mean()
    field = smooth_noise(torch.tensor([sigma]), 1, seeded(2), CPU)[0, 0].numpy()
    np.testing.assert_allclose(field, blurred / blurred.std(ddof=1), atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), roughness=st.sampled_from([0.0, 0.35, 2.0]))
def test_shapes_are_nothing_outside_of_their_patch(seed: int, roughness: float) -> None:
    grid = patch_grid(random_patches(4, (30, 44), (0.2, 0.7), seeded(seed)), (30, 44))
    shapes = soft_shapes(grid, roughness, seeded(seed))
    assert shapes.shape == (4, 1, 30, 44)
    assert shapes.min() >= 0.0
    assert shapes.max() <= 1.0
    assert not shapes[:, 0][grid.abs().amax(-1) >= 1.0].any()


def test_shapes_without_roughness_are_ellipses_and_with_it_are_not() -> None:
    grid = patch_grid(Patches(torch.tensor([[16.0, 24.0]]), torch.tensor([[20.0, 40.0]])), (32, 48))
    ellipse = soft_shapes(grid, 0.0, seeded(1))
    for axis in (2, 3):
        torch.testing.assert_close(ellipse, ellipse.flip(axis), atol=1e-5, rtol=0)
    assert ellipse[0, 0, 16, 24] == 1.0
    outside = grid.square().sum(-1) > 0.8
    assert not ellipse[:, 0][outside].any()
    rough = soft_shapes(grid, 0.35, seeded(1))
    assert (rough - rough.flip(3)).abs().max() > 0.1


def test_displacement_follows_the_side_of_the_patch() -> None:
    def displacement(side_yx: tuple[float, float], strength: float) -> torch.Tensor:
        patches = Patches(torch.tensor([[32.0, 32.0]]), torch.tensor([side_yx]))
        grid = patch_grid(Patches(patches.centre_yx, torch.full((1, 2), 40.0)), (64, 64))  # the same field for all
        return displacement_px(patches, grid, (strength, strength), (0.1, 0.1), seeded())

    square = displacement((40.0, 40.0), 0.1)
    assert square.shape == (1, 64, 64, 2)
    inside = square[:, 12:52, 12:52]
    torch.testing.assert_close(inside.square().mean((0, 1, 2)).sqrt(), torch.full((2,), 4.0), rtol=0.1, atol=0)
    # Sides are (height, width), displacements are (x, y).
    torch.testing.assert_close(displacement((40.0, 20.0), 0.1), square * torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(displacement((20.0, 40.0), 0.1), square * torch.tensor([1.0, 0.5]))
    torch.testing.assert_close(displacement((40.0, 40.0), 0.2), square * 2)


def pixels(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    return (torch.arange(width) + 0.5).expand(1, height, width), (torch.arange(height) + 0.5)[:, None].expand(
        1, height, width
    )


def test_sampling_at_its_own_pixels_gives_the_image() -> None:
    image = textured(1, (7, 12))
    torch.testing.assert_close(sample_px(image, *pixels(7, 12)), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("right", "down"), [(2, 0), (0, -3), (-1, 2), (5, 4)])
def test_sampling_at_shifted_pixels_mirrors_at_the_border(right: int, down: int) -> None:
    image, (x, y) = textured(1, (6, 9)), pixels(6, 9)

    def mirrored(position: int, length: int) -> int:
        if position < 0:
            return -1 - position
        return 2 * length - 1 - position if position >= length else position

    expected = torch.zeros_like(image)
    for row in range(6):
        for column in range(9):
            expected[..., row, column] = image[..., mirrored(row + down, 6), mirrored(column + right, 9)]
    torch.testing.assert_close(sample_px(image, x + right, y + down), expected, atol=1e-5, rtol=0)


def test_sampling_between_pixels_is_bilinear() -> None:
    image = torch.tensor([[0.0, 1.0], [2.0, 5.0]]).view(1, 1, 2, 2)
    x, y = torch.tensor([[[1.0, 0.75]]]), torch.tensor([[[1.0, 0.5]]])
    torch.testing.assert_close(sample_px(image, x, y).flatten(), torch.tensor([2.0, 0.25]))
