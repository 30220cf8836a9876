"""Detectors joined to one: which images decide what, what is promised, and which parts do not fit together."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import blemish
from blemish.compare.comparison import compare
from blemish.compare.runs import find_runs
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import evaluate
from blemish.inspection.framing import Whole
from blemish.learning.combining import combine
from blemish.learning.held_out import n_to_measure
from blemish.learning.images import split_images
from blemish.methods.combined import Combined
from blemish.report.results import write_results
from learning.test_fit import TINY, part, save_parts

SMALLER: dict[str, Any] = {
    "encoder": "trained", "difference": "ssim",
    "image_size_px": 16, "widths": [4], "filters_per_dilation": 2, "dilations": [1], "n_stacks": 1, "patch_px": 1,
    "iterations": 2, "validate_every": 1, "mean_px": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good parts, further ones, and two detectors of the good ones."""
    folder = tmp_path_factory.mktemp("workshop")
    good = save_parts(folder / "good", 30)
    (folder / "more").mkdir()
    for number in range(100, 124):
        Image.fromarray(part(number)).save(folder / "more" / f"{number}.png")
    blemish.fit(good, settings=TINY, device="cpu", out=folder / "draem")
    blemish.fit(good, method="ssae", settings=SMALLER, device="cpu", out=folder / "ssae")
    return folder


def parts_of(workshop: Path) -> list[Path]:
    return [workshop / "draem" / "detector.blemish", workshop / "ssae" / "detector.blemish"]


@pytest.fixture(scope="module")
def both(workshop: Path) -> Detector:
    return combine(parts_of(workshop), good=workshop / "good", false_rejects=0.2, device="cpu")


def test_images_that_no_part_has_seen_set_the_threshold(workshop: Path, both: Detector) -> None:
    held_out = split_images(workshop / "good", None, "auto", Whole((32, 32)), seed=0).paths[-5:]
    scores = both.maps_and_scores(load_images(held_out, (32, 32)))[1]
    assert sorted(both.calibration_scores) == pytest.approx(sorted(scores.tolist()), rel=1e-6)
    assert both.threshold.value == pytest.approx(scores.max().item(), rel=1e-4)  # the 5th of 5 for 20 %
    assert both.threshold.is_promised
    assert (both.provenance["n_calibration"], both.provenance["are_measured_trained_on"]) == (5, True)


def test_the_detector_says_what_it_is_made_of(workshop: Path, both: Detector) -> None:
    about = both.provenance
    assert both.method_name == "combined"
    assert isinstance(both.method, Combined)
    assert both.size_hw == (32, 32)  # that of the larger part
    assert [*about["parts"]] == ["draem", "ssae"]
    assert about["parts"]["ssae"]["data_sha256"] == Detector.load(workshop / "ssae").provenance["data_sha256"]
    assert (about["recipe"], about["seed"], about["data"]) == ("draem small, ssae small", 0, "good")
    assert about["chosen"]["scale"] == both.method.settings.scale
    assert [*about["part_weights"].values()] == pytest.approx(both.method.weight.tolist(), abs=1e-4)
    assert sum(about["part_weights"].values()) == pytest.approx(1.0, abs=1e-3)
    likeness = Detector.load(workshop / "draem").likeness
    assert both.likeness is not None
    assert likeness is not None
    assert both.likeness.description() == likeness.description()


def test_the_parts_are_those_that_were_joined(workshop: Path, both: Detector) -> None:
    assert isinstance(both.method, Combined)
    for name, method in both.method.methods.items():
        own = Detector.load(workshop / name).method.state_dict()
        assert all(torch.equal(tensor, own[key]) for key, tensor in method.state_dict().items())


def test_joined_again_gives_the_same_file(workshop: Path, both: Detector, tmp_path: Path) -> None:
    both.save(tmp_path / "first.blemish")
    again = combine(parts_of(workshop), good=workshop / "good", false_rejects=0.2, device="cpu")
    again.save(tmp_path / "second.blemish")
    assert (tmp_path / "first.blemish").read_bytes() == (tmp_path / "second.blemish").read_bytes()


def test_of_further_photographs_half_set_the_threshold(workshop: Path) -> None:
    detector = combine(parts_of(workshop), good=workshop / "more", false_rejects=0.2, device="cpu")
    assert (detector.provenance["n_measured"], detector.threshold.n_calibration) == (12, 12)
    assert detector.threshold.is_promised
    assert not detector.provenance["are_measured_trained_on"]


@pytest.mark.parametrize(
    ("n_good", "false_rejects", "n"), [(10, 0.01, 5), (24, 0.2, 12), (104, 0.01, 5), (150, 0.01, 51), (700, 0.01, 60)]
)
def test_the_promise_comes_first(n_good: int, false_rejects: float, n: int) -> None:
    """99 images are needed to promise 1 %: of 150, 51 are left."""
    assert n_to_measure(n_good, false_rejects) == n


def test_a_folder_with_the_name_of_theirs_and_other_images_promises_nothing(workshop: Path, tmp_path: Path) -> None:
    shutil.copytree(workshop / "good", tmp_path / "good")
    Image.fromarray(part(999)).save(tmp_path / "good" / "another.png")
    detector = combine(parts_of(workshop), good=tmp_path / "good", false_rejects=0.2, device="cpu")
    assert "parts were trained on" in detector.threshold.doubt
    assert not detector.threshold.is_promised


def test_images_that_were_trained_on_promise_nothing_under_any_name(workshop: Path, tmp_path: Path) -> None:
    (tmp_path / "some").mkdir()
    split = split_images(workshop / "good", None, "auto", Whole((32, 32)), seed=0)
    for number, path in enumerate(split.paths[:20]):
        shutil.copy(path, tmp_path / "some" / f"copy {number}.png")
    detector = combine(parts_of(workshop), good=tmp_path / "some", false_rejects=0.2, device="cpu")
    assert detector.threshold.doubt == "parts were trained on 20 of these 20 images"
    assert not detector.threshold.is_promised


def test_among_further_photographs_those_that_were_trained_on_are_left_out(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(workshop / "more", tmp_path / "mixed")
    split = split_images(workshop / "good", None, "auto", Whole((32, 32)), seed=0)
    for path in split.paths[:4]:
        shutil.copy(path, tmp_path / "mixed" / f"trained {path.name}")
    detector = combine(parts_of(workshop), good=tmp_path / "mixed", false_rejects=0.2, device="cpu")
    assert "parts were trained on 4 of these images; they are left out" in capsys.readouterr().err
    assert (detector.provenance["n_measured"], detector.threshold.n_calibration) == (12, 12)
    assert detector.threshold.is_promised


def test_copies_of_photographs_that_were_trained_on_are_left_out_too(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Saved again in another format, so that their bytes say nothing."""
    shutil.copytree(workshop / "more", tmp_path / "mixed")
    split = split_images(workshop / "good", None, "auto", Whole((32, 32)), seed=0)
    for number, path in enumerate(split.paths[:4]):
        Image.open(path).save(tmp_path / "mixed" / f"{number}.bmp")
    detector = combine(parts_of(workshop), good=tmp_path / "mixed", false_rejects=0.2, device="cpu")
    assert (
        "4 of these 28 images look like photographs that parts were trained on; they are left out"
        in capsys.readouterr().err
    )
    assert (detector.provenance["n_measured"], detector.threshold.n_calibration) == (12, 12)
    assert detector.threshold.is_promised


def test_copies_alone_promise_nothing(workshop: Path, tmp_path: Path) -> None:
    (tmp_path / "copies").mkdir()
    for number, path in enumerate(split_images(workshop / "good", None, "auto", Whole((32, 32)), seed=0).paths[:20]):
        Image.open(path).save(tmp_path / "copies" / f"{number}.bmp")
    detector = combine(parts_of(workshop), good=tmp_path / "copies", false_rejects=0.2, device="cpu")
    assert detector.threshold.doubt == "20 of these 20 images look like photographs that parts were trained on"
    assert not detector.threshold.is_promised


def test_the_folder_may_be_called_otherwise(workshop: Path, both: Detector, tmp_path: Path) -> None:
    shutil.copytree(workshop / "good", tmp_path / "other name")
    detector = combine(parts_of(workshop), good=tmp_path / "other name", false_rejects=0.2, device="cpu")
    assert detector.calibration_scores == both.calibration_scores


def test_parts_of_different_seeds_promise_nothing_if_they_held_out_others(workshop: Path, tmp_path: Path) -> None:
    other = blemish.fit(workshop / "good", settings=TINY, seed=1, device="cpu")
    detector = combine([parts_of(workshop)[0], other], good=workshop / "good", false_rejects=0.2, device="cpu")
    assert "fit them with the same --seed" in detector.threshold.doubt
    assert [*detector.provenance["parts"]] == ["draem", "draem-2"]


def test_a_part_that_held_out_nothing_is_the_reason(workshop: Path) -> None:
    other = blemish.fit(workshop / "good", settings=TINY, seed=1, calibration="none", device="cpu")
    detector = combine([parts_of(workshop)[0], other], good=workshop / "good", false_rejects=0.2, device="cpu")
    assert "fit them without --calibration none" in detector.threshold.doubt


def test_parts_that_held_out_nothing_promise_nothing(workshop: Path) -> None:
    parts = [
        blemish.fit(workshop / "good", settings=TINY, seed=seed, calibration="none", device="cpu") for seed in (0, 1)
    ]
    detector = combine(parts, good=workshop / "good", false_rejects=0.2, device="cpu")
    assert detector.threshold.n_calibration == 0
    assert "trained on" in detector.threshold.explain()


@pytest.fixture(scope="module")
def other_product(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of another product, in a folder of the same name."""
    folder = tmp_path_factory.mktemp("other") / "good"
    folder.mkdir()
    for number in range(30):
        Image.fromarray(255 - part(number)).save(folder / f"{number}.png")
    return folder


def test_parts_of_different_products_are_refused(workshop: Path, other_product: Path) -> None:
    other = blemish.fit(other_product, settings=TINY, device="cpu")
    with pytest.raises(BlemishError, match=r"good: 30 of 30 photographs are unlike those that detector 2 learned"):
        combine([parts_of(workshop)[0], other], good=workshop / "good", device="cpu")


def test_good_photographs_of_another_product_are_refused(workshop: Path, other_product: Path) -> None:
    with pytest.raises(BlemishError, match=r"draem.*detector\.blemish learned from .*; give good photographs of"):
        combine(parts_of(workshop), good=other_product, device="cpu")


def test_strays_of_another_product_are_left_out_and_named(
    workshop: Path, other_product: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(workshop / "more", tmp_path / "mixed")
    expected = combine(parts_of(workshop), good=tmp_path / "mixed", false_rejects=0.2, device="cpu")
    shutil.copy(other_product / "3.png", tmp_path / "mixed" / "zzz stray.png")
    detector = combine(parts_of(workshop), good=tmp_path / "mixed", false_rejects=0.2, device="cpu")
    line = capsys.readouterr().err
    assert "1 of 25 photographs are unlike those that" in line
    assert "zzz stray.png: much brighter than any good image); they are left out" in line
    assert detector.threshold == expected.threshold


def test_a_part_of_other_photographs_promises_nothing(workshop: Path) -> None:
    other = blemish.fit(workshop / "more", settings=TINY, device="cpu")
    detector = combine([parts_of(workshop)[0], other], good=workshop / "good", false_rejects=0.2, device="cpu")
    assert detector.threshold.doubt == "which of these images detector 2 was trained on is not known"


def test_a_joined_detector_counts_as_its_parts(workshop: Path, both: Detector) -> None:
    third = blemish.fit(workshop / "good", settings={**TINY, "iterations": 7}, device="cpu")
    detector = combine([both, third], good=workshop / "good", false_rejects=0.2, device="cpu")
    assert [*detector.provenance["parts"]] == ["draem", "ssae", "draem-2"]
    assert detector.threshold.is_promised


def test_evaluated_and_compared_like_any_other(workshop: Path, both: Detector, tmp_path: Path) -> None:
    for kind, numbers in (("train/good", range(10)), ("test/good", range(50, 53)), ("test/dark", range(60, 63))):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for number in numbers:
            pixels = part(number)
            pixels[10:20, 10:20] //= 1 + 3 * (kind == "test/dark")
            Image.fromarray(pixels).save(tmp_path / "data" / kind / f"{number}.png")
    (tmp_path / "out").mkdir()
    write_results(tmp_path / "out", both, evaluate(both, tmp_path / "data"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "which joins draem, ssae (recipes: draem small, ssae small)" in page
    (run,), _ = find_runs([tmp_path / "out"])
    assert run.method == "combined"
    assert compare([run])


def refused(parts: Sequence[Any], message: str, **options: Any) -> None:
    with pytest.raises(BlemishError, match=message) as error:
        combine(parts, **options)
    assert "\n" not in str(error.value)


def test_parts_that_do_not_fit_together_are_refused(workshop: Path, both: Detector, tmp_path: Path) -> None:
    good, (draem, ssae) = {"good": workshop / "good", "device": "cpu"}, parts_of(workshop)
    refused([draem], "two detectors or more are needed", **good)
    refused([draem, tmp_path / "none.blemish"], "none.blemish: no such file", **good)
    refused([draem, draem], "is given twice", **good)
    shutil.copy(draem, tmp_path / "copy.blemish")
    refused([draem, ssae, tmp_path / "copy.blemish"], r"copy.blemish: is the same detector as .*draem", **good)
    other = Detector.load(ssae)
    other.bits = 12
    refused([draem, ssae, other], "is the same detector", **good)
    ten, twelve = Detector.load(draem), Detector.load(ssae)
    ten.bits, twelve.bits = 10, 12
    refused([ten, twelve], "detector 1 10 and detector 2 12 bits of 16: fit them with the same --bits", **good)
    bilinear = Detector.load(ssae)
    bilinear.method.settings = replace(bilinear.method.settings, resizing="bilinear")
    refused([draem, bilinear], "photographs are resized differently", **good)
    refused([draem, ssae], "between 0 and 1", **good, false_rejects=1.5)


def test_exported_parts_are_refused(workshop: Path) -> None:
    pytest.importorskip("openvino")
    draem, ssae = (Detector.load(path) for path in parts_of(workshop))
    message = "detector 2: this detector was exported, and can only inspect; take the one that it was made from"
    refused([draem, ssae.compiled()], message, good=workshop / "good", device="cpu")


def test_too_few_or_unreadable_good_images_are_refused(workshop: Path, tmp_path: Path) -> None:
    few = save_parts(tmp_path / "few", 9)
    refused(parts_of(workshop), "few: 9 good images; at least 10 are needed", good=few, device="cpu")
    (save_parts(tmp_path / "cut", 12) / "part 3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(BlemishError, match=r"part 3\.png"):
        combine(parts_of(workshop), good=tmp_path / "cut", device="cpu")


@pytest.mark.skipif(os.environ.get("BLEMISH_QUICK") == "1", reason="real images")
def test_on_real_images_the_threshold_is_kept(shared_data: Path, tmp_path: Path) -> None:
    """Of bottles that no part has seen, as many are accepted as the threshold says; the file is a detector."""
    data = tmp_path / "bottle"
    for source in sorted((shared_data / "mvtec" / "bottle" / "train" / "good").iterdir())[:40]:
        (data / "good").mkdir(parents=True, exist_ok=True)
        shutil.copy(source, data / "good")
    parts = [
        blemish.fit(data / "good", settings=TINY, device="cpu"),
        blemish.fit(data / "good", method="ssae", settings=SMALLER, device="cpu"),
    ]
    detector = combine(parts, good=data / "good", false_rejects=0.2, device="cpu")
    detector.save(tmp_path / "both.blemish")
    again = Detector.load(tmp_path / "both.blemish")
    findings = again.inspect(sorted((data / "good").iterdir()))
    assert all(np.isfinite(finding.score) for finding in findings)
    assert again.threshold == detector.threshold
