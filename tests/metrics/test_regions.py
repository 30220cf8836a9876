"""AUPRO compared with a loop that follows the definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import ANY_FLOAT, TIED, maps_and_masks, naive_aupro

from blemish.errors import BlemishError
from blemish.metrics import aupro


@settings(deadline=None)
@given(maps_and_masks(TIED | ANY_FLOAT), st.sampled_from([0.05, 0.1, 0.3, 0.5, 1.0]))
def test_aupro_agrees_with_the_definition(pair: tuple[np.ndarray, np.ndarray], max_fpr: float) -> None:
    maps, masks = pair
    assert aupro(maps, masks, max_fpr) == pytest.approx(naive_aupro(maps, masks, max_fpr), abs=1e-9)


def test_constant_maps_give_the_diagonal() -> None:
    masks = np.zeros((2, 4, 4), dtype=bool)
    masks[0, 0, :2] = True
    assert aupro(np.full(masks.shape, 7.0), masks, 0.3) == pytest.approx(0.15)


def test_aupro_weighs_small_and_large_regions_alike_up_to_the_border() -> None:
    masks = np.zeros((1, 6, 8), dtype=bool)
    masks[0, :4, :4] = True  # touches two borders
    masks[0, 5, 7] = True  # a corner
    maps = np.where(masks, 0.0, -1.0)
    assert aupro(maps, masks) == pytest.approx(1.0)
    maps[0, 5, 7] = -2.0  # the single pixel is missed: half of the regions, not 1/17 of the pixels
    assert aupro(maps, masks) == pytest.approx(0.5)


def test_aupro_joins_regions_that_touch_at_a_corner() -> None:
    masks = np.zeros((1, 4, 6), dtype=bool)
    masks[0, 0, 0:3] = masks[0, 1, 3] = True  # one region of 4 pixels; 4-connected it would be 3 and 1
    maps = np.zeros(masks.shape)
    maps[0, 0, 0:3] = 1.0
    maps[0, 1, 3] = -1.0
    assert aupro(maps, masks) == pytest.approx(0.75)


def test_aupro_does_not_join_regions_of_neighbouring_images() -> None:
    masks = np.ones((2, 1, 3), dtype=bool)
    masks[:, :, 2] = False
    masks[1, :, 1] = False
    maps = np.where(masks, 1.0, 0.0)
    maps[1, 0, 0] = -1.0
    assert aupro(maps, masks, 1.0) == pytest.approx(0.5)


@pytest.mark.parametrize("label", [False, True])
def test_a_class_missing_is_nan(label: bool) -> None:
    assert math.isnan(aupro(np.arange(8.0).reshape(2, 2, 2), np.full((2, 2, 2), label)))


def test_mistakes_are_reported() -> None:
    maps, masks = np.zeros((1, 2, 2)), np.eye(2, dtype=bool)[None]
    for max_fpr in (0.0, -0.1, 1.5, math.nan):
        with pytest.raises(BlemishError, match="max_fpr"):
            aupro(maps, masks, max_fpr)
    with pytest.raises(BlemishError, match=r"\(2, 2\) and masks \(2, 2\)"):
        aupro(maps[0], masks[0])
    with pytest.raises(BlemishError, match="anomaly maps contain NaN"):
        aupro(maps * math.nan, masks)
