"""Users' own datasets: words for good parts and splits, separators, folders, missing files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.layouts import Dataset, Mask, find_dataset, open_dataset
from blemish.data.layouts.words import GOOD_WORDS
from blemish.errors import BlemishError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def counts(dataset: Dataset) -> dict[tuple[str, str], int]:
    return dict(Counter((sample.split, sample.defect) for sample in dataset.samples))


def texts(dataset: Dataset, about: str) -> list[str]:
    return [fault.text for fault in dataset.faults if fault.about == about]


def manifest(root: Path, *rows: str, header: str = "path,label,mask,split", name: str = "parts.csv") -> Path:
    touch(root, "a/1.png", "a/2.png", "a/3.png", "m/3.png")
    (root / name).write_text("\n".join([header, *rows]) + "\n")
    return root / name


# --- manifests -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", [*sorted(GOOD_WORDS), "GOOD", "Ok", "Normal", "NEGATIVE", "Pass", "False", "0"]
)  # fmt: skip
def test_labels_that_mean_good(word: str, tmp_path: Path) -> None:
    path = manifest(tmp_path, f"a/1.png,{word},,", f"a/2.png,{word},m/3.png,test")
    assert counts(open_dataset(path)) == {("train", "good"): 1, ("test", "good"): 1}


@pytest.mark.parametrize(("word", "defect"), [("Scratch", "Scratch"), ("TRUE", "defect"), ("1.0", "defect")])
def test_other_labels_are_defects(word: str, defect: str, tmp_path: Path) -> None:
    assert counts(open_dataset(manifest(tmp_path, f"a/3.png,{word},m/3.png,"))) == {("test", defect): 1}


@pytest.mark.parametrize(
    ("words", "split"),
    [("train Training TRAIN", "train"), ("test Testing", "test"), ("val valid Validation VAL", "validation")],
)
def test_words_for_splits(words: str, split: str, tmp_path: Path) -> None:
    for word in words.split():
        assert counts(open_dataset(manifest(tmp_path, f"a/1.png,good,,{word}"))) == {(split, "good"): 1}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["parts.csv", "parts.tsv"])
def test_separators(separator: str, name: str, tmp_path: Path) -> None:
    rows = ["a/1.png,good,,", "a/3.png,dent,m/3.png,test", '"a/2.png",ok,,val']
    header, *rows = (row.replace(",", separator) for row in ("Path,label,mask,split", *rows))
    dataset = open_dataset(manifest(tmp_path, *rows, header=header, name=name))
    assert counts(dataset) == {("train", "good"): 1, ("test", "dent"): 1, ("validation", "good"): 1}
    assert dataset.test[0].mask == Mask((tmp_path / "m/3.png",))


def test_text_with_the_other_separators(tmp_path: Path) -> None:
    touch(tmp_path, "a, b;c.png")
    for row, header in (('"a, b;c.png",good', "path,label"), ('"a, b;c.png";good', "path;label")):
        assert open_dataset(manifest(tmp_path, row, header=header)).samples[0].path.name == "a, b;c.png"


def test_backslashes_separate_folders_where_the_file_is_there(tmp_path: Path) -> None:
    dataset = open_dataset(manifest(tmp_path, "a\\1.png,good,,", ".\\a\\3.png,dent,m\\3.png,"))
    assert [sample.path for sample in dataset.samples] == [tmp_path / "a/1.png", tmp_path / "a/3.png"]
    assert dataset.test[0].mask_path == tmp_path / "m/3.png"
    touch(tmp_path, "a\\1.png")
    assert open_dataset(tmp_path / "parts.csv").samples[0].path == tmp_path / "a\\1.png"


def test_a_missing_file_stops_only_the_split_that_needs_it(tmp_path: Path) -> None:
    good = "a/1.png,good,,train"
    path = manifest(tmp_path, good, "a/2.png,good,,test", "gone.png,dent,,test", "a/3.png,dent,gone.png,")
    dataset = open_dataset(path, only="train")
    assert len(dataset.train) == 1
    for only in (None, "test"):
        with pytest.raises(BlemishError, match=r"parts\.csv, row 4: .*gone\.png is not a file"):
            open_dataset(path, only=only)  # type: ignore[arg-type]
    path = manifest(tmp_path, good, "gone.png,good,,", "a/2.png,good,,test", "a/3.png,dent,gone.png,")
    dataset = open_dataset(path, only="test")
    assert counts(dataset) == {("train", "good"): 1, ("test", "good"): 1, ("test", "dent"): 1}
    (text,) = texts(dataset, "mask")
    assert text.startswith(f"{path}, row 5: the mask of a/3.png is missing: {tmp_path / 'gone.png'} is not a file")
    with pytest.raises(BlemishError, match="row 3"):
        open_dataset(path, only="train")


# --- folders as of MVTec AD ----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["good", "Good", "ok", "OK", "normal", "Pass", "negative", "0"])
def test_folders_that_mean_good(word: str, tmp_path: Path) -> None:
    root = touch(tmp_path, "train/good/1.png", f"test/{word}/1.png", "test/dent/1.png", "ground_truth/dent/1.png")
    assert counts(open_dataset(root)) == {("train", "good"): 1, ("test", "good"): 1, ("test", "dent"): 1}


@pytest.mark.parametrize(
    ("word", "layout"), [("Good", "mvtec"), ("normal", "mvtec"), ("OK", "mvtec"), ("ok", "btad")]
)
def test_training_folders_that_mean_good(word: str, layout: str, tmp_path: Path) -> None:
    dataset = open_dataset(touch(tmp_path, f"train/{word}/1.png", "test/normal/1.png"))
    assert (dataset.layout, counts(dataset)) == (layout, {("train", "good"): 1, ("test", "good"): 1})


def test_images_below_a_kind_of_defect_count(tmp_path: Path) -> None:
    root = touch(
        tmp_path, "train/good/1.png", "test/dent/1.png", "test/dent/camera2/1.png", "test/good/lot/2.png",
        "ground_truth/dent/1_mask.png", "ground_truth/dent/camera2/1_mask.png",
    )  # fmt: skip
    dataset = open_dataset(root)
    assert counts(dataset) == {("train", "good"): 1, ("test", "dent"): 2, ("test", "good"): 1}
    assert [sample.mask_path for sample in dataset.test if sample.is_defective] == [
        root / "ground_truth/dent/1_mask.png", root / "ground_truth/dent/camera2/1_mask.png"
    ]  # fmt: skip
    assert not dataset.faults


def test_what_is_not_used_is_named(tmp_path: Path) -> None:
    root = touch(
        tmp_path, "train/good/1.png", "train/good/rejected/2.png", "test/loose.png", "test/dent/1.png",
        "ground_truth/dent/1_mask.png", "ground_truth/dent/2_mask.png", "ground_truth/dent/M1.png",
        "ground_truth/hole/1_mask.png", "ground_truth/3_mask.png",
    )  # fmt: skip
    dataset = open_dataset(root)  # it stops nothing
    left_out = {fault.path.relative_to(root).as_posix(): fault for fault in dataset.faults}
    assert {path: fault.split for path, fault in left_out.items()} == {
        "train/good/rejected": "train", "test": "test", "ground_truth/dent": "test", "ground_truth/hole": "test",
        "ground_truth": "test",
    }  # fmt: skip
    assert left_out["ground_truth/dent"].text == (
        f"{root}/ground_truth/dent: 2 masks of no image in {root}/test/dent: 2_mask.png, M1.png; "
        f"rename or remove them"
    )
    assert f"as there is no {root}/test/hole: 1_mask.png; rename or remove it" in left_out["ground_truth/hole"].text


def test_letter_case_of_ground_truth_and_its_folders(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/good/1.png", "test/Dent/1.png", "Ground_Truth/dent/1_Mask.BMP")
    assert open_dataset(root).test[0].mask_path == root / "Ground_Truth/dent/1_Mask.BMP"


def test_masks_in_a_folder_for_each_image_are_united(tmp_path: Path) -> None:
    names = ("ground_truth/dent/000/000.png", "ground_truth/dent/000/001.png")
    root = touch(tmp_path, "train/good/1.png", "test/dent/000.png", *names)
    assert open_dataset(root).test[0].mask == Mask(tuple(root / name for name in names))


def test_missing_masks_stop_nobody_who_does_not_need_them(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/good/1.png", "test/dent/1.png", "test/dent/2.png", "ground_truth/dent/1.png")
    with pytest.raises(BlemishError, match=r"2\.png: no mask for it in .*; save it as .*2_mask\.png"):
        open_dataset(root)
    for only in ("train", "test"):
        dataset = open_dataset(root, only=only)  # type: ignore[arg-type]
        assert [sample.mask is None for sample in dataset.test] == [False, True]
        assert texts(dataset, "mask")[0].startswith(f"{root / 'test/dent/2.png'}: no mask for it")


def test_masks_that_may_contradict_each_other_stop_who_needs_them(tmp_path: Path) -> None:
    masks = ("ground_truth/dent/1.png", "ground_truth/dent/1_mask.png")
    root = touch(tmp_path, "train/good/1.png", "test/dent/1.png", *masks)
    with pytest.raises(BlemishError, match=r"1\.png: 2 masks for it in .* \(1\.png, 1_mask\.png\); keep only one"):
        open_dataset(root, only="test")
    assert len(open_dataset(root, only="train").train) == 1


def test_a_test_set_without_training_images(tmp_path: Path) -> None:
    root = touch(tmp_path, "test/good/1.png", "test/dent/1.png", "ground_truth/dent/1.png")
    assert len(open_dataset(root, only="test").test) == 2
    with pytest.raises(BlemishError, match="train/good: holds no images"):
        open_dataset(root, only="train")


def test_how_masks_are_read_can_be_said(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/good/1.png", "test/dent/1.png", "ground_truth/dent/1.png")
    assert find_dataset(root).test[0].mask == Mask((root / "ground_truth/dent/1.png",), "auto")
    assert find_dataset(root, mask_values="1, 2").test[0].mask == Mask((root / "ground_truth/dent/1.png",), "1,2")
    path = manifest(tmp_path / "csv", "a/3.png,dent,m/3.png,")
    assert find_dataset(path, mask_values="nonzero").test[0].mask == Mask((path.parent / "m/3.png",), "nonzero")
    with pytest.raises(BlemishError, match="mask values 'black' are unknown"):
        find_dataset(root, mask_values="black")


# --- other words for columns, good parts and tables -------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["path,label,mask,set", "filename,class,mask_path,subset", "Image Path,Category,ground_truth,Partition"]
)
def test_other_names_of_columns(header: str, tmp_path: Path) -> None:
    path = manifest(tmp_path, "a/1.png,good,,train", "a/2.png,good,,test", "a/3.png,dent,m/3.png,test", header=header)
    dataset = open_dataset(path)
    assert counts(dataset) == {("train", "good"): 1, ("test", "good"): 1, ("test", "dent"): 1}
    assert dataset.test[1].mask_path == tmp_path / "m/3.png"
    assert not texts(dataset, "doubt")


def test_columns_that_are_not_used_are_named_or_refused(tmp_path: Path) -> None:
    path = manifest(tmp_path, "a/1.png,good,x,7", header="path,label,operator,score")
    (text,) = texts(open_dataset(path, only="train"), "doubt")
    assert "not used of its columns: operator, score;" in text
    path = manifest(tmp_path, "a/1.png,good,train", "a/2.png,good,test", header="path,label,fold")
    with pytest.raises(BlemishError, match="the column fold holds test, train, but no column is called split"):
        open_dataset(path)
    path = manifest(tmp_path, "a/1.png,good,1,2", header="path,label,set,subset")
    with pytest.raises(BlemishError, match="set and subset may all be the split"):
        open_dataset(path)
    path = manifest(tmp_path, "a/1.png,a/1.png,good", header="file,image,label")
    with pytest.raises(BlemishError, match="no column path in the header"):
        open_dataset(path)


@pytest.mark.parametrize(
    "word",
    ["io", "i.O.", "i. O.", "gut", "conforming", "no_defect", "no defect", "Defect Free", "defect-free", "accepted",
     "healthy", "good_parts", "OK-Teile", "Good.", "ok parts", "良品", "ＯＫ", "go\u200bod", "\ufeffgood"],
)  # fmt: skip
def test_more_words_for_good(word: str, tmp_path: Path) -> None:
    assert counts(open_dataset(manifest(tmp_path, f"a/1.png,{word},"))) == {("train", "good"): 1}


@pytest.mark.parametrize("word", ["n.i.O.", "nio", "NG", "nok", "bad", "Defective", "not ok", "1"])
def test_words_for_no_kind_of_defect(word: str, tmp_path: Path) -> None:
    assert counts(open_dataset(manifest(tmp_path, f"a/1.png,{word},"))) == {("test", "defect"): 1}


def test_the_separator_of_excel(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path;label", "a/1.png;good", "gone.png;good", header="sep=;")
    (fault,) = find_dataset(path).faults
    assert fault.text.startswith(f"{path}, row 4: ")
    assert len(find_dataset(path).train) == 1


def test_a_name_that_is_too_long_stops_its_row_only(tmp_path: Path) -> None:
    dataset = find_dataset(manifest(tmp_path, "a/1.png,good,,", "x" * 300 + ",good,,"))
    assert len(dataset.train) == 1
    assert "row 3: xxx" in dataset.faults[0].text
    assert "is no name of a file" in dataset.faults[0].text


@pytest.mark.parametrize("name", ["parts.txt", "parts.xlsx"])
def test_other_tables_have_a_remedy(name: str, tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match=r"save it as \.csv"):
        open_dataset(manifest(tmp_path, "a/1.png,good,,", name=name))


# --- what may be meant otherwise ---------------------------------------------------------------------------------


def test_words_that_may_mean_good_parts_are_named_once(tmp_path: Path) -> None:
    kinds = ("fine", "dent", "unscratched", "bruise")
    root = touch(
        tmp_path, "train/good/1.png", *(f"test/{kind}/{i}.png" for kind in kinds for i in (1, 2)),
        "ground_truth/bruise/1.png",
    )  # fmt: skip
    (text,) = texts(find_dataset(root), "doubt")
    assert text == f"{root}: taken for kinds of defect: fine, unscratched; rename to good if they are good parts"
    path = manifest(tmp_path / "csv", "a/1.png,good,,", "a/2.png,prima,,test", "a/3.png,nok,,test")
    assert ["prima;" in text for text in texts(open_dataset(path, only="test"), "doubt")] == [True]


def test_masks_that_contradict_the_label_good_are_named(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/good/1.png", "test/good/1.png", "test/good/2.png")
    (root / "ground_truth/good").mkdir(parents=True)
    pixels = np.zeros((8, 8), np.uint8)
    Image.fromarray(pixels).save(root / "ground_truth/good/1_mask.png")
    assert not find_dataset(root).faults
    pixels[2, 2] = 255
    Image.fromarray(pixels).save(root / "ground_truth/good/2_mask.png")
    (text,) = texts(open_dataset(root), "doubt")
    assert text.startswith(f"{root}/ground_truth/good: 1 mask of a good image is not empty: 2_mask.png; correct")
    (root / "parts.csv").write_text("path,label,mask\ntest/good/2.png,ok,ground_truth/good/2_mask.png\n")
    (text,) = texts(open_dataset(root / "parts.csv"), "doubt")
    assert "ground_truth/good/2_mask.png" in text


def test_archives_and_hidden_images_anywhere_in_a_dataset_are_named(tmp_path: Path) -> None:
    root = touch(tmp_path, "train/good/1.png", "test/dent/1.png", "ground_truth/dent/1.png", "test/.hid/a.png")
    archives = {"test/more.zip", "train/more.zip", "ground_truth/dent/x.zip", "test/dent/deep/x.zip"}
    for name in archives | {"test/good/notes.txt"}:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"PK\x03\x04" + bytes(99) if name.endswith("zip") else b"text")
    assert sorted((fault.text, fault.split) for fault in find_dataset(root).faults) == [
        (f"{root}/ground_truth/dent: 1 file is left out: x.zip (ZIP archive); unpack it", "test"),
        (f"{root}/test/dent/deep: 1 file is left out: x.zip (ZIP archive); unpack it", "test"),
        (f"{root}/test: 1 file is left out: .hid (hidden); give the folder itself, or rename it", "test"),
        (f"{root}/test: 1 file is left out: more.zip (ZIP archive); unpack it", "test"),
        (f"{root}/train: 1 file is left out: more.zip (ZIP archive); unpack it", "train"),
    ]
