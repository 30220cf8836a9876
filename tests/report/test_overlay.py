"""Pictures of findings: outlines, heatmaps, captions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from blemish.detector import Finding
from blemish.report.overlay import DEFECT_RGB, PASS_RGB, draw_map, draw_outlines, overlay, score_texts

GREY = 127


def photograph(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), GREY, np.uint8)


def square(size_px: int, low: float, high: float) -> NDArray[np.bool_]:
    mask = np.zeros((size_px, size_px), np.bool_)
    mask[int(low * size_px) : int(high * size_px), int(low * size_px) : int(high * size_px)] = True
    return mask


def finding(mask: NDArray[np.bool_], score: float = 0.9, threshold: float = 0.5) -> Finding:
    return Finding(None, score, threshold, score > threshold, mask.astype(np.float32), mask, [])


@pytest.mark.parametrize("size_px", [64, 128, 512, 4000])
def test_outlines_go_around_and_leave_the_blemish_visible(size_px: int) -> None:
    mask = square(size_px, 0.4, 0.6)
    image = photograph(size_px, size_px)
    drawn = (
        np.abs(draw_outlines(image, mask).astype(int) - image).max(axis=2) > 16
    )  # smaller differences are not visible
    assert not (drawn & mask).any()
    reach_px = max(8, size_px // 80)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach_px + 1,) * 2)) > 0
    assert not (drawn & ~near).any()
    row = drawn[size_px // 2]
    line_px = np.flatnonzero(row[: size_px // 2]).size
    assert max(3, size_px / 400) <= line_px <= reach_px  # visible when the picture is shrunk to a screen
    assert np.flatnonzero(row[size_px // 2 :]).size == line_px


def test_outlines_stand_out_on_any_background() -> None:
    mask = square(128, 0.4, 0.6)
    for value in (0, 90, 255):
        image = np.full((128, 128, 3), value, np.uint8)
        difference = np.abs(draw_outlines(image, mask).astype(int) - image).max(axis=2)
        assert difference.max() >= 150


def test_outlines_follow_holes_and_close_at_the_border() -> None:
    mask = square(100, 0.2, 0.8) & ~square(100, 0.4, 0.6)
    image = photograph(100, 100)
    drawn = (draw_outlines(image, mask) != image).any(axis=2)
    assert drawn[50, 40:60].any()  # within the hole
    whole = draw_outlines(image, np.ones((100, 100), np.bool_))
    assert (whole != image).any(axis=2)[[0, -1, 50, 50], [50, 50, 0, -1]].all()


def test_no_mask_draws_nothing_and_the_image_is_never_changed() -> None:
    image = photograph(40, 60)
    np.testing.assert_array_equal(draw_outlines(image, np.zeros((40, 60), np.bool_)), image)
    draw_outlines(image, np.ones((40, 60), np.bool_))
    assert (image == GREY).all()


def colourfulness(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    return picture.max(axis=2).astype(np.int64) - picture.min(axis=2)


def test_the_map_of_a_good_image_is_not_coloured_whatever_its_range() -> None:
    anomaly_map = np.linspace(0, 0.49, 32 * 32, dtype=np.float32).reshape(32, 32)
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert colourfulness(draw_map(image, anomaly_map, 1.0)).max() == 0


def test_the_map_is_coloured_by_the_threshold_alone() -> None:
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[0] = 2.0
    picture = draw_map(photograph(8, 8), anomaly_map, 1.0)
    with_peak = anomaly_map.copy()
    with_peak[7] = 1000.0  # must not change the colours of the other rows
    np.testing.assert_array_equal(draw_map(photograph(8, 8), with_peak, 1.0)[:7], picture[:7])
    np.testing.assert_array_equal(draw_map(photograph(8, 8), 10 * anomaly_map, 10.0), picture)
    assert colourfulness(picture)[0].min() > 60
    assert colourfulness(picture)[1:].max() == 0


def test_the_map_gets_brighter_with_the_value_above_the_threshold() -> None:
    anomaly_map = np.array([[1, 2, 4, 8, 1000]], np.float32).repeat(8, axis=0)
    grey = cv2.cvtColor(draw_map(photograph(8, 5), anomaly_map, 1.0), cv2.COLOR_RGB2GRAY)[0].astype(int)
    assert (np.diff(grey) > 0).all()


def test_a_map_and_threshold_of_zero_have_a_picture() -> None:
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[0] = 1e-3
    picture = draw_map(photograph(8, 8), anomaly_map, 0.0)
    assert colourfulness(picture)[0].min() > 0
    assert colourfulness(picture)[1:].max() == 0


@pytest.mark.parametrize(
    ("size_hw", "factor"), [((128, 128), 4), ((64, 448), 1), ((512, 512), 1), ((40, 2000), 1), ((2000, 40), 1)]
)
def test_the_overlay_is_the_photograph_with_a_caption(size_hw: tuple[int, int], factor: int) -> None:
    height, width = size_hw[0] * factor, size_hw[1] * factor
    picture = overlay(photograph(*size_hw), finding(np.zeros(size_hw, np.bool_), score=0.1))
    assert (picture[:height, :width] == GREY).all()
    caption = picture[height:]
    assert 24 <= len(caption) <= max(32, height // 10)
    assert picture.shape[1] == max(width, 320)
    assert (caption[0] == PASS_RGB).all()
    text = (caption > 200).all(axis=2)
    assert text.any()
    assert not text[:, [0, 1, -2, -1]].any()  # the text is not cut off


def test_the_caption_tells_the_verdict() -> None:
    mask = square(448, 0.4, 0.6)
    good, bad = overlay(photograph(448, 448), finding(mask, 0.5)), overlay(photograph(448, 448), finding(mask, 0.6))
    assert (good[448] == PASS_RGB).all()
    assert (bad[448] == DEFECT_RGB).all()
    # The verdict is in the text, too, for readers who cannot see the colours.
    assert ((good[448:] > 200).all(axis=2) != (bad[448:] > 200).all(axis=2)).any()


def test_a_single_pixel_of_a_small_image_is_outlined() -> None:
    mask = np.zeros((32, 32), np.bool_)
    mask[10, 20] = True
    picture = overlay(photograph(32, 32), finding(mask))
    yellow = (picture[..., 0] > 200) & (picture[..., 2] < 60)
    rows, columns = np.nonzero(yellow[:448])
    assert rows.min() < 10.5 * 14 < rows.max()
    assert columns.min() < 20.5 * 14 < columns.max()
    assert (picture[10 * 14 + 7, 20 * 14 + 7] == GREY).all()


@pytest.mark.parametrize(("size_px", "factor"), [(32, 14), (448, 1), (4000, 1)])
@pytest.mark.parametrize("grey", [0, 128, 255])
def test_the_border_of_the_region_is_thin_and_visible_on_any_background(size_px: int, factor: int, grey: int) -> None:
    image, region = np.full((size_px, size_px, 3), grey, np.uint8), square(size_px, 0.25, 0.75)
    nothing = finding(np.zeros((size_px, size_px), np.bool_), score=0.1)
    without = overlay(image, nothing)
    drawn = (overlay(image, nothing, region) != without).any(axis=2)
    size_px *= factor
    reach_px = 2 * max(1, size_px // 400) + factor
    border = cv2.morphologyEx(square(size_px, 0.25, 0.75).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3)))
    near = cv2.dilate(border, np.ones((2 * reach_px + 1,) * 2)) > 0
    assert not (drawn[:size_px] & ~near).any()
    row = np.flatnonzero(drawn[: size_px // 2, size_px // 4 : size_px * 3 // 4].any(axis=0))
    assert 0.4 < row.size / (size_px // 2) <= 1.0  # white and black dashes in turn
    assert not (drawn[:size_px] & (without[:size_px, :, 2] != without[:size_px, :, 0])).any()


def test_the_caption_says_that_the_least_area_decided() -> None:
    none = np.zeros((448, 448), np.bool_)
    small = Finding(None, 0.9, 0.5, False, none.astype(np.float32), none, [], min_area_px=50)
    assert small.too_small == "no region of 50 px or more"
    picture, usual = overlay(photograph(448, 448), small), overlay(photograph(448, 448), finding(none, 0.1))
    assert (picture[448] == PASS_RGB).all()
    right = (slice(448, None), slice(300, None))  # where the caption of others has ended
    assert (picture[right] > 200).any()
    assert not (usual[right] > 200).any()


@pytest.mark.parametrize(
    ("score", "threshold", "texts"),
    [
        (0.834211, 0.5, ("0.834", "0.5")),
        (0.50002, 0.5, ("0.50002", "0.5")),
        (0.5, 0.5, ("0.5", "0.5")),
        (0.00312345, 0.00312355, ("0.003123", "0.003124")),
    ],
)
def test_texts_of_score_and_threshold_show_which_is_larger(
    score: float, threshold: float, texts: tuple[str, str]
) -> None:
    assert score_texts(score, threshold) == texts
