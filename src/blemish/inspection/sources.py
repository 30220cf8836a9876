"""Sources of photographs: each photograph gets a unique name, under which any file system holds its overlay."""

from __future__ import annotations

import glob
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemish.data.listing import LeftOut, lines_about, list_files, shortened
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

    @property
    def path(self) -> str | None:
        """Path of the file; None if the image is not a file."""
        return str(self.image) if isinstance(self.image, str | Path) else None

    def read(self, bits: int | None = 16) -> NDArray[np.uint8]:
        """Read the image as (H, W, 3) uint8 RGB; of 16-bit values ``bits`` bits are used.

        Raises
        ------
        BlemishError
            If the image cannot be read; the message names it.
        """
        if self.fault is not None:
            raise BlemishError(self.fault)
        return as_rgb(self.image, bits=bits)


def photographs(
    images: Iterable[ImageLike], *, faults: Mapping[Path, str] | None = None, taken: Iterable[str] = ()
) -> Iterator[Photograph]:
    """Yield images with unique names: the name of the file, with its folder if the name is already taken.

    Names that differ only in letter case, or in how letters with accents are spelled, count as the same.

    Parameters
    ----------
    faults : what is wrong with those of the paths that cannot be read.
    taken : names that are in use already.
    """
    used = {_as_disks_compare(name) for name in taken}
    for number, image in enumerate(images, 1):
        is_file = isinstance(image, str | Path)
        file = Path(str(image)) if is_file else Path(f"{number}")
        name = portable(file.stem)
        if _as_disks_compare(name) in used:
            name = portable(f"{file.parent.name}_{file.stem}")
        count, base = 2, name
        while _as_disks_compare(name) in used:
            name, count = f"{base}_{count}", count + 1
        used.add(_as_disks_compare(name))
        yield Photograph(image, name, (faults or {}).get(file))


def _as_disks_compare(name: str) -> str:
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
    for path in (match for pattern in paths for match in _matches(pattern)):
        before = len(found.files)
        try:
            if path.is_dir():
                listing = list_files(path, recursive=True)
                found.files += listing.images
                found.left_out += [(path, entry) for entry in listing.left_out]
                found.linked += listing.linked
                fault = f"{path}: no images in it or below; give image files or a folder of them"
            elif path.is_symlink() or path.exists():
                found.files.append(path)
            else:
                fault = f"{path}: no such file or folder; check the path"
                if glob.has_magic(str(path)):
                    fault = f"{path}: no file is called so; check the pattern"
        except BlemishError as error:
            fault = str(error)
        except OSError as error:
            fault = f"{path}: cannot be read ({error.strerror}); check path and permissions"
        if len(found.files) == before:
            found.files.append(path)
            found.faults[path] = fault
    if len(found.faults) == len(found.files):
        raise BlemishError("\n".join([*found.faults.values(), *found.lines()]))
    return found


def _matches(path: Path) -> list[Path]:
    try:
        if not path.exists() and glob.has_magic(str(path)):
            return [Path(name) for name in sorted(glob.glob(str(path)))] or [path]  # noqa: PTH207
    except OSError:  # such as a name that is too long
        pass
    return [path]
