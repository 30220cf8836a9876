"""Which files of a folder are images: all that hold one, however they are called. The others are named, with reasons.

A file with a suffix of images counts as one, so that a damaged one is reported where it is read; only other files are
opened, for their first bytes. Links to folders are followed, each real folder once.
"""

from __future__ import annotations

import errno
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from blemish.data.kinds import IMAGE_SUFFIXES, JPEG_SUFFIXES, SYSTEM, Kind, kind_of
from blemish.errors import BlemishError, print_notices

OVERLAYS, MAPS, MASKS = "overlays", "maps", "masks"
"""Names of the folders in which ``blemish inspect`` writes its pictures."""

_OF_THE_SYSTEM = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "picasa.ini", "icon\r", "__macosx", "@eadir", "#recycle",
     "$recycle.bin", "system volume information", "lost+found", ".git", ".svn", ".hg", ".venv", ".cache",
     ".thumbnails", ".@__thumb", ".ipynb_checkpoints", ".appledouble", ".trash", ".trashes"}
)  # fmt: skip
_MOST_NAMES = 5


@dataclass(frozen=True)
class LeftOut:
    """A file or a folder that is not taken, and what it is."""

    path: Path
    kind: Kind
    n_files: int = 1
    """Of a folder, how many of its files are pictures, or may hold some."""


@dataclass
class Listing:
    """The image files of a folder, in natural order, and what else is there.

    Files that file managers and systems leave behind are in neither, nor are hidden files but for images.
    """

    images: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    linked: list[Path] = field(default_factory=list)
    """Links to folders that were followed."""
    faults: dict[Path, str] = field(default_factory=dict)
    """Why a folder cannot be listed, in one line."""


def list_images(folder: str | Path, recursive: bool = False) -> list[Path]:
    """List the image files in a folder, in natural order (`2.png` before `10.png`): ``list_files(...).images``.

    Raises
    ------
    BlemishError
        The folder, or one below it, does not exist or cannot be read.
    """
    listing = list_files(folder, recursive)
    if listing.faults:
        raise BlemishError("\n".join(listing.faults.values()))
    return listing.images


def list_files(folder: str | Path, recursive: bool = False) -> Listing:
    """List the files in a folder.

    Parameters
    ----------
    folder
        The folder. The returned paths start with it.
    recursive
        Also list subfolders, and folders that links lead to.

    Returns
    -------
    As images the files that have one of `IMAGE_SUFFIXES`, and all others that hold a picture by their first bytes,
    also of a format that cannot be read, unless the same picture lies beside it (`a.heic` beside `a.jpg`). Overlays,
    maps and masks that blemish wrote are left out. A folder that cannot be listed is a fault; the others are listed.
    """
    listing = Listing()
    for parent, files in _walk(Path(folder), recursive, listing):
        _sort_out(parent, files, listing)
    listing.images.sort(key=natural_key)
    listing.left_out.sort(key=lambda left_out: natural_key(left_out.path))
    return listing


def list_with_notices(folder: str | Path) -> list[Path]:
    """List the images in and below a folder; prints lines to stderr about files there that may hold others."""
    listing = list_files(folder, recursive=True)
    print_notices(lines_about([entry for entry in listing.left_out if entry.kind.remedy], Path(folder)))
    return listing.images


def natural_key(path: Path) -> tuple[list[list[str | int]], Path]:
    """Sort key that compares numbers in names as numbers and ignores case; ties are sorted in plain order."""
    parts = (re.split(r"(\d+)", part.casefold()) for part in path.parts)
    return [[int(piece) if i % 2 else piece for i, piece in enumerate(part)] for part in parts], path


def lines_about(left_out: Sequence[LeftOut], root: Path) -> list[str]:
    """Say which files are left out, and why: a line for each remedy, with the first names only."""
    by_remedy: dict[str, list[LeftOut]] = defaultdict(list)
    for entry in left_out:
        by_remedy[entry.kind.remedy].append(entry)
    lines = []
    for remedy in sorted(by_remedy, key=lambda remedy: (not remedy, remedy)):
        entries = by_remedy[remedy]
        shown = entries[:_MOST_NAMES]
        of_other_kinds = {entry.kind.name: entry for entry in reversed(entries[_MOST_NAMES:])}
        for entry in shown:
            of_other_kinds.pop(entry.kind.name, None)
        shown += reversed(of_other_kinds.values())
        names = ", ".join(f"{_below(entry.path, root)} ({_description(entry)})" for entry in shown)
        n_files = sum(entry.n_files for entry in entries)
        more = f" and {n_more} more" if (n_more := n_files - sum(entry.n_files for entry in shown)) else ""
        files = f"{n_files} file{'s are' if n_files > 1 else ' is'} left out"
        lines.append(f"{root}: {files}: {names}{more}{'; ' if remedy else ''}{remedy}")
    return lines


def _description(entry: LeftOut) -> str:
    return entry.kind.name if entry.n_files == 1 else f"{entry.kind.name}, {entry.n_files} files"


def shortened(names: Sequence[str]) -> str:
    """The first of many names, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _below(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) and path != root else path


def _walk(root: Path, recursive: bool, listing: Listing) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
    """Yield each folder with its files; add hidden folders, faults, and links that are followed, to the listing.

    Links come last, so that a file is listed where it is, not where a link shows it.
    """
    seen, waiting, linked = set[tuple[int, int]](), [root], list[Path]()
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.pop(0)
        is_linked, files = False, list[os.DirEntry[str]]()
        try:
            is_linked = bool(seen) and folder.is_symlink()
            status = folder.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.casefold() in _OF_THE_SYSTEM:
                        continue
                    if not _is_folder(entry):
                        files.append(entry)
                    elif recursive and entry.name.startswith("."):
                        listing.left_out += _hidden(Path(folder, entry.name))
                    elif recursive:
                        (linked if entry.is_symlink() else waiting).append(Path(folder, entry.name))
        except OSError as error:
            reason = error.strerror
            listing.faults[folder] = f"{folder}: cannot be listed ({reason}); check the folder and its permissions"
        listing.linked += [folder] * is_linked
        yield folder, files


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _hidden(folder: Path) -> list[LeftOut]:
    """A hidden folder, if it holds pictures or files that may hold some, or cannot be listed."""
    n_files, faults = 0, list[OSError]()
    for parent, folders, names in os.walk(folder, onerror=faults.append):
        folders[:] = [name for name in folders if name.casefold() not in _OF_THE_SYSTEM]
        n_files += sum(_is_or_holds_picture(Path(parent, name)) for name in names)
    if n_files:
        return [LeftOut(folder, Kind("hidden", "give the folder itself, or rename it"), n_files)]
    if faults:
        return [LeftOut(folder, Kind(f"hidden, cannot be listed: {faults[0].strerror}", "check its permissions"))]
    return []


def _is_or_holds_picture(path: Path) -> bool:
    if path.name.startswith("._") or path.name.casefold() in _OF_THE_SYSTEM:
        return False
    is_called_image = path.suffix.lower() in IMAGE_SUFFIXES
    try:
        return is_called_image or (path.is_file() and kind_of(path).may_hold_pictures)
    except OSError:
        return is_called_image


def _sort_out(folder: Path, files: Sequence[os.DirEntry[str]], listing: Listing) -> None:
    """Add the files of a folder to the listing."""
    unreadable = list[LeftOut]()
    stems = set[str]()
    for entry in files:
        path = Path(folder, entry.name)
        is_called_image = path.suffix.lower() in IMAGE_SUFFIXES
        may_be_result = folder.name in (OVERLAYS, MAPS, MASKS) or path.suffix.lower() in JPEG_SUFFIXES
        if is_called_image and not may_be_result and not entry.name.startswith("."):
            listing.images.append(path)
            stems.add(path.stem)
            continue
        kind = _kind(entry, path)
        if entry.name.startswith("."):
            if kind.may_hold_pictures:
                remedy = "rename it" if kind.is_picture else kind.remedy
                listing.left_out.append(LeftOut(path, Kind(f"hidden {kind.name}", remedy)))
        elif kind.is_readable or (is_called_image and not kind.is_result):
            listing.images.append(path)
            stems.add(path.stem)
        elif kind.is_picture:
            unreadable.append(LeftOut(path, kind))
        elif kind is not SYSTEM:
            listing.left_out.append(LeftOut(path, kind))
    for picture in unreadable:
        if picture.path.stem in stems:
            listing.left_out.append(LeftOut(picture.path, Kind(f"{picture.kind.name}, beside an image of its name")))
        else:
            listing.images.append(picture.path)


def _kind(entry: os.DirEntry[str], path: Path) -> Kind:
    try:
        if entry.is_file():
            return kind_of(path)
        is_link = entry.is_symlink()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return Kind("a link to itself", "mend it")
        return Kind(f"cannot be read: {error.strerror}", "check its permissions")
    return Kind("a link to nothing", "mend it") if is_link else Kind("no regular file")
