"""Sources: what is at the paths that were given, and the names of overlays."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.errors import BlemishError
from blemish.inspection.sources import find, photographs, portable


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("part 17", "part 17"),
        ("50% #1", "50% #1"),
        ("a:b?c", "a_b_c"),
        ("line\nbreak", "line_break"),
        ("CON", "_CON"),
        ("nul.left", "_nul.left"),
        ("console", "console"),
        ("dot.", "dot_"),
        (".hidden", "_hidden"),
        (os.fsdecode(b"teil_\xe4"), "teil__"),
        ("部品", "部品"),
    ],
)
def test_names_that_any_file_system_takes(name: str, expected: str) -> None:
    assert portable(name) == expected


def test_long_names_are_shortened_and_stay_different() -> None:
    names = {portable("ü" * 120 + end) for end in "ab"}
    assert len(names) == 2
    assert all(len(name.encode()) <= 120 for name in names)


def test_names_are_unique_where_letter_case_and_accents_count_for_nothing() -> None:
    paths = [Path("1/A.png"), Path("1/a.png"), Path("2/\u00e9.png"), Path("2/e\u0301.png"), Path("3/a.png")]
    names = [photograph.name for photograph in photographs(paths, taken=["3_A"])]
    assert names == ["A", "1_a", "\u00e9", "2_e\u0301", "3_a_2"]


def test_paths_without_images_are_faults_beside_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(name)
    found = find([Path("*.png"), Path("gone.png"), Path("*.bmp"), Path("empty")])
    assert [str(path) for path in found.files] == ["a.png", "b.png", "gone.png", "*.bmp", "empty"]
    assert [*found.faults.values()] == [
        "gone.png: no such file or folder; check the path",
        "*.bmp: no file is called so; check the pattern",
        "empty: no images in it or below; give image files or a folder of them",
    ]
    *_, last = photographs(found.files, faults=found.faults)
    with pytest.raises(BlemishError, match="empty: no images in it"):
        last.read()
    with pytest.raises(BlemishError, match=r"^gone: no such file or folder"):
        find([Path("gone")])
