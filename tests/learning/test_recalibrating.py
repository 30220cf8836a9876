"""``blemish calibrate``: new thresholds without training."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.cli import main
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.learning.recalibrating import GIVEN, UNKNOWN, calibrate, with_rule
from learning.test_fit import TINY, part, save_parts


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on good parts, and further ones."""
    folder = tmp_path_factory.mktemp("calibrate")
    blemish.fit(save_parts(folder / "good", 30), settings=TINY, device="cpu", false_rejects=0.2, out=folder / "run")
    (folder / "more").mkdir()
    for number in range(100, 120):
        Image.fromarray(part(number)).save(folder / "more" / f"{number}.png")
    return folder


@pytest.fixture
def detector(workshop: Path) -> Detector:
    return Detector.load(workshop / "run")


def test_the_folder_that_it_was_trained_on_gives_the_threshold_of_fit(workshop: Path, detector: Detector) -> None:
    result = calibrate(detector, workshop / "good", false_rejects=0.2)
    assert result.detector.threshold == detector.threshold
    assert sorted(result.detector.calibration_scores) == sorted(detector.calibration_scores)
    assert result.detector.pixel_threshold == pytest.approx(detector.pixel_threshold)
    assert result.were_rejected == result.are_rejected == (False,) * 5


def test_a_folder_to_calibrate_on_gives_the_threshold_of_fit(workshop: Path, detector: Detector) -> None:
    fitted = blemish.fit(
        workshop / "good", calibration=workshop / "more", settings=TINY, device="cpu", false_rejects=0.1
    )
    result = calibrate(fitted, workshop / "more", false_rejects=0.1)
    assert result.detector.threshold == fitted.threshold
    other = calibrate(detector, workshop / "more", false_rejects=0.1)  # trained on fewer
    assert (other.detector.threshold.n_calibration, other.detector.threshold.is_promised) == (20, True)
    assert sum(other.are_rejected) <= 2


def test_the_verdicts_follow_the_threshold(workshop: Path, detector: Detector, tmp_path: Path) -> None:
    paths = sorted((workshop / "more").iterdir())
    scores = np.array([finding.score for finding in detector.inspect([str(path) for path in paths])])
    result = with_rule(detector, workshop / "more", threshold=float(np.median(scores)))
    assert result.are_rejected == tuple(scores > np.median(scores))
    assert result.were_rejected == tuple(scores > detector.threshold.value)
    result.detector.save(tmp_path / "x.blemish")
    again = Detector.load(tmp_path / "x.blemish")
    assert again.threshold.doubt == GIVEN
    assert not again.threshold.is_promised
    assert detector.threshold.doubt == "", "the detector itself stays as it was"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.5])
def test_a_threshold_is_a_score(detector: Detector, value: float) -> None:
    with pytest.raises(BlemishError, match="should be a number of at least 0, as scores are"):
        with_rule(detector, None, threshold=value)


def test_photographs_that_were_trained_on_are_left_out(
    workshop: Path, detector: Detector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = {path.name for path in calibrate(detector, workshop / "good", false_rejects=0.2).paths}
    mixed = Path(shutil.copytree(workshop / "more", tmp_path / "mixed"))
    trained = [path for path in sorted((workshop / "good").iterdir()) if path.name not in held_out][:4]
    shutil.copy(trained[0], mixed / "the same.png")
    for path in trained[1:]:
        Image.open(path).save(mixed / f"{path.stem}.bmp")  # other bytes
    capsys.readouterr()
    result = calibrate(detector, mixed, false_rejects=0.2)
    assert "mixed: 4 of 24 photographs were trained on; they are left out" in capsys.readouterr().err
    assert result.detector.threshold == calibrate(detector, workshop / "more", false_rejects=0.2).detector.threshold
    for path in (workshop / "more").iterdir():
        (mixed / path.name).unlink()
    with pytest.raises(BlemishError, match="0 photographs that it was not trained on; at least 5 are needed"):
        calibrate(detector, mixed)


def test_a_detector_that_does_not_know_what_it_was_trained_on_promises_nothing(
    workshop: Path, detector: Detector
) -> None:
    detector.provenance = {
        name: value for name, value in detector.provenance.items() if name not in ("seen", "looks")
    }
    result = calibrate(detector, workshop / "more", false_rejects=0.2)
    assert result.detector.threshold.doubt == UNKNOWN


def blemish_calibrate(*words: str | Path) -> int:
    with pytest.raises(SystemExit) as end:
        main(["calibrate", *map(str, words)])
    return end.value.code if isinstance(end.value.code, int) else 0


def test_the_command_says_what_changes(workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, more, out = workshop / "run", workshop / "more", tmp_path / "new" / "x.blemish"
    assert blemish_calibrate(run, more, "--out", out, "--false-rejects", "0.1") == 0
    text = capsys.readouterr().out
    assert "of 20 good photographs" in text
    assert "With 20 held-out good images a false-reject rate of 10 % is promised" in text
    assert "image threshold" in text
    assert Detector.load(out).threshold.n_calibration == 20
    assert blemish_calibrate(run, more, "--out", tmp_path / "y.blemish", "--threshold", "0") == 0
    assert ": rejected now" in (text := capsys.readouterr().out)
    assert "Nothing is promised: the threshold was given by hand." in text


def test_the_least_area_is_kept_in_the_file(workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run, more, strict = workshop / "run", workshop / "more", tmp_path / "strict.blemish"
    assert blemish_calibrate(run, "--out", strict, "--threshold", "0") == 0
    assert (
        blemish_calibrate(strict, more, "--out", tmp_path / "x.blemish", "--min-area", "5000", "--threshold", "0")
        == 0
    )
    text = capsys.readouterr().out
    assert "of 20 good photographs 0 are rejected, 20 before" in text
    assert "regions of less than 5000 px do not count, 0 px before" in text
    assert Detector.load(tmp_path / "x.blemish").min_area_px == 5000
    assert blemish_calibrate(run, "--out", tmp_path / "y.blemish", "--min-area", "7") == 0
    same = Detector.load(tmp_path / "y.blemish")
    assert (same.min_area_px, same.threshold) == (7, Detector.load(run).threshold)
    result = calibrate(same, more, false_rejects=0.1, min_area_px=0)
    assert (result.detector.min_area_px, len(result.paths)) == (0, 20)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--min-area", "-1"], "--min-area -1: should be a number of pixels, 0 or more"),
        ([], "no photographs; give a folder of good ones, or --threshold VALUE"),
        (["more", "--threshold", "1", "--false-rejects", "0.1"], "--threshold, --false-rejects: give one of them"),
        (["more", "--false-rejects", "1.5"], "must lie between 0 and 1"),
        (["nowhere"], "nowhere: no such"),
    ],
)
def test_mistakes_are_told_in_a_line(
    workshop: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(workshop)
    assert blemish_calibrate("run", *words, "--out", tmp_path / "new" / "x.blemish") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not (tmp_path / "new").exists()


def test_no_detector_is_replaced(workshop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = workshop / "run" / "detector.blemish"
    assert blemish_calibrate(workshop / "run", workshop / "more", "--out", file) == 2
    assert "exists already; choose another name" in capsys.readouterr().err
