"""Sources of photographs: each photograph gets a unique name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from blemish.data.listing import list_images
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
    """Used in names of output files; unique within the source."""

    @property
    def path(self) -> str | None:
        """Path of the file; None if the image is not a file."""
        return str(self.image) if isinstance(self.image, str | Path) else None

    def read(self, bits: int = 16) -> NDArray[np.uint8]:
        """Read the image as (H, W, 3) uint8 RGB; of 16-bit values ``bits`` bits are used.

        Raises
        ------
        BlemishError
            If the image cannot be read; the message names it.
        """
        return as_rgb(self.image, bits=bits)


def photographs(images: Iterable[ImageLike]) -> Iterator[Photograph]:
    """Yield images with unique names: the name of the file, with its folder if the name is already taken."""
    taken: set[str] = set()
    for number, image in enumerate(images, 1):
        is_file = isinstance(image, str | Path)
        file = Path(str(image)) if is_file else Path(f"{number}")
        name = file.stem
        if name in taken:
            name = f"{file.parent.name}_{file.stem}"
        count, base = 2, name
        while name in taken:
            name, count = f"{base}_{count}", count + 1
        taken.add(name)
        yield Photograph(image, name)


def image_files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files, and all images in the folders and their subfolders.

    Raises
    ------
    BlemishError
        If a folder holds no image.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        images = list_images(path, recursive=True)
        if not images:
            raise BlemishError(f"{path}: no images in it or below; give image files or a folder of them")
        yield from images
