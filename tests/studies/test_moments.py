"""The moments study, compared with naive loops over windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.errors import BlemishError
from blemish.studies.moments import PixelSums, line_moments, window_moments
from blemish.studies.moments_page import moments_page
from blemish.synthesis.modified_patches import largest_share

N, SIDE = 5, 9


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (N, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)).byte()


def sums_of(images: Tensor) -> PixelSums:
    return PixelSums.of(images.split(2), images.shape[-1])  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("window_px", [1, 4, SIDE])
def test_windows_are_those_of_a_naive_loop(images: Tensor, window_px: int) -> None:
    grey = images.numpy().mean(1) / 255.0
    reach = range(SIDE - window_px + 1)
    windows = np.stack([image[y : y + window_px, x : x + window_px] for image in grey for y in reach for x in reach])
    moments = window_moments(sums_of(images), window_px)
    np.testing.assert_allclose(moments.mean, windows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.std, windows.std(0), rtol=1e-9)
    assert moments.n_values == len(windows)
    assert moments.variance == pytest.approx(windows.var(0).mean())
    low, high = (np.quantile(grey, quantile, method="inverted_cdf") for quantile in (0.01, 0.99))
    assert moments.spread == pytest.approx(high - low)


def test_the_line_is_the_middle_row(images: Tensor) -> None:
    grey = images.numpy().mean(1)[:, SIDE // 2] / 255.0
    moments = line_moments(sums_of(images))
    np.testing.assert_allclose(moments.mean, grey.mean(0)[None], rtol=1e-12)
    np.testing.assert_allclose(moments.std, grey.std(0)[None], rtol=1e-9)


def test_equal_pixels_make_a_flat_line_and_a_ramp_does_not() -> None:
    """In images of a single grey, every pixel has the same distribution; a ramp makes it depend on the position."""
    plain = torch.tensor([40, 90, 140]).byte()[:, None, None, None].expand(3, 3, 8, 8)
    flat = window_moments(sums_of(plain), 4)
    assert flat.figures()["spread_of_means"] == pytest.approx(0.0, abs=1e-12)
    assert flat.figures()["sigma2"] == pytest.approx(np.var([40, 90, 140]) / 255**2)
    assert "the line is flat" in moments_page([flat], "parts", 3, 8)
    ramp = line_moments(sums_of(plain + 10 * torch.arange(8).byte()))
    spread = np.std(10.0 * np.arange(8)) / np.std([40, 90, 140])
    assert ramp.figures()["spread_of_means"] == pytest.approx(spread)
    assert "the line is flat" not in moments_page([ramp], "parts", 3, 8)


def test_the_share_is_the_limit_that_training_uses() -> None:
    plain = torch.tensor([40, 90, 140]).byte()[:, None, None, None].expand(3, 3, 8, 8)
    trained_with = largest_share(plain)
    values = window_moments(sums_of(plain), 8).figures()
    assert values["largest_share"] == pytest.approx(trained_with)
    sigma2 = np.var([40, 90, 140]) / 255**2
    assert values["largest_share_of_unit_range"] == pytest.approx(2 * sigma2 / (1 + 2 * sigma2))


def test_equal_images_have_no_spread() -> None:
    moments = line_moments(sums_of(torch.full((3, 3, 6, 6), 77).byte()))
    assert not moments.std.any()
    assert moments.figures()["spread_of_means"] is None
    assert "nothing can be measured" in moments_page([moments], "parts", 3, 6)


def test_a_window_larger_than_the_images_is_refused(images: Tensor) -> None:
    with pytest.raises(BlemishError, match=f"--window 10: .* --size {SIDE}"):
        window_moments(sums_of(images), SIDE + 1)


def test_the_page_draws_every_extreme_and_escapes_names() -> None:
    images = torch.full((2, 3, 64, 64), 128).byte()
    images[1] = 120
    images[:, :, 40, 3] = 255  # one pixel of 4096
    page = moments_page([window_moments(sums_of(images), 64)], "<b>parts", 2, 64)
    assert "<b>parts" not in page
    (line,) = [part.split('"')[0] for part in page.split('<polyline class="first" points="')[1:]]
    heights = {point.split(",")[1] for point in line.split()}
    assert "12.0" in heights, "the white pixel reaches the top of the frame"
