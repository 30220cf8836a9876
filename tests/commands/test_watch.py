"""``blemish watch`` as a supervisor runs it: a process, signals, exit codes, and what lies in its folder."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.cli import main
from blemish.detector import Detector
from blemish.inspection.cameras import open_camera
from blemish.inspection.sources import Photograph
from forked import Forked
from learning.test_fit import TINY, part, save_parts

Process = subprocess.Popen[str] | Forked
Start = Callable[..., Process]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("watch")
    blemish.fit(save_parts(folder / "good", 12), settings=TINY, device="cpu", false_rejects=0.2, out=folder / "run")
    return folder / "run"


def in_a_process(command: list[str]) -> subprocess.Popen[str]:
    whole = [sys.executable, "-m", "blemish", *command]
    return subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def start(run: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts the command in a process; all are killed at the end. The first of a test is no fork."""
    processes: list[Process] = []

    def started(*words: object) -> Process:
        command = ["watch", str(tmp_path / "in"), "--detector", str(run)]
        command += ["--out", str(tmp_path / "out"), "--device", "cpu", *map(str, words)]
        processes.append(Forked(command) if processes else in_a_process(command))
        return processes[-1]

    (tmp_path / "in").mkdir()
    yield started
    for process in processes:
        process.kill()
        process.communicate()


def rows(out: Path) -> list[dict[str, Any]]:
    file = out / "findings.jsonl"
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def wait_for(is_so: Callable[[], bool], process: Process) -> None:
    for _ in range(600):
        if is_so():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    raise AssertionError("it did not happen within a minute")


def test_what_waits_when_it_is_stopped_is_told(start: Start, tmp_path: Path) -> None:
    save_parts(tmp_path / "in", 1)
    content = (tmp_path / "in" / "part 0.png").read_bytes()
    (tmp_path / "in" / "torn.png").write_bytes(content[:200])
    (tmp_path / "in" / "notes.txt").write_text("no photograph")
    process = start("--save", "none", "--patience", "600")
    wait_for(lambda: len(rows(tmp_path / "out")) == 1, process)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert "torn.png: waits, with 0 more files, and is inspected at the next start" in errors
    assert process.returncode == 3, output


def test_it_goes_on_where_it_was_stopped(start: Start, run: Path, tmp_path: Path) -> None:
    incoming, out = tmp_path / "in", tmp_path / "out"
    save_parts(incoming, 3)
    process = start("--save", "overlays,contours", "--save-good")
    wait_for(lambda: len(rows(out)) == 3, process)
    process.kill()  # in the middle of anything
    process.communicate()
    with (out / "findings.jsonl").open("a") as file:
        file.write('{"path": "torn')
    Image.fromarray(part(7)).save(incoming / "late.png")
    (incoming / "torn.png").write_bytes((incoming / "late.png").read_bytes()[:200])
    again = start("--save", "overlays,contours", "--save-good")
    wait_for(lambda: len(rows(out)) == 4, again)
    wait_for(lambda: json.loads((out / "heartbeat.json").read_text())["n_inspected"] == 1, again)
    assert json.loads((out / "heartbeat.json").read_text())["state"] == "running"
    wait_for(lambda: len(rows(out)) == 5, again)  # the torn one, after a while without its end
    again.send_signal(signal.SIGTERM)
    output, errors = again.communicate(timeout=60)
    assert again.returncode == 3, errors
    assert "torn.png: damaged or incomplete" in errors
    assert "stopped: 1 inspected" in output
    names = [Path(row["path"]).name for row in rows(out)]
    assert names == ["part 0.png", "part 1.png", "part 2.png", "late.png", "torn.png"]
    assert len((out / "findings.csv").read_text().splitlines()) == 6
    scores = [finding.score for finding in Detector.load(run).inspect([row["path"] for row in rows(out)[:4]])]
    assert [row["score"] for row in rows(out)[:4]] == pytest.approx(scores)
    assert {row["overlay"] for row in rows(out)[:4]} == {
        f"overlays/{name}.jpg" for name in ("part 0", "part 1", "part 2", "late")
    }
    assert json.loads((out / "heartbeat.json").read_text())["state"] == "stopped"


def test_one_watches_at_a_time_and_ends_well(start: Start, tmp_path: Path) -> None:
    first = start()
    wait_for((tmp_path / "out/heartbeat.json").exists, first)
    second = start()
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 75  # the first may end
    assert "writes there" in errors
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 0


def test_a_full_disk_ends_it_so_that_it_is_started_again(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any) -> bytes:
        raise blemish.BlemishError("x.jpg: cannot be written (No space left on device)") from OSError(28, "No space")

    monkeypatch.setattr("blemish.commands.results.as_jpeg", full)
    save_parts(tmp_path / "in", 1)
    with pytest.raises(SystemExit) as end:
        main(["watch", str(tmp_path / "in"), "--detector", str(run), "--out", str(tmp_path / "out"), "--save-good"])
    assert end.value.code == 75
    assert "No space left" in capsys.readouterr().err
    assert rows(tmp_path / "out") == []


def test_a_camera_that_stays_away_ends_it_so_that_it_is_started_again(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Capture:
        """OpenCV's capture of a camera that sends two frames and is then unplugged."""

        n = 0

        def isOpened(self) -> bool:
            return Capture.n < 2

        def read(self) -> tuple[bool, Any]:
            Capture.n += 1
            return (True, part(Capture.n)) if Capture.n <= 2 else (False, None)

        def release(self) -> None: ...
        def get(self, key: int) -> float:
            return 0.0

        def set(self, key: int, value: float) -> bool:
            return True

    monkeypatch.setattr(cv2, "VideoCapture", lambda *arguments: Capture())
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as end:
        main(["watch", "0", "--detector", str(run), "--out", str(out), "--patience", "0", "--save", "photographs",
              "--save-good"])  # fmt: skip
    assert end.value.code == 75
    assert "0: gone" in capsys.readouterr().err
    first, second = rows(out)
    assert (first["path"], second["path"]) == ("0#1", "0#2")
    saved = np.asarray(Image.open(out / first["photograph"]))
    np.testing.assert_array_equal(saved, part(1)[..., ::-1])  # what the camera sent, from OpenCV's order of colours
    assert open_camera("0").address == "0"


def test_many_frames_that_are_unlike_are_two_lines(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Covered:
        """A camera that sends black frames."""

        state = "running"

        def frames(self, stop: Any) -> Iterator[Photograph]:
            for number in range(5):
                yield Photograph(np.zeros_like(part(0)), f"{number}", label=f"cam#{number}")

    monkeypatch.setattr("blemish.commands.watch._source", lambda *arguments: nullcontext(Covered()))
    with pytest.raises(SystemExit):
        main(["watch", "cam", "--detector", str(run), "--out", str(tmp_path / "out"), "--save", "none"])
    first, last = (line for line in capsys.readouterr().err.splitlines() if "unlike the good images" in line)
    assert first.startswith("blemish: cam#0: unlike")
    assert last.startswith("blemish: cam#4: unlike")
    assert last.endswith("; 3 more like it before, as their rows say")
    assert [row["verdict"] for row in rows(tmp_path / "out")] == 5 * ["unlike"]


def test_what_is_not_there_yet_may_be_there_when_it_is_started_again(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = {"nowhere": "nowhere: no such folder; check the path, or mount the share", "99": "99: cannot be opened"}
    for source, line in sources.items():
        with pytest.raises(SystemExit) as end:
            main(["watch", source, "--detector", str(run), "--out", str(tmp_path / "out"), "--patience", "0"])
        assert end.value.code == 75
        assert line in capsys.readouterr().err


def test_folders_of_inspect_and_of_watch_are_not_mixed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photographs = save_parts(tmp_path / "in", 2)
    for first, second, line in (
        ("inspect", "watch", "holds results of `blemish inspect`"),
        ("watch", "inspect", "holds the record of `blemish watch`; choose another --out"),
    ):
        out = tmp_path / first
        out.mkdir()
        if first == "inspect":
            with pytest.raises(SystemExit):
                main(["inspect", str(run), str(photographs), "--out", str(out)])
        else:
            (out / "heartbeat.json").write_text("{}")
        words = {"watch": [str(photographs), "--detector", str(run)], "inspect": [str(run), str(photographs)]}[second]
        with pytest.raises(SystemExit) as end:
            main([second, *words, "--out", str(out)])
        assert end.value.code == 2
        assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["ftp://camera"], "ftp://camera: is neither a folder nor the address of a camera; give a folder, or 0, 1"),
        (["{run}/config.yaml"], "is neither a folder nor the address of a camera; `blemish inspect` takes files"),
        (
            ["{run}", "--save", "coco"],
            "--save coco: should be all, none, or some of overlays,maps,masks,contours,photog",
        ),
        (["{run}", "--poll", "-1"], "--poll -1.0: should be a number of seconds, 0 or more"),
        (["{run}", "--patience", "nan"], "--patience nan: should be a number of seconds, 0 or more"),
        (["aravis:"], "aravis:: is neither a folder nor the address of a camera"),
    ],
)
def test_mistakes_are_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    source, *more = (word.replace("{run}", str(run)) for word in words)
    with pytest.raises(SystemExit) as end:
        main(["watch", source, "--detector", str(run), "--out", str(tmp_path / "out"), *more])
    assert end.value.code == 2
    assert line in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []
