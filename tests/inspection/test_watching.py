"""A folder that is watched: every photograph once, when it is whole."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.errors import BlemishError
from blemish.inspection.sources import Photograph
from blemish.inspection.watching import WatchedFolder, key_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def photo(path: Path, grey: int = 200) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), grey, np.uint8)).save(path)
    return path


class Watch:
    """Watches a folder in quick steps, as a line would in slow ones."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.lines: list[str] = []
        self.stop = threading.Event()
        quick = {"poll_s": 0.0, "quiet_s": 0.0, "patience_s": 0.1} | options
        self.watched = WatchedFolder(folder, tell=self.lines.append, **quick)  # type: ignore[arg-type]
        self.frames = self.watched.frames(self.stop)

    def names(self, n_looks: int = 4) -> list[str]:
        """The files that are taken until the folder has been looked at so often."""
        taken: list[str] = []
        for _ in range(n_looks):
            while (frame := next(self.frames)) is not None:
                taken.append(Path(str(frame.path)).name)
        return taken

    def until(self, is_enough: Callable[[], bool]) -> list[str]:
        """Look until something has happened; the files that are taken."""
        taken: list[str] = []
        for _ in range(100_000):
            if is_enough():
                return taken
            taken += self.names(1)
        raise AssertionError("it did not happen")


def test_what_is_there_and_what_comes_is_taken_once(folder: Path) -> None:
    for name in ("10.png", "2.png", "lot/1.png"):
        photo(folder / name)
    watch = Watch(folder)
    assert watch.names() == ["2.png", "10.png", "1.png"]
    photo(folder / "11.png")
    assert watch.names() == ["11.png"]
    assert watch.names() == []
    photo(folder / "2.png", 100)
    os.utime(folder / "2.png", ns=(0, 12345))  # another photograph under the same name
    assert watch.names() == ["2.png"]


def test_a_file_is_taken_when_it_is_quiet_and_has_its_end(folder: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "c.bmp", "d.webp"):
        content = photo(tmp_path / "other" / name).read_bytes()
        (folder / name).write_bytes(content[:-4])
    watch = Watch(folder, patience_s=1e9)
    assert watch.names() == []
    for name in ("a.png", "b.jpg", "c.bmp", "d.webp"):
        shutil.copy(tmp_path / "other" / name, folder / name)
    assert watch.until(lambda: len(watch.watched._done) == 4) == ["a.png", "b.jpg", "c.bmp", "d.webp"]
    assert watch.lines == []


def test_a_file_that_never_gets_its_end_is_taken_and_told_by_the_reader(folder: Path, tmp_path: Path) -> None:
    (folder / "cut.png").write_bytes(photo(tmp_path / "other/a.png").read_bytes()[:50])
    (folder / "empty.png").touch()
    watch, taken = Watch(folder), list[str]()
    taken += watch.until(lambda: len(watch.watched._done) == 2)
    assert sorted(taken) == ["cut.png", "empty.png"]


def test_what_is_not_taken_is_told_once(folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")
    photo(folder / "x.png").rename(folder / "x.png.part")
    photo(folder / ".hidden.png")
    watch = Watch(folder)
    assert watch.until(lambda: len(watch.lines) == 2) == []
    watch.names(200)
    assert sorted(watch.lines) == [
        f"{folder / 'notes.txt'}: is not taken: text; only images are inspected",
        f"{folder / 'x.png.part'}: is not taken: by its name it is not finished; rename it",
    ]
    (folder / "x.png.part").rename(folder / "x.png")
    assert watch.names() == ["x.png"]


def test_results_in_it_are_not_taken(folder: Path) -> None:
    (folder / "findings.csv").write_text("path,score,threshold,is_defective\n")
    (folder / "heartbeat.json").write_text('{\n  "time": "2026-11-29",\n  "state": "running"\n}\n')
    photo(folder / "out" / "a.png")
    photo(folder / "b.png")
    watch = Watch(folder, ignored=[folder / "out"])
    assert (watch.names(), watch.lines) == (["b.png"], [])


def test_what_an_earlier_run_has_taken_is_not_taken_again(folder: Path) -> None:
    photo(folder / "a.png")
    watch = Watch(folder)
    first = next(watch.frames)
    while first is None:
        first = next(watch.frames)
    assert isinstance(first, Photograph)
    photo(folder / "b.png")
    done = [key_of(str(first.path), first.columns["version"])]
    assert Watch(folder, done=done).names() == ["b.png"]


def test_a_folder_that_is_gone_is_told_and_comes_back(folder: Path) -> None:
    photo(folder / "a.png")
    watch = Watch(folder)
    assert watch.names() == ["a.png"]
    folder.rename(folder.with_name("away"))
    assert watch.names() == []
    assert watch.watched.state.startswith("gone since 2")
    folder.with_name("away").rename(folder)
    photo(folder / "b.png")
    assert watch.names() == ["b.png"]
    assert watch.watched.state == "running"
    assert watch.lines == [
        f"{folder}: cannot be listed (No such file or directory); it is tried again until it can",
        f"{folder}: is back",
    ]


def test_it_ends_when_it_is_stopped(folder: Path) -> None:
    watch = Watch(folder)
    watch.stop.set()
    assert list(watch.frames) == []


def test_a_file_is_no_folder(folder: Path) -> None:
    with pytest.raises(BlemishError, match=r"a\.png: is no folder; give a folder, or the address of a camera"):
        Watch(photo(folder / "a.png"))
