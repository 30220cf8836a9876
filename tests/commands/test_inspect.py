"""``blemish inspect``: the folder of results, and what a run may and may not touch in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.commands.inspect import inspect_run
from blemish.data.kinds import OVERLAY, kind_of
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.files import owned_folder


@pytest.fixture
def work(darkness: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three photographs in `photos`, and a detector that needs no file."""
    monkeypatch.setattr(Detector, "load", lambda *arguments: darkness)
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "lot/A.png"):
        photo(tmp_path / "photos" / name)
    return tmp_path


def photo(path: Path, grey: int = 200) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), grey, np.uint8)).save(path)


def inspected(*paths: str, out: str = "findings") -> list[dict[str, Any]]:
    inspect_run(Path("x.blemish"), [Path(path) for path in paths], Path(out), "cpu")
    return [json.loads(line) for line in (Path(out) / "findings.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("paths", "out"), [("photos", "."), ("photos", "photos/.."), ("photos", "photos"), (".", "findings")]
)
def test_results_may_be_around_or_among_the_photographs(work: Path, paths: str, out: str) -> None:
    for _ in range(2):
        rows = inspected(paths, out=out)
        assert [Path(row["path"]).name for row in rows] == ["a.png", "b.png", "A.png"]
        assert [row["overlay"] for row in rows] == ["overlays/a.jpg", "overlays/b.jpg", "overlays/lot_A.jpg"]
    assert len(inspected(".", out="elsewhere")) == 3  # the overlays in `out` are no photographs


def test_overlays_are_those_of_the_rows_and_the_users_files_stay(work: Path, capsys: pytest.CaptureFixture) -> None:
    inspected("photos")
    photo(work / "findings/overlays/b.jpg")  # the user's own, in place of one that was drawn
    (row,) = inspected("photos/b.png")
    assert row["overlay"] == "overlays/photos_b.jpg"
    assert {path.name for path in Path("findings/overlays").iterdir()} == {"b.jpg", "photos_b.jpg"}
    assert kind_of(Path("findings/overlays/b.jpg")) is not OVERLAY
    capsys.readouterr()
    assert len(inspected(".")) == 4
    assert "4 of 4 files inspected, 0 left out" in capsys.readouterr().out


def test_a_mistake_leaves_the_earlier_results(work: Path) -> None:
    before = inspected("photos")
    with pytest.raises(BlemishError, match="photoz: no such file"):
        inspected("photoz")
    with owned_folder(Path("findings")), pytest.raises(BlemishError, match=r"process \d+ on .* writes there"):
        inspected("photos/a.png")
    assert [json.loads(line) for line in Path("findings/findings.jsonl").read_text().splitlines()] == before
    assert len(list(Path("findings/overlays").iterdir())) == 3


def test_an_overlay_that_cannot_be_written_is_an_error_of_its_row(work: Path, capsys: pytest.CaptureFixture) -> None:
    def too_long(picture: object) -> bytes:
        raise BlemishError("a picture of 70000x16 px is too long for JPEG")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blemish.commands.results.as_jpeg", too_long)
        (row,) = inspected("photos/a.png")
    assert row["verdict"] == "good"
    assert row["overlay"] is None
    assert row["error"] == "photos/a.png: has no overlay: a picture of 70000x16 px is too long for JPEG"
    assert "1 without a picture that was to be saved" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_reported_with_the_file(work: Path) -> None:
    for name in ("findings.jsonl", "findings.csv"):
        (work / name.partition(".")[2]).mkdir()
        (work / name.partition(".")[2] / name).symlink_to("/dev/full")
    with pytest.raises(BlemishError, match=r"^jsonl/findings\.jsonl: cannot be written \(No space left"):
        inspected("photos", out="jsonl")
    with pytest.raises(BlemishError, match=r"^csv/findings\.csv: cannot be written \(No space left"):
        inspected("photos", out="csv")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("findings.csv", b"path,label\na.png,good\n"),
        ("findings.csv", b"path,score\na.png,3\n"),
        ("findings.csv", b"\xff\xd8\xff\xe0\0\x10JFIF"),
        ("findings.jsonl", b'{"path": "a.png", "label": "good"}\n'),
        ("findings.jsonl", b"[1]\n"),
        ("findings.jsonl", b"notes"),
    ],
)
def test_only_results_of_blemish_are_replaced(work: Path, name: str, content: bytes) -> None:
    file = work / "photos" / name
    file.write_bytes(content)
    before = sorted(work.rglob("*"))
    with pytest.raises(BlemishError, match=rf"^photos/{name}: is not a result of blemish; choose another --out$"):
        inspected("photos", out="photos")
    assert file.read_bytes() == content
    assert sorted(work.rglob("*")) == before


def test_results_of_earlier_versions_are_replaced(work: Path) -> None:
    Path("findings").mkdir()
    header = b"path,score,threshold,is_defective,n_regions,largest_area_px,error\r\n"
    Path("findings/findings.csv").write_bytes(header)
    Path("findings/findings.jsonl").write_bytes(b"")
    assert len(inspected("photos")) == 3


def test_links_to_themselves_and_hidden_folders_are_named(work: Path, capsys: pytest.CaptureFixture) -> None:
    Path("photos/self").symlink_to("self")
    photo(work / "photos/.lot/1.png")
    photo(work / "photos/.lot/2.png")
    assert len(inspected("photos", "photos/a.png")) == 3
    output = capsys.readouterr()
    assert "self (a link to itself); mend it" in output.err
    assert "3 of 6 files inspected, 3 left out" in output.out
    assert "photos/a.png: given, or holds images that are given, more than once" in output.err
