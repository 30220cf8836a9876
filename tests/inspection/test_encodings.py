"""Maps, masks and regions as other programs read them."""

from __future__ import annotations

import json
from io import BytesIO

import cv2
import numpy as np
import pycocotools.mask
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from blemish.data.kinds import MAP, MASK, PREFIX_BYTES, kind_of_bytes
from blemish.inspection.encodings import map_npy, map_tiff, map_tiff16, mask_png, polygons, rles
from blemish.regions import only, region_masks, regions

masks = st.tuples(st.integers(1, 30), st.integers(1, 30)).flatmap(lambda hw: arrays(np.bool_, hw))


def a_map(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).gamma(0.5, 3.0, shape).astype(np.float32)


def found_in(mask: np.ndarray) -> list:
    return regions(a_map(*mask.shape), mask)


@given(masks)
def test_run_lengths_are_those_of_coco(mask: np.ndarray) -> None:
    found = found_in(mask)
    encoded = list(rles(mask, found))
    union = np.zeros(mask.shape, np.bool_)
    for region, rle in zip(found, encoded, strict=True):
        decoded = pycocotools.mask.decode(rle).astype(np.bool_)
        left, top, right, bottom = region.bbox_xyxy
        assert pycocotools.mask.area(rle) == decoded.sum() == region.area_px
        assert pycocotools.mask.toBbox(rle).tolist() == [left, top, right - left, bottom - top]
        assert (
            rle["counts"] == pycocotools.mask.encode(np.asfortranarray(decoded.astype(np.uint8)))["counts"].decode()
        )
        assert not (union & decoded).any()
        union |= decoded
    np.testing.assert_array_equal(union, mask)


def test_run_lengths_of_a_large_photograph() -> None:
    mask = np.zeros((3648, 5472), np.bool_)
    mask[3000:3010, 5000:5471] = mask[0, 0] = mask[3647, 5471] = True
    decoded = [pycocotools.mask.decode(rle) for rle in rles(mask, found_in(mask))]
    np.testing.assert_array_equal(sum(decoded), mask)


@given(masks)
def test_polygons_filled_are_the_mask(mask: np.ndarray) -> None:
    filled = np.zeros(mask.shape, np.uint8)
    for polygon in polygons(mask, found_in(mask)):
        part = np.zeros(mask.shape, np.uint8)
        holes = [np.array(points) for points in polygon["holes"]]
        cv2.fillPoly(part, [np.array(polygon["outline"])], 1)
        for points in holes:
            cv2.fillPoly(part, [points], 0)
            cv2.polylines(part, [points], isClosed=True, color=1)  # the pixels around the hole are the region's
        filled |= part
    np.testing.assert_array_equal(filled.astype(np.bool_), mask)


def test_regions_with_the_same_box_and_area_are_told_apart() -> None:
    mask = np.zeros((5, 5), np.bool_)
    mask[0, :4] = mask[:4, 0] = True  # an angle at the top left
    mask[4, 1:] = mask[1:, 4] = True  # and one at the bottom right, inside of a box of the same size
    both = found_in(mask)
    assert len({region.area_px for region in both}) == 1
    np.testing.assert_array_equal(sum(pycocotools.mask.decode(rle) for rle in rles(mask, both)), mask)
    twins = np.zeros((3, 6), np.bool_)
    twins[[0, 0, 1, 1, 2, 2], [0, 2, 0, 2, 0, 2]] = True
    assert sum(inside.sum() for inside in region_masks(twins, found_in(twins))) == twins.sum()


@given(masks, st.integers(1, 20))
def test_only_some_regions_are_kept(mask: np.ndarray, least: int) -> None:
    found = found_in(mask)
    large = [region for region in found if region.area_px >= least]
    kept = only(mask, found, large)
    assert regions(a_map(*mask.shape), kept) == large
    assert not (kept & ~mask).any()


def test_maps_are_read_by_others() -> None:
    anomaly_map = a_map(33, 47)
    np.testing.assert_array_equal(tifffile.imread(BytesIO(map_tiff(anomaly_map))), anomaly_map)
    np.testing.assert_array_equal(np.load(BytesIO(map_npy(anomaly_map))), anomaly_map)
    assert kind_of_bytes(map_tiff(anomaly_map)[:PREFIX_BYTES]) == MAP


@pytest.mark.parametrize("pixel_threshold", [0.0, 2.0, 1e4])
def test_a_map_of_16_bits_says_its_unit(pixel_threshold: float) -> None:
    anomaly_map = a_map(33, 47)
    with tifffile.TiffFile(BytesIO(map_tiff16(anomaly_map, pixel_threshold))) as file:
        values, about = file.asarray(), json.loads(file.pages[0].description)
    assert values.dtype == np.uint16
    np.testing.assert_allclose(values * about["unit"], anomaly_map, atol=about["unit"] / 2 * 1.001)
    assert about["unit"] * 65535 == pytest.approx(max(anomaly_map.max(), 4 * pixel_threshold))
    np.testing.assert_array_equal(tifffile.imread(BytesIO(map_tiff16(np.zeros((8, 8), np.float32), 0.0))), 0)


def test_a_mask_is_black_and_white() -> None:
    mask = a_map(33, 47) > 2.0
    png = mask_png(mask)
    decoded = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, np.where(mask, 255, 0))
    assert kind_of_bytes(png[:PREFIX_BYTES]) == MASK
