"""How photographs become tiles, and maps of tiles one map."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import BlemishError
from blemish.inspection.framing import Framing, Tiles, Whole
from blemish.inspection.framings import describe, from_description


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, dtype=np.uint8)


@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)), st.tuples(st.integers(8, 40), st.integers(8, 40)), st.data()
)
def test_what_is_cut_and_joined_is_the_photograph(
    photograph_hw: tuple[int, int], tile_hw: tuple[int, int], data: st.DataObject
) -> None:
    framing = Tiles(tile_hw, data.draw(st.integers(0, min(tile_hw) // 2)))
    photograph = drawn(*photograph_hw, 3)
    tiles = framing.cut(photograph)
    assert {tile.shape for tile in tiles} == {(*tile_hw, 3)}
    joined = framing.join((tile[..., 0].astype(np.float32) for tile in tiles), photograph_hw)
    assert joined.shape == photograph_hw
    np.testing.assert_allclose(joined, photograph[..., 0], atol=1e-3)
    assert framing.score(range(len(tiles))) == len(tiles) - 1


@given(st.integers(1, 400), st.integers(8, 64), st.data())
def test_tiles_overlap_as_much_as_asked_and_no_more_are_cut_than_needed(
    length: int, tile: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, tile // 2))
    starts, _ = Tiles((tile, tile), overlap).starts((length, 1))
    assert starts[0] == 0
    assert starts[-1] == max(0, length - tile)
    gaps = np.diff(starts)
    assert all(0 < gap <= tile - overlap for gap in gaps)
    assert length <= tile or (len(starts) - 1) * (tile - overlap) + overlap < length


def test_what_a_tile_sees_wrong_at_its_edge_is_not_seen_inside_the_photograph() -> None:
    framing = Tiles((32, 32), 8)
    maps = np.zeros((len(framing.cut(drawn(100, 100, 3))), 32, 32), np.float32)
    maps[:, [0, -1]] = maps[:, :, [0, -1]] = 1.0
    joined = framing.join(maps, (100, 100))
    assert joined[1:-1, 1:-1].max() < 1e-3
    assert joined[0, 50] == pytest.approx(1.0)  # no other tile sees the edge of the photograph


def test_a_network_that_sees_less_than_the_overlap_gives_the_map_of_one_pass() -> None:
    photograph = drawn(150, 201, 3)
    framing = Tiles((64, 48), 16)

    def network(image: np.ndarray) -> np.ndarray:  # sees 4 px to each side, and grey outside of what it is shown
        return cv2.blur(image[..., 0].astype(np.float32), (9, 9), borderType=cv2.BORDER_CONSTANT)

    joined = framing.join(map(network, framing.cut(photograph)), (150, 201))
    np.testing.assert_allclose(joined / 255, network(photograph) / 255, atol=1e-3)


def test_a_small_photograph_is_continued_by_its_mirror_image() -> None:
    photograph = drawn(5, 40, 3)
    (tile,) = Tiles((8, 40), 4).cut(photograph)
    np.testing.assert_array_equal(tile[:5], photograph)
    np.testing.assert_array_equal(tile[5:], photograph[:1:-1])


@pytest.mark.parametrize("framing", [Tiles((32, 48), 8), Whole((32, 48), "bilinear"), Whole((64, 64))])
def test_a_framing_is_described_and_made_again(framing: Framing) -> None:
    assert from_description(json.loads(json.dumps(describe(framing)))) == framing


def test_files_of_before_hold_squares() -> None:
    assert from_description({"kind": "whole", "size_px": 64, "resizing": "area"}) == Whole((64, 64))


def test_unknown_framings_are_refused() -> None:
    with pytest.raises(BlemishError, match="framing 'spiral' is unknown; there are: whole, tiles, region"):
        from_description({"kind": "spiral"})


@pytest.mark.parametrize("overlap_px", [-1, 17])
def test_an_overlap_is_at_most_half_a_tile(overlap_px: int) -> None:
    with pytest.raises(BlemishError, match="should be from 0 to half of the shorter side of a tile, 16"):
        Tiles((32, 48), overlap_px)
