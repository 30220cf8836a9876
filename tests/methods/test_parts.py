"""Parts of trained methods: ablations that need no training of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from test_dsr import TINY as TINY_DSR
from test_dsr import dsr

from blemish.errors import BlemishError
from blemish.losses import msgms_map, ssim_map
from blemish.methods.draem import DRAEM, DRAEMSettings

TINY = DRAEMSettings(
    image_size_px=32, reconstructive_widths=(4, 8), discriminative_widths=(4, 8), architecture="reconstruction-ssim"
)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_draems_reconstruction_is_compared_by_either_similarity(images: torch.Tensor) -> None:
    method = DRAEM(TINY).eval()
    part = method.part("reconstruction-msgms").eval()
    repaired = method.reconstructive(images)
    torch.testing.assert_close(method(images)[0], 1 - ssim_map(repaired, images).mean(1, keepdim=True))
    torch.testing.assert_close(part(images)[0], (1 - msgms_map(repaired, images)).clamp_min(0))
    again = part.part("reconstruction-ssim").eval()
    assert torch.equal(again(images)[0], method(images)[0])


def test_dsr_without_upsampling_has_the_same_scores_and_the_map_before_it(images: torch.Tensor) -> None:
    method = dsr(TINY_DSR).eval()
    part = method.part("no-upsampling").eval()
    with torch.no_grad():
        assert torch.equal(part(images)[1], method(images)[1])
        assert not torch.equal(part(images)[0], method(images)[0])
        assert torch.equal(part(images)[0], method._detect(*method._reconstruct(images)))
    assert part.settings == replace(method.settings, upsampling="none")


@pytest.mark.parametrize("name", ["", "filter", "no-upsampling", "reconstruction-msgms"])
def test_what_a_method_does_not_have_is_refused(name: str) -> None:
    with pytest.raises(BlemishError, match="draem with these settings has no part"):
        DRAEM(replace(TINY, architecture="full")).part(name)
    with pytest.raises(BlemishError, match="dsr with these settings has no part"):
        dsr(replace(TINY_DSR, upsampling="none")).part(name)
