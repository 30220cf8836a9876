"""Every published layout on a miniature with its structure and irregularities; no layout is mistaken for another."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import miniatures
import numpy as np
import pytest
from miniatures import MINIATURES, SIZE_HW, image, mask

from blemish.data.layouts import LAYOUTS, Dataset, find_dataset, open_dataset
from blemish.errors import BlemishError


def counts(dataset: Dataset) -> Counter[tuple[str, str]]:
    return Counter((sample.split, sample.defect) for sample in dataset.samples)


def refusal(path: Path, layout: str = "auto") -> str:
    with pytest.raises(BlemishError) as error:
        open_dataset(path, layout)
    assert "\n" not in str(error.value)
    return str(error.value)


def square(left: int = 4) -> np.ndarray:
    expected = np.zeros(SIZE_HW, dtype=bool)
    expected[4:8, left : left + 4] = True
    return expected


@pytest.mark.parametrize("name", MINIATURES)
def test_auto_takes_the_right_layout_and_only_one_matches(name: str, tmp_path: Path) -> None:
    make, layout = MINIATURES[name]
    path = make(tmp_path / "data")
    dataset = open_dataset(path)
    assert dataset.layout == layout
    assert {name for name in LAYOUTS if LAYOUTS[name].lacks(path) is None} - {"folder"} == {layout} - {"folder"}
    assert len(dataset.train) >= 10
    assert all(sample.path.is_file() for sample in dataset.samples)
    assert len({sample.path for sample in dataset.samples}) == len(dataset.samples)
    assert all((sample.defect != "good") == sample.is_defective for sample in dataset.samples)
    for sample in dataset.samples:
        if sample.mask is not None:
            assert sample.mask.read(SIZE_HW).any(), "a mask that is read by its layout's rule shows its defect"


def test_every_layout_has_a_miniature() -> None:
    assert {layout for _, layout in MINIATURES.values()} == set(LAYOUTS)


def test_mpdd_and_btad_masks(tmp_path: Path) -> None:
    mpdd = open_dataset(miniatures.mpdd(tmp_path / "mpdd"))
    assert counts(mpdd)["test", "parts_mismatch"] == 1
    btad = open_dataset(miniatures.btad(tmp_path / "btad"))
    assert counts(btad) == {("train", "good"): 12, ("test", "good"): 2, ("test", "ko"): 2}
    masks = [sample.mask_path for sample in btad.samples if sample.is_defective]
    assert [path and path.name for path in masks] == ["0000.png", "0001.bmp"]


def test_mvtec_ad_2_keeps_validation_apart_and_leaves_private_images_out(tmp_path: Path) -> None:
    dataset = open_dataset(miniatures.mvtec_ad_2(tmp_path))
    assert counts(dataset) == {
        ("train", "good"): 12, ("validation", "good"): 2, ("test", "good"): 2, ("test", "bad"): 2,
    }  # fmt: skip
    assert (len(dataset.train), len(dataset.test)) == (12, 4)
    assert not any("private" in str(sample.path) for sample in dataset.samples)
    assert "test_public makes it mvtec-ad-2" in refusal(tmp_path, "mvtec")


def test_visa_follows_its_csv_and_reads_class_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candle = miniatures.visa(tmp_path / "VisA")
    dataset = open_dataset(candle)
    assert counts(dataset) == {
        ("train", "good"): 12, ("test", "good"): 3,
        ("test", "melt"): 1, ("test", "combined"): 1, ("test", "chunk of wax missing"): 1,
    }  # fmt: skip
    for sample in dataset.samples:
        if sample.mask is not None:  # values 1, 2 and 3
            np.testing.assert_array_equal(sample.mask.read(SIZE_HW), square())
    monkeypatch.chdir(candle)
    assert counts(open_dataset(".")) == counts(dataset)  # although the CSV file names the object candle
    (candle / "image_anno.csv").unlink()
    assert counts(open_dataset(candle))["test", "anomaly"] == 3


def test_visa_faults(tmp_path: Path) -> None:
    candle = miniatures.visa(tmp_path / "VisA")
    (candle / "Data/Masks/Anomaly/001.png").unlink()
    message = refusal(candle)
    assert message.startswith(str(candle / "Data/Masks/Anomaly/001.png"))
    assert "row 18 lists it" in message
    renamed = candle.rename(tmp_path / "VisA/kerze")
    assert "lists no object kerze" in refusal(renamed)
    shutil.rmtree(tmp_path / "VisA/split_csv")
    assert "1cls.csv is missing; copy split_csv" in refusal(renamed)


def test_ksdd2_as_many_as_published(tmp_path: Path) -> None:
    black, white = mask(tmp_path / "black.png", value=0), mask(tmp_path / "white.png")
    photograph = image(tmp_path / "photograph.png").read_bytes()
    numbers = iter(range(10000, 20000))
    for split, n_good, n_defective in (("train", 2085, 246), ("test", 894, 110)):
        (tmp_path / "KSDD2" / split).mkdir(parents=True)
        for index in range(n_good + n_defective):
            number = next(numbers)
            (tmp_path / "KSDD2" / split / f"{number}.png").write_bytes(photograph)
            truth = (black if index < n_good else white).read_bytes()
            (tmp_path / "KSDD2" / split / f"{number}_GT.png").write_bytes(truth)
    dataset = open_dataset(tmp_path / "KSDD2")
    assert (len(dataset.train), len(dataset.train_defective)) == (2085, 246)
    assert (counts(dataset)["test", "good"], counts(dataset)["test", "defect"]) == (894, 110)
    assert not any(sample.is_defective for sample in dataset.train)


def test_ksdd2_oddities(tmp_path: Path) -> None:
    dataset = open_dataset(miniatures.ksdd2(tmp_path))
    assert counts(dataset) == {
        ("train", "good"): 12, ("train", "defect"): 3, ("test", "good"): 4, ("test", "defect"): 2,
    }  # fmt: skip
    assert not any("copy" in sample.path.name for sample in dataset.samples)
    assert all(sample.mask is not None for sample in dataset.train_defective)
    dark = next(sample for sample in dataset.test if sample.path.name == "20004.png")
    assert dark.mask is not None
    np.testing.assert_array_equal(dark.mask.read(SIZE_HW), square())


def test_ksdd2_faults_are_all_reported(tmp_path: Path) -> None:
    miniatures.ksdd2(tmp_path)
    (tmp_path / "train/10003_GT.png").unlink()
    (tmp_path / "test/20001_GT.png").write_text("no image")
    message = refusal(tmp_path)
    assert message.startswith(f"{tmp_path / 'train/10003.png'}: its mask ")
    assert "(and 1 more like this: blemish data" in message
    assert [Path(fault.text.split(": ")[0]).name for fault in find_dataset(tmp_path).faults] == [
        "10003.png",
        "20001_GT.png",
    ]


def test_ksdd_splits_by_item(tmp_path: Path) -> None:
    dataset = open_dataset(miniatures.ksdd(tmp_path))
    assert counts(dataset) == {("train", "good"): 23, ("test", "good"): 2, ("test", "defect"): 2}
    assert {sample.path.parent.name for sample in dataset.test if not sample.is_defective} == {"kos08"}
    assert "kos08" not in {sample.path.parent.name for sample in dataset.train}


def test_dagm_with_its_label_files(tmp_path: Path) -> None:
    dataset = open_dataset(miniatures.dagm(tmp_path))
    assert counts(dataset) == {
        ("train", "good"): 12, ("train", "defect"): 2, ("test", "good"): 12, ("test", "defect"): 2,
    }  # fmt: skip
    assert dataset.test[-1].mask_path == tmp_path / "Test/Label/0589_label.PNG"
    (tmp_path / "Test/Label/Labels.txt").unlink()  # some copies of the dataset lack it
    assert counts(open_dataset(tmp_path)) == counts(dataset)


def test_dagm_where_list_and_masks_disagree(tmp_path: Path) -> None:
    miniatures.dagm(tmp_path)
    (tmp_path / "Train/Label/0014_label.PNG").unlink()
    mask(tmp_path / "Test/Label/0580_label.PNG")
    faults = [fault.text for fault in find_dataset(tmp_path).faults]
    assert len(faults) == 2
    assert "0014.PNG" in faults[0]
    assert "says defective, but its mask" in faults[0]
    assert "missing" in faults[0]
    assert "0580.PNG" in faults[1]
    assert "says good" in faults[1]


@pytest.mark.parametrize("folder", ["Class1", "Class1_def", "."])
def test_dagm_development_data(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(miniatures.dagm_development(tmp_path))
    dataset = open_dataset(tmp_path / folder if folder != "." else folder)
    assert counts(dataset) == {("train", "good"): 14, ("test", "good"): 2, ("test", "defect"): 3}
    upright, lying, corner = (sample.mask for sample in dataset.samples if sample.is_defective)
    assert upright is not None
    assert lying is not None
    assert corner is not None
    rows, columns = np.nonzero(upright.read(SIZE_HW))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 18, 6, 10)
    rows, columns = np.nonzero(lying.read(SIZE_HW))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 14, 2, 14)
    assert corner.read(SIZE_HW)[23, 15]


def test_dagm_ellipses_turn_from_x_to_y(tmp_path: Path) -> None:
    miniatures.dagm_development(tmp_path)
    (tmp_path / "Class1_def/labels.txt").write_text("1\t6\t1\t0.785398\t8\t12\n")
    assert len(find_dataset(tmp_path / "Class1").faults) == 2  # of images 2 and 3
    tilted = find_dataset(tmp_path / "Class1").test[2].mask
    assert tilted is not None
    ellipse = tilted.read(SIZE_HW)
    assert ellipse[16, 12]
    assert ellipse[8, 4]
    assert not ellipse[8, 12]
    assert not ellipse[16, 4]
    (tmp_path / "Class1_def/labels.txt").write_text("1\t6\t1\n")
    assert "labels.txt, row 1: should hold" in refusal(tmp_path / "Class1")


def test_aitex_unites_double_masks_and_accepts_a_missing_mask(tmp_path: Path) -> None:
    dataset = open_dataset(miniatures.aitex(tmp_path))
    assert counts(dataset) == {
        ("train", "good"): 14, ("test", "good"): 2,
        ("test", "broken end"): 1, ("test", "fuzzyball"): 1, ("test", "warp ball"): 1,
    }  # fmt: skip
    single, double, none = (sample.mask for sample in dataset.samples if sample.is_defective)
    assert single is not None
    assert double is not None
    assert none is None
    np.testing.assert_array_equal(double.read(SIZE_HW), square(left=0) | square(left=10))
    shutil.rmtree(tmp_path / "NODefect_images/2306881-210020u")
    shutil.rmtree(tmp_path / "NODefect_images/2311694-1930c7u")
    assert "holds no images, in it or below" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("make", "category"),
    [(miniatures.mvtec, "bottle"), (miniatures.btad, "01"), (miniatures.dagm, "Class1"), (miniatures.mpdd, "tubes")],
)
def test_the_root_of_many_categories_names_them(make, category: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    make(tmp_path / "all" / category)
    make(tmp_path / "all" / "other")
    message = refusal(tmp_path / "all")
    assert "holds 2 datasets: " in message
    assert category in message
    assert "give the folder of one, such as" in message
    assert f"{category}/{category}" in refusal(make(tmp_path / "kaggle" / category / category).parent)


def test_the_root_of_visa_names_its_objects(tmp_path: Path) -> None:
    root = miniatures.visa(tmp_path / "VisA").parent
    assert (
        f"{root}: holds 2 datasets: candle, pcb1 (visa); give the folder of one, such as {root / 'candle'}"
        == refusal(root)
    )


@pytest.mark.parametrize(
    ("name", "inner"),
    [("mvtec", "test/scratch"), ("ksdd2", "train"), ("ksdd", "kos02"), ("dagm", "Train"), ("aitex", "Defect_images"),
     ("visa", "Data/Images/Anomaly"), ("magnetic-tile", "MT_Blowhole/Imgs"), ("mvtec", "ground_truth/scratch")],
)  # fmt: skip
def test_a_folder_of_defects_or_masks_is_never_taken_as_good_parts(name: str, inner: str, tmp_path: Path) -> None:
    path = MINIATURES[name][0](tmp_path / "data")
    message = refusal(path / inner)
    assert "images are defective in the dataset" in message or "images are masks in the dataset" in message
    assert f"{path} ({MINIATURES[name][1]}); give that folder" in message
    assert open_dataset(path / inner, "folder").layout == "folder"


@pytest.mark.parametrize("inner", ["train/good", "test/good"])
def test_a_folder_of_good_images_inside_a_dataset_is_a_folder(inner: str, tmp_path: Path) -> None:
    assert open_dataset(miniatures.mvtec(tmp_path) / inner).layout == "folder"


@pytest.mark.parametrize("inner", ["train", "test", "ground_truth"])
def test_a_part_of_a_dataset_points_to_the_whole(inner: str, tmp_path: Path) -> None:
    root = miniatures.mvtec(tmp_path / "bottle")
    assert refusal(root / inner) == (
        f"{root / inner}: is only a part of the dataset {root} (mvtec); give that folder"
    )
