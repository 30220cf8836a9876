"""SSAE: from differences to heatmaps (eq. 2, 3, 13, 14)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract import drawn

from blemish.losses import ssim_map
from blemish.methods.ssae.heatmaps import (
    choices,
    corrected_map,
    difference_map,
    mean_sides_px,
    smooth_map,
)
from blemish.metrics import auroc

# --- heatmaps (eq. 2, 3, 13, 14) -----------------------------------------------------------------------------


def naive_mean(heatmap: np.ndarray, side_px: int) -> np.ndarray:
    """The mean over the pixels of a square around each pixel that are inside the image, (H, W)."""
    reach, result = side_px // 2, np.zeros_like(heatmap)
    for y, x in np.ndindex(heatmap.shape):
        result[y, x] = heatmap[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].mean()
    return result


@pytest.mark.parametrize("n_means", [0, 1, 3])
@pytest.mark.parametrize("mean_px", [1, 3, 7])
def test_smooth_map_is_a_mean_inside_the_image_again_and_again(n_means: int, mean_px: int) -> None:
    heatmaps = drawn(2, 1, 9, 13)
    expected = heatmaps[:, 0].double().numpy()
    for _ in range(n_means):
        expected = np.stack([naive_mean(heatmap, mean_px) for heatmap in expected])
    np.testing.assert_allclose(smooth_map(heatmaps, n_means, mean_px)[:, 0].numpy(), expected, rtol=1e-5)


def test_difference_map_is_the_channels_mean_of_what_is_compared() -> None:
    image, repair = drawn(2, 3, 12, 15), drawn(2, 3, 12, 15, seed=1)
    squared = ((image - repair).double().numpy() ** 2).mean(1, keepdims=True)
    np.testing.assert_allclose(difference_map(image, repair, "squared").numpy(), squared, rtol=1e-5)
    unlike = (1 - ssim_map(image, repair)).mean(1, keepdim=True)
    torch.testing.assert_close(difference_map(image, repair, "ssim"), unlike)
    assert difference_map(image, image, "squared").abs().max() == 0.0
    assert difference_map(image, image, "ssim").abs().max() < 1e-5
    assert difference_map(image, image, "ssim").min() >= 0.0


@pytest.mark.parametrize("exponent", [0, 1, 3])
def test_corrected_map_is_eq_14(exponent: int) -> None:
    heatmap, average = drawn(2, 1, 3, 4), drawn(1, 1, 3, 4, seed=1)
    average[0, 0, 0, 0] = 1.7  # 1 - SSIM can be up to 2: the heatmap is 0 there, and not negative
    expected = heatmap.double().numpy() * np.clip(1 - average.double().numpy(), 0, None) ** exponent
    np.testing.assert_allclose(corrected_map(heatmap, average, exponent).numpy(), expected, rtol=1e-5, atol=1e-12)


def test_choices_evaluate_each_image_with_the_average_of_the_rest() -> None:
    n, copies, size = 3, 2, (6, 7)
    good = [drawn(n, 1, *size, seed=seed) for seed in (0, 1)]
    damaged = [drawn(n * copies, 1, *size, seed=seed) for seed in (2, 3)]
    masks = drawn(n * copies, 1, *size, seed=4) > 0.7
    tried = choices(good, damaged, masks, (1, 2), (3, 5), (0, 2))
    assert len(tried) == 8
    for choice in tried:
        network_maps = []
        for good_maps, damaged_maps in zip(good, damaged, strict=True):  # of each network
            smooth_good = [
                naive_many(heatmap[0], choice.n_means, choice.mean_px) for heatmap in good_maps.double().numpy()
            ]
            maps = []
            for number, heatmap in enumerate(damaged_maps.double().numpy()):
                rest = [heatmap for index, heatmap in enumerate(smooth_good) if index != number // copies]
                smooth = naive_many(heatmap[0], choice.n_means, choice.mean_px)
                maps.append(smooth * (1 - np.mean(rest, 0)) ** choice.correction)
            network_maps.append(np.stack(maps))
        expected = auroc(np.maximum(*network_maps).ravel(), masks.numpy().ravel())
        assert choice.pixel_auroc == pytest.approx(expected, rel=1e-4)
    assert len({choice.pixel_auroc for choice in tried}) == 8


def naive_many(heatmap: np.ndarray, n_means: int, mean_px: int) -> np.ndarray:
    for _ in range(n_means):
        heatmap = naive_mean(heatmap, mean_px)
    return heatmap


def test_sides_of_means_are_odd_and_follow_the_image() -> None:
    assert mean_sides_px(128) == (3, 5, 7, 9, 11, 15)
    assert mean_sides_px(512) == (11, 17, 23, 33, 43, 57)
    assert mean_sides_px(32) == (3, 5)
