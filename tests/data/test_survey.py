"""`blemish data` on good datasets and on broken copies: each problem is reported with its file and a remedy."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import miniatures
import numpy as np
import pytest
from miniatures import MINIATURES, SIZE_HW, image, mask, save

from blemish.cli import main
from blemish.data import reading
from blemish.data.survey import Survey, survey


def problems_of(result: Survey, *levels: str) -> list[tuple[str, str]]:
    """Kind and text of each problem with one of the levels; by default of errors and warnings."""
    levels = levels or ("error", "warning")
    return [(problem.about, problem.text) for problem in result.problems if problem.level in levels]


# Problems of the published datasets themselves, and therefore of their miniatures.
PUBLISHED_PROBLEMS = {"aitex": ["no mask"]}


@pytest.mark.parametrize("name", MINIATURES)
def test_healthy_datasets_are_fit_to_use(name: str, tmp_path: Path) -> None:
    make, layout = MINIATURES[name]
    result = survey(make(tmp_path))
    assert result.layout == layout
    assert [about for about, _ in problems_of(result)] == PUBLISHED_PROBLEMS.get(name, [])
    assert result.is_fit_to_use


def test_groups_count_by_split_and_kind(tmp_path: Path) -> None:
    miniatures.ksdd2(tmp_path)
    image(tmp_path / "test/20000.png", size_hw=(30, 20))
    mask(tmp_path / "test/20000_GT.png", value=0, size_hw=(30, 20))
    groups = survey(tmp_path).groups
    assert [(group.split, group.defect, group.n_images, group.n_masks) for group in groups] == [
        ("train", "good", 12, 0), ("train", "defect", 3, 3), ("test", "good", 4, 0), ("test", "defect", 2, 2),
    ]  # fmt: skip
    assert groups[2].sizes == {"16x24": 3, "20x30": 1}
    assert groups[0].kinds == {"PNG, grey, 8 bits": 12}


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "kind"),
    [
        ("a.png", SIZE_HW, np.uint8, "PNG, grey, 8 bits"),
        ("a.tif", SIZE_HW, np.uint16, "TIFF, grey, 16 bits"),
        ("a.bmp", SIZE_HW, np.bool_, "BMP, grey, 1 bit"),
        ("a.jpg", (*SIZE_HW, 3), np.uint8, "JPEG, colour, 8 bits"),
        ("a.png", (*SIZE_HW, 4), np.uint8, "PNG, colour with alpha, 8 bits"),
        ("a.tif", (*SIZE_HW, 3), np.uint8, "TIFF, colour, 8 bits"),
        ("a.tif", SIZE_HW, np.bool_, "TIFF, grey, 1 bit"),
    ],
)
def test_file_kind(name: str, shape: tuple[int, ...], dtype: type, kind: str, tmp_path: Path) -> None:
    assert reading.file_kind(save(tmp_path / name, np.ones(shape, dtype))) == kind


def test_grey_saved_as_colour_is_reported(tmp_path: Path) -> None:
    for number in range(12):
        grey = reading.read_image(image(tmp_path / f"{number}.png"))
        save(tmp_path / f"{number}.png", grey)
    result = survey(tmp_path)
    assert result.groups[0].kinds == {"PNG, grey saved as colour, 8 bits": 12}
    assert problems_of(result) == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def rgb(path: Path) -> None:
    save(path, np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8))


CLASSES = np.arange(SIZE_HW[0] * SIZE_HW[1], dtype=np.uint16).reshape(SIZE_HW).astype(np.uint8) % 3
LARGE = np.pad(np.full((20, 14), 255, np.uint8), ((2, 2), (1, 1)))
BREAKAGES: dict[str, tuple[Callable[[Path], object], str, str, str, str]] = {
    # damage to MVTec's miniature; level and kind of the problem; the file in its text; a part of its text
    "truncated training image": (
        lambda root: truncate(root / "train/good/003.png"),
        "error", "unreadable", "train/good/003.png", "copy or export it again",
    ),
    "truncated test image": (
        lambda root: truncate(root / "test/scratch/001.png"),
        "error", "unreadable", "test/scratch/001.png", "copy or export it again",
    ),
    "text named .png": (
        lambda root: (root / "train/good/notes.png").write_text("Schicht 2"),
        "error", "unreadable", "train/good/notes.png", "convert it to PNG",
    ),
    "empty file": (
        lambda root: (root / "test/good/001.png").write_bytes(b""),
        "error", "unreadable", "test/good/001.png", "copy or export it again",
    ),
    "mask of another size": (
        lambda root: mask(root / "ground_truth/scratch/001_mask.png", size_hw=(16, 24)),
        "error", "unreadable", "ground_truth/scratch/001_mask.png", "save both at the same size",
    ),
    "mask of class numbers": (
        lambda root: save(root / "ground_truth/scratch/001_mask.png", CLASSES),
        "error", "unreadable", "ground_truth/scratch/001_mask.png", "this file holds 3 values: 0, 1, 2; say which",
    ),
    "mask of most of the image": (
        lambda root: save(root / "ground_truth/scratch/001_mask.png", LARGE),
        "warning", "doubtful mask", "ground_truth/scratch/001_mask.png", "covers 73 % of its image",
    ),
    "mask of no image": (
        lambda root: mask(root / "ground_truth/scratch/9_mask.png"),
        "warning", "left out", "ground_truth/scratch", "1 mask of no image in",
    ),
    "images below good ones": (
        lambda root: image(root / "train/good/camera 2/9.png"),
        "warning", "left out", "train/good/camera 2", "its 1 image is not used",
    ),
    "missing mask": (
        lambda root: (root / "ground_truth/scratch/002_mask.png").unlink(),
        "warning", "no mask", "test/scratch/002.png", "no mask for it in",
    ),
    "too few": (
        lambda root: [path.unlink() for path in (root / "train/good").glob("00[3-9].png")],
        "error", "too few", "", "fit needs 10",
    ),
    "empty mask": (
        lambda root: mask(root / "ground_truth/scratch/001_mask.png", value=0),
        "warning", "doubtful mask", "ground_truth/scratch/001_mask.png", "draw the defect",
    ),
    "same image in train and test": (
        lambda root: shutil.copy(root / "train/good/003.png", root / "test/good/other name.png"),
        "warning", "leak", "train/good/003.png", "test/good/other name.png (test, good) have the same pixels",
    ),
    "same image twice in train": (
        lambda root: shutil.copy(root / "train/good/003.png", root / "train/good/copy.png"),
        "warning", "duplicate", "train/good/003.png", "train/good/copy.png have the same pixels; keep one",
    ),
    "same pixels in another file format": (
        lambda root: miniatures.save(root / "test/good/003.bmp", reading.read_image(root / "train/good/003.png")),
        "warning", "leak", "train/good/003.png", "remove one",
    ),
    "defective image also good": (
        lambda root: shutil.copy(root / "test/scratch/001.png", root / "test/good/001.png"),
        "warning", "contradiction", "test/good/001.png", "test/scratch/001.png (test, scratch) have the same pixels",
    ),
    "colour among grey": (
        lambda root: rgb(root / "train/good/003.png"),
        "warning", "grey and colour", "train/good/003.png", "take all images in the same way",
    ),
    "16 bits among 8": (
        lambda root: save(root / "train/good/003.png", np.arange(384, dtype=np.uint16).reshape(SIZE_HW) * 170),
        "warning", "bits", "train/good/003.png", "save all with the same depth",
    ),
    "12 bits in 16": (
        lambda root: save(root / "train/good/003.png", np.arange(384, dtype=np.uint16).reshape(SIZE_HW) * 10),
        "note", "bits", "train/good/003.png", "multiply the values by 16",
    ),
    "black image": (
        lambda root: save(root / "train/good/003.png", np.zeros(SIZE_HW, np.uint8)),
        "warning", "flat", "train/good/003.png", "remove the image",
    ),
    "another shape": (
        lambda root: image(root / "train/good/003.png", size_hw=(16, 16)),
        "warning", "sizes", "train/good/003.png",
        "16x16 px, but the most frequent of 2 sizes is 16x24 px, and shapes differ",
    ),
    "another size": (
        lambda root: image(root / "train/good/003.png", size_hw=(48, 32)),
        "note", "sizes", "train/good/003.png", "shapes are alike",
    ),
    "no good test images": (
        lambda root: shutil.rmtree(root / "test/good"),
        "warning", "one-sided test", "", "no good test images; add some",
    ),
    "no test images": (
        lambda root: shutil.rmtree(root / "test"),
        "note", "no test", "", "evaluate needs some",
    ),
    "images elsewhere": (
        lambda root: image(root / "new/1.png"),
        "note", "left out", "new", "1 image, which the layout mvtec does not use",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKAGES)
def test_problems_of_broken_copies_are_reported(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage, level, about, file, text_part = BREAKAGES[name]
    root = miniatures.mvtec(tmp_path)
    assert about not in {problem.about for problem in survey(root).problems}
    damage(root)
    result = survey(root)
    (problem, *_) = [problem for problem in result.problems if problem.about == about and text_part in problem.text]
    assert problem.level == level
    assert problem.text.startswith(str(root / file))
    assert "\n" not in problem.text
    assert result.is_fit_to_use == (level != "error")

    with pytest.raises(SystemExit) as stop:
        main(["data", str(root)])
    assert stop.value.code == (2 if level == "error" else 0)
    label = "LEAK" if about == "leak" else level
    assert f"{label}: {problem.text}" in capsys.readouterr().out.splitlines()


def test_a_leak_of_a_defect_into_training_is_reported_twice(tmp_path: Path) -> None:
    root = miniatures.mvtec(tmp_path)
    shutil.copy(root / "test/scratch/001.png", root / "train/good/001.png")
    assert [about for about, _ in problems_of(survey(root))] == ["leak", "contradiction"]


def test_an_image_that_neither_fit_nor_evaluate_reads_causes_no_error(tmp_path: Path) -> None:
    root = miniatures.mvtec_ad_2(tmp_path)
    truncate(root / "validation/good/001_regular.png")
    result = survey(root)
    assert [about for about, _ in problems_of(result, "warning")] == ["unreadable"]
    assert result.is_fit_to_use


def test_notes_on_unused_images(tmp_path: Path) -> None:
    notes = dict.fromkeys(text for _, text in problems_of(survey(miniatures.mvtec_ad_2(tmp_path / "2")), "note"))
    assert f"{tmp_path / '2/validation/good'}: 2 good images, which fit uses only if the folder is" in " ".join(notes)
    assert f"{tmp_path / '2/test_private'}: 2 images, which the layout mvtec-ad-2 does not use" in notes
    notes = dict.fromkeys(text for _, text in problems_of(survey(miniatures.ksdd2(tmp_path / "k")), "note"))
    assert f"{tmp_path / 'k'}: 3 defective training images, which fit does not use" in notes


def test_long_images_are_reported(tmp_path: Path) -> None:
    for number in range(12):
        image(tmp_path / f"{number}.png", size_hw=(8, 128))
    ((about, text),) = problems_of(survey(tmp_path))
    assert about == "long images"
    assert "16 times as long as wide" in text


@pytest.mark.parametrize(
    ("n_good", "text_part"),
    [
        (12, "enough to promise 17 %"),
        (659, "hold out 66 of 659"),
        (660, "hold out 99 of 660"),
        (660, "promise 1 % false"),
    ],
)
def test_the_rate_that_can_be_promised(n_good: int, text_part: str, tmp_path: Path) -> None:
    tiny = image(tmp_path / "0.png", size_hw=(8, 8)).read_bytes()
    for number in range(1, n_good):
        (tmp_path / f"{number}.png").write_bytes(tiny)
    notes = problems_of(survey(tmp_path), "note")
    (text,) = [text for about, text in notes if about == "threshold"]
    assert text_part in text
    assert ("1 % needs 99: give 99 other good images as --calibration, or 660 good images" in text) == (n_good < 660)


def test_every_file_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = miniatures.mvtec(tmp_path)
    decoded: Counter[Path] = Counter()
    decode = reading._decode

    def counted(path: Path) -> np.ndarray:
        decoded[path] += 1
        return decode(path)

    monkeypatch.setattr(reading, "_decode", counted)
    steps: list[tuple[int, int]] = []
    survey(root, on_read=lambda done, total: steps.append((done, total)))
    assert set(decoded) == set(root.rglob("*.png"))
    assert set(decoded.values()) == {1}
    assert steps == [(number, 18) for number in range(1, 19)]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["data", *map(str, arguments)])
    assert isinstance(stop.value.code, int)
    return stop.value.code


def test_the_table_and_the_verdict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(miniatures.mvtec(tmp_path / "[parts]")) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{tmp_path / '[parts]'}: layout mvtec, recognized by train/good with test/<defect>")
    row = next(line for line in out.splitlines() if "scratch" in line)
    assert [cell.strip() for cell in row.split("│")[2:7]] == ["scratch", "3", "3", "16x24", "PNG, grey, 8 bits"]
    assert "18 images and 3 masks read: 0 unreadable, 0 in two splits, 0 other duplicates." in out
    assert "No problems: ready for training." in out


def test_many_problems_of_one_kind_are_summarized(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(25):
        image(tmp_path / f"good{number}.png")
        (tmp_path / f"bad{number}.png").write_text("no image")
    assert run(tmp_path) == 2
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("error: ")]
    assert len(lines) == 11
    assert lines[-1] == "error: 15 more like these (unreadable); --json lists all"


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = miniatures.mvtec(tmp_path)
    truncate(root / "train/good/003.png")
    assert run(root, "--json", "--layout", "mvtec") == 2
    content = json.loads(capsys.readouterr().out)
    assert content["layout"] == "mvtec"
    assert content["root"] == str(root)
    assert content["is_fit_to_use"] is False
    assert content["groups"][0] == {
        "split": "train", "defect": "good", "n_images": 12, "n_masks": 0,
        "sizes": {"16x24": 11}, "kinds": {"PNG, grey, 8 bits": 11},
    }  # fmt: skip
    assert content["problems"][0]["about"] == "unreadable"


@pytest.mark.parametrize(
    ("inner", "message_part"),
    [("empty", "the folder is empty"), ("all", "holds 1 dataset: bottle (mvtec)"), ("all/bottle/train", "give that")],
)
def test_no_dataset_is_one_line(
    inner: str, message_part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    miniatures.mvtec(tmp_path / "all/bottle")
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / inner) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith(f"blemish: {tmp_path / inner}: ")
    assert message_part in line


# --- on real images ------------------------------------------------------------------------------------------


def copy_part(source: Path, target: Path, n_each: int) -> Path:
    """Copy the first `n_each` files of every folder of a dataset."""
    for folder in [source, *(path for path in source.rglob("*") if path.is_dir())]:
        for path in sorted(path for path in folder.iterdir() if path.is_file())[:n_each]:
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return target


@pytest.mark.parametrize(
    ("name", "good", "defect"),
    [("mvtec/bottle", "train/good", "broken_large"), ("mvtec/pill", "train/good", "crack")],
)
def test_broken_copies_of_real_categories(
    name: str, good: str, defect: str, shared_data: Path, tmp_path: Path
) -> None:
    root = copy_part(shared_data / name, tmp_path / "copy", 11)
    assert problems_of(survey(root)) == []
    images = sorted((root / good).iterdir())
    masks = sorted((root / "ground_truth" / defect).iterdir())
    images[0].write_bytes(images[0].read_bytes()[:5000])
    images[1].write_text("no image")
    shutil.copy(images[2], root / "test/good/again.jpg")
    mask(masks[0], size_hw=(300, 300))
    masks[1].unlink()
    problems = {(about, Path(text.split(": ")[0].split(" (")[0])) for about, text in problems_of(survey(root))}
    assert problems == {
        ("unreadable", images[0]),
        ("unreadable", images[1]),
        ("leak", images[2]),
        ("unreadable", masks[0]),
        ("no mask", next((root / "test" / defect).glob(f"{masks[1].stem.removesuffix('_mask')}.*"))),
    }


def test_broken_copy_of_magnetic_tile(shared_data: Path, tmp_path: Path) -> None:
    root = copy_part(shared_data / "magnetic-tile", tmp_path / "copy", 11)
    assert [about for about, _ in problems_of(survey(root))] == ["sizes"]
    first, second, *_ = sorted((root / "MT_Crack/images").iterdir())
    truncate(first)
    shutil.copy(second, root / "MT_Free/images/zzz.jpg")
    assert [about for about, _ in problems_of(survey(root))] == ["unreadable", "leak", "contradiction", "sizes"]


@pytest.mark.parametrize(
    ("name", "layout", "n_warnings"),
    [("mvtec/bottle", "mvtec", 0), ("magnetic-tile", "magnetic-tile", 6), ("textures/banded", "folder", 1)],
)
def test_real_datasets(name: str, layout: str, n_warnings: int, shared_data: Path) -> None:
    result = survey(shared_data / name)
    assert result.layout == layout
    assert result.is_fit_to_use
    assert len(problems_of(result, "warning")) == n_warnings
