"""How many bits of 16-bit values a detector uses: fit decides, its file holds it, all that reads for it follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.artifact import read_artifact, write_artifact
from blemish.cli import main
from blemish.data.bits import bits_in_use, bits_of, of_other_bits, value_bits
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import evaluate
from blemish.inspection.framing import Whole
from blemish.learning.images import split_images
from blemish.synthesis.textures import TextureBank
from learning.test_fit import TINY, part, save_parts

OPTIONS: dict[str, Any] = {"settings": TINY, "device": "cpu", "false_rejects": 0.2}


def deep_part(number: int, bits: int = 12) -> np.ndarray:
    """The part of `test_fit` as a camera of these bits sees it, (H, W) uint16 with random low bits."""
    values = part(number)[..., 0].astype(np.uint16) << (bits - 8)
    return values | np.random.default_rng(number).integers(0, 2 ** (bits - 8), values.shape, dtype=np.uint16)


def save_deep_parts(folder: Path, n: int, bits: int = 12, suffix: str = ".png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        assert cv2.imwrite(str(folder / f"part {number}{suffix}"), deep_part(number, bits))
    return folder


@pytest.mark.parametrize(
    ("values", "bits"),
    [
        ([255], 8),
        ([3, 256], 10),
        ([1023], 10),
        ([1024, 5], 12),
        ([4095], 12),
        ([4096, 1], 14),
        ([16383], 14),
        ([16384], 16),
        ([65535], 16),
        ([4095 << 4], 16),
        ([500 << 4, 300 << 4], 16),  # left-aligned, and dark
        ([255 << 4], 12),  # as 16 bits it would be nearly black
        ([0], 16),
    ],
)
def test_the_largest_value_of_all_decides(values: list[int], bits: int, tmp_path: Path) -> None:
    images = [np.full((8, 8), value, np.uint16) for value in values]
    assert bits_of(value_bits(image) or 0 for image in images) == bits
    paths = []
    for number, image in enumerate([*images, np.full((8, 8), 255, np.uint8)]):
        paths.append(tmp_path / f"{number}.{('png', 'tif')[number % 2]}")
        Image.fromarray(image).save(paths[-1])
    (tmp_path / "broken.png").write_text("no image")
    assert bits_in_use([*paths, tmp_path / "broken.png", tmp_path / "missing.tif"]) == bits
    assert bits_in_use(paths[-1:]) is None


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_detector_of_deep_images_is_that_of_their_8_bit_copies(bits: int, tmp_path: Path) -> None:
    deep = blemish.fit(save_deep_parts(tmp_path / "deep", 14, bits, (".png", ".tif")[bits == 12]), **OPTIONS)
    shallow = blemish.fit(save_parts(tmp_path / "shallow", 14), **OPTIONS)
    assert (deep.bits, shallow.bits) == (bits, None)
    assert (deep.provenance["bits"], shallow.provenance["bits"]) == (bits, None)
    assert deep.calibration_scores == shallow.calibration_scores
    with pytest.raises(BlemishError, match="how many bits its camera uses is not known"):
        shallow.inspect(deep_part(20, bits))
    deep.save(tmp_path / "deep.blemish")
    again = Detector.load(tmp_path / "deep.blemish")
    assert again.bits == bits
    Image.fromarray(deep_part(20, bits)).save(tmp_path / "a.png")
    expected = shallow.inspect(part(20)).score
    for image in (tmp_path / "a.png", deep_part(20, bits), Image.open(tmp_path / "a.png"), part(20)):
        assert again.inspect(image).score == pytest.approx(expected, rel=1e-5)


def test_a_file_without_bits_means_16(tmp_path: Path) -> None:
    detector = blemish.fit(save_deep_parts(tmp_path / "good", 14), **OPTIONS)
    detector.save(tmp_path / "new.blemish")
    tensors, description = read_artifact(tmp_path / "new.blemish")
    assert description.pop("bits") == 12
    write_artifact(tmp_path / "old.blemish", tensors, description)
    assert Detector.load(tmp_path / "old.blemish").bits == 16


def test_fit_says_which_bits_and_inspect_and_evaluate_use_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_deep_parts(tmp_path / "train/good", 14)
    save_deep_parts(tmp_path / "test/good", 3)
    scratched = deep_part(30)
    scratched[10:20, 10:30] = 4095
    for folder in ("test/scratch", "ground_truth/scratch"):
        (tmp_path / folder).mkdir(parents=True)
        Image.fromarray(scratched if folder.startswith("test") else scratched == 4095).save(
            tmp_path / folder / "0.png"
        )
    set_ = [
        part for name, value in TINY.items() for part in ("--set", f"{name}={'null' if value is None else value}")
    ]

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        assert isinstance(stop.value.code, int)
        return stop.value.code, *capsys.readouterr()

    out = tmp_path / "run"
    code, stdout, stderr = run("fit", tmp_path / "train/good", *set_, "--device", "cpu", "--out", out)
    assert code == 0, stderr
    assert "16-bit images are read as 12 bits, up to 4095, as their largest value shows" in stdout
    detector = Detector.load(out / "detector.blemish")
    evaluation = evaluate(detector, tmp_path, "mvtec")
    scores = dict(zip((sample.path for sample in evaluation.samples), evaluation.scores.tolist(), strict=True))
    deep_image, copy = tmp_path / "test/good/part 0.png", part(0)
    assert scores[deep_image] == pytest.approx(detector.inspect(copy).score, rel=1e-5)

    Image.fromarray(np.full((40, 50), 5000, np.uint16)).save(tmp_path / "bright.png")
    photographs = deep_image, tmp_path / "bright.png"
    _, _, stderr = run("inspect", out / "detector.blemish", *photographs, "--out", tmp_path / "findings")
    rows = [json.loads(line) for line in (tmp_path / "findings/findings.jsonl").read_text().splitlines()]
    assert rows[0]["score"] == pytest.approx(scores[deep_image], rel=1e-5)
    assert rows[1]["error"] == stderr.strip().removeprefix("blemish: ")
    assert "bright.png: has values up to 5000, but 16-bit files are read as 12 bits, up to 4095" in rows[1]["error"]
    with pytest.raises(BlemishError, match="--bits 14"):
        detector.inspect(tmp_path / "bright.png")

    code, _, stderr = run("fit", tmp_path / "train/good", *set_, "--bits", "10", "--out", tmp_path / "too few")
    assert code == 2
    assert "read as 10 bits, up to 1023" in stderr
    code, stdout, stderr = run(
        "fit", tmp_path / "train/good", *set_, "--bits", "16", "--device", "cpu", "--out", tmp_path / "dark"
    )
    assert "read as 16 bits, up to 65535, as --bits says" in stdout
    assert Detector.load(tmp_path / "dark/detector.blemish").bits == 16
    assert run("fit", tmp_path / "train/good", "--bits", "11")[0] == 2


def test_defects_are_read_like_the_good_images_and_textures_by_their_own_bits(tmp_path: Path) -> None:
    good = save_deep_parts(tmp_path / "good", 14)
    save_deep_parts(tmp_path / "defects", 1)
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.pad(np.full((10, 10), 255, np.uint8), ((10, 20), (20, 20)))).save(
        tmp_path / "masks/part 0.png"
    )
    defects = {"defects": tmp_path / "defects", "defect_masks": tmp_path / "masks"}
    assert blemish.fit(good, **OPTIONS, **defects).provenance["n_defects"] == 1
    Image.fromarray(np.full((40, 50), 5000, np.uint16)).save(tmp_path / "defects/part 0.png")
    with pytest.raises(BlemishError, match=r"defects/part 0\.png: has values up to 5000, .* 12 bits"):
        blemish.fit(good, **OPTIONS, **defects)
    textures = TextureBank.from_folder(save_deep_parts(tmp_path / "textures", 3, bits=10), (32, 32))
    assert textures.images.float().mean() > 60


def test_images_to_calibrate_on_count_too(tmp_path: Path) -> None:
    good, held_out = save_deep_parts(tmp_path / "good", 14), save_deep_parts(tmp_path / "held out", 6, bits=14)
    assert split_images(good, held_out, "auto", Whole((32, 32)), 0).bits == 14
    assert split_images(good, None, "auto", Whole((32, 32)), 0).bits == 12
    assert split_images(good, None, "auto", Whole((32, 32)), 0, bits=16).bits == 16


@pytest.mark.parametrize(
    ("values", "bits", "named"),
    [
        ([4095, 4001, 65520, 65535], 16, ["0", "1"]),  # right- among left-aligned
        ([255, 65535], 16, ["0"]),
        ([255, 4095], 12, ["0"]),
        ([4095, 16001, 65535], 16, []),  # one in between: the light differs
        ([4095, 16383], 14, []),
        ([4080, 65520], 16, []),  # left-aligned and dark
        ([0, 4095], 12, []),
        ([255, 200], 8, []),
    ],
)
def test_images_of_other_bits_are_named(values: list[int], bits: int, named: list[str]) -> None:
    line = of_other_bits({Path(str(number)): value for number, value in enumerate(values)}, bits)
    assert (line is not None) == bool(named)
    if line is not None:
        start = f"{named[0]} and 1 more: use" if len(named) > 1 else f"{named[0]}: uses"
        assert line.startswith(start)
        assert f"read as {bits} bits" in line


def test_fit_names_images_of_other_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = save_deep_parts(tmp_path / "good", 12)
    split_images(good, None, "auto", Whole((32, 32)), 0)
    assert capsys.readouterr().err == ""
    split_images(good, save_deep_parts(tmp_path / "calibration", 10, bits=14), "auto", Whole((32, 32)), 0)
    assert "the calibration images use 14 bits of 16, but the training images 12; all are read as 14" in (
        capsys.readouterr().err
    )
    assert cv2.imwrite(str(good / "part 3.png"), deep_part(3, 8).astype(np.uint16))
    split_images(good, None, "auto", Whole((32, 32)), 0)
    assert f"{good / 'part 3.png'}: uses values up to 255 only" in capsys.readouterr().err
