"""The constants of DRÆM's text, where the authors' code differs; and how many textures are used (figure 9)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from images import seeded, textured

from blemish.errors import BlemishError
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.methods.dsr import DSR, DSRSettings
from blemish.synthesis import photometric
from blemish.synthesis.pasted_textures import PAPER_AUGMENTATIONS, AnomalySettings, spoil
from blemish.synthesis.perlin import perlin_masks
from blemish.synthesis.textures import TextureBank

CPU = torch.device("cpu")


def greys(n: int) -> TextureBank:
    """Plain textures: number k has the grey value 10 k."""
    images = (10 * torch.arange(n, dtype=torch.uint8)).view(n, 1, 1, 1).expand(n, 16, 16, 3).contiguous()
    return TextureBank(images, f"{n} greys")


def test_the_recipe_holds_the_constants_of_the_text() -> None:
    text, paper = DRAEM.recipes["paper-text"], DRAEM.recipes["paper"]
    assert isinstance(text, DRAEMSettings)
    assert isinstance(paper, DRAEMSettings)
    assert text.anomalies.min_opacity == 0.1
    assert len(text.anomalies.augmentations) == 7
    assert set(text.anomalies.augmentations) < set(paper.anomalies.augmentations)
    (stage,) = DRAEM(replace(text, reconstructive_widths=(4, 4), discriminative_widths=(4, 4))).stages()
    assert stage.epochs == 700
    rates = [stage.schedule((epoch + 0.5) / 700) for epoch in (0, 399, 400, 599, 600, 699)]
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.1, 0.01, 0.01])
    assert (text.rotation_probability, text.max_rotation_deg) == (1.0, 45.0)
    differing = {name for name in vars(text) if getattr(text, name) != getattr(paper, name)}
    assert differing == {"anomalies", "rotation_probability", "max_rotation_deg", "milestones", "step_factor"}


def test_dsrs_recipe_does_so_too() -> None:
    text, paper = DSR.recipes["paper-text"], DSR.recipes["paper"]
    assert isinstance(text, DSRSettings)
    assert isinstance(paper, DSRSettings)
    assert (paper.latent.ranking, paper.latent.min_reach, paper.upsampling) == ("features", 0.2, "reconstructions")
    assert (text.latent.ranking, text.latent.min_reach, text.upsampling) == ("codes", 0.05, "image")


def test_a_random_threshold_makes_masks_of_other_sizes() -> None:
    fixed, drawn = (
        perlin_masks(200, (32, 32), seeded(), CPU, thresholds=thresholds).flatten(1).float().mean(1)
        for thresholds in ((0.5, 0.5), (0.0, 1.0))
    )
    assert drawn.max() > 0.4 > fixed.max()
    assert drawn.mean() > 1.5 * fixed.mean()


def test_a_fixed_threshold_draws_no_number() -> None:
    """So that the same seed gives the same damage as before there was a choice."""
    generator, other = seeded(), seeded()
    perlin_masks(3, (16, 16), generator, CPU)
    perlin_masks(3, (16, 16), other, CPU, thresholds=(0.2, 0.2))
    assert torch.equal(generator.get_state(), other.get_state())


def test_only_the_augmentations_of_the_text_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.Tensor] = []
    original = photometric.draw_chosen

    def remember(
        bank: TextureBank, texture: torch.Tensor, indices: torch.Tensor, generator: torch.Generator
    ) -> object:
        chosen.append(indices)
        return original(bank, texture, indices, generator)

    monkeypatch.setattr(photometric, "draw_chosen", remember)
    settings = AnomalySettings(probability=1.0, augmentations=PAPER_AUGMENTATIONS)
    for seed in range(10):
        spoil(textured(8, (16, 16)), TextureBank.procedural((16, 16), n=6), seeded(seed), settings)
    indices = torch.cat(chosen)
    names = {photometric.AUGMENTATIONS[index] for index in indices.flatten().tolist()}
    assert names == {*PAPER_AUGMENTATIONS}
    assert all(len({*row}) == 3 for row in indices.tolist())


def test_only_some_of_the_textures_are_used() -> None:
    bank, settings = (
        greys(20),
        AnomalySettings(probability=1.0, augment_textures=False, min_opacity=1.0, n_textures=4),
    )
    images = torch.zeros(60, 3, 16, 16)
    spoiled = spoil(images, bank, seeded(), settings)
    values = set((spoiled.images * 255).round().unique().tolist()) - {0.0}
    assert values == {50.0, 100.0, 150.0}  # numbers 0, 5, 10 and 15; the black one shows nothing
    with pytest.raises(BlemishError, match="n_textures: 21, but there are 20 textures"):
        spoil(images, bank, seeded(), replace(settings, n_textures=21))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"augmentations": ("gamma", "blur", "invert")}, "augmentations: unknown blur"),
        ({"augmentations": ("gamma", "invert")}, "augmentations: fewer than 3"),
        ({"min_threshold": 0.6}, "min_threshold, max_threshold: 0.6, 0.5"),
        ({"n_textures": -1}, "n_textures"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(BlemishError, match=message):
        AnomalySettings(**values)  # type: ignore[arg-type]
