"""Which mask files belong to which image: one list of names for `evaluate`, `fit --defect-masks` and `data`.

The mask of `000.png` is called `000`, with or without one of `WORDS` after it (`000_mask.png`, `000-GT.bmp`), in any
letter case and with the suffix of any image format. Several masks of one image are numbered (`000_mask_1.png`,
`000_mask_2.png`), or lie in a folder that is called as the image; they are united. Of the images `000.png` and
`000.jpg` in one folder, `000.png_mask.png` is the mask of the first, and `000_mask.png` of neither.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from blemish.data.kinds import IMAGE_SUFFIXES
from blemish.data.listing import list_images, natural_key

WORDS = ("mask", "masks", "gt", "ground_truth", "label", "labels", "seg", "segmentation")
"""What the name of a mask may have after the name of its image, in lower case."""

_SUFFIX = "|".join(sorted(suffix.lstrip(".") for suffix in IMAGE_SUFFIXES))
_REST = re.compile(
    rf"(?P<suffix>\.(?:{_SUFFIX}))?"  # of 000.png_mask.png
    rf"(?:[ _.-]*(?P<word>{'|'.join(WORDS)})(?P<number>[ _.-]*\d+|[ _]*\(\d+\))?|(?P<bare>[ _.-]+\d+|[ _]*\(\d+\))?)"
)


@dataclass(frozen=True)
class MaskFiles:
    """What `find_masks` finds.

    Attributes
    ----------
    masks
        The files of each image that has a mask.
    faults
        For each image without a mask, or with masks that contradict each other: a line that says so.
    contradicting
        The images with masks that contradict each other.
    unused
        The image files among the masks that belong to no image.
    """

    masks: dict[Path, tuple[Path, ...]]
    faults: dict[Path, str]
    contradicting: frozenset[Path]
    unused: tuple[Path, ...]


def find_masks(images: Iterable[Path], images_folder: Path, masks_folder: Path | None) -> MaskFiles:
    """Find the masks of images by their names.

    Parameters
    ----------
    images
        The images, in `images_folder` or in folders below it. The masks of those below lie in folders of the same
        names below `masks_folder`.
    masks_folder
        None, or a folder that does not exist, holds no masks.

    Raises
    ------
    BlemishError
        A folder cannot be listed.
    """
    images = list(images)
    by_folder: dict[Path, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for image in images:
        by_folder[_plain(image.parent.relative_to(images_folder))][_plain_text(image.stem)].append(image)
    named: dict[Path, list[tuple[str, Path]]] = defaultdict(list)  # the files of an image, and how each is called
    unused, shared = [], {}
    listed = list_images(masks_folder, recursive=True) if masks_folder is not None and masks_folder.is_dir() else []
    for path in listed:
        relative = path.relative_to(masks_folder) if masks_folder is not None else path
        owners, kind = _owners(path, _plain(relative.parent), by_folder)
        for owner in owners:
            named[owner].append((kind, path))
            if len(owners) > 1:
                shared[owner] = f"{owner}: {path} may be the mask of {' and '.join(image.name for image in owners)}; "
                shared[owner] += f"give these images different names, or call it {owner.name}_mask.png"
        if not owners:
            unused.append(path)
    masks, faults = {}, {}
    for image in images:
        fault = shared.get(image) or _fault(image, named[image], images_folder, masks_folder)
        if fault is None:
            masks[image] = tuple(sorted((path for _, path in named[image]), key=natural_key))
        else:
            faults[image] = fault
    contradicting = frozenset(image for image in faults if named[image])
    return MaskFiles(masks, faults, contradicting, tuple(unused))


def _owners(path: Path, folder: Path, by_folder: dict[Path, dict[str, list[Path]]]) -> tuple[list[Path], str]:
    """The images that a mask file belongs to, and how it is called, # if numbered; `folder` is relative."""
    if folder in by_folder:
        images_by_stem, stem = by_folder[folder], _plain_text(path.stem)
        for length in range(len(stem), 0, -1):  # the longest name first: a_1.png is the mask of a_1, not of a
            matched = _REST.fullmatch(stem, length)
            if matched and stem[:length] in images_by_stem:
                owners = images_by_stem[stem[:length]]
                exact = [image for image in owners if path.stem.startswith(image.stem)] or owners
                by_suffix = [image for image in exact if image.suffix.lower() == matched["suffix"]]
                number = "#" if matched["number"] or matched["bare"] else ""
                return by_suffix or exact, (matched["word"] or "") + number
    if folder != Path() and folder.parent in by_folder:
        images_by_stem = by_folder[folder.parent]
        return images_by_stem.get(folder.name, []), "/"
    return [], ""


def _fault(image: Path, named: list[tuple[str, Path]], images_folder: Path, masks_folder: Path | None) -> str | None:
    """What is wrong with the masks of an image, or None."""
    if not named:
        if masks_folder is None:
            return f"{image}: it has no mask"
        folder = masks_folder / image.parent.relative_to(images_folder)
        missing = "; there is no such folder" if not folder.is_dir() else ""
        return f"{image}: no mask for it in {folder}{missing}; save it as {folder / image.stem}_mask.png"
    kinds = {kind.rstrip("#") for kind, _ in named}
    n_without_number = sum(not kind.endswith(("#", "/")) for kind, _ in named)
    repeated = Counter(path.with_suffix("").as_posix().casefold() for _, path in named)
    if len(kinds) > 1 or n_without_number > 1 or max(repeated.values()) > 1:
        names = ", ".join(path.relative_to(masks_folder).as_posix() for _, path in named) if masks_folder else ""
        return (
            f"{image}: {len(named)} masks for it in {masks_folder} ({names}); keep only one of them, or number them, "
            f"if they show different defects: {image.stem}_mask_1.png, {image.stem}_mask_2.png"
        )
    return None


def _plain_text(name: str) -> str:
    """A name without letter case, and with one spelling of letters with accents, of which disks have two."""
    return unicodedata.normalize("NFC", name).casefold()


def _plain(folder: Path) -> Path:
    return Path(*map(_plain_text, folder.parts))
