"""Photographs unlike the good images, from the command line and from Python: neither good nor defective."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import blemish
from blemish.thresholds import Threshold
from cli.test_masks_cli import TINY, run


def part(seed: int) -> NDArray[np.uint8]:
    """(96, 96, 3) uint8: a dark disc on a light, grained ground."""
    image = np.random.default_rng(seed).normal(200, 6, (96, 96, 3)).clip(0, 255).astype(np.uint8)
    return cv2.circle(image, (48, 48), 30, (70, 80, 90), -1)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data as MVTec AD's with a blank test image, photographs, and a detector that rejects nothing by its score."""
    root = tmp_path_factory.mktemp("unlike")
    blank = np.full((96, 96, 3), 128, np.uint8)
    images = {f"train/good/{seed}.png": part(seed) for seed in range(12)}
    images |= {"test/good/0.png": part(20), "test/good/1.png": blank, "test/dent/0.png": part(21)}
    images |= {"photos/a.png": part(22), "photos/b.png": blank, "photos/c.png": part(23)[:48]}
    for name, image in images.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    assert run("fit", root, *TINY, "--out", root / "run") == 0
    detector = blemish.load(root / "run" / "detector.blemish")
    detector.threshold = Threshold(1e9, 0.01, 5, 99)
    detector.save(root / "detector.blemish")
    return root


def test_inspect_says_which_are_unlike_and_why(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    out = root / "findings"
    assert run("inspect", root / "detector.blemish", root / "photos", "--out", out) == 0
    printed = capsys.readouterr()
    assert "2 unlike the good images" in printed.out
    lines = printed.err.strip().splitlines()
    assert len(lines) == 2
    assert "b.png: unlike the good images: much" in lines[0]
    assert "c.png: unlike the good images: wider and lower than any good image" in lines[1]
    rows = [json.loads(line) for line in (out / "findings.jsonl").read_text().splitlines()]
    assert [row["verdict"] for row in rows] == ["good", "unlike", "unlike"]
    assert rows[0]["unlike"] == []
    assert rows[2]["unlike"][0] == "wider and lower than any good image"
    assert not any(row["is_defective"] for row in rows)
    with (out / "findings.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert table[2]["unlike"].startswith("wider and lower")
    caption_rgb = cv2.imread(str(out / "overlays" / "b.jpg"))[-4, 4, ::-1]
    assert np.abs(caption_rgb.astype(int) - (92, 60, 128)).max() < 12


def test_inspect_fails_on_an_unlike_photograph_if_it_shall_fail_on_defects(root: Path) -> None:
    words = ("--fail-on-defect", "--out", root / "findings")
    assert run("inspect", root / "detector.blemish", root / "photos", *words) == 1
    assert run("inspect", root / "detector.blemish", root / "photos" / "a.png", *words) == 0


def test_from_python(root: Path) -> None:
    detector = blemish.load(root / "detector.blemish")
    assert detector.inspect(part(30)).verdict == "good"
    finding = detector.inspect(np.zeros((96, 96, 3), np.uint8))
    assert finding.verdict == "unlike"
    assert "much darker than any good image" in finding.unlike
    detector.threshold = Threshold(-1.0, 0.01, 5, 99)
    assert detector.inspect(part(30)).verdict == "defective"
    assert detector.inspect(np.zeros((96, 96, 3), np.uint8)).verdict == "unlike"
    detector.likeness = None
    assert detector.inspect(np.zeros((96, 96, 3), np.uint8)).verdict == "defective"


def test_evaluate_counts_them_and_scores_them_as_any(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run("evaluate", root / "detector.blemish", root, "--out", root / "evaluation") == 0
    metrics = json.loads((root / "evaluation" / "metrics.json").read_text())
    assert (metrics["n_good_unlike"], metrics["n_defective_unlike"]) == (1, 0)
    assert metrics["false_rejects"] == 0
    assert "1.png: unlike the good images: " in capsys.readouterr().err
    with (root / "evaluation" / "scores.csv").open(newline="") as file:
        assert [bool(row["unlike"]) for row in csv.DictReader(file)].count(True) == 1
    page = (root / "evaluation" / "report.html").read_text()
    assert "1 good ones and 0 defective ones" in page
    assert "Unlike the good images: much" in page
