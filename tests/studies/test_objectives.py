"""`blemish study objectives`: one training for both objectives, and a detector for each."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.studies.objectives import study_objectives

TINY: dict[str, Any] = {
    "encoder": "trained", "difference": "ssim",
    "image_size_px": 16, "widths": [4], "filters_per_dilation": 2, "dilations": [1], "n_stacks": 1, "patch_px": 1,
    "iterations": 2, "batch_size": 2, "validate_every": 1, "corruption": {"kinds": ["elastic"]},
}  # fmt: skip


def make_dataset(root: Path) -> Path:
    rng = np.random.default_rng(0)

    def save(path: Path, pixels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)

    for number in range(12):
        save(root / "train" / "good" / f"{number}.png", rng.integers(0, 256, (20, 24, 3)))
    for number in range(3):
        mask = np.zeros((20, 24))
        mask[5:10, 6:12] = 255
        save(root / "test" / "good" / f"{number}.png", rng.integers(0, 256, (20, 24, 3)))
        save(root / "test" / "hole" / f"{number}.png", rng.integers(0, 256, (20, 24, 3)) * (mask[..., None] == 0))
        save(root / "ground_truth" / "hole" / f"{number}_mask.png", mask)
    return root


def test_each_objective_and_their_ensemble_is_measured(tmp_path: Path) -> None:
    data, out = make_dataset(tmp_path / "dose"), tmp_path / "study"
    results = study_objectives([data], out, settings=TINY, device="cpu")
    assert [result.objective for result in results] == ["filter", "amplify", "ensemble"]
    with (out / "objectives.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["objective"] for row in rows] == ["objective (1)", "objective (4)", "ensemble"]
    assert [float(row["pixel_auroc"]) for row in rows] == [result.metrics["pixel_auroc"] for result in results]
    page = (out / "objectives.html").read_text()
    assert page.count("<section") == 5  # three defective images and two good ones
    assert page.count("data:image/jpeg;base64,") == 5 * 6
    trained = (out / "dose" / "detector.blemish").read_bytes()
    again = study_objectives([data], out, settings=TINY, device="cpu")
    assert (out / "dose" / "detector.blemish").read_bytes() == trained, "a finished run must not be trained again"
    assert again == results


def test_a_folder_with_another_run_is_left_alone(tmp_path: Path) -> None:
    data, out = make_dataset(tmp_path / "dose"), tmp_path / "study"
    study_objectives([data], out, settings=TINY, device="cpu")
    trained = (out / "dose" / "detector.blemish").read_bytes()
    for change in ({"seed": 1}, {"settings": {**TINY, "iterations": 3}}):
        with pytest.raises(BlemishError, match="dose: holds a run with other data, options or settings"):
            study_objectives([data], out, **{"settings": TINY, "device": "cpu", **change})
    with pytest.raises(BlemishError, match="leave out --set objective"):
        study_objectives([data], tmp_path / "other", settings={**TINY, "objective": "filter"})
    assert (out / "dose" / "detector.blemish").read_bytes() == trained


def test_a_part_repairs_as_it_does_in_the_ensemble(tmp_path: Path) -> None:
    study_objectives([make_dataset(tmp_path / "dose")], tmp_path / "study", settings=TINY, device="cpu")
    method: Any = Detector.load(tmp_path / "study" / "dose" / "detector.blemish").method
    image = torch.rand(1, 3, 16, 16)
    whole = method.explain(image)
    for objective, heading in (("filter", "reconstruction"), ("amplify", "amplified")):
        part = method.part(objective).eval()
        assert set(part.explain(image)) == {heading}
        torch.testing.assert_close(part.explain(image)[heading], whole[heading])


def test_data_without_defects_and_equal_names_are_reported_before_training(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "dose")
    with pytest.raises(BlemishError, match="two datasets have the same name"):
        study_objectives([data, make_dataset(tmp_path / "b" / "dose")], tmp_path / "study")
    with pytest.raises(BlemishError, match="has no defective test images"):
        study_objectives([data / "train" / "good"], tmp_path / "study")
    assert not (tmp_path / "study").exists()
