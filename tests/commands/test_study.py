"""`blemish study` through the command line, on tiny images that the tests make."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.cli import main
from blemish.detector import Detector
from blemish.methods.ssae import SSAE, SSAESettings
from blemish.synthesis.modified_patches import CorruptionSettings

TINY = SSAESettings(
    image_size_px=16, widths=(4,), filters_per_dilation=2, dilations=(1,), n_stacks=1,
    corruption=CorruptionSettings(kinds=("elastic",)),
)  # fmt: skip


def exits(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(str(stopped.value.code))


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Five good images, odd in size, in a folder with a space and an umlaut."""
    folder = tmp_path / "gute Teile ü"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(5):
        Image.fromarray(rng.integers(0, 256, (20, 31, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    path = tmp_path / "detector.blemish"
    Detector.uncalibrated(SSAE(TINY), 0.5, 0.01, {"recipe": "small", "seed": 0}).save(path)
    return path


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_orthogonality_writes_figures_and_a_page(parts: Path, detector: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    arguments = ("study", "orthogonality", detector, parts, "--images", "4", "--widths", "3", "--repeats", "2")
    assert exits(*arguments, "--seed", "7", "--out", out) == 0
    record = json.loads((out / "orthogonality.json").read_text())
    assert (record["data"], record["seed"], record["n_images"], record["size_px"]) == (parts.name, 7, 4, 16)
    assert (record["detector"]["file"], record["detector"]["method"]) == (detector.name, "ssae")
    rows = table(out / "orthogonality.csv")
    assert [int(row["width_px"]) for row in rows] == [1, 8, 15]
    assert [{name: float(value) for name, value in row.items()} for row in rows] == record["widths"]
    assert {row["trials"] for row in rows} == {"8"}
    assert record["below_half"]["trials"] == 16
    page = (out / "orthogonality.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 9
    assert "http" not in page
    assert exits(*arguments, "--seed", "7", "--out", tmp_path / "again") == 0
    assert (tmp_path / "again" / "orthogonality.json").read_text() == (out / "orthogonality.json").read_text()


def test_moments_writes_figures_and_a_page(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    assert exits("study", "moments", parts, "--size", "12", "--window", "5", "--out", out) == 0
    record = json.loads((out / "moments.json").read_text())
    assert (record["n_images"], record["texture"]["n_pixels"], record["object"]["n_pixels"]) == (5, 25, 12)
    rows = table(out / "moments.csv")
    assert [row["kind"] for row in rows] == ["texture"] * 25 + ["object"] * 12
    assert (rows[13]["pixel"], rows[13]["y"], rows[13]["x"]) == ("13", "2", "3")
    means = [float(row["mean"]) for row in rows[:25]]
    assert np.mean(means) == pytest.approx(record["texture"]["mean"], rel=1e-6)
    page = (out / "moments.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert exits("study", "moments", parts, "--size", "12", "--window", "50", "--kind", "object", "--out", out) == 0
    assert "texture" not in json.loads((out / "moments.json").read_text())


def error_line(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """Run a study that must fail with a user's mistake; return the only line on standard error."""
    assert exits("study", *arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_mistakes_are_reported_in_one_line(
    parts: Path, detector: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "gone: no such file or folder" in error_line(capsys, "moments", "gone")
    assert "gone.blemish: no such file" in error_line(capsys, "orthogonality", "gone.blemish", parts)
    assert "--window 65: should be from 1" in error_line(capsys, "moments", parts, "--size", "64", "--window", "65")
    assert "--size 0" in error_line(capsys, "moments", parts, "--size", "0")
    assert "--images 1: should be at least 2" in error_line(capsys, "orthogonality", detector, parts, "--images", "1")
    assert "--repeats 0" in error_line(capsys, "orthogonality", detector, parts, "--repeats", "0")
    amplifier = tmp_path / "amplifier.blemish"
    Detector.uncalibrated(SSAE(TINY.replaced({"objective": "amplify"})), 0.5, 0.01).save(amplifier)
    line = error_line(capsys, "orthogonality", amplifier, parts)
    assert "amplifier.blemish: this ssae gives no reconstruction" in line
    assert "objective=filter" in line
    for image in sorted(parts.iterdir())[1:]:
        image.unlink()
    assert "1 good training image; a study needs at least 2" in error_line(capsys, "moments", parts)
    assert "1 good training image; a study needs at least 2" in error_line(capsys, "orthogonality", detector, parts)
    assert not (tmp_path / "study").exists(), "nothing is written before all inputs are checked"
    (parts / "zz.png").write_text("no image")
    assert exits("study", "moments", parts) == 2
    assert "zz.png" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["orthogonality", "moments", "objectives"])
def test_the_help_of_every_study_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exits("study", name, "--help") == 0
    assert f"Example: blemish study {name}" in capsys.readouterr().out.replace("`", "")
