"""Plans of many trainings: a CSV file with a row for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from blemish.commands.assignments import assigned, parsed
from blemish.data.layouts.own import read_rows
from blemish.errors import BlemishError
from blemish.fleet.cells import Cell
from blemish.fleet.steps import n_steps
from blemish.inspection.sources import as_disks_compare
from blemish.learning.options import FitOptions

COLUMNS = ("name", *(option.name for option in fields(FitOptions) if option.name != "settings"), "set")


def read_plan_csv(path: Path) -> list[Cell]:
    """The cells of a plan: a CSV file with the columns ``name`` and ``data``, and any option of ``fit``.

    The column ``set`` holds settings of the method, as in ``iterations=500;batch_size=4``. An empty cell is the
    option's default. Relative paths start at the folder of the file.

    Raises
    ------
    BlemishError
        If the file cannot be read, or a row is wrong: the message names file, row and remedy.
    """
    if not path.is_file():
        raise BlemishError(f"{path}: no such file; give a .csv file with the columns name,data")
    rows = read_rows(path, ("name", "data"))
    if not rows:
        raise BlemishError(f"{path}: lists nothing to train; add a row for each product")
    unknown = [name for name in rows[0][1] if name and name not in COLUMNS]
    if unknown:
        there_are = f"unknown column {', '.join(unknown)}; there are: {', '.join(COLUMNS)}"
        raise BlemishError(f"{path}: {there_are}")
    cells: list[Cell] = []
    lines: dict[str, int] = {}
    for line, row in rows:
        try:
            cell = _cell(row, path.parent)
            if (earlier := lines.setdefault(as_disks_compare(cell.name), line)) != line:
                raise BlemishError(f"the name {cell.name} is that of row {earlier}, too; rename one")
            n_steps(cell)  # checks what it can without training
        except BlemishError as error:
            raise BlemishError(f"{path}, row {line}: {error}") from error
        cells.append(cell)
    return cells


def _cell(row: Mapping[str, str], folder: Path) -> Cell:
    for column in ("name", "data"):
        if not row[column]:
            raise BlemishError(f"the {column} is empty; fill it in or remove the row")
    if stray := row.get("", ""):
        raise BlemishError(f"the cell {stray!r} is in a column without a name; name it or remove the cell")
    hints = get_type_hints(FitOptions)
    options = {name: _value(hints[name], text, folder) for name, text in row.items() if name in hints and text}
    assignments = [part.strip() for part in row.get("set", "").split(";") if part.strip()]
    return Cell(row["name"], {**options, "settings": assigned({}, assignments)})


def _value(hint: Any, text: str, folder: Path) -> Any:
    """The value that a cell of the table gives an option of this type."""
    kinds = (hint, *get_args(hint))
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    if text in words or hint is str:
        return text
    return str(folder / text) if Path in kinds else parsed(text)
