"""A part is judged again from its record, and reviews of parts join a calibration."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import blemish
from blemish.cli import main
from blemish.commands.replay import replayed
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.record.record import NewVerdict, VerdictRecord
from blemish.record.storage import Storage
from learning.test_fit import TINY, part, save_parts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector, and further good photographs."""
    folder = tmp_path_factory.mktemp("replay")
    blemish.fit(save_parts(folder / "good", 30), settings=TINY, device="cpu", false_rejects=0.2, out=folder / "run")
    save_parts(folder / "more", 0)
    for number in range(100, 120):
        cv2.imwrite(str(folder / "more" / f"{number}.png"), part(number))
    return folder


def photographed(number: int) -> bytes:
    """A JPEG of a part; of odd numbers, with a dark spot."""
    pixels = part(number)
    if number % 2:
        pixels[10:20, 10:30] = 0
    return cv2.imencode(".jpg", pixels)[1].tobytes()


@pytest.fixture
def line(run: Path, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A record of four parts, whose photographs are kept."""
    detector = Detector.load(run / "run")
    with (
        VerdictRecord.open(str(tmp_path / "verdicts.db")) as record,
        Storage(tmp_path / "storage", record=record, reserve_bytes=0) as storage,
    ):
        digest = storage.add_detector(run / "run" / "detector.blemish")
        for number in range(200, 204):
            content = photographed(number)
            photograph = hashlib.sha256(content).hexdigest()
            pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            finding = detector.inspect(pixels)
            row = finding.row()
            record.add([NewVerdict(
                product="gasket", verdict=finding.verdict, part=str(number), score=row["score"],
                threshold=row["threshold"], photograph=photograph, detector=digest,
                image=storage.save_image("gasket", content, photograph, time.time()),
            )])  # fmt: skip
        record.add([NewVerdict(product="gasket", verdict="not_inspected", reason="late: 200 ms")])
        yield SimpleNamespace(
            record=record, storage=storage, db=str(tmp_path / "verdicts.db"), detector=detector, folder=tmp_path
        )


def typed(*words: str | Path | int) -> int:
    with pytest.raises(SystemExit) as end:
        main([*map(str, words)])
    return end.value.code if isinstance(end.value.code, int) else 0


def test_a_part_gets_the_same_verdict_again(line: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    for id_ in range(1, 5):
        result = replayed(line.record, line.storage, id_, "cpu")
        assert result.is_same
        assert result.score == pytest.approx(line.record.verdict(id_)["score"], rel=1e-6)
    assert typed("replay", line.db, 2, "--device", "cpu") == 0
    first, recorded, again, last = capsys.readouterr().out.splitlines()
    assert first.startswith("verdict 2, part 201 of gasket, 20")
    assert recorded.removeprefix("  recorded: ").split(",")[0] == again.removeprefix("  replayed: ").split(",")[0]
    assert last == "the same"


def test_what_is_not_the_same_is_said(line: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    with line.record.database.transaction(writes=True) as connection:
        connection.exec_driver_sql("UPDATE verdicts SET score = score * 1.001 WHERE id = 1")
    assert typed("replay", line.db, 1, "--device", "cpu") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "NOT the same"


def test_a_storage_that_has_moved_is_named(line: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    (line.folder / "storage").rename(line.folder / "moved")
    assert typed("replay", line.db, 1, "--device", "cpu") == 2
    assert (
        "storage: is not the storage with the pictures of these parts (it was written to" in capsys.readouterr().err
    )
    assert typed("replay", line.db, 1, "--storage", line.folder / "moved", "--device", "cpu") == 0
    (line.folder / "moved").rename(line.folder / "storage")


def test_what_cannot_be_replayed_is_told_in_a_line(line: SimpleNamespace) -> None:
    record, storage = line.record, line.storage

    def refusal(id_: int) -> str:
        with pytest.raises(BlemishError) as caught:
            replayed(record, storage, id_, "cpu")
        return str(caught.value)

    assert "has no verdict 99" in refusal(99)
    assert "verdict 5 was not inspected (late: 200 ms); there is nothing to replay" in refusal(5)
    file = storage.path(record.pictures(1).image)
    file.write_bytes(photographed(300))
    assert "is not the file of verdict 1, whose SHA-256 is" in refusal(1)
    record.drop_pictures([2])
    assert "verdict 2: its photograph is not kept" in refusal(2)
    storage.detector(record.verdict(3)["detector"]).unlink()
    assert "verdict 3: its detector" in refusal(3)


def test_a_database_that_is_missing_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed("replay", tmp_path / "new" / "verdicts.db", 1) == 2
    assert "verdicts.db: no such file; check the path" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty.db").touch()
    assert typed("replay", tmp_path / "empty.db", 1) == 2
    assert "empty.db: is empty, no record of verdicts" in capsys.readouterr().err


def calibrated(run: Path, out: Path, *words: str | Path) -> Detector:
    assert typed("calibrate", run / "run", run / "more", "--out", out, "--false-rejects", "0.1", *words) == 0
    return Detector.load(out)


def test_reviewed_good_parts_raise_the_threshold_and_never_lower_it(
    run: Path, line: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = calibrated(run, line.folder / "plain.blemish")
    scores = {id_: line.record.verdict(id_)["score"] for id_ in range(1, 5)}
    higher = [id_ for id_, score in scores.items() if score > plain.threshold.value]
    lower = [id_ for id_ in scores if id_ not in higher]
    assert higher
    assert lower
    for id_ in lower:
        line.record.review(id_, False)
    line.record.review(higher[0], False, "anna", "only dust")
    line.record.review(higher[0], True, "ben", "no: a dent")  # the newest counts
    capsys.readouterr()
    same = calibrated(run, line.folder / "same.blemish", "--reviews", line.db)
    assert f"0 of {len(lower)} photographs that were reviewed as good are above" in capsys.readouterr().out
    assert same.threshold == plain.threshold
    line.record.review(higher[0], False, "anna", "only dust, I looked again")
    raised = calibrated(run, line.folder / "raised.blemish", "--reviews", line.db, "--product", "gasket")
    output = capsys.readouterr().out
    assert f"1 of {len(lower) + 1} photographs that were reviewed as good are above" in output
    assert "was reviewed as defective" not in output
    assert raised.threshold.value > plain.threshold.value
    assert (raised.threshold.n_calibration, raised.threshold.is_promised) == (20, True)
    assert raised.calibration_scores == plain.calibration_scores
    line.record.review(lower[0], True)
    calibrated(run, line.folder / "warned.blemish", "--reviews", line.db)
    output = capsys.readouterr().out
    assert output.count(": was reviewed as defective, and passes with the new threshold\n") == 1
    assert raised.provenance["calibrated_on"] == {"data": "more", "n": 20, "n_reviewed": len(lower) + 1}


def test_reviews_without_images_are_counted_out_loud(
    run: Path, line: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    line.record.review(1, False)
    line.record.review(2, False)
    line.record.drop_pictures([2])
    calibrated(run, line.folder / "x.blemish", "--reviews", line.db)
    printed = capsys.readouterr()
    assert "1 reviewed photographs are not kept (any more); they are left out" in printed.err
    assert "of 1 photographs that were reviewed as good" in printed.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["more", "--product", "gasket"], "--product, --storage: say which reviews count; give --reviews, too"),
        (["--reviews", "db"], "--reviews: come on top of good photographs; give a folder of these"),
        (["more", "--reviews", "db", "--threshold", "1"], "give a folder of these, and no --threshold"),
        (["more", "--reviews", "db"], "db: no part has a review that calls it good; review some first"),
        (["more", "--reviews", "db", "--product", "washer"], "db: no part of washer has a review"),
        (["more", "--reviews", "two"], "two: has reviews of several products (gasket, washer); give --product"),
    ],
)
def test_mistakes_with_reviews(
    run: Path, line: SimpleNamespace, words: list[str], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if "two" in words:
        line.record.add([NewVerdict(product="washer", verdict="good")])
        line.record.review(1, False)
        line.record.review(6, False)
    monkeypatch.chdir(run)
    words = [{"db": line.db, "two": line.db}.get(word, word) for word in words]
    assert typed("calibrate", "run", *words, "--out", line.folder / "x.blemish") == 2
    (text,) = capsys.readouterr().err.strip().splitlines()
    assert message.removeprefix("db").removeprefix("two") in text
