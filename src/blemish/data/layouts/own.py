"""The user's own images: a folder of good parts, or a CSV manifest with a row for each image."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from blemish.data.layouts.samples import (
    Fault,
    Layout,
    Mask,
    Sample,
    Split,
    defective,
    good,
    is_good_word,
    unused_below,
)
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
    rows = read_rows(path, ("path", "label"))
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
    if not rows:
        raise BlemishError(f"{path}: lists no images; add one row for each image")
    return list(samples.values())


def read_rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """The non-empty rows of a CSV file: line number, and stripped cells by lower-case column name.

    The cells may be separated by commas, semicolons or tabs: whichever gives the header these columns.

    Raises
    ------
    BlemishError
        The file is not a CSV file in UTF-8, lacks one of the columns, or a row has more cells than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = _delimiter(file.readline(), columns)
            file.seek(0)
            reader = csv.DictReader(file, restval="", strict=True, delimiter=delimiter)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            rows = [(reader.line_num, row) for row in reader]
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


def _delimiter(header: str, columns: tuple[str, ...]) -> str:
    """The character that separates the columns of a header; a comma if none gives the columns that are needed."""
    for delimiter in (",", ";", "\t"):
        names = next(csv.reader([header], delimiter=delimiter), [])
        if set(columns) <= {name.strip().lower() for name in names}:
            return delimiter
    return ","


_SPLITS: dict[str, Split] = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation",
}  # fmt: skip
_DEFECTIVE_WORDS = ("bad", "1", "1.0", "true", "defective")  # that name no kind of defect
_UNCLEAR_WORDS = ("none", "no", "nan", "null", "na", "n/a", "-", "-1", "?", "unknown", "unlabeled", "unlabelled")


def _split(cells: dict[str, str]) -> Split:
    """The split of a row. It is checked first, because a fault stops only what needs the row's split."""
    for column in ("path", "label"):
        if not cells[column]:
            raise BlemishError(f"the {column} is empty; fill it in or remove the row")
    if cells["label"].lower() in _UNCLEAR_WORDS:
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
    return defective(image, "defect" if label.lower() in _DEFECTIVE_WORDS else label, mask, split)


def _file(folder: Path, cell: str) -> Path:
    """The file that a cell names; on other systems than Windows its backslashes may separate folders, too."""
    for name in (cell, cell.replace("\\", "/")):
        if (folder / name).is_file():
            return folder / name
    remedy = ", with / between folders" if "\\" in cell else ""
    raise BlemishError(f"{folder / cell} is not a file; correct the path, which is relative to {folder}{remedy}")


FOLDER = Layout("folder", "images of good parts directly in the folder", _folder_lacks, _folder)
CSV = Layout("csv", "a .csv file with the columns path,label,mask,split", _csv_lacks, _csv)
