"""``blemish combine``: what it writes and prints, and what it refuses before it computes anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import blemish
from blemish.cli import main
from blemish.commands.inspect import inspect_run
from blemish.detector import Detector
from learning.test_fit import TINY, part, save_parts


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workshop")
    save_parts(folder / "good", 16)
    blemish.fit(folder / "good", settings=TINY, device="cpu", out=folder / "a")
    blemish.fit(folder / "good", settings={**TINY, "iterations": 3}, device="cpu", out=folder / "b")
    return folder


def ended(words: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        main(["combine", *words, "--device", "cpu"])
    assert isinstance(end.value.code, int)
    return end.value.code


def test_run_folders_become_one_file_that_inspects(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workshop)
    out = tmp_path / "new" / "both.blemish"
    assert ended(["a", "b/detector.blemish", "--good", "good", "--false-rejects", "0.2", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    detector = Detector.load(out)
    about = detector.provenance
    weights = about["part_weights"]
    expected = (
        f"draem {weights['draem']:.2f}, draem-2 {weights['draem-2']:.2f}; scale of each {about['chosen']['scale']}\n"
    )
    assert printed.startswith(f"weights: {expected}")
    figure = about["image_auroc_of_damage"]
    assert f"simulated damage on good images: image AUROC {figure:.3f}, pixel AP 0." in printed
    assert "With 5 held-out good images a false-reject rate of 20 % is promised (4 would do)." in printed
    assert f"both.blemish: image threshold {detector.threshold.value:.4g}" in printed
    assert detector.provenance["parts"]["draem-2"]["file"] == "detector.blemish"
    spoiled = part(1)
    spoiled[5:30, 5:40] = 0
    Image.fromarray(spoiled).save(tmp_path / "dark.png")
    inspect_run(out, [tmp_path / "dark.png", Path("good/part 0.png")], tmp_path / "findings", "cpu", "auto")
    assert (tmp_path / "findings" / "findings.jsonl").read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "combine: two detectors or more are needed: blemish combine A.blemish B.blemish --good DIR"),
        (["a"], "combine: two detectors or more are needed"),
        (["a", "a/detector.blemish"], "a/detector.blemish: is given twice; give each detector once"),
        (["a", "nowhere.blemish"], "nowhere.blemish: no such file; check the path"),
        (["a", "good"], "good: holds no detector.blemish"),
        (["a", "b", "--out", "b/detector.blemish"], "--out b/detector.blemish: is one of the detectors"),
        (["a", "b", "--out", "a"], "--out a: should end in .blemish"),
        (["a", "b", "--out", "old.blemish"], "--out old.blemish: exists already; choose another name"),
        (["a", "b", "--good", "nowhere"], "nowhere"),
        (["a", "b", "--false-rejects", "2"], "the false-reject rate must lie between 0 and 1, not 2.0"),
    ],
)
def test_mistakes_are_a_line_and_leave_no_file(
    workshop: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(workshop)
    Path("old.blemish").write_bytes(b"kept")
    words = words if "--out" in words else [*words, "--out", "new/both.blemish"]
    assert ended(words if "--good" in words else [*words, "--good", "good"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"blemish: {message}")
    assert error.count("\n") == 1
    assert not Path("new").exists()
    assert Path("old.blemish").read_bytes() == b"kept"
