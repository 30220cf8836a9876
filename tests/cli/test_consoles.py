"""Consoles of any encoding, and libraries that have something to say."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.cli import main


def printed(monkeypatch: pytest.MonkeyPatch, encoding: str, *words: str) -> tuple[int | str | None, bytes]:
    """Exit code and everything that a command prints on a console of an encoding."""
    console = BytesIO()
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, TextIOWrapper(console, encoding, errors="strict", write_through=True))
    with warnings.catch_warnings(), pytest.raises(SystemExit) as stopped:
        main([*words])
    return stopped.value.code, console.getvalue()


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp437", "utf-8"])
def test_names_that_a_console_lacks_are_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    folder = tmp_path / "部品"
    folder.mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"歯車{number}.png")
    (folder / "壊.png").touch()
    code, text = printed(monkeypatch, encoding, "data", str(folder))
    assert code == 2
    assert ("壊".encode() if encoding == "utf-8" else rb"\u58ca.png") in text
    for words in (["--help"], ["study", "--help"], ["data", str(folder / "無")]):
        assert b"Traceback" not in printed(monkeypatch, encoding, *words)[1]


def test_warnings_of_libraries_are_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\x00\x12\x01\x03\x00\x01\x00\x00\x00\x01\x00"  # fewer entries than it says
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg", exif=exif)
    code, text = printed(monkeypatch, "utf-8", "data", str(tmp_path))
    assert code == 0
    assert b"EXIF" not in text
    assert b"Warning" not in text
    handlers = logging.getLogger().handlers
    assert any(isinstance(handler, logging.NullHandler) for handler in handlers)


@pytest.fixture
def half_broken(tmp_path: Path) -> Path:
    """A folder of 12 good images and 300 empty files: about 20 KB of messages."""
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    for number in range(300):
        (tmp_path / f"empty {number}.png").touch()
    return tmp_path


def test_a_reader_that_goes_away_changes_nothing_but_what_is_read(half_broken: Path) -> None:
    command = [sys.executable, "-m", "blemish", "data", str(half_broken), "--json"]
    whole = subprocess.run(command, capture_output=True, check=False)
    assert whole.returncode == 2
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == whole.stderr
    assert process.returncode == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_output_that_is_lost_on_a_full_disk_is_told(half_broken: Path) -> None:
    for path in half_broken.glob("empty*"):
        path.unlink()
    command = [sys.executable, "-m", "blemish", "data", str(half_broken), "--json"]
    with Path("/dev/full").open("wb") as full:
        lost = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
        assert (lost.returncode, lost.stderr) == (2, b"blemish: standard output: No space left on device\n")
        silent = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, check=False)
    assert silent.returncode == 0


def test_mistakes_of_the_shell_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["data", ""], ["inspect", "a.blemish", ""], ["fit", str(tmp_path), "--out="]):
        code, text = printed(monkeypatch, "utf-8", *words)
        assert (code, text[:30]) == (2, b"blemish: an argument is empty,")
    code, text = printed(monkeypatch, "utf-8", "fit", str(tmp_path), "--seed", str(10**20))
    assert (code, text[:23]) == (2, b"blemish: option seed: 1")
