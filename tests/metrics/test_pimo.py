"""AUPIMO compared with a loop, and with areas computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import ANY_FLOAT, TIED, large_example, maps_and_masks, naive_aupimo

from blemish.errors import BlemishError
from blemish.metrics import aupimo, aupimo_per_image


@settings(deadline=None)
@given(maps_and_masks(TIED | ANY_FLOAT), st.sampled_from([(0.1, 0.2), (0.25, 1.0), (0.5, 0.6)]))
def test_aupimo_agrees_with_the_definition(pair: tuple[np.ndarray, np.ndarray], bounds: tuple[float, float]) -> None:
    maps, masks = pair
    good = np.zeros((1, *maps.shape[1:]), dtype=maps.dtype)  # add a good image, in which zeros are tied
    maps = np.concatenate([maps, good, np.roll(maps[:1], 1, axis=2)])
    masks = np.concatenate([masks, np.zeros((2, *maps.shape[1:]), dtype=bool)])
    areas = aupimo_per_image(maps, masks, bounds)
    n_pixels = (~masks.any(axis=(1, 2))).sum() * masks[0].size
    if n_pixels < 1 / bounds[0]:
        assert np.isnan(areas).all()
    else:
        expected = naive_aupimo(maps, masks, bounds)
        np.testing.assert_allclose(areas, expected, rtol=0, atol=1e-9)
        assert aupimo(maps, masks, bounds) == pytest.approx(np.nanmean(expected), abs=1e-9)


def ten_good_pixels() -> tuple[np.ndarray, np.ndarray]:
    """A good image with the scores 1 to 10, and one with a defect of a single pixel."""
    maps = np.stack([np.arange(1.0, 11.0), np.zeros(10)])[:, None]
    masks = np.zeros(maps.shape, dtype=bool)
    masks[1, 0, 0] = True
    return maps, masks


@pytest.mark.parametrize("n_above", [0, 1, 2, 5, 10])
def test_a_defect_below_k_good_pixels_has_the_logarithm_of_what_is_left(n_above: int) -> None:
    maps, masks = ten_good_pixels()
    maps[1, 0, 0] = 10.5 - n_above
    expected = 1 - math.log10(max(n_above, 1))
    assert aupimo(maps, masks, (0.1, 1.0)) == pytest.approx(expected, abs=1e-12)


def test_constant_maps_find_as_much_as_they_mark() -> None:
    maps, masks = ten_good_pixels()
    # overlap(z) = z, and the integral of z d(log z) is the range of z
    assert aupimo(maps * 0, masks, (0.1, 0.5)) == pytest.approx(0.4 / math.log(5))


def test_only_good_images_count_as_false_positives() -> None:
    maps, masks = large_example()
    expected = aupimo(maps, masks)
    assert 0 < expected < 1
    around = masks.any(axis=(1, 2))[:, None, None] & ~masks
    assert aupimo(np.where(around, 1.0, maps), masks) == expected


def test_images_count_alike_whatever_their_masks_area() -> None:
    maps, masks = ten_good_pixels()
    maps, masks = np.concatenate([maps, maps[1:]]), np.concatenate([masks, masks[1:]])
    masks[2] = True
    maps[1, 0, 0] = 11.0  # one image is completely marked, the other not at all
    np.testing.assert_array_equal(aupimo_per_image(maps, masks, (0.1, 1.0)), [np.nan, 1.0, 0.0])
    assert aupimo(maps, masks, (0.1, 1.0)) == 0.5


def test_a_defective_image_without_a_mask_is_neither() -> None:
    maps, masks = ten_good_pixels()
    maps[1, 0, 0] = 10.5
    maps, masks = np.concatenate([maps, maps[:1] + 100]), np.concatenate([masks, masks[:1]])
    assert aupimo(maps, masks, (0.1, 1.0)) < 1
    np.testing.assert_array_equal(
        aupimo_per_image(maps, masks, (0.1, 1.0), is_defective=[False, True, True]), [np.nan, 1.0, np.nan]
    )


def test_without_good_images_or_pixels_enough_it_is_nan() -> None:
    maps, masks = ten_good_pixels()
    assert not math.isnan(aupimo(maps, masks, (0.1, 1.0)))
    assert math.isnan(aupimo(maps, masks, (0.09, 1.0)))  # one pixel in ten exceeds the lower bound
    assert math.isnan(aupimo(maps[1:], masks[1:], (0.1, 1.0)))
    assert math.isnan(aupimo(maps[:1], masks[:1], (0.1, 1.0)))


@pytest.mark.parametrize("bounds", [(0.0, 0.1), (0.2, 0.1), (0.1, 1.1), (math.nan, 0.1)])
def test_bounds_out_of_range_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(BlemishError, match="fpr_bounds"):
        aupimo(*ten_good_pixels(), bounds)
