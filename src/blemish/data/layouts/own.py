"""The user's own images: a folder of good parts, or a CSV manifest with a row for each image."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from blemish.data.layouts.samples import (
    Fault,
    Layout,
    Mask,
    Sample,
    Split,
    defective,
    good,
    masks_of_good,
    unused_below,
)
from blemish.data.layouts.words import column_of, is_defective_word, is_good_word, plain_word, with_usual_names
from blemish.data.listing import list_images
from blemish.errors import BlemishError


def _folder_lacks(root: Path) -> str | None:
    if not root.is_dir():
        return "it is not a folder"
    return None if list_images(root) else "there are no images directly in the folder"


def _folder(root: Path, faults: list[Fault]) -> list[Sample]:
    faults += unused_below(root, "train")
    return [good(image, "train") for image in list_images(root)]


def _csv_lacks(path: Path) -> str | None:
    return None if path.is_file() and path.suffix.lower() in (".csv", ".tsv") else "it is not a .csv file"


def _csv(path: Path, faults: list[Fault]) -> list[Sample]:
    rows = read_rows(path, ("path", "label"), with_usual_names)
    faults += _unused_columns(path, rows)
    samples: dict[str, Sample] = {}
    for line, cells in rows:
        split: Split | None = None
        try:
            split = _split(cells)
            sample = _csv_sample(path, line, cells, split, faults)
            if samples.setdefault(os.path.normpath(sample.path), sample) is not sample:
                raise BlemishError(f"{cells['path']} is listed twice; remove one of the rows")
        except BlemishError as error:
            faults.append(Fault(f"{path}, row {line}: {error}", path.parent / cells["path"], split))
    faults += masks_of_good(_masks_of_good(path.parent, rows), path.parent)
    if not rows:
        raise BlemishError(f"{path}: lists no images; add one row for each image")
    return list(samples.values())


def _unused_columns(path: Path, rows: list[tuple[int, dict[str, str]]]) -> list[Fault]:
    """A fault that names the columns that are not used; raises if one of them seems to be the split or the mask."""
    columns = list(rows[0][1]) if rows else []
    unused = [name for name in columns if name not in ("path", "label", "mask", "split") and name]
    for column in ("mask", "split"):
        several = [name for name in unused if column_of(name) == column]
        if several and column not in columns:
            names = " and ".join(several)
            raise BlemishError(f"{path}: the columns {names} may all be the {column}; rename one of them to {column}")
    for name in unused:
        words = {cells[name].lower() for _, cells in rows} - {""}
        if "split" not in columns and words and words <= _SPLITS.keys():
            raise BlemishError(
                f"{path}: the column {name} holds {', '.join(sorted(words))}, but no column is called split; rename "
                f"it to split, or remove it"
            )
    if not unused:
        return []
    text = f"{path}: not used of its columns: {', '.join(unused)}; used are path, label, mask and split"
    return [Fault(text, path, None, "doubt")]


def _masks_of_good(folder: Path, rows: list[tuple[int, dict[str, str]]]) -> list[Path]:
    """The masks in the rows of good images, without those that are not there."""
    masks = []
    for _, cells in rows:
        if cells.get("mask") and is_good_word(cells["label"]):
            with suppress(BlemishError):
                masks.append(_file(folder, cells["mask"]))
    return masks


def read_rows(
    path: Path, columns: tuple[str, ...], renamed: Callable[[list[str]], list[str]] = list
) -> list[tuple[int, dict[str, str]]]:
    """The non-empty rows of a CSV file: line number, and stripped cells by lower-case column name.

    The cells may be separated by commas, semicolons or tabs: whichever gives the header these columns, after its
    names were ``renamed``. A first line such as ``sep=;``, which Excel writes, says the separator.

    Raises
    ------
    BlemishError
        The file is not a CSV file in UTF-8, lacks one of the columns, or a row has more cells than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            separator = re.fullmatch(r'"?sep=(.)"?\s*', first, re.IGNORECASE)
            if separator is None:
                file.seek(0)
            n_before = 0 if separator is None else 1
            delimiter = separator[1] if separator else _delimiter(first, columns, renamed)
            reader = csv.DictReader(file, restval="", strict=True, delimiter=delimiter)
            reader.fieldnames = _names(reader.fieldnames or (), renamed)
            rows = [(reader.line_num + n_before, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BlemishError(f"{path}: not a CSV file in UTF-8 ({error}); save it as CSV UTF-8") from error
    if missing := [name for name in columns if name not in reader.fieldnames]:
        header = ",".join(reader.fieldnames)
        raise BlemishError(
            f"{path}: no column {' and '.join(missing)} in the header '{header}'; add or rename columns, "
            f"and separate them by commas, semicolons or tabs"
        )
    for line, row in rows:
        if any(row.pop(None, ())):
            raise BlemishError(f"{path}, row {line}: more cells than columns; put quotes around text with separators")
    stripped = ((line, {name: cell.strip() for name, cell in row.items()}) for line, row in rows)
    return [(line, cells) for line, cells in stripped if any(cells.values())]


def _names(header: Iterable[str], renamed: Callable[[list[str]], list[str]]) -> list[str]:
    return renamed([name.strip().lower() for name in header])


def _delimiter(header: str, columns: tuple[str, ...], renamed: Callable[[list[str]], list[str]]) -> str:
    """The character that separates the columns of a header; a comma if none gives the columns that are needed."""
    for delimiter in (",", ";", "\t"):
        if set(columns) <= set(_names(next(csv.reader([header], delimiter=delimiter), []), renamed)):
            return delimiter
    return ","


_SPLITS: dict[str, Split] = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation",
}  # fmt: skip
_UNCLEAR_WORDS = ("none", "no", "nan", "null", "na", "n/a", "-", "-1", "?", "unknown", "unlabeled", "unlabelled")


def _split(cells: dict[str, str]) -> Split:
    """The split of a row. It is checked first, because a fault stops only what needs the row's split."""
    for column in ("path", "label"):
        if not cells[column]:
            raise BlemishError(f"the {column} is empty; fill it in or remove the row")
    if plain_word(cells["label"]) in _UNCLEAR_WORDS:
        raise BlemishError(f"label '{cells['label']}' is unclear; write good, or the kind of the defect")
    is_defective = not is_good_word(cells["label"])
    word = cells.get("split", "").lower()
    if word and word not in _SPLITS:
        raise BlemishError(f"split '{cells['split']}' is unknown; use train, validation or test")
    split = _SPLITS[word] if word else "test" if is_defective else "train"
    if is_defective and split == "train":
        raise BlemishError("a defective image cannot train; set its split to test, or its label to good")
    return split


def _csv_sample(path: Path, line: int, cells: dict[str, str], split: Split, faults: list[Fault]) -> Sample:
    """The sample of a row. A mask that is not there is a fault, and the image is listed without it."""
    image, label = _file(path.parent, cells["path"]), cells["label"]
    mask_cell, mask = cells.get("mask", ""), None
    if is_good_word(label):
        return good(image, split)
    if mask_cell:
        try:
            mask = Mask((_file(path.parent, mask_cell),))
        except BlemishError as error:
            text = f"{path}, row {line}: the mask of {cells['path']} is missing: {error}"
            faults.append(Fault(text, image, split, "mask"))
    return defective(image, "defect" if is_defective_word(label) else label, mask, split)


def _file(folder: Path, cell: str) -> Path:
    """The file that a cell names; on other systems than Windows its backslashes may separate folders, too."""
    for name in (cell, cell.replace("\\", "/")):
        try:
            if (folder / name).is_file():
                return folder / name
        except (OSError, ValueError) as error:  # a name that is too long, or holds what no name may hold
            reason = getattr(error, "strerror", None) or error
            raise BlemishError(f"{cell[:40]}... is no name of a file ({reason}); correct the path") from error
    remedy = ", with / between folders" if "\\" in cell else ""
    raise BlemishError(f"{folder / cell} is not a file; correct the path, which is relative to {folder}{remedy}")


FOLDER = Layout("folder", "images of good parts directly in the folder", _folder_lacks, _folder)
CSV = Layout("csv", "a .csv file with the columns path,label,mask,split", _csv_lacks, _csv)
