"""What the values of masks mean, and what makes a mask doubtful."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from blemish.data.masks import checked_mask_values, mask_doubts, read_mask
from blemish.errors import BlemishError

SIZE_HW = (60, 80)
DEFECT = np.zeros(SIZE_HW, np.bool_)
DEFECT[20:40, 30:60] = True
DEFECT[50:52, 5:70] = True  # a scratch
BLACK_WHITE = DEFECT * np.uint8(255)
BLACK, WHITE = np.zeros(SIZE_HW, np.uint8), np.full(SIZE_HW, 255, np.uint8)


def save(path: Path, pixels: NDArray[Any] | Image.Image, **options: Any) -> Path:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def bands(*values: int, dtype: type = np.uint8) -> NDArray[Any]:
    """The square of the defect, divided into upright bands of these values."""
    pixels = np.zeros(SIZE_HW, dtype)
    for value, columns in zip(values, np.array_split(np.arange(30, 60), len(values)), strict=True):
        pixels[20:40, columns] = value
    return pixels


def refusal(path: Path, values: str = "auto") -> str:
    with pytest.raises(BlemishError) as error:
        read_mask(path, SIZE_HW, values)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    return str(error.value)


def palette() -> Image.Image:
    """Colours of a palette that begins with black, as of the VOC datasets."""
    image = Image.fromarray(DEFECT.astype(np.uint8) * 2, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    return image


@pytest.mark.parametrize(
    "pixels",
    [
        BLACK_WHITE, DEFECT, DEFECT.astype(np.uint8), DEFECT * np.uint8(7), DEFECT * np.uint8(127),
        DEFECT * np.uint16(65535), DEFECT * np.uint16(1), DEFECT * np.uint16(300),
        DEFECT[..., None] * np.array([255, 0, 0], np.uint8), DEFECT[..., None] * np.array([0, 90, 3], np.uint8),
        np.where(DEFECT, np.uint8(235), np.uint8(16)), palette(),
        np.dstack([BLACK_WHITE] * 3 + [WHITE]), np.dstack([BLACK_WHITE, BLACK, BLACK, BLACK_WHITE]),
    ],
    ids=[
        "black and white", "1 bit", "0 and 1", "0 and 7", "0 and 127", "16 bits", "0 and 1 of 16 bits",
        "0 and 300 of 16 bits", "red", "dark green", "video range", "palette", "opaque", "transparent around it",
    ],
)  # fmt: skip
def test_black_and_one_other_value_are_a_mask(pixels: NDArray[Any] | Image.Image, tmp_path: Path) -> None:
    for suffix in (".png", ".tif"):
        mask = read_mask(save(tmp_path / f"mask{suffix}", pixels), SIZE_HW)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, DEFECT)


@pytest.mark.parametrize("quality", [95, 60, 30, 10])
def test_jpeg_noise_is_cut_off(quality: int, tmp_path: Path) -> None:
    path = save(tmp_path / "mask.jpg", BLACK_WHITE, quality=quality)
    assert (read_mask(path, SIZE_HW) != DEFECT).mean() < 0.005


def test_jpeg_noise_in_a_png_and_soft_edges_are_cut_off(tmp_path: Path) -> None:
    jpeg = io.BytesIO()
    Image.fromarray(BLACK_WHITE).save(jpeg, "JPEG", quality=85)
    assert (read_mask(save(tmp_path / "noise.png", Image.open(jpeg)), SIZE_HW) == DEFECT).all()
    large = Image.fromarray(BLACK_WHITE).resize((200, 150), Image.Resampling.BILINEAR)
    mask = read_mask(save(tmp_path / "large.png", large), (150, 200))
    assert abs(mask.mean() / DEFECT.mean() - 1) < 0.05
    edge = BLACK_WHITE.copy()
    edge[20:40, 30] = 128
    assert (read_mask(save(tmp_path / "edge.png", edge), SIZE_HW) == DEFECT).all()


def test_an_empty_and_a_full_mask_are_masks(tmp_path: Path) -> None:
    assert not read_mask(save(tmp_path / "black.png", BLACK), SIZE_HW).any()
    assert read_mask(save(tmp_path / "white.png", WHITE), SIZE_HW).all()
    assert read_mask(save(tmp_path / "deep.png", np.full(SIZE_HW, 65535, np.uint16)), SIZE_HW).all()


@pytest.mark.parametrize(
    ("pixels", "message_part"),
    [
        (bands(1, 2, 3), "holds 4 values: 0, 1, 2, 3; say which"),
        (bands(60, 130, 200), "holds 4 values: 0, 60, 130, 200"),
        (bands(1, 255), "holds 3 values: 0, 1, 255"),  # 255 is often to be ignored
        (bands(128, 255), "holds 3 values: 0, 128, 255"),
        (bands(*range(1, 11), 255), "holds 12 values: 0, 1, 2,"),
        (bands(300, 600, 900, dtype=np.uint16), "holds 4 values: 0, 300, 600, 900"),
        (bands(1, dtype=np.uint16) + np.uint16(1), "holds 2 values: 1, 2"),
        (np.full(SIZE_HW, 1, np.uint8), "holds 1 value: 1"),
        (np.tile(np.arange(80, dtype=np.uint8) * 3, (60, 1)), "holds 80 values: 0, 3, 6,"),
        (np.dstack([WHITE, 255 - BLACK_WHITE, 255 - BLACK_WHITE]), "holds 2 values: 255/0/0, 255/255/255"),
        (np.dstack([bands(255, 0), bands(0, 255), BLACK]), "holds 3 values: 0/0/0, 0/255/0, 255/0/0"),
        (np.dstack([BLACK] * 3 + [BLACK_WHITE]), "give --mask-values alpha if what is opaque is defective"),
        (np.dstack([WHITE] * 3 + [BLACK_WHITE]), "give --mask-values alpha"),
        (np.dstack([BLACK, BLACK_WHITE]), "give --mask-values alpha"),
        (np.dstack([BLACK_WHITE] * 3 + [255 - BLACK_WHITE]), "give --mask-values alpha"),
        (255 - BLACK_WHITE, "covers 85 % of its image, and its border, so the defect seems to be drawn in black"),
        (1 - DEFECT.astype(np.uint8), "give --mask-values inverted, or white if so much of the image is defective"),
    ],
)
def test_what_could_be_read_in_several_ways_is_refused(
    pixels: NDArray[Any], message_part: str, tmp_path: Path
) -> None:
    assert message_part in refusal(save(tmp_path / "mask.png", pixels))


def test_a_soft_or_a_class_map_saved_as_jpeg_is_refused(tmp_path: Path) -> None:
    assert "--mask-values" in refusal(save(tmp_path / "classes.jpg", bands(60, 130, 200), quality=90))
    soft = Image.fromarray(BLACK_WHITE).filter(ImageFilter.GaussianBlur(5))
    assert "--mask-values" in refusal(save(tmp_path / "soft.png", soft))


def test_the_user_says_which_pixels_are_defective(tmp_path: Path) -> None:
    def read(pixels: NDArray[Any], values: str) -> NDArray[np.bool_]:
        return read_mask(save(tmp_path / "mask.png", pixels), SIZE_HW, values)

    classes = bands(1, 2, 3)
    np.testing.assert_array_equal(read(classes, "nonzero"), classes > 0)
    np.testing.assert_array_equal(read(classes, "1,3"), (classes == 1) | (classes == 3))
    np.testing.assert_array_equal(read(classes, "0"), classes == 0)
    deep = bands(300, 600, 900, dtype=np.uint16)
    np.testing.assert_array_equal(read(deep, "600"), deep == 600)
    np.testing.assert_array_equal(read(bands(100, 127, 128, 200), "white"), bands(0, 0, 1, 1) > 0)
    np.testing.assert_array_equal(read(bands(32767, 32768, dtype=np.uint16), "white"), bands(0, 1) > 0)
    np.testing.assert_array_equal(read(255 - BLACK_WHITE, "inverted"), DEFECT)
    np.testing.assert_array_equal(read(255 - BLACK_WHITE, "white"), ~DEFECT)
    for below in (BLACK, WHITE):
        np.testing.assert_array_equal(read(np.dstack([below] * 3 + [BLACK_WHITE]), "alpha"), DEFECT)


@pytest.mark.parametrize(
    ("pixels", "values", "message_part"),
    [
        (DEFECT.astype(np.uint8), "white", "a mask of 0 and 1 would be empty; save it as 0 and 255, or give"),
        (BLACK_WHITE, "alpha", "has no alpha channel"),
        (np.dstack([BLACK_WHITE, BLACK, BLACK]), "255", "has colours, not numbers"),
        (bands(1, 2, 3), "inverted", "holds 4 values"),
    ],
)
def test_what_the_user_says_must_fit_the_mask(
    pixels: NDArray[Any], values: str, message_part: str, tmp_path: Path
) -> None:
    assert message_part in refusal(save(tmp_path / "mask.png", pixels), values)


def test_unknown_mask_values_are_refused() -> None:
    assert [checked_mask_values(text) for text in ("auto", " Nonzero", "1, 2", "255")] == [
        "auto", "nonzero", "1,2", "255"
    ]  # fmt: skip
    for text in ("black", "", "1,", "-1", "1.5"):
        with pytest.raises(BlemishError, match="use auto, white, nonzero, inverted, alpha, or the values of"):
            checked_mask_values(text)


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.png", BLACK_WHITE)
    with pytest.raises(BlemishError, match="the mask is 80x60 px, its image 60x80 px; save both at the same size"):
        read_mask(path, (80, 60))
    with pytest.raises(BlemishError, match="if EXIF turns only one of them, save both upright"):
        read_mask(path, (80, 60))
    with pytest.raises(BlemishError, match=r"its image 30x60 px; save both at the same size$"):
        read_mask(path, (60, 30))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


def test_doubts_about_a_mask(tmp_path: Path) -> None:
    image, mask = save(tmp_path / "image.png", BLACK), save(tmp_path / "mask.png", BLACK_WHITE)
    assert mask_doubts([mask], image, DEFECT) == []
    assert mask_doubts([mask], image, ~DEFECT)[0].startswith(f"{mask}: the mask covers 85 % of its image; check it")
    (full,) = mask_doubts([mask], image, np.ones(SIZE_HW, np.bool_))
    assert "covers 100 % of its image" in full
    assert "the mask is empty" in mask_doubts([mask], image, np.zeros(SIZE_HW, np.bool_))[0]


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_an_image_that_exif_turns_without_its_mask_is_reported(orientation: int, suffix: str, tmp_path: Path) -> None:
    exif = turned(orientation)
    image = save(tmp_path / f"image{suffix}", BLACK, exif=exif)
    mask = save(tmp_path / "mask.png", BLACK_WHITE)
    (doubt,) = mask_doubts([mask], image, DEFECT)
    assert doubt.startswith(f"{mask}: EXIF turns the mask otherwise (orientation 1) than its image {image} ")
    assert f"(orientation {orientation}; 1 is upright)" in doubt
    assert len(mask_doubts([mask, tmp_path / "mask.png"], image, DEFECT)) == 2
    assert mask_doubts([save(tmp_path / "also.png", BLACK_WHITE, exif=exif)], image, DEFECT) == []
    upright = save(tmp_path / "upright.png", BLACK, exif=turned(1))
    (doubt,) = mask_doubts([tmp_path / "also.png"], upright, DEFECT)
    assert f"also.png: EXIF turns the mask otherwise (orientation {orientation})" in doubt
