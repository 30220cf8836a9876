"""A dataset like MVTec LOCO AD from the command line: check, fit, evaluate, compare."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from blemish.cli import main
from data import miniatures

TINY = (
    "--device", "cpu", "--set", "iterations=1", "--set", "image_size_px=32", "--set", "batch_size=2",
    "--set", "reconstructive_widths=[4, 8, 8]", "--set", "discriminative_widths=[4, 8, 8]",
)  # fmt: skip
KINDS = {"logical_anomalies", "structural_anomalies"}


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset, a detector of it in `run`, and its evaluation."""
    root = miniatures.mvtec_loco(tmp_path_factory.mktemp("loco") / "juice_bottle")
    assert run("fit", root, *TINY, "--out", root.parent / "run") == 0
    assert evaluate(root) == 0
    return root


def evaluate(root: Path) -> int:
    detector = root.parent / "run/detector.blemish"
    return run("evaluate", detector, root, "--protocol", "original/1", "--out", root.parent / "run/evaluation")


def metrics_of(root: Path) -> dict[str, object]:
    metrics = json.loads((root.parent / "run/evaluation/metrics.json").read_text())
    assert isinstance(metrics, dict)
    return metrics


def test_data_describes_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("data", root, "--json") == 0
    description = json.loads(capsys.readouterr().out)
    assert description["layout"] == "mvtec-loco"
    groups = {(group["split"], group["defect"]): group["n_masks"] for group in description["groups"]}
    assert {defect for split, defect in groups if split == "test"} == {"good", *KINDS}
    assert groups["test", "logical_anomalies"] == 2


def test_metrics_report_and_comparison_have_auspro(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = metrics_of(root)
    assert metrics["layout"] == "mvtec-loco"
    by_defect = metrics["by_defect"]
    assert isinstance(by_defect, dict)
    assert set(by_defect) == KINDS
    for row in (metrics, *by_defect.values()):
        assert 0 <= row["pixel_auspro_05"] <= 1
    assert "pixel AUsPRO, FPR 0.05" in (root.parent / "run/evaluation/report.html").read_text()
    capsys.readouterr()
    assert (
        run("compare", root.parent / "run", "--metric", "pixel_auspro_05", "--out", root.parent / "comparison") == 0
    )
    assert "Pixel AUsPRO, FPR 0.05" in capsys.readouterr().out
    assert run("compare", root.parent / "run") == 0


def test_without_saturation_areas_there_is_none_anywhere(
    tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = miniatures.mvtec(tmp_path / "bottle")
    assert run("evaluate", root.parent / "run/detector.blemish", other, "--out", tmp_path / "evaluation") == 0
    assert "auspro" not in (tmp_path / "evaluation/metrics.json").read_text()
    assert "AUsPRO" not in (tmp_path / "evaluation/report.html").read_text()
    capsys.readouterr()
    assert run("compare", tmp_path / "evaluation") == 0
    assert "AUsPRO" not in capsys.readouterr().out
    assert run("compare", tmp_path / "evaluation", "--metric", "pixel_auspro_05") == 2
    assert run("compare", tmp_path / "evaluation", root.parent / "run") == 0


def test_each_fault_is_one_line_and_stops_only_what_needs_the_file(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, mask = root / "defects_config.json", root / "ground_truth/logical_anomalies/001/001.png"
    text, pixels = config.read_text(), mask.read_bytes()
    capsys.readouterr()
    config.write_text("{")
    assert evaluate(root) == 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"blemish: {config}: is not valid")
    assert metrics_of(root)["pixel_auspro_05"] is None
    assert metrics_of(root)["pixel_ap"] is not None
    config.write_text(text)
    miniatures.save(mask, np.full(miniatures.SIZE_HW, 3, np.uint8) * (np.arange(16) > 9))
    assert evaluate(root) == 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"blemish: {mask}: its value 3 is not in {config}")
    mask.write_text("no image")
    assert evaluate(root) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"blemish: {mask}: ")
    mask.write_bytes(pixels)
