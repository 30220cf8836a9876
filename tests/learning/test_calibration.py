"""What the threshold is set from, if nothing is held out; and how many images an epoch has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import blemish
from blemish.commands.inspect import inspect_run
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.learning.calibration import calibrated
from blemish.learning.options import FitOptions
from blemish.methods.draem import DRAEM, DRAEMSettings
from learning.test_fit import TINY, part, save_parts


def test_without_calibration_all_images_are_trained_on_and_nothing_is_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = save_parts(tmp_path / "good", 200)  # enough to promise 1 %, if they were held out
    detector = blemish.fit(good, calibration="none", settings=TINY, device="cpu", out=tmp_path / "run")
    assert detector.provenance["n_train"] == 200
    assert not detector.threshold.is_promised
    assert detector.calibration_scores == ()
    explanation = (
        "Nothing is promised: the threshold comes from images that were trained on. 99 held-out good images would do."
    )
    assert detector.threshold.explain() == explanation
    scores = detector.maps_and_scores(load_images(sorted(good.iterdir()), (32, 32)))[1]
    score = scores.sort().values[198].item()
    assert score * (1 + 1e-5) < detector.threshold.value < score * (1 + 1e-4)  # a runtime may round otherwise
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["n_calibration"], summary["false_rejects_promised"]) == (0, False)
    again = Detector.load(tmp_path / "run")
    assert again.threshold == detector.threshold
    capsys.readouterr()
    inspect_run(tmp_path / "run", [good / "part 0.png"], tmp_path / "out", "cpu", "auto")
    assert explanation in capsys.readouterr().err


def test_a_folder_called_none_is_still_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_parts(tmp_path / "none", 6), save_parts(tmp_path / "good", 12)
    detector = blemish.fit("good", calibration=Path("none"), settings=TINY, device="cpu", out=tmp_path / "run")
    assert detector.provenance["n_calibration"] == 6
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["calibration"] == "./none"
    assert FitOptions.from_dict(config).calibration == Path("none")


@pytest.mark.parametrize(("calibration", "n_train", "steps"), [(None, 35, 20), ("none", 40, 20), ("fresh", 40, 20)])
def test_an_epoch_counts_all_good_images_held_out_ones_included(
    tmp_path: Path, calibration: str | None, n_train: int, steps: int
) -> None:
    good = save_parts(tmp_path / "good", 40)
    for number in range(6):
        (tmp_path / "fresh").mkdir(exist_ok=True)
        Image.fromarray(part(100 + number)).save(tmp_path / "fresh" / f"{number}.png")
    chosen = tmp_path / "fresh" if calibration == "fresh" else calibration
    settings = {**TINY, "epochs": 2, "iterations": 0}
    detector = blemish.fit(good, calibration=chosen, settings=settings, device="cpu")
    assert detector.provenance["n_train"] == n_train
    assert detector.provenance["iterations"] == steps


def test_calibration_photographs_of_another_product_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, fresh = save_parts(tmp_path / "good", 20), tmp_path / "fresh"
    fresh.mkdir()
    for number in range(8):
        Image.fromarray(part(100 + number)).save(fresh / f"{number}.png")
    Image.fromarray(255 - part(200)).save(fresh / "stray.png")
    detector = blemish.fit(good, calibration=fresh, settings=TINY, device="cpu", false_rejects=0.2)
    line = capsys.readouterr().err
    assert "fresh: 1 of 9 photographs are unlike the training images (stray.png: much brighter" in line
    assert "they are left out" in line
    assert (detector.threshold.n_calibration, detector.threshold.is_promised) == (8, True)
    for number in range(8):
        Image.fromarray(255 - part(100 + number)).save(fresh / f"{number}.png")
    detector = blemish.fit(good, calibration=fresh, settings=TINY, device="cpu", false_rejects=0.2)
    assert "9 of 9 photographs are unlike the training images" in (line := capsys.readouterr().err)
    assert "all count all the same, so check that they show the same product" in line
    assert detector.threshold.n_calibration == 9


def test_a_network_that_answers_nothing_is_told(tmp_path: Path) -> None:
    class Silent(DRAEM):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return images[:, :1] * 0, images.new_zeros(len(images))

    good = save_parts(tmp_path / "good", 12)
    images = load_images(sorted(good.iterdir()), (32, 32))
    detector = calibrated(Silent(DRAEMSettings.from_dict(TINY)), images, 0.2)
    assert not detector.threshold.is_promised
    assert "all 12 good images score the same, 0: the network tells nothing" in detector.threshold.explain()
