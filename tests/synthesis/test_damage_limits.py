"""How large SSAE's modified areas may be: theorem 2, half the width, or no limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from images import seeded, textured

from blemish.errors import BlemishError
from blemish.methods.ssae import SSAESettings
from blemish.synthesis.modified_patches import KINDS, CorruptionSettings, corrupt, largest_share
from blemish.synthesis.textures import TextureBank


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return TextureBank.procedural((24, 32), n=6)


@pytest.mark.parametrize("look", ["noise", "coloured", "low contrast"])
def test_the_changed_area_is_limited(bank: TextureBank, look: str) -> None:
    images = textured(6, (32, 32), 3)
    if look == "coloured":  # only 0 and 1: the largest possible variance
        images = (images > 0.5).float()
    if look == "low contrast":
        images = 0.5 + 0.05 * images
    corruption = CorruptionSettings(kinds=KINDS, min_side=0.5, max_side=1.0, limit="theorem")
    levels = (images * 255).byte().numpy().astype(np.float64)
    low, high = (np.quantile(levels, quantile, method="inverted_cdf") for quantile in (0.01, 0.99))
    deviation = levels.clip(low, high).std() / (high - low)
    for seed in range(8):
        changed, _ = corrupt(images, bank, seeded(seed), corruption, largest_share((images * 255).byte()))
        for after, before in zip(changed, images, strict=True):
            n_changed = int((after != before).any(0).sum())
            assert n_changed < 2 * deviation**2 * (32 * 32 - n_changed)


def test_the_limit_of_half_the_width_is_that_of_all_patches_of_an_image_together(bank: TextureBank) -> None:
    images, settings = textured(6, (32, 32), 3), CorruptionSettings(kinds=("occlusion",), min_side=0.9, max_side=1.0)
    for seed in range(4):
        _, masks = corrupt(images, bank, seeded(seed), replace(settings, limit="half-width"))
        assert 0.02 < (masks > 0).flatten(1).float().mean(1).max() <= 0.25


def test_without_a_limit_areas_may_be_larger() -> None:
    images, corruption = textured(8, (32, 32)), CorruptionSettings(kinds=("cut-out",), min_side=0.9, max_side=1.0)
    theorem, half_width, none = (
        float((corrupt(images, None, seeded(), replace(corruption, limit=limit), 0.1).masks > 0).float().mean())
        for limit in ("theorem", "half-width", "none")
    )
    assert none > 0.5
    assert theorem < half_width < 0.5 * none


def test_theorem_2_needs_to_know_the_good_images() -> None:
    with pytest.raises(BlemishError, match="needs largest_share"):
        corrupt(textured(1, (8, 8)), None, seeded(), CorruptionSettings(limit="theorem"))


def test_settings_of_earlier_versions_say_how_damage_is_limited() -> None:
    assert CorruptionSettings.from_dict({"is_limited": True}).limit == "theorem"
    assert CorruptionSettings.from_dict({"is_limited": False, "max_side": 0.3}).limit == "none"
    assert SSAESettings.from_dict({"corruption": {"is_limited": False}}).corruption.limit == "none"


def test_largest_share_is_that_of_theorem_2() -> None:
    images = torch.tensor([50, 50, 50, 150]).byte().repeat(100).view(1, 1, 20, 20)
    sigma_2 = images.numpy().var() / 100**2
    share = largest_share(images)
    assert share == pytest.approx(2 * sigma_2 / (1 + 2 * sigma_2), rel=1e-5)
    assert share == pytest.approx(2 * sigma_2 * (1 - share), rel=1e-5)  # |S| = 2 sigma^2 |S_rest|
    assert largest_share(images // 2 + 20) == pytest.approx(share)


def test_hot_and_dead_pixels_do_not_change_the_share() -> None:
    images = (textured(3, (40, 40)) * 60 + 90).byte()
    images[..., :, :20] = 100
    broken = images.clone()
    broken[0, :, 0, :2], broken[1, :, 3, 3] = 255, 0
    assert largest_share(broken) == pytest.approx(largest_share(images), rel=0.01)
