"""``fit --image-size``: what the network sees need not be a square."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import blemish
from blemish.commands.fit import fit_run
from blemish.data.reading import read_image
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import evaluate
from blemish.inspection.framing import Tiles, Whole
from blemish.inspection.stream import inspected
from blemish.learning.fit import state_of
from blemish.learning.images import load_tiles, split_images, tiles_of
from blemish.learning.options import FitOptions
from blemish.learning.sizes import with_size
from blemish.methods import settings_of
from blemish.methods.draem import DRAEM, DRAEMSettings

TINY: dict[str, Any] = {
    "batch_size": 4, "reconstructive_widths": [4, 8], "discriminative_widths": [4, 8], "encoder": "trained",
    "score_window_px": 5, "iterations": 2, "epochs": None,
}  # fmt: skip


def save_parts(folder: Path, sizes_hw: list[tuple[int, int]]) -> Path:
    folder.mkdir()
    for number, (height, width) in enumerate(sizes_hw):
        pixels = np.random.default_rng(number).integers(90, 120, (height, width), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def size_of(size: int | str, data: Path = Path("parts"), **settings: Any) -> tuple[int | None, int | None]:
    """Height and width as settings."""
    options = with_size(FitOptions(data=data, image_size=size, settings=settings))
    assert options.image_size is None
    return options.settings["image_size_px"], options.settings["image_width_px"]


@pytest.mark.parametrize(
    ("size", "expected"),
    [("512x256", (256, 512)), ("64 X 96", (96, 64)), ("128", (128, None)), (128, (128, None)), ("64x64", (64, None))],
)
def test_width_comes_first(size: int | str, expected: tuple[int, int | None]) -> None:
    assert size_of(size) == expected


@pytest.mark.parametrize("size", ["", "x", "256x", "1e3", "-5", "256x256x3", "0.5", "auto256", "99999999"])
def test_other_texts_are_refused(size: str) -> None:
    with pytest.raises(
        BlemishError, match="should be WIDTHxHEIGHT such as 512x256, or the side of a square, or auto"
    ):
        size_of(size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"image_size": 64, "settings": {"image_width_px": 32}},
            "image_size: 64, and setting image_width_px: 32; give",
        ),
        ({"tile": 64, "settings": {"image_size_px": 32}}, "option tile: 64, and setting image_size_px: 32; give one"),
        ({"tile": 64, "image_size": 64}, "options image_size, tile: 64, 64; give one of them"),
        ({"tile": "auto"}, "option tile: 'auto' should be WIDTHxHEIGHT such as 512x256, or the side of a square$"),
        ({"overlap": 8}, "option overlap: 8, but there are no tiles; give tile, too"),
        ({"overlap": 8, "image_size": 64}, "option overlap: 8, but there are no tiles"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BlemishError, match=message):
        with_size(FitOptions(data=Path("parts"), **options))


@pytest.mark.parametrize(
    ("sizes_hw", "expected"),
    [
        ([(125, 50)] * 3, (416, 160)),  # of 256 x 256 px: 405 x 162
        ([(50, 125)] * 2 + [(90, 90)], (160, 416)),  # the median
        ([(60, 66)] * 3, (256, 256)),
        ([(8, 500)] * 3, (96, 736)),  # at most 8 times as wide
    ],
)
def test_auto_keeps_the_shape_and_the_number_of_pixels(
    sizes_hw: list[tuple[int, int]], expected: tuple[int, int], tmp_path: Path
) -> None:
    parts = save_parts(tmp_path / "parts", sizes_hw)
    options = with_size(FitOptions(data=parts, image_size="auto", method="patchcore"))
    height, width = options.settings["image_size_px"], options.settings["image_width_px"]
    assert (height, width or height) == expected


@pytest.mark.parametrize("recipe", ["small", "fast", "paper"])
@pytest.mark.parametrize("method", ["draem", "dsr", "ssae"])
@pytest.mark.parametrize("size_hw", [(125, 50), (50, 125), (90, 60), (60, 70), (8, 500)])
def test_auto_chooses_what_every_recipe_takes(
    method: str, recipe: str, size_hw: tuple[int, int], tmp_path: Path
) -> None:
    """DRÆM's small recipe takes multiples of 64 px, and refused most of what was chosen."""
    parts = save_parts(tmp_path / "parts", [size_hw] * 2)
    options = with_size(FitOptions(data=parts, image_size="auto", method=method, recipe=recipe))
    height, width = settings_of(method, recipe, 0, options.settings).size_hw  # or it says what it should be
    assert (height > width) == (size_hw[0] > 1.3 * size_hw[1])


def test_auto_sees_photographs_as_they_are_turned(tmp_path: Path) -> None:
    folder = save_parts(tmp_path / "parts", [(125, 50)] * 2)
    turned = Image.open(folder / "00.png")
    for name in ("00.png", "01.png"):
        (folder / name).unlink()
        exif = turned.getexif()
        exif[274] = 6
        turned.save(folder / f"{name}.jpg", exif=exif)
    assert size_of("auto", folder) == (192, 384)


def test_a_detector_of_rectangles(tmp_path: Path) -> None:
    data = save_parts(tmp_path / "parts", [(40, 90)] * 12)
    options: dict[str, Any] = {"image_size": "64x32", "settings": TINY, "false_rejects": 0.2}
    detector = blemish.fit(data, out=tmp_path / "run", device="cpu", **options)
    assert detector.size_hw == (32, 64)
    assert detector.inspect(data / "00.png").map.shape == (40, 90)
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["image_size"] is None
    assert (config["settings"]["image_size_px"], config["settings"]["image_width_px"]) == (32, 64)
    assert state_of(tmp_path / "run", data, device="cpu", **options) == "finished"
    with pytest.raises(BlemishError, match="other data, options or settings"):
        state_of(tmp_path / "run", data, device="cpu", **{**options, "image_size": 32})
    again = tmp_path / "again"
    switches = {"resume": False, "overwrite": False, "tensorboard": False}
    fit_run({"image_size": "32"}, [], tmp_path / "run" / "config.yaml", again, **switches)
    assert blemish.Detector.load(again).size_hw == (32, 32)


def test_a_side_that_the_network_cannot_take_is_named(tmp_path: Path) -> None:
    data = save_parts(tmp_path / "parts", [(40, 90)] * 12)
    with pytest.raises(BlemishError, match="setting image_width_px: 70 should be a multiple of"):
        blemish.fit(data, image_size="70x32", settings=TINY, device="cpu")


# --- tiles -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_tiles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Detector]:
    """Photographs of 80 x 100 px, and a run folder with a detector of tiles of 32 px."""
    folder = tmp_path_factory.mktemp("tiles")
    data = save_parts(folder / "parts", [(80, 100)] * 12)
    options: dict[str, Any] = {"tile": 32, "settings": TINY, "false_rejects": 0.2, "device": "cpu"}
    return data, folder / "run", blemish.fit(data, out=folder / "run", **options)


def test_a_detector_of_tiles_judges_the_whole_photograph(of_tiles: tuple[Path, Path, Detector]) -> None:
    data, folder, detector = of_tiles
    assert detector.framing == Tiles((32, 32), 8)
    assert (len(detector.calibration_scores), detector.threshold.is_promised) == (5, True)
    photograph = np.asarray(Image.open(data / "00.png").convert("RGB"))
    finding = blemish.Detector.load(folder).inspect(photograph, explain=True)
    results = list(inspected(detector.runtime, detector.framing.cut(photograph)))
    assert len(results) == 3 * 4
    assert finding.score == max(result.score for result in results)
    maps = (result.map for result in results)
    np.testing.assert_array_equal(finding.map, detector.framing.join(maps, (80, 100)))
    assert {picture.shape for picture in finding.explanation.values()} == {(80, 100, 3)}


def test_a_run_of_tiles_says_what_it_saw(of_tiles: tuple[Path, Path, Detector]) -> None:
    data, folder, detector = of_tiles
    assert (detector.provenance["n_train"], detector.provenance["smallest_blemish_px"]) == (7, 3.0)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["tile"], config["overlap"], config["settings"]["image_size_px"]) == (32, None, 32)
    same: dict[str, Any] = {"tile": 32, "settings": TINY, "false_rejects": 0.2, "device": "cpu"}
    assert state_of(folder, data, **same) == "finished"
    with pytest.raises(BlemishError, match="other data, options or settings"):
        state_of(folder, data, **{**same, "overlap": 4})


@pytest.mark.parametrize("protocol", ["256/1", "network/1", "original/1"])
def test_a_detector_of_tiles_is_evaluated(
    protocol: str, of_tiles: tuple[Path, Path, Detector], tmp_path: Path
) -> None:
    """Photographs of different sizes, each with a map of its own size."""
    for kind in ("good", "spot"):
        (tmp_path / "test" / kind).mkdir(parents=True)
    (tmp_path / "ground_truth" / "spot").mkdir(parents=True)
    for number, (height, width) in enumerate([(80, 100), (70, 120)]):
        pixels = np.random.default_rng(50 + number).integers(90, 120, (height, width), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "test" / "good" / f"{number}.png")
        pixels[20:30, 40:50] = 0
        Image.fromarray(pixels).save(tmp_path / "test" / "spot" / f"{number}.png")
        mask = np.zeros((height, width), np.uint8)
        mask[20:30, 40:50] = 255
        Image.fromarray(mask).save(tmp_path / "ground_truth" / "spot" / f"{number}_mask.png")
    metrics = evaluate(of_tiles[2], tmp_path, protocol=protocol).metrics
    assert (metrics["n_good"], metrics["n_defective"], metrics["n_masks"]) == (2, 2, 2)
    assert 0.0 <= metrics["pixel_auroc"] <= 1.0


def test_a_size_on_the_command_line_replaces_that_of_a_config_file(
    of_tiles: tuple[Path, Path, Detector], tmp_path: Path
) -> None:
    config, switches = of_tiles[1] / "config.yaml", {"resume": False, "overwrite": False, "tensorboard": False}
    fit_run({"tile": "48", "overlap": 6}, [], config, tmp_path / "tiles", **switches)
    assert blemish.Detector.load(tmp_path / "tiles").framing == Tiles((48, 48), 6)
    fit_run({"image_size": "48x32"}, [], config, tmp_path / "whole", **switches)
    assert blemish.Detector.load(tmp_path / "whole").framing == Whole((32, 48))


def test_every_place_is_learned_even_if_not_every_tile_is_kept(
    of_tiles: tuple[Path, Path, Detector], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, framing = of_tiles[0], Tiles((32, 32), 8)
    images = split_images(data, None, "auto", Whole((32, 32)), 0, 0.2)
    everything = torch.cat(tiles_of(images, framing))
    assert len(everything) == 7 * 12
    monkeypatch.setattr("blemish.learning.images.MOST_TILES_BYTES", 3 * 32 * 32 * 12)
    train, validation = tiles_of(images, framing)
    assert len(train) + len(validation) == 12  # each seventh
    numbers = [(everything == tile).flatten(1).all(1).nonzero()[0].item() for tile in torch.cat([train, validation])]
    assert sorted({number % 12 for number in map(int, numbers)}) == list(range(12))


def test_photographs_with_fewer_tiles_than_are_left_out_between_two_may_give_none(tmp_path: Path) -> None:
    data = save_parts(tmp_path / "parts", [(32, 32)] * 7)
    paths = sorted(data.iterdir())
    tiles, counts = load_tiles(paths, [(32, 32)] * 7, Tiles((32, 32), 8), most=3)
    assert counts == [1, 0, 0, 1, 0, 0, 1]
    np.testing.assert_array_equal(tiles.permute(0, 2, 3, 1), [read_image(path) for path in paths[::3]])


def test_small_photographs_are_one_tile(tmp_path: Path) -> None:
    data = save_parts(tmp_path / "parts", [(20, 100)] * 10 + [(32, 32)] * 2)
    detector = blemish.fit(data, tile=32, overlap=0, settings=TINY, false_rejects=0.2, device="cpu")
    assert detector.inspect(data / "00.png").map.shape == (20, 100)


def test_tiles_of_another_size_than_the_method_object_are_refused(of_tiles: tuple[Path, Path, Detector]) -> None:
    method = DRAEM.build(DRAEMSettings.from_dict({**TINY, "image_size_px": 32}))
    with pytest.raises(BlemishError, match="tile: 64, but the method object is for another size"):
        blemish.fit(of_tiles[0], method=method, tile=64, device="cpu")
    detector = blemish.fit(of_tiles[0], method=method, tile=32, overlap=4, device="cpu")
    assert detector.framing == Tiles((32, 32), 4)


def test_tiles_that_overlap_by_more_than_half_are_refused(tmp_path: Path) -> None:
    data = save_parts(tmp_path / "parts", [(40, 90)] * 12)
    with pytest.raises(BlemishError, match="overlap 20 px: should be from 0 to half"):
        blemish.fit(data, tile=32, overlap=20, settings=TINY, device="cpu")
