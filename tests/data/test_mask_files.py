"""Which mask belongs to which image."""

from __future__ import annotations

from pathlib import Path

import pytest

from blemish.data.mask_files import MaskFiles, find_masks


def found(root: Path, images: str, masks: str) -> MaskFiles:
    """The masks for images and among mask files; the names are separated by blanks, @ stands for a blank in one."""
    paths = {}
    for folder, names in (("images", images), ("masks", masks)):
        (root / folder).mkdir()
        paths[folder] = [root / folder / name.replace("@", " ") for name in names.split()]
        for path in paths[folder]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return find_masks(paths["images"], root / "images", root / "masks")


def names(files: MaskFiles) -> dict[str, list[str]]:
    return {image.name: [mask.name for mask in masks] for image, masks in files.masks.items()}


NAMES = (
    "000.png 000.bmp 000_mask.png 000_mask.bmp 000_Mask.PNG 000_MASK.tiff 000_GT.png 000_gt.jpg 000_label.bmp "
    "000-mask.png 000.mask.png 000@mask.png 000mask.webp 000_masks.gif 000_ground_truth.png 000_seg.png "
    "000.png_mask.png 000.jpg.png 000_mask_0.png 000_mask1.png 000_1.png"
)


@pytest.mark.parametrize("mask", NAMES.split())
def test_names_that_belong_to_an_image(mask: str, tmp_path: Path) -> None:
    files = found(tmp_path, "000.jpg 0001.jpg", mask)
    assert names(files) == {"000.jpg": [mask.replace("@", " ")]}
    assert not files.unused
    (fault,) = files.faults.values()
    assert fault.startswith(f"{tmp_path / 'images/0001.jpg'}: no mask for it in {tmp_path / 'masks'}; save it as ")


@pytest.mark.parametrize("mask", ["mask_000.png", "000_M.png", "000_result.png", "00_mask.png", "0000.png"])
def test_names_that_belong_to_none_are_unused(mask: str, tmp_path: Path) -> None:
    files = found(tmp_path, "000.png", mask)
    assert files.unused == (tmp_path / "masks" / mask,)
    assert list(files.faults) == [tmp_path / "images/000.png"]


def test_letter_case_and_accents_do_not_matter(tmp_path: Path) -> None:
    files = found(tmp_path, "Gr\u00f6\u00dfe.JPG b.png B.png", "GRO\u0308SSE_mask.png b_mask.png B_mask.png")
    assert names(files) == {
        "Gr\u00f6\u00dfe.JPG": ["GRO\u0308SSE_mask.png"], "b.png": ["b_mask.png"], "B.png": ["B_mask.png"]
    }  # fmt: skip


def test_the_longest_name_of_an_image_wins(tmp_path: Path) -> None:
    files = found(tmp_path, "a.png a_1.png a_mask.png", "a_2.png a_1.png a_1_mask.png a_mask_mask.png")
    assert names(files) == {"a.png": ["a_2.png"], "a_mask.png": ["a_mask_mask.png"]}
    assert "2 masks for it" in files.faults[tmp_path / "images/a_1.png"]


@pytest.mark.parametrize(
    "masks",
    [
        "0_mask_0.png 0_mask_1.png 0_mask_10.png", "0_mask.png 0_mask1.png", "0_1.png 0_2.bmp", "0/a.png 0/b.png",
        "0_mask.png 0_mask@(1).png",
    ],
)  # fmt: skip
def test_numbered_masks_and_a_folder_of_masks_are_united(masks: str, tmp_path: Path) -> None:
    files = found(tmp_path, "0.png", masks)
    expected = {tmp_path / "masks" / name.replace("@", " ") for name in masks.split()}
    assert {image.name: set(paths) for image, paths in files.masks.items()} == {"0.png": expected}
    assert not files.unused


@pytest.mark.parametrize(
    "masks",
    [
        "0_mask.png 0.png",
        "0_mask.png 0_mask.bmp",
        "0_mask.png 0_GT.png",
        "0_mask.png 0/a.png",
        "0_mask.png 0_MASK.png",
    ],
)
def test_masks_that_may_contradict_each_other_are_a_fault(masks: str, tmp_path: Path) -> None:
    files = found(tmp_path, "0.png", masks)
    assert not files.masks
    assert files.contradicting == {tmp_path / "images/0.png"}
    (fault,) = files.faults.values()
    assert f"2 masks for it in {tmp_path / 'masks'} (" in fault
    assert "0_mask_1.png, 0_mask_2.png" in fault


def test_images_below_a_folder_have_their_masks_below_one_of_the_same_name(tmp_path: Path) -> None:
    files = found(tmp_path, "0.png camera2/0.png camera3/0.png", "0.png Camera2/0_mask.png other/0.png")
    assert {path.relative_to(tmp_path / "images").as_posix(): masks for path, masks in files.masks.items()} == {
        "0.png": (tmp_path / "masks/0.png",), "camera2/0.png": (tmp_path / "masks/Camera2/0_mask.png",)
    }  # fmt: skip
    assert files.unused == (tmp_path / "masks/other/0.png",)
    assert "there is no such folder" in files.faults[tmp_path / "images/camera3/0.png"]


def test_no_folder_of_masks_leaves_every_image_without(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    for folder in (None, tmp_path / "none"):
        files = find_masks([tmp_path / "a.png"], tmp_path, folder)
        assert list(files.faults) == [tmp_path / "a.png"]
        assert not files.contradicting


def test_one_mask_of_two_images_is_refused(tmp_path: Path) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    for path in (
        images / "0.png",
        images / "0.jpg",
        images / "1.png",
        masks / "0_mask.png",
        masks / "1.png_mask.png",
    ):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    listed = [images / "0.png", images / "0.jpg", images / "1.png"]
    files = find_masks(listed, images, masks)
    assert set(files.contradicting) == {images / "0.png", images / "0.jpg"}
    assert "0_mask.png may be the mask of 0.png and 0.jpg" in files.faults[images / "0.jpg"]
    assert files.masks == {images / "1.png": (masks / "1.png_mask.png",)}
    (masks / "0_mask.png").rename(masks / "0.png_mask.png")
    (masks / "0.jpg_mask.png").touch()
    files = find_masks(listed, images, masks)
    assert files.masks[images / "0.png"] == (masks / "0.png_mask.png",)
    assert files.masks[images / "0.jpg"] == (masks / "0.jpg_mask.png",)


def test_masks_that_are_not_numbered_are_not_united(tmp_path: Path) -> None:
    for name in ("0_mask.png", "0.png_mask.png"):
        (tmp_path / "masks").mkdir(exist_ok=True)
        (tmp_path / "masks" / name).touch()
    image = tmp_path / "images" / "0.png"
    files = find_masks([image], tmp_path / "images", tmp_path / "masks")
    assert "2 masks for it" in files.faults[image]
    (tmp_path / "masks/0.png_mask.png").rename(tmp_path / "masks/0_mask_2.png")
    assert len(find_masks([image], tmp_path / "images", tmp_path / "masks").masks[image]) == 2
