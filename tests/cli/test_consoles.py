"""Consoles of any encoding, and libraries that have something to say."""

from __future__ import annotations

import logging
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
