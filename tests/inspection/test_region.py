"""Regions of interest: what lies outside is neither learned nor judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

import blemish
from blemish.cli import main
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import evaluate
from blemish.inspection.encodings import mask_of_runs, runs_of
from blemish.inspection.framing import Framing, Tiles, Whole
from blemish.inspection.framings import describe, from_description
from blemish.inspection.region import OUTSIDE, RegionOfInterest, read_region
from blemish.learning.options import plain
from learning.test_fit import TINY, part, save_parts

SIZE_HW = (60, 80)


def disc() -> np.ndarray:
    """A round region, not in the middle."""
    return cv2.circle(np.zeros(SIZE_HW, np.uint8), (50, 28), 20, 1, cv2.FILLED).astype(np.bool_)


def photograph(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8)


INNER = [Whole((16, 16)), Whole((64, 48)), Tiles((16, 24), 4)]


@pytest.mark.parametrize("inner", INNER)
def test_what_lies_outside_changes_nothing(inner: Framing) -> None:
    framing, first = RegionOfInterest.of(inner, disc()), photograph()
    other = np.where(disc()[..., None], first, photograph(1))
    for one, another in zip(framing.cut(first), framing.cut(other), strict=True):
        np.testing.assert_array_equal(one, another)
    np.testing.assert_array_equal(framing.overview(first), framing.overview(other))
    assert len(framing.cut(first)) == framing.n_tiles(SIZE_HW)
    assert {tile.shape for tile in framing.cut(first)} == {(*inner.tile_hw, 3)}


def test_tiles_of_the_region_are_joined_at_its_place() -> None:
    framing, picture = RegionOfInterest.of(Tiles((16, 24), 4), disc()), photograph()
    maps = (tile[..., 0].astype(np.float32) for tile in framing.cut(picture))
    joined = framing.join(maps, SIZE_HW)
    np.testing.assert_allclose(joined, np.where(disc(), picture[..., 0], 0), atol=1e-3)
    np.testing.assert_allclose(np.sort(framing.judged(joined)), np.sort(picture[disc()][:, 0]), atol=1e-3)
    pictures = framing.join_pictures(framing.cut(picture), SIZE_HW)
    np.testing.assert_array_equal(pictures[disc()], picture[disc()])
    assert (pictures[~disc()] == OUTSIDE).all()


def test_a_map_of_one_tile_gets_the_size_of_the_box() -> None:
    framing = RegionOfInterest.of(Whole((8, 8)), disc())
    joined = framing.join([np.ones((8, 8), np.float32)], SIZE_HW)
    np.testing.assert_array_equal(joined, disc())
    assert framing.shrinking(SIZE_HW) == 41 / 8


def test_photographs_of_another_size_are_told() -> None:
    with pytest.raises(BlemishError, match="80x70 px, but the region of interest is that of 80x60 px; take"):
        RegionOfInterest.of(Whole((16, 16)), disc()).cut(np.zeros((70, 80, 3), np.uint8))


@pytest.mark.parametrize("inner", INNER)
def test_a_region_is_described_and_made_again(inner: Framing) -> None:
    framing = RegionOfInterest.of(inner, disc())
    again = from_description(json.loads(json.dumps(describe(framing))))
    assert again == framing
    assert isinstance(again, RegionOfInterest)
    np.testing.assert_array_equal(again.mask, disc())


@pytest.mark.parametrize("values", ["0", "1", "random"])
def test_runs_are_the_mask(values: str) -> None:
    mask = np.random.default_rng(0).random((7, 5)) > 0.5 if values == "random" else np.full((7, 5), values == "1")
    np.testing.assert_array_equal(mask_of_runs(runs_of(mask), (7, 5)), mask)


# --- files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def one(tmp_path: Path) -> Path:
    Image.fromarray(photograph()).save(tmp_path / "one.png")
    return tmp_path / "one.png"


SQUARE = [[10, 10], [40, 10], [40, 30], [10, 30]]


def test_a_circle_is_filled(one: Path) -> None:
    path = one.with_name("roi.json")
    path.write_text(json.dumps({"shapes": [{"points": [[40, 30], [40, 50]], "shape_type": "circle"}]}))
    assert read_region(path, one).sum() == pytest.approx(np.pi * 20**2, rel=0.05)


@pytest.mark.parametrize(
    "content",
    [
        [SQUARE],
        {"shapes": [{"points": SQUARE, "shape_type": "polygon"}], "imageHeight": 60, "imageWidth": 80},
        {"shapes": [{"points": [SQUARE[0], SQUARE[2]], "shape_type": "rectangle"}]},
    ],
)
def test_polygons_are_filled(one: Path, content: Any) -> None:
    path = one.with_name("roi.json")
    path.write_text(json.dumps(content))
    mask = read_region(path, one)
    assert mask.shape == SIZE_HW
    assert mask.sum() == 31 * 21
    assert mask[10:31, 10:41].all()


def test_a_mask_is_read(one: Path) -> None:
    Image.fromarray(disc().astype(np.uint8) * 255).save(one.with_name("roi.png"))
    np.testing.assert_array_equal(read_region(one.with_name("roi.png"), one), disc())


@pytest.mark.parametrize(
    ("name", "write", "line"),
    [
        ("a.json", lambda path: path.write_text("{"), "cannot be read as JSON"),
        ("b.json", lambda path: path.write_text("[[[1, 2], [3, 4]]]"), "should hold polygons of at least 3 points"),
        ("c.json", lambda path: path.write_text('{"a": 1}'), "should hold polygons of at least 3 points"),
        ("d.json", lambda path: path.write_text('[[["x", 2], [3, 4], [5, 6]]]'), "should hold polygons"),
        ("e.json", lambda path: path.write_text("[[[1, 2], [3, 4], [5, 6]]]"), "the region is 5x5 px; at least 8x8"),
        (
            "f.json",
            lambda path: path.write_text('{"shapes": [], "imageHeight": 6, "imageWidth": 8}'),
            "drawn for 8x6",
        ),
        ("g.json", lambda path: path.write_text('{"shapes": [{"points": [], "shape_type": "line"}]}'), "a line"),
        ("h.png", lambda path: Image.new("L", (80, 60)).save(path), "nothing of the photographs is in the region"),
        ("i.png", lambda path: Image.new("L", (70, 60), 255).save(path), "70"),
        ("nowhere.png", lambda path: None, "cannot be read"),
    ],
)
def test_wrong_regions_are_told(one: Path, name: str, write: Callable[[Path], Any], line: str) -> None:
    path = one.with_name(name)
    write(path)
    with pytest.raises(BlemishError, match=line) as error:
        read_region(path, one)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


# --- a run -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of the right half of parts, trained through the command line."""
    folder = tmp_path_factory.mktemp("region")
    save_parts(folder / "good", 12)
    half = np.zeros((40, 50), np.uint8)
    half[:, 16:] = 255
    Image.fromarray(half).save(folder / "half.png")
    (folder / "tiny.yaml").write_text(yaml.safe_dump({"settings": plain(TINY), "device": "cpu"}))
    words = ["fit", folder / "good", "--roi", folder / "half.png", "--out", folder / "run"]
    with pytest.raises(SystemExit) as end:
        main([*map(str, words), "--config", str(folder / "tiny.yaml")])
    assert end.value.code in (0, None)
    return folder


def test_a_detector_of_a_region_judges_it_alone(run: Path) -> None:
    detector = Detector.load(run / "run")
    pixels = part(100)
    spoiled = pixels.copy()
    spoiled[:, :16] = 255 - spoiled[:, :16]
    before, after = detector.inspect([pixels, spoiled])
    assert before.score == after.score
    np.testing.assert_array_equal(before.map, after.map)
    assert before.map.shape == (40, 50)
    assert not before.map[:, :16].any()
    wrong = detector.inspect
    with pytest.raises(BlemishError, match="image: 40x32 px, but the region of interest"):
        wrong(np.zeros((32, 40, 3), np.uint8))


def test_a_photograph_of_another_size_stops_a_training(run: Path) -> None:
    save_parts(run / "mixed", 11)
    Image.new("RGB", (40, 32)).save(run / "mixed/wide.png")
    with pytest.raises(BlemishError, match=r"1 of 12 images cannot be used:\n.*wide\.png: 40x32 px, but the region"):
        blemish.fit(run / "mixed", roi=run / "half.png", settings=TINY)


def test_figures_are_of_the_region(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector.load(run / "run")
    for number, (name, box) in enumerate((("good", None), ("inside", (20, 28)), ("outside", (2, 10)))):
        pixels, mask = part(200 + number), np.zeros((40, 50), np.uint8)
        if box is not None:
            pixels[8:16, slice(*box)], mask[8:16, slice(*box)] = 255, 255
            (run / "data/ground_truth" / name).mkdir(parents=True)
            Image.fromarray(mask).save(run / "data/ground_truth" / name / "0_mask.png")
        (run / "data/test" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(run / "data/test" / name / "0.png")
    corner = np.ones((40, 50), np.bool_)
    corner[:20, :16] = corner[:10, 40:] = False  # within the box
    for mask, n_px in ((detector.framing.mask, 40 * 34), (corner, int(corner.sum()))):
        detector.framing = RegionOfInterest.of(detector.framing.inner, mask)
        for most_px in (2**26, 0):  # exact, and by histograms
            monkeypatch.setattr("blemish.evaluation.evaluate.MAX_EXACT_PX", most_px)
            result = evaluate(detector, run / "data", "mvtec", protocol="original/1")
            assert result.rankings.pixels.n_positive == 8 * 8
            assert result.rankings.pixels.n_positive + result.rankings.pixels.n_negative == 3 * n_px
            assert result.rankings.good_pixels.n_negative == n_px
            assert (result.metrics["n_defective"], result.metrics["n_outside_region"]) == (2, 1)
            (line,) = (notice for notice in result.notices if "no labelled pixel" in notice)
            assert line.startswith("1 of 2 defective images have no labelled pixel in the region of interest")
