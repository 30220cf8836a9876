"""SSAE: the network and the objectives of the paper, the settings chosen on good images, and the contract."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import INGREDIENTS, MethodContract, drawn, good_images

from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.learning.calibration import calibrated
from blemish.methods.base import Ingredients, Settings
from blemish.methods.ssae import SSAE, SSAESettings
from blemish.methods.ssae.heatmaps import (
    CORRECTIONS,
    N_MEANS,
    difference_map,
    mean_sides_px,
    smooth_map,
)
from blemish.methods.ssae.networks import Autoencoder, StackedDilatedConvolution
from blemish.synthesis.modified_patches import CorruptionSettings

TINY = SSAESettings(
    image_size_px=32,
    batch_size=4,
    widths=(6, 8),
    filters_per_dilation=3,
    dilations=(1, 2),
    n_stacks=2,
    corruption=CorruptionSettings(kinds=("elastic", "cut-out", "swap", "occlusion")),
    iterations=24,
    learning_rate=1e-3,
    ema_decay=0.9,
    validate_every=10,
    mean_px=3,
)
PLAIN = replace(TINY, corruption=CorruptionSettings())


class TestContract(MethodContract):
    tiny = TINY

    def make(self, settings: Settings) -> SSAE:
        assert isinstance(settings, SSAESettings)
        return SSAE(settings)


class TestContractOfTheEnsembleWithSSIM(TestContract):
    """Settings that TINY does not cover: both networks, validation in the loop, 1 - SSIM, eq. 14, theorem 2."""

    tiny = replace(
        TINY, objective="ensemble", difference="ssim", correction=1, patch_px=2, image_score="max", iterations=25,
        corruption=replace(TINY.corruption, limit="theorem"),
    )  # fmt: skip


class TestContractWithASegmentationLoss(TestContract):
    """Section 4.4: the output of the network is the heatmap."""

    tiny = replace(TINY, objective="segment")


# --- the network (table 1) -----------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [3, 5])
def test_the_paper_network_is_that_of_table_1(f: int) -> None:
    def conv(n_in: int, n_out: int, side: int = 3) -> int:
        return n_in * n_out * side**2 + n_out

    def with_norm(n_in: int, n_out: int) -> int:
        return conv(n_in, n_out) + 2 * n_out

    encoder = sum(itertools.starmap(with_norm, [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]))
    stacks = sum(6 * conv(n_in, 64, f) + with_norm(384, 384) for n_in in (256, 384, 384, 384))
    decoder = sum(itertools.starmap(with_norm, [
        (384, 256), (256, 256), (256, 256),
        (256, 128), (128, 128), (128, 128),
        (128, 64), (64, 64), (64, 64),
    ]))  # fmt: skip
    paper = SSAE.recipes["paper"]
    assert isinstance(paper, SSAESettings)
    with torch.device("meta"):
        network = Autoencoder(replace(paper, kernel=f))
        sizes = []
        for block in (*network.encoder, *network.middle, *network.decoder, network.head):
            block.register_forward_hook(lambda _module, _inputs, output: sizes.append(tuple(output.shape[1:])))
        network(torch.empty(1, 3, 512, 512))
    assert sum(parameter.numel() for parameter in network.parameters()) == encoder + stacks + decoder + conv(64, 3, 1)
    assert sizes == [
        (64, 512, 512), (64, 256, 256), (128, 256, 256), (128, 128, 128), (256, 128, 128), (256, 64, 64),
        *[(384, 64, 64)] * 4,
        (256, 128, 128), (256, 128, 128), (128, 256, 256), (128, 256, 256), (64, 512, 512), (64, 512, 512),
        (3, 512, 512),
    ]  # fmt: skip
    dilations = [branch.dilation for stack in network.middle for branch in stack.branches]  # type: ignore[union-attr]
    assert dilations == [(d, d) for d in (1, 2, 4, 8, 16, 32)] * 4


@pytest.mark.parametrize("patch_px", [1, 2])
def test_the_network_gives_back_images_of_the_same_size_in_0_to_1(patch_px: int) -> None:
    network = Autoencoder(replace(TINY, patch_px=patch_px)).eval()
    repaired = network(drawn(2, 3, 16, 40))
    assert repaired.shape == (2, 3, 16, 40)
    assert repaired.min() > 0.0
    assert repaired.max() < 1.0
    assert repaired.std() > 0.0


@pytest.mark.parametrize(("kernel", "dilations"), [(3, (1, 2, 4, 8, 16, 32)), (5, (1, 2, 4)), (3, (1,))])
def test_an_output_of_a_stack_depends_on_as_many_inputs_as_it_says(kernel: int, dilations: tuple[int, ...]) -> None:
    stack = StackedDilatedConvolution(1, 1, kernel, dilations).eval()
    for parameter in stack.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    x = torch.ones(1, 1, 75, 75, requires_grad=True)
    stack(x)[0, 0, 37, 37].backward()
    assert x.grad is not None
    rows, columns = x.grad[0, 0].nonzero(as_tuple=True)
    for positions in (rows, columns):
        assert int(positions.max() - positions.min()) + 1 == stack.receptive_field
        assert int(positions.max() + positions.min()) == 2 * 37


# --- the method ----------------------------------------------------------------------------------------------


class Remembers(torch.nn.Module):
    """A stand-in for a network: returns the good image it knows for any input."""

    multiple_px = 1

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.image = torch.nn.Parameter(image)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.image.expand_as(images)


class Copies(Remembers):
    """A stand-in for a network that repairs nothing."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + 0.01 * self.image


def with_network(settings: SSAESettings, *networks: torch.nn.Module) -> SSAE:
    method = SSAE(settings)
    names = {"filter": ["filter"], "amplify": ["amplifier"], "ensemble": ["filter", "amplifier"]}[settings.objective]
    for name, network in zip(names, networks, strict=True):
        setattr(method, name, network)
    return method.eval()


@pytest.mark.parametrize("image_score", ["sum", "max"])
@pytest.mark.parametrize("difference", ["squared", "ssim"])
def test_the_heatmap_is_smoothed_corrected_and_scored_as_set(difference: Any, image_score: Any) -> None:
    known, images = drawn(1, 3, 32, 32), drawn(2, 3, 32, 32, seed=1)
    settings = replace(PLAIN, difference=difference, image_score=image_score, n_means=2, mean_px=5, correction=3)
    method = with_network(settings, Remembers(known))
    method.average_map.copy_(drawn(1, 1, 32, 32, seed=2))
    anomaly_map, score = method(images)
    smooth = smooth_map(difference_map(images, known.expand_as(images), difference), 2, 5)
    expected = smooth * (1 - method.average_map) ** 3
    torch.testing.assert_close(anomaly_map.detach(), expected)
    torch.testing.assert_close(
        score.detach(), expected.sum((1, 2, 3)) if image_score == "sum" else expected.amax((1, 2, 3))
    )


def test_the_ensemble_takes_the_larger_of_both_networks_at_every_pixel() -> None:
    ensemble = SSAE(replace(PLAIN, objective="ensemble", correction=2, mean_px=5)).eval()
    ensemble.average_map.copy_(drawn(2, 1, 32, 32, seed=2))
    images, alone = drawn(2, 3, 32, 32), []
    for number, objective in enumerate(("filter", "amplify")):
        part = ensemble.part(objective).eval()  # type: ignore[arg-type]
        assert len(part.networks) == 1
        part.average_map.copy_(ensemble.average_map[number : number + 1])
        alone.append(part(images)[0].detach())
    assert bool((alone[0] > alone[1]).any() and (alone[0] < alone[1]).any())
    torch.testing.assert_close(ensemble(images)[0].detach(), torch.maximum(*alone))
    assert set(ensemble.explain(images)) == {"reconstruction", "amplified"}


def test_the_ensemble_trains_its_networks_in_turn() -> None:
    ensemble = SSAE(replace(PLAIN, objective="ensemble"))
    first, second = ensemble.stages()
    assert (first.name, second.name) == ("filter", "amplify")
    assert first.validate_every == 0  # only objective (4) is prone to overfitting
    assert second.validate_every == PLAIN.validate_every
    images = drawn(2, 3, 32, 32)
    for stage, trained, untrained in ((first, "filter", "amplifier"), (second, "amplifier", "filter")):
        expected = {id(parameter) for parameter in getattr(ensemble, trained).parameters()}
        assert {id(parameter) for parameter in stage.parameters} == expected
        ensemble.zero_grad(set_to_none=True)
        losses = ensemble.loss(stage, images, INGREDIENTS, torch.Generator().manual_seed(0))
        assert set(losses) == ({"keep", "repair"} if trained == "filter" else {"keep", "amplify"})
        torch.stack(list(losses.values())).sum().backward()
        assert all(parameter.grad is not None for parameter in getattr(ensemble, trained).parameters())
        assert all(parameter.grad is None for parameter in getattr(ensemble, untrained).parameters())


@pytest.mark.parametrize(("objective", "n_networks"), [("filter", 1), ("amplify", 1), ("ensemble", 2)])
def test_an_objective_has_the_networks_it_trains(objective: Any, n_networks: int) -> None:
    method = SSAE(replace(PLAIN, objective=objective))
    assert len(method.networks) == len(method.stages()) == len(method.average_map) == n_networks


@pytest.mark.parametrize(("patch_px", "multiple_px"), [(1, 4), (2, 8)])
def test_crops_grow_and_suit_the_network(patch_px: int, multiple_px: int) -> None:
    method = SSAE(replace(PLAIN, patch_px=patch_px, image_size_px=104, crops=(0.01, 0.5, 0.75, 1.0)))
    (stage,) = method.stages()
    assert stage.crop_px is not None
    sides = [stage.crop_px(step / 400) for step in range(400)]
    assert all(side % multiple_px == 0 and side > 0 for side in sides)
    assert sides == sorted(sides)
    assert [sides.count(side) for side in sorted(set(sides))] == [100, 100, 100, 100]
    assert sides[-1] == 104, "it ends with whole images"
    assert sorted(set(sides))[1:3] == pytest.approx([52, 78], abs=multiple_px / 2)


def test_textures_are_used_for_occlusion_only() -> None:
    assert SSAE(TINY).uses_textures
    assert not SSAE(PLAIN).uses_textures
    method = SSAE(TINY)
    with pytest.raises(BlemishError, match="needs textures"):
        method.loss(method.stages()[0], drawn(2, 3, 32, 32), Ingredients(), torch.Generator())


def as_bytes(images: torch.Tensor) -> torch.Tensor:
    return (images * 255.0).round().to(torch.uint8)


# --- settings chosen on good images ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stripes() -> torch.Tensor:
    return good_images(1).float().expand(3, -1, -1, -1) / 255.0


def test_validation_is_high_for_a_network_that_repairs_and_low_for_a_copy(stripes: torch.Tensor) -> None:
    settings = replace(PLAIN, objective="amplify", n_means=1, corruption=CorruptionSettings(max_side=0.3))
    repairing, copying = (with_network(settings, kind(stripes[:1])) for kind in (Remembers, Copies))
    (stage,) = repairing.stages()
    value = repairing.validate(stage, stripes)
    assert value > 0.9
    assert copying.validate(stage, stripes) < 0.6
    assert repairing.validate(stage, stripes) == value  # the same damage at each call


@pytest.mark.parametrize(("is_aligned", "exponents"), [(True, CORRECTIONS["squared"]), (False, (0,))])
def test_all_combinations_are_tried_and_the_best_is_taken(is_aligned: bool, exponents: tuple[int, ...]) -> None:
    method = SSAE(
        replace(PLAIN, image_size_px=64, is_aligned=is_aligned, corruption=CorruptionSettings(max_side=0.3))
    )
    pictures = as_bytes(drawn(3, 3, 64, 64))
    images = pictures / 255.0
    tried = method.choices(images)
    assert [(choice.n_means, choice.mean_px, choice.correction) for choice in tried] == list(
        itertools.product(N_MEANS, mean_sides_px(64), exponents)
    )
    chosen = method.finish(pictures, pictures)
    best_auroc = max(choice.pixel_auroc for choice in tried)
    assert chosen.value == best_auroc
    (best,) = (choice for choice in tried if choice.pixel_auroc == best_auroc)
    assert chosen.settings == {"n_means": best.n_means, "mean_px": best.mean_px, "correction": best.correction}
    assert replace(method.settings, **chosen.settings) == method.settings
    again = SSAE(replace(method.settings, is_chosen=False)).choices(images)
    assert [choice.pixel_auroc for choice in again] == [best_auroc]


def test_the_average_map_is_the_mean_of_the_validation_maps() -> None:
    method = SSAE(replace(PLAIN, objective="ensemble"))
    pictures = as_bytes(drawn(9, 3, 32, 32))  # more than a batch of 8
    images = pictures / 255.0
    method.finish(pictures, pictures)
    s = method.settings
    for number, repaired in enumerate(method.explain(images).values()):
        expected = smooth_map(difference_map(images, repaired, s.difference), s.n_means, s.mean_px).mean(0)
        torch.testing.assert_close(method.average_map[number], expected)


def test_settings_are_left_alone_where_nothing_is_to_be_chosen() -> None:
    settings = replace(PLAIN, is_chosen=False, n_means=3, mean_px=7, correction=5)
    method = SSAE(settings)
    pictures = as_bytes(drawn(2, 3, 32, 32))
    chosen = method.finish(pictures, pictures)
    assert chosen.settings == {}
    assert chosen.value is not None
    assert method.settings == settings
    assert method.average_map.any()  # eq. 14 still needs it


def test_a_correction_helps_where_good_images_differ_from_their_repair() -> None:
    blank = torch.full((4, 3, 32, 32), 0.5)
    blank[..., ::2] = 0.6
    known = blank[:1].clone()
    known[:, :, :6] = 0.0  # this network never reproduces the rows at the top
    settings = replace(PLAIN, is_aligned=True, corruption=CorruptionSettings(limit="none", max_side=0.3))
    chosen = with_network(settings, Remembers(known)).finish(as_bytes(blank), as_bytes(blank))
    assert chosen.settings["correction"] > 0


def test_a_detector_keeps_what_was_chosen(tmp_path: Path) -> None:
    settings = replace(PLAIN, objective="ensemble", is_aligned=True, image_size_px=64, mean_px=33)
    method = SSAE(settings)
    pictures = as_bytes(drawn(3, 3, 64, 64))
    chosen = method.finish(pictures, pictures).settings
    assert chosen["mean_px"] != 33
    calibrated(method, good_images(size_px=64), 0.1).save(tmp_path / "x.blemish")
    loaded = Detector.load(tmp_path / "x.blemish").method
    assert isinstance(loaded, SSAE)
    assert {name: getattr(loaded.settings, name) for name in chosen} == chosen
    assert loaded.average_map.any()
    assert torch.equal(loaded.average_map, method.average_map)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kernel": 4}, "kernel, mean_px: 4, 11 should both be odd"),
        ({"mean_px": 2}, "kernel, mean_px: 3, 2 should both be odd"),
        ({"balance": 2.0}, "balance: 2.0 should be in"),
        ({"balance": -0.1}, "balance: -0.1 should be in"),
        ({"crops": ()}, "crops: \\(\\) should be shares"),
        ({"crops": (0.5, 1.5)}, "crops: .* should be shares"),
        ({"crops": (0.0,)}, "crops: .* should be shares"),
        ({"objective": "both"}, "objective: 'both' should be one of filter"),
        ({"difference": "l1"}, "difference: 'l1'"),
        ({"corruption": {"kinds": ["scratch"]}}, "kinds"),
        ({"widht": 3}, "unknown setting widht"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(BlemishError, match=message):
        SSAESettings.from_dict(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size_px": 30}, "image_size_px: 30 should be a multiple of 4"),
        ({"mean_px": -1}, "mean_px: -1 should be at least 1"),
        ({"kernel": -1}, "kernel: -1 should be at least 1"),
        ({"dilations": ()}, "dilations: none"),
        ({"dilations": (0,)}, r"dilations: \(0,\) should be at least 1"),
        ({"patch_px": 0}, "patch_px: 0 should be at least 1"),
        ({"filters_per_dilation": 0}, "filters_per_dilation: 0 should be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate: 0.0 should be above 0, at most 1"),
        ({"learning_rate": float("inf")}, "learning_rate: inf should be above 0"),
        ({"iterations": 0}, "iterations: 0 should be at least 1"),
        ({"n_means": -1}, "n_means: -1 should be at least 0"),
        ({"correction": -1}, "correction: -1 should be at least 0"),
        ({"balance": float("nan")}, r"balance: nan should be in \[0, 1\]"),
        ({"corruption": {"brightness_probability": 7.0}}, "brightness_probability: 7.0 should be in"),
        ({"corruption": {"roughness": float("nan")}}, "roughness: nan should be in"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BlemishError, match=message):
        TINY.replaced(changes)


def test_validation_uses_the_same_damage_for_all_settings() -> None:
    """Trials that are compared by their validation must be validated on the same damage."""
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    small = SSAE(replace(TINY, corruption=CorruptionSettings(max_side=0.1, brightness_probability=1.0)))
    large = SSAE(replace(TINY, corruption=CorruptionSettings(kinds=("cut-out",), max_side=0.9)))
    for ours, theirs in zip(small._damaged(images), large._damaged(images), strict=True):
        assert torch.equal(ours, theirs)
