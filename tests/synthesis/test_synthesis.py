"""The simulators: exactly the masked pixels are changed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from blemish.errors import BlemishError
from blemish.synthesis.geometry import randomly_rotate, rotate, rotate_nearest
from blemish.synthesis.pasted_textures import HALF_LEVEL, AnomalySettings, spoil
from blemish.synthesis.perlin import perlin_masks, perlin_noise
from blemish.synthesis.photometric import AUGMENTATIONS, apply, augment, draw_chosen, places_of
from blemish.synthesis.rectangles import rectangle_masks
from blemish.synthesis.textures import TextureBank

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return TextureBank.procedural((32, 48), n=12)


# --- Perlin noise --------------------------------------------------------------------------------------------


def naive_perlin(cycles: tuple[float, float], size_hw: tuple[int, int], generator: torch.Generator) -> np.ndarray:
    """Perlin noise pixel by pixel from its definition, with the same draws as ``perlin_noise``."""
    height, width = size_hw
    points_x, points_y = int(cycles[0]) + 3, int(cycles[1]) + 3
    angles = (torch.rand((1, points_y, points_x), generator=generator) * (2 * np.pi))[0].numpy()
    phase = torch.rand((1, 2), generator=generator)[0].numpy()

    def fade(t: float) -> float:
        return 6 * t**5 - 15 * t**4 + 10 * t**3

    noise = np.zeros(size_hw)
    for row in range(height):
        for column in range(width):
            x, y = phase[0] + cycles[0] * (column + 0.5) / width, phase[1] + cycles[1] * (row + 0.5) / height
            i, j = int(x), int(y)
            for di in (0, 1):
                for dj in (0, 1):
                    dx, dy = x - (i + di), y - (j + dj)
                    angle = angles[j + dj, i + di]
                    weight = fade(1 - abs(dx)) * fade(1 - abs(dy))
                    noise[row, column] += weight * (np.cos(angle) * dx + np.sin(angle) * dy)
    return noise * np.sqrt(2)


@pytest.mark.parametrize(("cycles", "size_hw"), [((4.0, 2.0), (12, 20)), ((1.0, 8.0), (17, 9))])
def test_perlin_noise_equals_its_definition(cycles: tuple[float, float], size_hw: tuple[int, int]) -> None:
    noise = perlin_noise(torch.tensor([cycles]), size_hw, seeded(), CPU)[0].numpy()
    np.testing.assert_allclose(noise, naive_perlin(cycles, size_hw, seeded()), atol=1e-5)


def test_perlin_noise_of_a_batch_has_each_its_own_frequency() -> None:
    noise = perlin_noise(torch.tensor([[1.0, 1.0], [16.0, 16.0]]), (64, 64), seeded(), CPU)
    rough = noise.diff(dim=2).abs().mean((1, 2))
    assert rough[1] > 4 * rough[0]
    assert noise.abs().max() <= 1.0


@pytest.mark.parametrize("size_hw", [(256, 256), (64, 100), (33, 7), (1, 1)])
def test_perlin_masks_come_in_any_size(size_hw: tuple[int, int]) -> None:
    masks = perlin_masks(5, size_hw, seeded(), CPU)
    assert masks.shape == (5, *size_hw)
    assert masks.dtype == torch.bool


def test_perlin_masks_cover_a_plausible_share_everywhere() -> None:
    masks = perlin_masks(400, (32, 32), seeded(), CPU).float()
    assert 0.03 < masks.mean() < 0.25
    corners = masks[:, ::31, ::31].mean()  # rotated noise reaches into the corners
    assert 0.03 < corners < 0.25


def test_rectangles_are_never_empty_and_never_everything() -> None:
    masks = rectangle_masks(50, (40, 24), seeded(), CPU)
    assert masks.shape == (50, 40, 24)
    assert masks.any(2).any(1).all()
    assert not masks.all(2).all(1).any()
    single = rectangle_masks(20, (40, 24), seeded(), CPU, count=(1, 2))
    for mask in single.numpy():
        rows, columns = np.nonzero(mask)
        assert mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()


# --- rotation ------------------------------------------------------------------------------------------------


def test_a_quarter_turn_is_exact() -> None:
    images = torch.rand(2, 3, 8, 8)
    quarter = torch.full((2,), torch.pi / 2)
    torch.testing.assert_close(rotate(images, quarter), images.rot90(1, (2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(rotate_nearest(images, quarter, (8, 8)), images.rot90(1, (2, 3)))


def test_both_rotations_turn_the_same_way_on_wide_images() -> None:
    images = torch.zeros(1, 1, 21, 41)
    images[..., 5:9, 8:14] = 1.0
    angle = torch.tensor([0.4])
    smooth, nearest = rotate(images, angle), rotate_nearest(images, angle, (21, 41))
    assert ((smooth > 0.5).float() - nearest).abs().sum() <= 2  # except pixels exactly on the edge


def test_random_rotation_leaves_the_rest_unchanged() -> None:
    images = torch.rand(40, 3, 9, 9)
    turned = randomly_rotate(images, 0.3, 90.0, seeded())
    unchanged = (turned == images).flatten(1).all(1)
    assert 0 < (~unchanged).sum() < 25
    assert torch.equal(randomly_rotate(images, 0.0, 90.0, seeded()), images)


# --- photometric augmentations -------------------------------------------------------------------------------


def everywhere(textures: torch.Tensor, chosen: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """The augmented (B, 3, H, W) textures, in 0..255."""
    rows = textures.permute(0, 2, 3, 1).contiguous()
    all_places = places_of(torch.ones(rows.shape[:3], dtype=torch.bool))
    bank = TextureBank(rows, "test")
    colours = apply(draw_chosen(bank, torch.arange(len(rows)), chosen, seeded(seed)), bank, all_places)
    return colours.view(rows.shape).permute(0, 3, 1, 2) * 255.0


def only(name: str, textures: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """The textures with only this augmentation."""
    return everywhere(textures, torch.full((len(textures), 1), AUGMENTATIONS.index(name)), seed)


def photograph(height: int = 32, width: int = 48) -> torch.Tensor:
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([40 + 3 * x + y, 200 - 2 * x, 90 + 20 * np.sin(y / 3)], 0).clip(0, 255)
    return torch.from_numpy(image.astype(np.uint8))[None]


def as_pil(textures: torch.Tensor) -> Image.Image:
    return Image.fromarray(textures[0].permute(1, 2, 0).numpy())


def from_pil(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()


def test_invert() -> None:
    torch.testing.assert_close(only("invert", photograph()), 255.0 - photograph().float(), atol=1e-4, rtol=0)


def test_equalize_is_pillows() -> None:
    expected = from_pil(ImageOps.equalize(as_pil(photograph())))
    torch.testing.assert_close(only("equalize", photograph()), expected, atol=0.01, rtol=0)


def test_autocontrast_stretches_to_the_full_range() -> None:
    for seed in range(5):
        result = only("autocontrast", photograph(), seed)
        assert result.amin() == 0
        assert result.amax().item() == pytest.approx(255)


def test_autocontrast_is_pillows_for_a_cutoff() -> None:
    result = only("autocontrast", photograph())
    references = [from_pil(ImageOps.autocontrast(as_pil(photograph()), cutoff)) for cutoff in range(21)]
    assert min((result - reference).abs().mean().item() for reference in references) < 1.0


def test_sharpness_is_pillows_for_a_factor() -> None:
    result = only("sharpness", photograph(), seed=3)
    factors = np.linspace(0.0, 2.0, 201)
    references = [from_pil(ImageEnhance.Sharpness(as_pil(photograph())).enhance(factor)) for factor in factors]
    assert min((result - reference).abs().max().item() for reference in references) <= 1.5


def test_posterize_and_solarize_use_their_levels() -> None:
    ramp = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16).contiguous()
    for seed in range(8):
        levels = only("posterize", ramp, seed).round().unique()
        assert len(levels) in {2, 4, 8, 16, 32, 64, 128, 256}
        solarized = only("solarize", ramp, seed).round().flatten(2)[0, 0]
        original = ramp.flatten(2)[0, 0].float()
        assert bool(((solarized == original) | (solarized == 255 - original)).all())


def test_hue_and_saturation_keep_the_brightest_channels_value() -> None:
    for seed in range(5):
        result = only("hue_saturation", photograph(), seed)
        torch.testing.assert_close(result.amax(1), photograph().float().amax(1), atol=1.0, rtol=0)
    changed = only("hue_saturation", photograph(), 1)
    assert (changed - photograph().float()).abs().mean() > 1.0


def test_unchosen_augmentations_do_nothing() -> None:
    unchanged = everywhere(photograph(), torch.zeros((1, 0), dtype=torch.long))
    torch.testing.assert_close(unchanged, photograph().float(), atol=1e-4, rtol=0)


def test_rotation_of_textures_is_that_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "blemish.synthesis.photometric.uniform", lambda low, high, shape, generator: torch.ones(shape) * 30
    )
    turned = only("rotate", photograph())
    expected = rotate_nearest(photograph(), torch.deg2rad(torch.tensor([30.0])), (32, 48))
    assert (turned.round() != expected.float()).float().mean() < 0.01  # except ties between two pixels


def test_colours_at_masked_places_are_those_of_the_whole_texture() -> None:
    textures = torch.cat([photograph(), 255 - photograph(), photograph().flip(3)])
    chosen = torch.tensor([[7, 8, 9], [0, 6, 9], [5, 7, 3]])
    whole = everywhere(textures, chosen)
    mask = torch.rand(3, 32, 48, generator=seeded()) < 0.1
    rows = textures.permute(0, 2, 3, 1).contiguous()
    bank = TextureBank(rows, "test")
    masked = apply(draw_chosen(bank, torch.arange(3), chosen, seeded()), bank, places_of(mask)) * 255.0
    torch.testing.assert_close(masked, whole.permute(0, 2, 3, 1)[mask])


def test_each_image_gets_three_different_augmentations(bank: TextureBank, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []

    def draw_seen(bank: TextureBank, texture: torch.Tensor, chosen: torch.Tensor, generator: torch.Generator):  # type: ignore[no-untyped-def]
        seen.append(chosen)
        return draw_chosen(bank, texture, chosen, generator)

    monkeypatch.setattr("blemish.synthesis.photometric.draw_chosen", draw_seen)
    augment(bank, 12, places_of(torch.ones(12, 32, 48, dtype=torch.bool)), seeded())
    assert seen[0].shape == (12, 3)
    assert all(len(set(row)) == 3 for row in seen[0].tolist())
    assert len({tuple(row) for row in seen[0].tolist()}) > 3


def test_histograms_are_those_of_the_textures_at_hand(bank: TextureBank) -> None:
    copy = TextureBank(bank.images.clone(), "copy")
    for size_hw in ((32, 48), (16, 20)):
        resized = copy.at(size_hw, CPU)
        counts = resized.histograms
        assert counts.shape == (12, 3, 256)
        expected = np.bincount(resized.images[5, ..., 1].flatten().numpy(), minlength=256)
        np.testing.assert_array_equal(counts[5, 1], expected)


# --- textures ------------------------------------------------------------------------------------------------


def test_procedural_textures_differ_and_repeat_by_seed() -> None:
    bank, repeated = TextureBank.procedural((16, 16), n=12), TextureBank.procedural((16, 16), n=12)
    assert torch.equal(bank.images, repeated.images)
    assert not torch.equal(bank.images, TextureBank.procedural((16, 16), n=12, seed=1).images)
    assert len({image.numpy().tobytes() for image in bank.images}) == 12
    assert (bank.images.float().std((1, 2)).amax(1) > 3).all()  # none is blank


def test_textures_from_a_folder(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "ä b").mkdir()
    for number in range(3):
        Image.new("RGB", (20, 30), (80 * number, 10, 10)).save(tmp_path / "ä b" / f"{number}.png")
    bank = TextureBank.from_folder(tmp_path, (8, 12))
    assert bank.images.shape == (3, 8, 12, 3)
    assert bank.at((4, 6), CPU).images.shape == (3, 4, 6, 3)  # resized when asked for another size
    assert bank.images.shape == (3, 8, 12, 3)  # the original size stays: no texture is resized twice
    (tmp_path / "empty").mkdir()
    with pytest.raises(BlemishError, match="no texture image"):
        TextureBank.from_folder(tmp_path / "empty", (8, 8))


# --- the simulator -------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from(["perlin", "rectangles"]),
    source=st.sampled_from(["textures", "colours"]),
    augmented=st.booleans(),
    probability=st.sampled_from([0.5, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_changed_exactly_where_the_mask_says(seed, shape, source, augmented, probability) -> None:  # type: ignore[no-untyped-def]
    bank = TextureBank.procedural((32, 48), n=6)
    images = torch.rand(6, 3, 32, 48, generator=seeded(seed))
    before = images.clone()
    chosen = AnomalySettings(probability=probability, shape=shape, source=source, augment_textures=augmented)
    spoiled = spoil(images, bank, seeded(seed), chosen)
    assert torch.equal(images, before), "the good images must stay as they are"
    moved = (spoiled.images - images).abs().amax(1, keepdim=True)
    near = (moved - HALF_LEVEL).abs() < 1e-6  # by rounding, these may be on either side
    assert torch.equal((moved >= HALF_LEVEL) | near, (spoiled.masks > 0) | near)
    assert bool(((spoiled.masks == 0) | (spoiled.masks == 1)).all())
    assert spoiled.images.min() >= 0
    assert spoiled.images.max() <= 1


def test_no_mask_is_claimed_where_nothing_changed() -> None:
    grey = torch.full((4, 3, 16, 16), 128 / 255)
    bank = TextureBank(torch.full((2, 16, 16, 3), 128, dtype=torch.uint8), "grey")
    settings_ = AnomalySettings(probability=1.0, augment_textures=False)
    assert spoil(grey, bank, seeded(), settings_).masks.sum() == 0


def test_working_everywhere_gives_the_same_as_where_the_mask_is(
    bank: TextureBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.rand(6, 3, 32, 48)
    sparse = spoil(images, bank, seeded(3), AnomalySettings(probability=1.0))
    function = "blemish.synthesis.photometric.indices_to_process"
    monkeypatch.setattr(function, lambda flags: torch.arange(len(flags)))  # as on a GPU
    dense = spoil(images, bank, seeded(3), AnomalySettings(probability=1.0))
    torch.testing.assert_close(dense.images, sparse.images)
    assert torch.equal(dense.masks, sparse.masks)


def test_half_of_the_samples_stay_clean(bank: TextureBank) -> None:
    images = torch.rand(400, 3, 32, 48)
    masks = spoil(images, bank, seeded(), AnomalySettings(shape="rectangles", source="colours")).masks
    assert 150 < (masks.flatten(1).sum(1) > 0).sum() < 250
    clean = spoil(images, bank, seeded(), AnomalySettings(probability=0.0))
    assert torch.equal(clean.images, images)
    assert clean.masks.sum() == 0


def test_opacity_is_drawn_from_its_range() -> None:
    black = torch.zeros(200, 3, 8, 8)
    white = TextureBank(torch.full((1, 8, 8, 3), 255, dtype=torch.uint8), "white")
    settings_ = AnomalySettings(probability=1.0, shape="rectangles", augment_textures=False, min_opacity=0.2)
    opacity = spoil(black, white, seeded(), settings_).images.amax((1, 2, 3))
    assert 0.2 <= opacity.min() < 0.25
    assert 0.95 < opacity.max() <= 1.0


def test_damage_is_the_same_under_autocast(bank: TextureBank) -> None:
    images = torch.rand(4, 3, 32, 48)
    plain = spoil(images, bank, seeded(1), AnomalySettings(probability=1.0))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = spoil(images, bank, seeded(1), AnomalySettings(probability=1.0))
    assert torch.equal(plain.images, mixed.images)


def test_same_seed_same_damage(bank: TextureBank) -> None:
    images = torch.rand(8, 3, 32, 48)
    spoiled, repeated = (spoil(images, bank, seeded(7), AnomalySettings()) for _ in range(2))
    assert torch.equal(spoiled.images, repeated.images)
    assert not torch.equal(spoiled.images, spoil(images, bank, seeded(8), AnomalySettings()).images)
