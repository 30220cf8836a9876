"""The U-Net with a pretrained encoder, and SSAE's network that is made of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from contract import MethodContract

from blemish.backbones import load_backbone
from blemish.errors import BlemishError
from blemish.methods.base import Settings
from blemish.methods.features import FeatureUNet, encoder_parameters, encoders_of, own_parameters
from blemish.methods.ssae import SSAE, SSAESettings
from blemish.methods.ssae.heatmaps import feature_difference_map, joined_map
from blemish.synthesis.modified_patches import CorruptionSettings

TINY = SSAESettings(
    image_size_px=32,
    batch_size=4,
    filters_per_dilation=3,
    dilations=(1, 2),
    n_stacks=2,
    corruption=CorruptionSettings(kinds=("elastic", "cut-out", "swap", "occlusion")),
    learning_rate=1e-3,
    ema_decay=0.9,
    validate_every=10,
    mean_px=3,
)


def test_the_output_has_the_size_of_the_pictures_and_the_channels_asked_for() -> None:
    network = FeatureUNet(5, 2, (4, 6, 8), [torch.nn.Conv2d(6, 3, 1)], 3)
    pictures, images = torch.rand(2, 5, 32, 48), torch.rand(2, 3, 32, 48)
    assert network(pictures, images).shape == (2, 2, 32, 48)


def test_the_output_depends_on_the_pictures_and_on_the_encoded_image() -> None:
    network = FeatureUNet(1, 1, (4, 6, 8)).eval()
    pictures, images = torch.rand(1, 1, 32, 32), torch.rand(1, 3, 32, 32)
    output = network(pictures, images)
    assert not torch.equal(output, network(pictures.flip(2), images))
    assert not torch.equal(output, network(pictures, images.flip(2)))


def test_parameters_are_either_of_an_encoder_or_own() -> None:
    module = torch.nn.ModuleList([FeatureUNet(1, 1, (4, 6, 8)), torch.nn.Linear(2, 2)])
    encoders, own, pretrained = encoders_of(module), own_parameters(module), encoder_parameters(module)
    assert len(encoders) == 1
    assert {*own}.isdisjoint(pretrained)
    assert {*own} | {*pretrained} == {*module.parameters()}
    shipped = load_backbone(n_stages=5).state_dict()
    assert all(torch.equal(tensor, shipped[name]) for name, tensor in encoders[0].state_dict().items())


def test_the_difference_of_features_does_not_depend_on_contrast() -> None:
    """A naive loop over places, and an image that is equal to its repair."""
    encoder, image, repair = load_backbone(n_stages=1), torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8)
    got = feature_difference_map(encoder, image, repair)
    assert got.shape == (1, 1, 8, 8)
    seen, expected = encoder(image)[0], encoder(repair)[0]
    angles = torch.zeros(1, 1, 4, 4)
    for y in range(4):
        for x in range(4):
            a, b = seen[0, :, y, x], expected[0, :, y, x]
            angles[0, 0, y, x] = 1 - (a @ b) / (a.norm() * b.norm())
    enlarged = torch.nn.functional.interpolate(angles, (8, 8), mode="bilinear", align_corners=False)
    torch.testing.assert_close(got, enlarged, atol=1e-5, rtol=1e-4)
    assert feature_difference_map(encoder, image, image).abs().max() < 1e-5


def test_joined_differences_need_both() -> None:
    features, squared = torch.tensor([0.0, 0.4, 0.4, 0.1]), torch.tensor([0.2, 0.0, 0.1, 0.4])
    got = joined_map(features.view(1, 1, 2, 2), squared.view(1, 1, 2, 2))
    torch.testing.assert_close(got.flatten(), torch.tensor([0.0, 0.0, 0.2, 0.2]))


class TestSSAE(MethodContract):
    """Recipe ``small``'s way: changes from frozen features, compared in the first of them."""

    tiny = replace(
        TINY, encoder="imagenet", widths=(4, 6, 8), difference="joined", correction=1, image_score="max",
        iterations=25,
    )  # fmt: skip

    def make(self, settings: Settings) -> SSAE:
        assert isinstance(settings, SSAESettings)
        return SSAE(settings)

    def test_a_new_network_changes_nothing(self) -> None:
        method = self.make(self.tiny).eval()
        images = torch.rand(2, 3, 32, 48)
        torch.testing.assert_close(method.explain(images)["reconstruction"], images)
        assert not method(images)[0].abs().amax() > 1e-5

    def test_the_encoder_is_frozen(self) -> None:
        method = self.make(self.tiny)
        (encoder,) = encoders_of(method)
        trained = {parameter for stage in method.stages() for parameter in stage.parameters}
        assert trained
        assert not trained & {*encoder.parameters()}
        assert len(method.pretrained) == len(encoder.state_dict())

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"widths": (4, 6)}, r"widths: .* should be three"),
            ({"objective": "ensemble"}, "objective: ensemble needs encoder trained"),
            ({"image_size_px": 40}, "multiple of 16"),
        ],
    )
    def test_settings_that_do_not_suit_it_are_refused(self, changes: dict[str, object], message: str) -> None:
        with pytest.raises(BlemishError, match=message):
            replace(self.tiny, **changes)  # type: ignore[arg-type]

    def test_its_difference_needs_it(self) -> None:
        for difference in ("features", "joined"):
            with pytest.raises(BlemishError, match=f"{difference} needs encoder imagenet"):
                replace(TINY, difference=difference)  # type: ignore[arg-type]
