"""`blemish data` on healthy datasets and on broken copies of them: what is wrong is told, with file and remedy."""

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


def told(found: Survey, *levels: str) -> list[tuple[str, str]]:
    """What the problems are about, with their texts; of some levels, or of errors and warnings."""
    return [(one.about, one.text) for one in found.problems if one.level in (levels or ("error", "warning"))]


# What is amiss in the published data themselves, and so in their miniatures.
ODDITIES = {"aitex": ["no mask"]}


@pytest.mark.parametrize("name", MINIATURES)
def test_healthy_datasets_are_fit_to_use(name: str, tmp_path: Path) -> None:
    make, layout = MINIATURES[name]
    found = survey(make(tmp_path))
    assert found.layout == layout
    assert [about for about, _ in told(found)] == ODDITIES.get(name, [])
    assert found.is_fit_to_use


def test_groups_count_by_split_and_kind(tmp_path: Path) -> None:
    miniatures.ksdd2(tmp_path)
    image(tmp_path / "test/20000.png", size_hw=(30, 20))
    mask(tmp_path / "test/20000_GT.png", value=0, size_hw=(30, 20))
    groups = survey(tmp_path).groups
    assert [(one.split, one.defect, one.n_images, one.n_masks) for one in groups] == [
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
    ],
)
def test_file_kind(name: str, shape: tuple[int, ...], dtype: type, kind: str, tmp_path: Path) -> None:
    assert reading.file_kind(save(tmp_path / name, np.ones(shape, dtype))) == kind


def test_grey_saved_as_colour_is_told(tmp_path: Path) -> None:
    for number in range(12):
        grey = reading.read_image(image(tmp_path / f"{number}.png"))
        save(tmp_path / f"{number}.png", grey)
    found = survey(tmp_path)
    assert found.groups[0].kinds == {"PNG, grey saved as colour, 8 bits": 12}
    assert told(found) == []


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def rgb(path: Path) -> None:
    save(path, np.random.default_rng(0).integers(0, 256, (*SIZE_HW, 3), dtype=np.uint8))


BREAKAGES: dict[str, tuple[Callable[[Path], object], str, str, str, str]] = {
    # what is done to MVTec's miniature, level, about, the file that is named, and a word of the remedy
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
    "mask of 0 and 1": (
        lambda root: mask(root / "ground_truth/scratch/001_mask.png", value=1),
        "error", "unreadable", "ground_truth/scratch/001_mask.png", "save the mask as 0 and 255",
    ),
    "missing mask": (
        lambda root: (root / "ground_truth/scratch/002_mask.png").unlink(),
        "error", "missing", "test/scratch/002.png", "is missing; add it",
    ),
    "too few": (
        lambda root: [path.unlink() for path in (root / "train/good").glob("00[3-9].png")],
        "error", "too few", "", "fit needs 10",
    ),
    "empty mask": (
        lambda root: mask(root / "ground_truth/scratch/001_mask.png", value=0),
        "warning", "empty mask", "ground_truth/scratch/001_mask.png", "draw the defect",
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
        "warning", "grey and colour", "train/good/003.png", "take all alike",
    ),
    "16 bits among 8": (
        lambda root: save(root / "train/good/003.png", np.arange(384, dtype=np.uint16).reshape(SIZE_HW) * 170),
        "warning", "bits", "train/good/003.png", "save all with the same depth",
    ),
    "12 bits in 16": (
        lambda root: save(root / "train/good/003.png", np.arange(384, dtype=np.uint16).reshape(SIZE_HW) * 10),
        "warning", "bits", "train/good/003.png", "multiply the values by 16",
    ),
    "black image": (
        lambda root: save(root / "train/good/003.png", np.zeros(SIZE_HW, np.uint8)),
        "warning", "flat", "train/good/003.png", "remove the image",
    ),
    "another shape": (
        lambda root: image(root / "train/good/003.png", size_hw=(16, 16)),
        "warning", "sizes", "train/good/003.png", "16x16 px, others 16x24 px; 2 sizes in all, of different shapes",
    ),
    "another size": (
        lambda root: image(root / "train/good/003.png", size_hw=(48, 32)),
        "note", "sizes", "train/good/003.png", "of one shape",
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
def test_broken_copies_are_told(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    breaks, level, about, file, remedy = BREAKAGES[name]
    root = miniatures.mvtec(tmp_path)
    assert about not in {one.about for one in survey(root).problems}
    breaks(root)
    found = survey(root)
    (problem, *_) = [one for one in found.problems if one.about == about and remedy in one.text]
    assert problem.level == level
    assert problem.text.startswith(str(root / file))
    assert "\n" not in problem.text
    assert found.is_fit_to_use == (level != "error")

    with pytest.raises(SystemExit) as stop:
        main(["data", str(root)])
    assert stop.value.code == (2 if level == "error" else 0)
    name = "LEAK" if about == "leak" else level
    assert f"{name}: {problem.text}" in capsys.readouterr().out.splitlines()


def test_a_leak_of_a_defect_into_training_is_told_twice(tmp_path: Path) -> None:
    root = miniatures.mvtec(tmp_path)
    shutil.copy(root / "test/scratch/001.png", root / "train/good/001.png")
    assert [about for about, _ in told(survey(root))] == ["leak", "contradiction"]


def test_what_neither_fit_nor_evaluate_reads_is_no_error(tmp_path: Path) -> None:
    root = miniatures.mvtec_ad_2(tmp_path)
    truncate(root / "validation/good/001_regular.png")
    found = survey(root)
    assert [about for about, _ in told(found, "warning")] == ["unreadable"]
    assert found.is_fit_to_use


def test_notes_on_what_is_left_out(tmp_path: Path) -> None:
    notes = dict.fromkeys(text for _, text in told(survey(miniatures.mvtec_ad_2(tmp_path / "2")), "note"))
    assert f"{tmp_path / '2/validation/good'}: 2 good images, which fit leaves out unless it is" in " ".join(notes)
    assert f"{tmp_path / '2/test_private'}: 2 images, which the layout mvtec-ad-2 does not use" in notes
    notes = dict.fromkeys(text for _, text in told(survey(miniatures.ksdd2(tmp_path / "k")), "note"))
    assert f"{tmp_path / 'k'}: 3 defective training images, which fit leaves out" in notes


def test_long_images_are_told(tmp_path: Path) -> None:
    for number in range(12):
        image(tmp_path / f"{number}.png", size_hw=(8, 128))
    ((about, text),) = told(survey(tmp_path))
    assert about == "long images"
    assert "16 times as long as wide" in text


@pytest.mark.parametrize(("n_good", "says"), [(12, "enough to promise 17 %"), (990, "enough to promise 1 % false")])
def test_what_can_be_promised(n_good: int, says: str, tmp_path: Path) -> None:
    tiny = image(tmp_path / "0.png", size_hw=(8, 8)).read_bytes()
    for number in range(1, n_good):
        (tmp_path / f"{number}.png").write_bytes(tiny)
    ((_, text),) = [one for one in told(survey(tmp_path), "note") if one[0] == "threshold"]
    assert says in text
    assert ("1 % takes 99: give 99 others as --calibration, or 990 good images" in text) == (n_good < 990)


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
    assert "18 images and 3 masks read: 0 faulty, 0 both in train and test, 0 otherwise twice." in out
    assert "Nothing amiss: ready for training." in out


def test_many_of_one_kind_are_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    ("inner", "says"),
    [("empty", "the folder is empty"), ("all", "holds 1 dataset: bottle (mvtec)"), ("all/bottle/train", "give that")],
)
def test_no_dataset_is_one_line(inner: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    miniatures.mvtec(tmp_path / "all/bottle")
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / inner) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith(f"blemish: {tmp_path / inner}: ")
    assert says in line


# --- on real images ------------------------------------------------------------------------------------------


def some_of(source: Path, target: Path, n_each: int) -> Path:
    """A copy of a dataset with a few files of each folder, the same in every one."""
    for folder in [source, *(path for path in source.rglob("*") if path.is_dir())]:
        for path in sorted(path for path in folder.iterdir() if path.is_file())[:n_each]:
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    return target


@pytest.mark.parametrize(
    ("name", "good", "defect"),
    [("mvtec/bottle", "train/good", "broken_large"), ("mvtec/pill", "train/good", "crack")],
)
def test_broken_copies_of_real_categories(
    name: str, good: str, defect: str, shared_data: Path, tmp_path: Path
) -> None:
    root = some_of(shared_data / name, tmp_path / "copy", 11)
    assert told(survey(root)) == []
    images = sorted((root / good).iterdir())
    masks = sorted((root / "ground_truth" / defect).iterdir())
    images[0].write_bytes(images[0].read_bytes()[:5000])
    images[1].write_text("no image")
    shutil.copy(images[2], root / "test/good/again.jpg")
    mask(masks[0], size_hw=(300, 300))
    masks[1].unlink()
    problems = {(about, Path(text.split(": ")[0].split(" (")[0])) for about, text in told(survey(root))}
    assert problems == {
        ("unreadable", images[0]),
        ("unreadable", images[1]),
        ("leak", images[2]),
        ("unreadable", masks[0]),
        ("missing", next((root / "test" / defect).glob(f"{masks[1].stem.removesuffix('_mask')}.*"))),
    }


def test_broken_copy_of_magnetic_tile(shared_data: Path, tmp_path: Path) -> None:
    root = some_of(shared_data / "magnetic-tile", tmp_path / "copy", 11)
    assert [about for about, _ in told(survey(root))] == ["sizes"]
    first, second, *_ = sorted((root / "MT_Crack/images").iterdir())
    truncate(first)
    shutil.copy(second, root / "MT_Free/images/zzz.jpg")
    assert [about for about, _ in told(survey(root))] == ["unreadable", "leak", "contradiction", "sizes"]


@pytest.mark.parametrize(
    ("name", "layout", "n_warnings"),
    [("mvtec/bottle", "mvtec", 0), ("magnetic-tile", "magnetic-tile", 5), ("textures/banded", "folder", 1)],
)
def test_real_datasets(name: str, layout: str, n_warnings: int, shared_data: Path) -> None:
    found = survey(shared_data / name)
    assert found.layout == layout
    assert found.is_fit_to_use
    assert len(told(found, "warning")) == n_warnings
