from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from blemish.data.layouts import LAYOUTS, Dataset, Sample, name_of, open_dataset
from blemish.data.masks import read_mask
from blemish.data.reading import read_image
from blemish.errors import BlemishError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def summary(dataset: Dataset) -> list[tuple[str, str, str, str | None]]:
    def relative(path: Path) -> str:
        return path.relative_to(dataset.root).as_posix()

    return [
        (relative(sample.path), sample.split, sample.defect, sample.mask_path and relative(sample.mask_path))  # type: ignore[misc]
        for sample in dataset.samples
    ]


def refusal(path: Path, layout: str = "auto") -> str:
    with pytest.raises(BlemishError) as error:
        open_dataset(path, layout)
    assert "\n" not in str(error.value)
    return str(error.value)


def mvtec(root: Path) -> Path:
    return touch(
        root,
        *("train/good/10.png", "train/good/9.png", "train/good/.hidden.png", "train/good/notes.txt"),
        *("test/good/0.png", "test/big crack/0.png", "test/Öl/1.JPG"),
        *("ground_truth/big crack/0_mask.png", "ground_truth/Öl/1.png"),
    )


def test_folder(tmp_path: Path) -> None:
    dataset = open_dataset(str(touch(tmp_path, "b 10.png", "b 2.jpg", "ä.BMP", "Thumbs.db", "sub/other.png")))
    assert (dataset.layout, dataset.root) == ("folder", tmp_path)
    assert [(sample.path.name, sample.split) for sample in dataset.train] == [
        ("b 2.jpg", "train"),
        ("b 10.png", "train"),
        ("ä.BMP", "train"),
    ]
    assert dataset.samples[0] == Sample(tmp_path / "b 2.jpg", "train", False, "good", None)
    assert dataset.test == ()


def test_paths_begin_with_the_path_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(mvtec(tmp_path / "mvtec"), "../folder/a.png")
    monkeypatch.chdir(tmp_path)
    assert open_dataset("folder").samples[0].path == Path("folder/a.png")
    assert open_dataset("mvtec").samples[0].path == Path("mvtec/train/good/9.png")
    assert open_dataset("mvtec").test[0].mask_path == Path("mvtec/ground_truth/big crack/0_mask.png")


def test_mvtec(tmp_path: Path) -> None:
    dataset = open_dataset(mvtec(tmp_path))
    assert dataset.layout == "mvtec"
    assert summary(dataset) == [
        ("train/good/9.png", "train", "good", None),
        ("train/good/10.png", "train", "good", None),
        ("test/big crack/0.png", "test", "big crack", "ground_truth/big crack/0_mask.png"),
        ("test/good/0.png", "test", "good", None),
        ("test/Öl/1.JPG", "test", "Öl", "ground_truth/Öl/1.png"),
    ]
    assert [sample.is_defective for sample in dataset.samples] == [False, False, True, False, True]
    assert len(dataset.train) == 2
    assert len(dataset.test) == 3


def test_mvtec_without_test(tmp_path: Path) -> None:
    dataset = open_dataset(touch(tmp_path, "train/good/0.png"))
    assert (dataset.layout, len(dataset.train), dataset.test) == ("mvtec", 1, ())


def test_mvtec_faults(tmp_path: Path) -> None:
    root = touch(mvtec(tmp_path / "a"), "test/big crack/1.png")
    assert refusal(root).startswith(f"{root / 'test/big crack/1.png'}: no mask for it in ")
    (tmp_path / "b/train/good").mkdir(parents=True)
    assert "holds no images" in refusal(tmp_path / "b")
    assert "not the layout mvtec: train/good is missing" in refusal(touch(tmp_path / "c", "a.png"), "mvtec")


@pytest.mark.parametrize("published", [False, True])
def test_magnetic_tile(tmp_path: Path, published: bool) -> None:
    images, masks = ("Imgs", "Imgs") if published else ("images", "masks")
    touch(tmp_path, *(f"MT_Free/{images}/{i}.jpg" for i in range(100, 117)), "papers/MT.pdf")
    touch(tmp_path, f"MT_Blowhole/{images}/1.jpg", f"MT_Blowhole/{masks}/1.png")
    if published:
        touch(tmp_path, *(f"MT_Free/Imgs/{i}.png" for i in range(100, 117)))
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "magnetic-tile"
    assert len(dataset.train) == 15
    assert [(sample.path.name, sample.defect) for sample in dataset.test] == [
        ("107.jpg", "good"),
        ("115.jpg", "good"),
        ("1.jpg", "blowhole"),
    ]
    assert dataset.test[-1].mask_path == tmp_path / "MT_Blowhole" / masks / "1.png"


def test_magnetic_tile_faults(tmp_path: Path) -> None:
    root = touch(tmp_path / "a", "MT_Free/images/1.jpg", "MT_Crack/images/1.jpg")
    assert refusal(root).startswith(f"{root / 'MT_Crack/images/1.jpg'}: its mask ")
    assert "neither images/ nor Imgs/" in refusal(touch(tmp_path / "b", "MT_Free/1.jpg"))
    assert "MT_Free is missing" in refusal(touch(tmp_path / "c", "a.png"), "magnetic-tile")


def manifest(root: Path, text: str, encoding: str = "utf-8") -> Path:
    touch(root, "a.png", "größe 1/b, c.png", "d.png", "e.png", "m/d.png")
    (root / "parts.CSV").write_text(text, encoding=encoding)
    return root / "parts.CSV"


def test_csv(tmp_path: Path) -> None:
    text = (
        "Path, label ,mask,split,remark\r\n"
        'a.png,OK,m/d.png,,x\r\n"größe 1/b, c.png",0,,TEST,\r\n\r\n,,,,\r\n'
        f"d.png,Scratch,m/d.png,,\r\n{tmp_path / 'e.png'},1,,test,\r\n"
    )
    for encoding in ("utf-8", "utf-8-sig"):
        dataset = open_dataset(manifest(tmp_path, text, encoding))
        assert (dataset.layout, dataset.root) == ("csv", tmp_path)
        assert summary(dataset) == [
            ("a.png", "train", "good", None),
            ("größe 1/b, c.png", "test", "good", None),
            ("d.png", "test", "Scratch", "m/d.png"),
            ("e.png", "test", "defect", None),
        ]


def test_csv_with_two_columns(tmp_path: Path) -> None:
    dataset = open_dataset(manifest(tmp_path, "label,path,,\ngood,a.png,,\nbad,d.png\n"))
    assert summary(dataset) == [("a.png", "train", "good", None), ("d.png", "test", "defect", None)]


@pytest.mark.parametrize(
    ("text", "message_part"),
    [
        ("", "no column path and label"),
        ("path,split\na.png,train\n", "no column label in the header 'path,split'"),
        ("path|label\na.png|good\n", "no column path and label in the header 'path|label'"),
        ("path:label\na.png:good\n", "separate them by commas, semicolons or tabs"),
        ("path,label\n", "lists no images"),
        ("path,label\na.png,good\nmissing.png,good\n", "row 3: "),
        ("path,label,mask\nd.png,bad,m/none.png\n", "m/none.png is not a file"),
        ("path,label\nm,good\n", "m is not a file"),
        ("path,label\na.png,\n", "row 2: the label is empty"),
        ("path,label\n,good\n", "row 2: the path is empty"),
        ("path,label\na.png\n", "row 2: the label is empty"),
        ("path,label,split\na.png,good,fold 1\n", "row 2: split 'fold 1' is unknown; use train, validation or test"),
        ("path,label\na.png,none\n", "row 2: label 'none' is unclear; write good, or the kind of the defect"),
        ("path,label\na.png,-1\n", "row 2: label '-1' is unclear"),
        ("path,label\nm\\none.png,good\n", "with / between folders"),
        ("path,label,split\nd.png,bad,train\n", "row 2: a defective image cannot train"),
        ("path,label\na.png,good\n\nm/../a.png,bad\n", "row 4: m/../a.png is listed twice"),
        ("path,label\ngröße 1/b, c.png,good\n", "row 2: more cells than columns"),
        ('path,label\n"a.png,good\n', "not a CSV file in UTF-8"),
    ],
)
def test_csv_faults(tmp_path: Path, text: str, message_part: str) -> None:
    path = manifest(tmp_path, text)
    message = refusal(path)
    assert message.startswith(str(path))
    assert message_part in message


def test_csv_in_another_encoding(tmp_path: Path) -> None:
    text = "path,label\ngröße.png,good\n"
    assert "save it as CSV UTF-8" in refusal(manifest(tmp_path, text, encoding="latin-1"))
    assert "not a CSV file in UTF-8" in refusal(manifest(tmp_path, text, encoding="utf-16"))


@pytest.mark.parametrize("path", ["/", ".", "..", "nowhere"])
def test_every_layout_can_be_asked_about_every_path(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert all(layout.lacks(Path(path)) for layout in LAYOUTS.values())


def test_a_dataset_is_called_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "part.v1" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "part.v1" / "sub")
    names = [name_of(Path(path)) for path in (".", "..", str(tmp_path / "part.v1"), "lists/parts.csv")]
    assert names == ["sub", "part.v1", "part.v1", "parts"]


def test_an_unknown_layout_is_reported_with_the_contents(tmp_path: Path) -> None:
    message = refusal(touch(tmp_path, "a/1.png", "c/1.png", "b/1.png"))
    assert "found 3 subfolders: a, b, c; no images; expected" in message
    assert "train/good" in message
    many = touch(tmp_path / "many", *(f"{i}/1.png" for i in range(1, 8)), "parts.csv")
    assert "found 7 subfolders: 1, 2, 3, 4, 5, ...; no images; 1 other file: parts.csv;" in refusal(many)
    assert f"directly in the folder (such as {many / '1'})" in refusal(many)


def test_what_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "the folder is empty" in refusal(tmp_path / "empty")
    assert "no such file or folder" in refusal(tmp_path / "missing")
    touch(tmp_path, "a.png", "notes.txt")
    assert "is a single image; give the folder" in refusal(tmp_path / "a.png")
    assert "found a file" in refusal(tmp_path / "notes.txt")
    assert "use auto, csv, mvtec" in refusal(tmp_path, "mvtek")


def test_a_forced_layout_must_match(tmp_path: Path) -> None:
    mvtec(tmp_path)
    assert "no images directly in the folder; found 3 subfolders" in refusal(tmp_path, "folder")
    assert "it is not a .csv file" in refusal(tmp_path, "csv")
    assert open_dataset(touch(tmp_path, "a.png"), "folder").layout == "folder"
    assert open_dataset(tmp_path).layout == "mvtec"


def test_a_locked_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(path: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    touch(tmp_path, "a.png")
    monkeypatch.setattr(os, "scandir", locked)
    assert refusal(tmp_path).startswith(f"{tmp_path}: cannot be ")


@pytest.mark.parametrize(
    ("name", "layout", "n_train", "n_test"),
    [
        ("mvtec/bottle", "mvtec", 209, 83),
        ("mvtec/pill", "mvtec", 267, 167),
        ("magnetic-tile", "magnetic-tile", 700, 492),
    ],
)
def test_real_folders(shared_data: Path, name: str, layout: str, n_train: int, n_test: int) -> None:
    dataset = open_dataset(shared_data / name)
    assert (dataset.layout, len(dataset.train), len(dataset.test)) == (layout, n_train, n_test)
    assert not {sample.path for sample in dataset.train} & {sample.path for sample in dataset.test}
    assert all((sample.mask_path is not None) == sample.is_defective for sample in dataset.test)
    for defect in Counter(sample.defect for sample in dataset.test if sample.is_defective):
        sample = next(sample for sample in dataset.test if sample.defect == defect)
        assert sample.mask_path is not None
        read_mask(sample.mask_path, read_image(sample.path).shape[:2])


def test_a_folder_of_categories_is_reported(shared_data: Path) -> None:
    assert "holds 2 datasets: bottle, pill (mvtec); give the folder of one" in refusal(shared_data / "mvtec")
    assert "holds 3 datasets: magnetic-tile, mvtec/bottle, mvtec/pill" in refusal(shared_data)
