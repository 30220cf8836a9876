"""Sources of photographs: each photograph gets a unique name, under which any file system holds its overlay."""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from blemish.data.kinds import OVERLAY, RECORD, kind_of
from blemish.data.listing import LeftOut, Listing, lines_about, list_files, shortened
from blemish.data.reading import as_rgb
from blemish.errors import BlemishError

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike: TypeAlias = str | Path | Image | NDArray[Any]


@dataclass(frozen=True)
class Photograph:
    """A photograph that has not been read yet."""

    image: ImageLike
    """A path, a PIL image, or an array; see ``reading.as_rgb``."""
    name: str
    """Used in names of output files; unique within the source, and possible on any file system."""
    fault: str | None = None
    """Why there is nothing to read, if that is known already."""
    label: str | None = None
    """What rows and messages call it if it is no file of its own, such as ``clip.mkv#12``, the 12th frame."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """What a row of it says in addition."""

    @property
    def path(self) -> str | None:
        """Path of the file, or the label; None if the image has neither."""
        return str(self.image) if self.label is None and isinstance(self.image, str | Path) else self.label

    def read(self, bits: int | None = 16) -> NDArray[np.uint8]:
        """Read the image as (H, W, 3) uint8 RGB; of 16-bit values ``bits`` bits are used.

        Raises
        ------
        BlemishError
            If the image cannot be read; the message names it.
        """
        if self.fault is not None:
            raise BlemishError(self.fault)
        return as_rgb(self.image, self.label or "image", bits)


@overload
def photographs(
    images: Iterable[ImageLike | Photograph], *, faults: Mapping[Path, str] | None = None, taken: Iterable[str] = ()
) -> Iterator[Photograph]: ...


@overload
def photographs(
    images: Iterable[ImageLike | Photograph | None],
    *,
    faults: Mapping[Path, str] | None = None,
    taken: Iterable[str] = (),
) -> Iterator[Photograph | None]: ...


def photographs(
    images: Iterable[ImageLike | Photograph | None],
    *,
    faults: Mapping[Path, str] | None = None,
    taken: Iterable[str] = (),
) -> Iterator[Photograph | None]:
    """Yield images with unique names: the name of the file, with its folder if the name is already taken.

    Names that differ only in letter case, or in how letters with accents are spelled, count as the same.

    Parameters
    ----------
    images : of them, a photograph that has a name gets another one only if it is taken; None stays None.
    faults : what is wrong with those of the paths that cannot be read.
    taken : names that are in use already.
    """
    used = {as_disks_compare(name) for name in taken}
    for number, image in enumerate(images, 1):
        if image is None:
            yield None
            continue
        photograph = image if isinstance(image, Photograph) else None
        pixels = image.image if isinstance(image, Photograph) else image
        is_file = isinstance(pixels, str | Path)
        file = Path(str(pixels)) if is_file else Path(f"{number}")
        name = portable(file.stem) if photograph is None else photograph.name
        if is_file and as_disks_compare(name) in used:
            name = portable(f"{file.parent.name}_{file.stem}")
        count, base = 2, name
        while as_disks_compare(name) in used:
            name, count = f"{base}_{count}", count + 1
        used.add(as_disks_compare(name))
        if isinstance(image, Photograph):
            yield replace(image, name=name)
        else:
            yield Photograph(image, name, (faults or {}).get(file))


def as_disks_compare(name: str) -> str:
    """A name in the form in which disks compare it that ignore letter case and the spelling of accents."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


_MAX_NAME_BYTES = 120
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]|^\.|[. ]$')
_DEVICES = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])(?:\..*)?", re.IGNORECASE)


def portable(name: str) -> str:
    """A name, without suffix, that any file system takes: no signs or names with a meaning, at most 120 bytes."""
    plain = _NOT_IN_NAMES.sub("_", name)
    if _DEVICES.fullmatch(plain):
        plain = f"_{plain}"
    if len(plain.encode()) <= _MAX_NAME_BYTES:
        return plain
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return f"{plain.encode()[: _MAX_NAME_BYTES - 9].decode(errors='ignore')}_{digest}"


@dataclass
class Found:
    """What is at the paths that were given."""

    files: list[Path] = field(default_factory=list)
    """The images, and each path at which there is none."""
    faults: dict[Path, str] = field(default_factory=dict)
    """Why there is no image at such a path, in one line."""
    left_out: list[tuple[Path, LeftOut]] = field(default_factory=list)
    """Other files in the folders, each with the folder that was given."""
    linked: list[Path] = field(default_factory=list)
    """Links to folders in the folders; their images are among the files."""
    videos: set[Path] = field(default_factory=set)
    """Those of the files that are videos; they were given themselves."""
    repeated: list[Path] = field(default_factory=list)
    """Paths that were given although images at them are at an earlier path, too."""
    _real_folders: dict[str, str] = field(default_factory=dict, repr=False)
    _giver: dict[str, int] = field(default_factory=dict, repr=False)
    """By the place of each file, the number of the path that it was found at first."""
    _named: set[str] = field(default_factory=set, repr=False)
    """Places of the photographs that were given themselves, not by a folder."""

    def take(self, files: Iterable[Path], giver: int) -> bool:
        """Add the files that are not among the files yet; return whether one is, from another of the paths."""
        is_repeated = False
        for file in files:
            place = self._place(file)
            if place not in self._giver:
                self._giver[place] = giver
                self.files.append(file)
            is_repeated |= self._giver[place] != giver
        return is_repeated

    def take_named(self, file: Path, giver: int) -> bool:
        """As ``take`` for a file that was given itself; if it was so before, it is wanted as often."""
        place = self._place(file)
        if place in self._named:
            self.files.append(file)
            return False
        if place not in self._giver:
            self._named.add(place)
        return self.take([file], giver)

    def settle(self) -> None:
        """Keep what is left out once, and only if it is not among the files that were given."""
        left_out = dict[str, tuple[Path, LeftOut]]()
        for root, entry in self.left_out:
            left_out.setdefault(self._place(entry.path), (root, entry))
        self.left_out = [pair for place, pair in left_out.items() if place not in self._giver]
        self.linked = list({self._place(path): path for path in self.linked}.values())

    def _place(self, file: Path) -> str:
        """One spelling for a file in a folder; other files in it that are links to the file are not the same."""
        if file.name in ("", ".."):
            return os.path.realpath(file)
        folder = str(file.parent)
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        return os.path.join(self._real_folders[folder], file.name)  # noqa: PTH118

    @property
    def n_left_out(self) -> int:
        """How many files are left out, with those in folders that are."""
        return sum(entry.n_files for _, entry in self.left_out)

    def lines(self) -> list[str]:
        """What is left out, and which links lead elsewhere, in a few lines."""
        lines = []
        for root in dict.fromkeys(root for root, _ in self.left_out):
            lines += lines_about([entry for folder, entry in self.left_out if folder == root], root)
        if self.linked:
            names = shortened([str(path) for path in self.linked])
            lines.append(
                f"{names}: {'links' if len(self.linked) > 1 else 'a link'} to a folder, inspected with the others"
            )
        if self.repeated:
            names = shortened([str(path) for path in self.repeated])
            lines.append(f"{names}: given, or holds images that are given, more than once; each is inspected once")
        return lines


def find(paths: Sequence[Path]) -> Found:
    """Find the files, and all images in the folders and their subfolders.

    A path that does not exist is taken as a pattern, such as ``photos/*.png``, which some shells pass on.

    Raises
    ------
    BlemishError
        If there is no image at all; with a line for each of the paths.
    """
    found = Found()
    for giver, path in enumerate(paths):
        is_repeated = False
        for match, listing in _matches(path):
            is_repeated |= _take(match, listing, found, giver)
        if is_repeated:
            found.repeated.append(path)
    found.settle()
    if all(file in found.faults for file in found.files):
        raise BlemishError("\n".join([*found.faults.values(), *found.lines()]))
    return found


def _take(path: Path, listing: Listing | None, found: Found, giver: int) -> bool:
    """Add what is at a path; return whether some of it was at another path before."""
    fault, is_video = None, False
    try:
        if listing is None and path.is_dir():
            listing = list_files(path, recursive=True)
        if listing is not None:
            found.left_out += [(path, entry) for entry in listing.left_out]
            found.linked += listing.linked
            found.faults |= listing.faults
            if files := [*listing.images, *listing.faults]:
                return found.take(files, giver)
            fault = f"{path}: no images in it or below; give image files or a folder of them"
        elif not (path.is_symlink() or path.exists()):
            fault = f"{path}: no such file or folder; check the path"
        elif path.is_file():
            kind = kind_of(path)
            is_video = kind.name == "video"
            if kind.is_result or kind is RECORD:
                article = "an" if kind is OVERLAY else "a"
                fault = f"{path}: is {article} {kind.name}, not a photograph; give the photograph"
        if fault and glob.has_magic(str(path)) and not path.exists():
            fault = f"{path}: no file is called so; check the pattern"
    except OSError as error:
        fault = f"{path}: cannot be read ({error.strerror}); check path and permissions"
    if fault is None:
        if is_video:
            found.videos.add(path)
        return found.take_named(path, giver)
    is_repeated = found.take([path], giver)
    if not is_repeated:
        found.faults[path] = fault
    return is_repeated


def _matches(path: Path) -> list[tuple[Path, Listing | None]]:
    """The path, or those that it matches as a pattern; for a pattern with ``**`` also what is there."""
    try:
        if not path.exists() and glob.has_magic(str(path)):
            if "**" in path.parts:
                return [(path, _listing_of_pattern(path))]
            return [(Path(name), None) for name in sorted(glob.glob(str(path)))] or [(path, None)]  # noqa: PTH207
    except OSError:  # such as a name that is too long
        pass
    return [(path, None)]


def _listing_of_pattern(pattern: Path) -> Listing:
    """What a pattern with ``**`` matches, and what is in folders that it matches."""
    n_plain = next(number for number, part in enumerate(pattern.parts) if glob.has_magic(part))
    root, parts = Path(*pattern.parts[:n_plain]), pattern.parts[n_plain:]
    listing = list_files(root, recursive=True)
    listing.images = [path for path in listing.images if _fits(path.relative_to(root).parts, parts)]
    listing.left_out = [entry for entry in listing.left_out if _fits(entry.path.relative_to(root).parts, parts)]
    return listing


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path, or of a folder that it is in, match those of a pattern."""
    if not pattern:
        return True
    if pattern[0] == "**":
        return _fits(parts, pattern[1:]) or (bool(parts) and _fits(parts[1:], pattern))
    return bool(parts) and fnmatch.fnmatch(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])
