"""Photographs of defects and their masks, read from folders and from datasets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.defects import load_defects
from blemish.errors import BlemishError


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def mask(size_hw: tuple[int, int] = (40, 60)) -> np.ndarray:
    pixels = np.zeros(size_hw, np.uint8)
    pixels[: size_hw[0] // 2, 0] = 255  # a crack, one pixel wide
    return pixels


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for number, suffix in enumerate(("", "_mask", "_GT", "_label")):
        save(tmp_path / "bad" / f"{number}.png", np.full((40, 60, 3), 10 * number, np.uint8))
        save(tmp_path / "masks" / f"{number}{suffix}.png", mask())
    return tmp_path / "bad", tmp_path / "masks"


def test_masks_match_by_name_and_thin_cracks_survive(folders: tuple[Path, Path]) -> None:
    images, masks = load_defects(*folders, (16, 16))
    assert images.shape == (4, 3, 16, 16)
    assert masks.shape == (4, 1, 16, 16)
    assert images[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    expected = np.zeros((16, 16), np.uint8)
    expected[:8, 0] = 1
    assert all(np.array_equal(channels[0], expected) for channels in masks.numpy())


def test_a_dataset_gives_the_defects_of_its_training_split(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "train" / f"1000{number}.png", np.full((40, 60, 3), 10 * number, np.uint8))
        save(tmp_path / "train" / f"1000{number}_GT.png", mask() * (number > 1))
        save(tmp_path / "test" / f"2000{number}.png", np.zeros((40, 60, 3), np.uint8))
        save(tmp_path / "test" / f"2000{number}_GT.png", mask() * (number > 1))
    images, masks = load_defects(tmp_path, None, (16, 16))
    assert images[:, 0, 0, 0].tolist() == [20, 30]
    assert masks.sum().item() == 16


def test_every_image_without_a_fitting_mask_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images, masks = folders
    with pytest.raises(BlemishError, match="folder of their own"):
        load_defects(images, images, (16, 16))
    with pytest.raises(BlemishError, match="also give defect_masks"):
        load_defects(images, None, (16, 16))
    (masks / "2_GT.png").unlink()
    with pytest.raises(BlemishError, match=r"2\.png: no mask for it"):
        load_defects(images, masks, (16, 16))
    save(masks / "2.png", np.zeros((40, 60), np.uint8))
    save(masks / "1_mask.png", mask((20, 60)))
    with pytest.raises(BlemishError, match="mask is empty") as error:
        load_defects(images, masks, (16, 16))
    assert "1_mask.png: the mask is" in str(error.value), "all faults are reported at once"
    save(masks / "2_GT.png", mask())
    with pytest.raises(BlemishError, match=r"2 masks for it in .* \(2\.png, 2_GT\.png\)"):
        load_defects(images, masks, (16, 16))
    (masks / "2.png").unlink()
    save(masks / "1_mask.png", np.full((40, 60), 255, np.uint8))
    with pytest.raises(BlemishError, match=r"1\.png: its mask covers all of it"):
        load_defects(images, masks, (16, 16))
    (tmp_path / "none").mkdir()
    with pytest.raises(BlemishError, match="no images"):
        load_defects(tmp_path / "none", masks, (16, 16))


def test_masks_are_read_as_by_evaluate(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = folders
    numbers = np.minimum(mask(), 1) + np.roll(np.minimum(mask(), 2), 3, axis=1)
    save(masks / "1_mask.png", numbers)
    with pytest.raises(BlemishError, match=r"1_mask\.png: .* holds 3 values: 0, 1, 2; say which"):
        load_defects(images, masks, (40, 60))
    for values, n_columns in (("nonzero", 2), ("2", 1)):
        one_value = np.minimum(mask(), 1)  # of the other masks
        for other in ("0", "2_GT", "3_label"):
            save(masks / f"{other}.png", one_value * (2 if values == "2" else 1))
        assert load_defects(images, masks, (40, 60), mask_values=values)[1][1].sum() == 20 * n_columns
    save(masks / "1_mask.png", 255 - mask())
    with pytest.raises(BlemishError, match=r"1_mask\.png: .*drawn in black; give --mask-values inverted"):
        load_defects(images, masks, (40, 60))
    large = mask()
    large[:35, 2:58] = 255
    save(masks / "1_mask.png", large)
    save(masks / "unknown.png", mask())
    load_defects(images, masks, (40, 60))
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith(f"blemish: {masks / 'unknown.png'}: a mask of no image in {images}")
    assert told[1].startswith(f"blemish: {masks / '1_mask.png'}: the mask covers 82 % of its image")
    assert len(told) == 2


def test_numbered_masks_are_united_and_folders_below_count(folders: tuple[Path, Path]) -> None:
    images, masks = folders
    save(masks / "1_mask_2.png", np.roll(mask(), 7, axis=1))
    save(images / "camera 2" / "1.png", np.full((40, 60, 3), 99, np.uint8))
    save(masks / "camera 2" / "1.BMP", mask())
    pixels, read = load_defects(images, masks, (40, 60))
    by_grey = {int(image[0, 0, 0]): int(drawn.sum()) for image, drawn in zip(pixels, read, strict=True)}
    assert by_grey == {0: 20, 10: 40, 20: 20, 30: 20, 99: 20}


def test_archives_among_defects_and_masks_are_named(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in folders:
        (folder / "more.zip").write_bytes(b"PK\x03\x04" + bytes(99))
    load_defects(*folders, (20, 30))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"blemish: {folder}: 1 file is left out: more.zip (ZIP archive); unpack it" for folder in folders
    ]
