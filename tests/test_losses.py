"""Values and gradients of the losses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from blemish.losses import focal_loss, l2_loss, msgms_map, ssim_loss, ssim_map


def naive_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM of two (H, W) arrays by SciPy's Gaussian filter (radius 5 is the 11x11 window), zero padding."""

    def blur(x: np.ndarray) -> np.ndarray:
        rows = gaussian_filter1d(x, 1.5, axis=0, mode="constant", radius=5)
        return gaussian_filter1d(rows, 1.5, axis=1, mode="constant", radius=5)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, cov = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    return top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))


def test_ssim_is_the_published_formula() -> None:
    a, b = np.random.default_rng(0).random((2, 20, 31))
    ours = ssim_map(torch.tensor(a)[None, None], torch.tensor(b)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(ours, naive_ssim(a, b), atol=1e-4)


def test_ssim_keeps_channels_and_images_apart() -> None:
    a, b = torch.rand(2, 2, 3, 16, 16)
    whole = ssim_map(a, b)
    torch.testing.assert_close(whole[1:, 2:], ssim_map(a[1:, 2:], b[1:, 2:]))


def test_ssim_loss_is_zero_for_equal_images_and_large_for_inverted_ones() -> None:
    image = torch.rand(1, 3, 24, 24)
    assert ssim_loss(image, image).item() == pytest.approx(0.0, abs=1e-5)
    assert ssim_loss(1 - image, image) > 1.0


def test_ssim_in_float32_under_autocast() -> None:
    a, b = torch.rand(2, 1, 3, 24, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = ssim_loss(a.bfloat16(), b)
    torch.testing.assert_close(value, ssim_loss(a.bfloat16().float(), b))


def test_ssim_is_learned_from_after_an_inspection_and_after_an_export() -> None:
    class Similarity(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return ssim_map(a, b)

    for size_px, first in ((21, "inspection"), (22, "export")):  # sizes that no other test blurs
        a, b = torch.rand(2, 1, 3, size_px, size_px)
        if first == "inspection":
            with torch.inference_mode():
                before = ssim_map(a, b)
        else:
            program = torch.export.export(Similarity(), (a, b))
            before = program.module()(a, b)
        torch.testing.assert_close(ssim_map(a, b), before)
        a.requires_grad_()
        ssim_loss(a, b).backward()
        assert a.grad is not None
        assert a.grad.abs().max() > 0


def test_l2_is_the_mean_square() -> None:
    assert l2_loss(torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 1.0]])).item() == pytest.approx(2.5)


@pytest.mark.parametrize("mask_value", [0.0, 1.0])
def test_focal_loss_of_an_all_wrong_answer_is_as_large_on_normal_as_on_anomalous_pixels(mask_value: float) -> None:
    mask = torch.full((1, 1, 4, 4), mask_value)
    wrong = focal_loss(1.0 - mask, mask)
    assert wrong.item() == pytest.approx(-((1 - 2e-5) ** 2) * math.log(2e-5), rel=1e-4)
    assert focal_loss(mask, mask).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("mask_value", [0.0, 1.0])
def test_focal_loss_value_in_the_middle(mask_value: float) -> None:
    p = torch.full((1, 1, 2, 2), 0.3)
    true = 0.3 if mask_value else 0.7
    expected = -((1 - true) ** 2) * math.log(true)
    assert focal_loss(p, torch.full_like(p, mask_value)).item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("mask_value", "sign"), [(0.0, 1.0), (1.0, -1.0)])
def test_focal_loss_pulls_each_class_towards_its_answer(mask_value: float, sign: float) -> None:
    p = torch.full((1, 1, 2, 2), 0.4, requires_grad=True)
    focal_loss(p, torch.full((1, 1, 2, 2), mask_value)).backward()
    assert p.grad is not None
    assert bool((p.grad * sign > 0).all())


def test_focal_loss_gradient_is_finite_at_the_ends() -> None:
    p = torch.tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True)
    focal_loss(p.view(1, 1, 2, 2), torch.tensor([0.0, 0.0, 1.0, 1.0]).view(1, 1, 2, 2)).backward()
    assert p.grad is not None
    assert bool(p.grad.isfinite().all())


def test_msgms_sees_an_edge_that_one_image_lacks() -> None:
    a = torch.full((1, 3, 64, 64), 0.5)
    b = a.clone()
    b[..., 24:40, 24:40] = 0.9
    similarity = msgms_map(a, b)
    assert similarity.shape == (1, 1, 64, 64)
    assert similarity[0, 0, 24, 24] < 0.8
    assert similarity[0, 0, 2, 2] > 0.95
    torch.testing.assert_close(msgms_map(b, b), torch.ones(1, 1, 64, 64))
