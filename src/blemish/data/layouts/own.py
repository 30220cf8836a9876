"""The user's own images: a folder of good parts, or a CSV manifest with a row for each image."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from blemish.data.layouts.samples import Layout, Mask, Sample, defective, good
from blemish.data.reading import list_images
from blemish.errors import BlemishError


def _folder_lacks(root: Path) -> str | None:
    if not root.is_dir():
        return "it is not a folder"
    return None if list_images(root) else "there are no images directly in the folder"


def _folder(root: Path, faults: list[str]) -> list[Sample]:
    return [good(image, "train") for image in list_images(root)]


def _csv_lacks(path: Path) -> str | None:
    return None if path.is_file() and path.suffix.lower() == ".csv" else "it is not a .csv file"


def _csv(path: Path, faults: list[str]) -> list[Sample]:
    rows = read_rows(path, ("path", "label"))
    samples: dict[str, Sample] = {}
    for line, cells in rows:
        try:
            sample = _csv_sample(path.parent, cells)
            if samples.setdefault(os.path.normpath(sample.path), sample) is not sample:
                raise BlemishError(f"{cells['path']} is listed twice; remove one of the rows")
        except BlemishError as error:
            faults.append(f"{path}, row {line}: {error}")
    if not rows:
        raise BlemishError(f"{path}: lists no images; add one row for each image")
    return list(samples.values())


def read_rows(path: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """The non-empty rows of a CSV file: line number, and stripped cells by lower-case column name.

    Raises
    ------
    BlemishError
        The file is not a CSV file in UTF-8, lacks one of the columns, or a row has more cells than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BlemishError(f"{path}: not a CSV file in UTF-8 ({error}); save it as CSV UTF-8") from error
    if missing := [name for name in columns if name not in reader.fieldnames]:
        header = ",".join(reader.fieldnames)
        raise BlemishError(
            f"{path}: no column {' and '.join(missing)} in the header '{header}'; add or rename columns"
        )
    for line, row in rows:
        if any(row.pop(None, ())):
            raise BlemishError(f"{path}, row {line}: more cells than columns; put quotes around text with commas")
    stripped = ((line, {name: cell.strip() for name, cell in row.items()}) for line, row in rows)
    return [(line, cells) for line, cells in stripped if any(cells.values())]


def _csv_sample(folder: Path, cells: dict[str, str]) -> Sample:
    for column in ("path", "label"):
        if not cells[column]:
            raise BlemishError(f"the {column} is empty; fill it in or remove the row")
    label = cells["label"].lower()
    is_defective = label not in ("good", "ok", "0")
    split = cells.get("split", "").lower() or ("test" if is_defective else "train")
    if split not in ("train", "test"):
        raise BlemishError(f"split '{cells['split']}' is unknown; use train or test")
    if is_defective and split == "train":
        raise BlemishError("a defective image cannot train; set its split to test, or its label to good")
    mask = cells.get("mask", "")
    for file in (cells["path"], mask):
        if file and not (folder / file).is_file():
            raise BlemishError(f"{folder / file} is not a file; correct the path, which is relative to {folder}")
    if not is_defective:
        return good(folder / cells["path"], "train" if split == "train" else "test")
    defect = "defect" if label in ("bad", "1") else cells["label"]
    return defective(folder / cells["path"], defect, Mask((folder / mask,)) if mask else None)


FOLDER = Layout("folder", "images of good parts directly in the folder", _folder_lacks, _folder)
CSV = Layout("csv", "a .csv file with the columns path,label,mask,split", _csv_lacks, _csv)
