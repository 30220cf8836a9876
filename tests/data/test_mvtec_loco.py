"""MVTec LOCO AD: a folder of masks for each image, the saturation areas of its defects, and each fault."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import miniatures
import numpy as np
import pytest
from miniatures import SIZE_HW, mask

from blemish.data.layouts import DefectMasks, Sample, find_dataset, open_dataset
from blemish.data.layouts.mvtec_loco import Saturation
from blemish.data.survey import survey
from blemish.errors import BlemishError

CONFIG = "defects_config.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return miniatures.mvtec_loco(tmp_path / "juice_bottle")


def sample_of(root: Path, name: str) -> Sample:
    return next(sample for sample in find_dataset(root).samples if sample.path == root / "test" / name)


def masks_of(root: Path, name: str = "logical_anomalies/001.png") -> DefectMasks:
    masks = sample_of(root, name).mask
    assert isinstance(masks, DefectMasks)
    return masks


def doubts_of(root: Path, name: str = "logical_anomalies/001.png") -> list[str]:
    return [defect.doubt for defect in masks_of(root, name).defects(SIZE_HW) if defect.doubt]


def test_splits_and_kinds(root: Path) -> None:
    dataset = open_dataset(root)
    assert Counter((sample.split, sample.defect) for sample in dataset.samples) == {
        ("train", "good"): 12, ("validation", "good"): 2, ("test", "good"): 2,
        ("test", "logical_anomalies"): 2, ("test", "structural_anomalies"): 2,
    }  # fmt: skip
    assert dataset.faults == ()


def test_the_mask_of_an_image_unites_those_of_its_defects(root: Path) -> None:
    masks = masks_of(root)
    assert [path.name for path in masks.paths] == ["000.png", "001.png"]
    first, second = masks.defects(SIZE_HW)
    assert np.argwhere(first.mask).min(axis=0).tolist() == [4, 4]
    assert np.argwhere(second.mask).min(axis=0).tolist() == [4, 6]
    np.testing.assert_array_equal(masks.read(SIZE_HW), first.mask | second.mask)


def test_saturation_areas_follow_the_type_of_defect(root: Path) -> None:
    logical, structural = masks_of(root), masks_of(root, "structural_anomalies/000.png")
    # Of 16 pixels: 10 pixels; 100 pixels, which are more than all; 0.3 of them are 4.8.
    assert [defect.saturation_px for defect in logical.defects(SIZE_HW)] == [10, 16]
    assert [defect.saturation_px for defect in structural.defects(SIZE_HW)] == [4]


def test_a_share_is_rounded_down_but_to_a_pixel_at_least() -> None:
    assert [Saturation(0.1, is_relative=True).area_px(area) for area in (3, 19, 20, 1000)] == [1, 1, 2, 100]
    assert Saturation(1.0, is_relative=True).area_px(7) == 7
    assert [Saturation(12.5, is_relative=False).area_px(area) for area in (12, 13)] == [12, 12.5]


@pytest.mark.parametrize("removed", ["test/structural_anomalies", "test/logical_anomalies", CONFIG, "train"])
def test_it_is_known_by_its_kinds_or_its_file(root: Path, removed: str) -> None:
    path = root / removed
    path.unlink() if path.is_file() else shutil.rmtree(path)
    assert find_dataset(root).layout == "mvtec-loco"
    with pytest.raises(BlemishError, match="makes it mvtec-loco"):
        find_dataset(root, "mvtec")


def test_another_dataset_is_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match=r"not the layout mvtec-loco: defects_config\.json and test/logical_anom"):
        find_dataset(miniatures.mvtec(tmp_path), "mvtec-loco")


# --- faults --------------------------------------------------------------------------------------------------


def test_a_folder_of_masks_that_is_missing_or_empty_is_named(root: Path) -> None:
    folder = root / "ground_truth/logical_anomalies"
    shutil.rmtree(folder / "000")
    for path in (folder / "001").iterdir():
        path.unlink()
    missing, empty = find_dataset(root).faults
    image = root / "test/logical_anomalies"
    remedy = "; save one there for each defect: 000.png, 001.png"
    assert missing.text == f"{image / '000.png'}: the folder of its masks {folder / '000'} is missing{remedy}"
    assert empty.text == f"{image / '001.png'}: the folder of its masks {folder / '001'} holds no masks{remedy}"
    assert {fault.about for fault in (missing, empty)} == {"mask"}
    assert len(open_dataset(root, only="test").test) == 6  # the images still count
    with pytest.raises(BlemishError, match="and 1 more like this"):
        open_dataset(root)
    shutil.rmtree(root / "ground_truth")
    assert len(find_dataset(root).faults) == 4


def test_masks_of_no_image_and_masks_twice_are_named(root: Path) -> None:
    mask(root / "ground_truth/structural_anomalies/007/000.png")
    mask(root / "ground_truth/logical_anomalies/000_mask.png")
    twice, unused = (fault.text for fault in find_dataset(root).faults)
    assert twice.startswith(f"{root / 'test/logical_anomalies/000.png'}: 2 masks for it")
    assert unused.startswith(f"{root / 'ground_truth/structural_anomalies/007'}: 1 mask of no image")


def test_a_mask_that_cannot_be_read_is_named(root: Path) -> None:
    path = root / "ground_truth/logical_anomalies/001/001.png"
    path.write_text("no image")
    with pytest.raises(BlemishError, match=str(path)):
        masks_of(root).defects(SIZE_HW)
    assert any(problem.level == "error" and str(path) in problem.text for problem in survey(root).problems)
    mask(path, size_hw=(8, 20))
    with pytest.raises(BlemishError, match=r"001\.png: the mask is 20x8 px, its image 16x24 px"):
        masks_of(root).defects(SIZE_HW)


def test_a_value_that_is_not_listed_is_named(root: Path) -> None:
    path = mask(root / "ground_truth/logical_anomalies/001/001.png", value=7)
    (doubt,) = doubts_of(root)
    assert doubt.startswith(f"{path}: its value 7 is not in {root / CONFIG} (there are: 255, 254, 249)")
    assert "correct the mask, or add" in doubt
    assert masks_of(root).read(SIZE_HW).any()
    assert [defect.saturation_px for defect in masks_of(root).defects(SIZE_HW)] == [10, None]
    (problem,) = (problem for problem in survey(root).problems if str(path) in problem.text)
    assert (problem.level, problem.text) == ("warning", doubt)


def test_a_mask_of_several_values_is_named(root: Path) -> None:
    path = root / "ground_truth/logical_anomalies/001/001.png"
    pixels = np.zeros(SIZE_HW, np.uint8)
    pixels[2, 2], pixels[3, 3] = 255, 254
    miniatures.save(path, pixels)
    (doubt,) = doubts_of(root)
    assert doubt.startswith(f"{path}: holds several values (254, 255)")
    assert doubt.endswith("save a mask for each defect")


def test_an_empty_mask_is_named_once(root: Path) -> None:
    path = mask(root / "ground_truth/logical_anomalies/001/001.png", value=0)
    assert doubts_of(root) == [f"{path}: the mask is empty; draw the defect, or remove it"]
    alone = mask(root / "ground_truth/logical_anomalies/000/000.png", value=0)
    texts = [problem.text for problem in survey(root).problems if str(alone) in problem.text]
    assert len(texts) == 1
    assert "the mask is empty, but its image is defective" in texts[0]


ENTRY = {"defect_name": "dent", "pixel_value": 255, "saturation_threshold": 0.5, "relative_saturation": True}


def config_of(**changes: Any) -> str:
    return json.dumps([ENTRY | changes])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is missing"),
        ("[{", "is not valid (Expecting"),
        (b"\xff\xfe", "is not valid ('utf-8' codec"),
        ("[]", "it should be a list of the types of defects"),
        ('{"a": 1}', "it should be a list of the types of defects"),
        ("[3]", "entry 1 has the pixel_value None, not an integer above 0"),
        (config_of(pixel_value=0), "entry 1 has the pixel_value 0"),
        (config_of(pixel_value=True), "entry 1 has the pixel_value True"),
        (config_of(relative_saturation="yes"), "entry 1 has relative_saturation 'yes', not true or false"),
        (config_of(saturation_threshold=1.5), "saturation_threshold 1.5, not a share in (0, 1]"),
        (config_of(saturation_threshold="1"), "saturation_threshold '1', not a share in (0, 1]"),
        (config_of(saturation_threshold=0, relative_saturation=False), "threshold 0, not a number of pixels above 0"),
        (config_of(saturation_threshold=math.nan, relative_saturation=False), "saturation_threshold nan, not"),
        (json.dumps([ENTRY, ENTRY]), "the pixel_value 255 is in it twice"),
    ],
)  # fmt: skip
def test_a_list_of_types_that_cannot_be_used_costs_only_auspro(
    root: Path, content: str | bytes | None, reason: str
) -> None:
    (root / CONFIG).unlink()
    if content is not None:
        (root / CONFIG).write_bytes(content if isinstance(content, bytes) else content.encode())
    dataset = open_dataset(root)
    (fault,) = dataset.faults
    assert fault.text.startswith(f"{root / CONFIG}: ")
    assert fault.text.endswith("so there is no AUsPRO; copy it from the dataset again")
    assert reason in fault.text
    assert "\n" not in fault.text
    assert fault.is_notice
    assert masks_of(root).read(SIZE_HW).any()
    assert [defect.saturation_px for defect in masks_of(root).defects(SIZE_HW)] == [None, None]
    assert not doubts_of(root)
