"""Sources: what is at the paths that were given, and the names of overlays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.kinds import with_comment
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


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Four photographs in folders on three levels, in the working folder."""
    monkeypatch.chdir(tmp_path)
    names = ["photos/a.png", "photos/lot1/b.png", "photos/lot1/deep/c.png", "photos/lot2/d.jpg"]
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(name)
    return names


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("photos/**/*.png", "abc"),
        ("photos/**", "abcd"),
        ("**/*.png", "abc"),
        ("photos/**/deep", "c"),
        ("photos/lot?/**/*.*", "bcd"),
        ("photos/**/lot1/*.png", "b"),
        ("photos/*.png", "a"),
    ],
)
def test_patterns_match_in_any_folder(photos: list[str], pattern: str, expected: str) -> None:
    Path("photos/loop").symlink_to(".")
    found = find([Path(pattern)])
    assert sorted(path.stem for path in found.files) == [*expected]
    assert not found.faults
    assert not found.repeated


def test_a_pattern_says_what_it_does_not_take(photos: list[str]) -> None:
    Path("photos/lot1/notes.txt").write_text("lot 1")
    assert [entry.path.name for _, entry in find([Path("photos/**/*1/*")]).left_out] == ["notes.txt"]
    with pytest.raises(BlemishError, match=r"^photos/\*\*/\*\.bmp: no file is called so; check the pattern"):
        find([Path("photos/**/*.bmp")])


@pytest.mark.parametrize(
    "paths",
    [
        ("photos", "photos/a.png", "./photos/lot1/../a.png"),
        ("photos/a.png", "photos", "photos"),
        ("photos", "link"),
        ("photos/**", "photos/*.png"),
    ],
)
def test_photographs_at_several_paths_are_inspected_once(photos: list[str], paths: tuple[str, ...]) -> None:
    Path("link").symlink_to("photos")
    Path("photos/notes.txt").write_text("lot 1")
    found = find([Path(path) for path in paths])
    assert sorted(path.name for path in found.files) == ["a.png", "b.png", "c.png", "d.jpg"]
    assert found.n_left_out == 1
    assert found.lines()[-1].endswith("more than once; each is inspected once")


def test_a_file_that_is_named_several_times_is_inspected_as_often(photos: list[str]) -> None:
    found = find([Path("photos/a.png")] * 3)
    assert found.files == [Path("photos/a.png")] * 3
    assert not found.lines()


def test_a_file_that_is_given_is_not_left_out(photos: list[str]) -> None:
    Path("photos/notes.txt").write_text("lot 1")
    found = find([Path("photos"), Path("photos/notes.txt")])
    assert (len(found.files), found.n_left_out) == (5, 0)


def test_a_mistake_that_is_given_twice_is_one(photos: list[str]) -> None:
    found = find([Path("gone.png"), Path("photos/a.png"), Path("gone.png")])
    assert [str(path) for path in found.files] == ["gone.png", "photos/a.png"]
    assert [*found.faults] == [Path("gone.png")]


def test_links_to_a_file_stay_photographs_of_their_own(photos: list[str]) -> None:
    Path("photos/z.png").symlink_to("a.png")
    assert len(find([Path("photos")]).files) == 5


def test_folders_that_cannot_be_listed_are_faults_beside_others(
    photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refusing(folder: Path) -> object:
        if Path(folder).name == "lot1":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    for paths in (["photos"], ["photos", "./photos"], ["photos/**"]):
        found = find([Path(path) for path in paths])
        assert [str(path) for path in found.files] == ["photos/a.png", "photos/lot2/d.jpg", "photos/lot1"]
        assert found.faults[Path("photos/lot1")].startswith("photos/lot1: cannot be listed (Permission denied)")
    with pytest.raises(BlemishError, match="photos/lot1: cannot be listed"):
        find([Path("photos/lot1")])


def test_an_overlay_that_is_given_as_a_file_is_a_mistake(photos: list[str]) -> None:
    Path("photos/lot2/e.jpg").write_bytes(with_comment(Path("photos/lot2/d.jpg").read_bytes()))
    found = find([Path("photos/lot2/*.jpg")])
    assert [*found.faults.values()] == [
        "photos/lot2/e.jpg: is an overlay by blemish, not a photograph; give the photograph"
    ]
    assert (len(found.files), found.n_left_out) == (2, 0)
