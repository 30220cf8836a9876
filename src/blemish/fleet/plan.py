"""The plan of a grid: its cells in ``plan.json``. A later run may add to it, and change nothing. Without torch."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from blemish.errors import BlemishError
from blemish.files import write_text
from blemish.fleet.cells import CELL, PLAN, Cell, check_unique
from blemish.fleet.states import CellState, Status, cell_state


@dataclass(frozen=True)
class Plan:
    """The cells of a grid, and how many training steps each takes.

    Raises
    ------
    BlemishError
        If two cells have the same name.
    """

    cells: Sequence[Cell]
    n_steps: Sequence[int]

    def __post_init__(self) -> None:
        check_unique([cell.name for cell in self.cells], "cells")

    def states(self, out: Path) -> list[CellState]:
        """How far each cell is."""
        return [cell_state(cell, out / cell.name, n) for cell, n in zip(self.cells, self.n_steps, strict=True)]

    def part(self, names: Collection[str]) -> Plan:
        """The plan of the cells with these names; all of them if there are no names."""
        rows = [row for row in zip(self.cells, self.n_steps, strict=True) if not names or row[0].name in names]
        return Plan([cell for cell, _ in rows], [n for _, n in rows])

    def write(self, out: Path) -> None:
        """Write ``plan.json``, and ``cell.json`` in the folder of each cell."""
        rows = [{**cell.to_json(), "n_steps": n} for cell, n in zip(self.cells, self.n_steps, strict=True)]
        write_text(out / PLAN, json.dumps({"cells": rows}, indent=1) + "\n")
        for cell in self.cells:
            (out / cell.name).mkdir(exist_ok=True)
            write_text(out / cell.name / CELL, json.dumps(cell.to_json(), indent=1) + "\n")


def read_plan(out: Path) -> Plan | None:
    """The plan in the folder of a grid; None if there is none.

    Raises
    ------
    BlemishError
        If the file cannot be read.
    """
    path = out / PLAN
    if not path.exists():
        return None
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return Plan([Cell.from_json(row) for row in rows], [int(row["n_steps"]) for row in rows])
    except (OSError, ValueError, KeyError, TypeError, BlemishError) as error:
        raise BlemishError(f"{path}: is no plan of blemish ({error}); choose another --out") from error


def check_same_plan(old: Plan, cells: Sequence[Cell], out: Path) -> None:
    """Check that a plan only adds cells, or evaluations, to the one that ``out`` was begun with.

    Raises
    ------
    BlemishError
        If a cell is missing or another one now; the message names it, and what differs.
    """
    new = {cell.name: cell for cell in cells}
    for cell in old.cells:
        if cell.name not in new:
            raise BlemishError(
                f"{out}: was begun with the cell {cell.name}, which this plan lacks; add it, or choose another --out"
            )
        if difference := _difference(cell, new[cell.name]):
            raise BlemishError(
                f"{out}: the cell {cell.name} was begun with {difference}; take the same again, or another --out"
            )


def _difference(old: Cell, new: Cell) -> str:
    """What an earlier cell of this name had otherwise, in words; "" if the new one at most adds evaluations."""
    for name, value in old.options.items():
        if value != new.options[name]:
            return f"{name} {_text(value)}, not {_text(new.options[name])}"
    evaluations = {evaluation.name: evaluation for evaluation in new.evaluations}
    for evaluation in old.evaluations:
        if evaluations.get(evaluation.name) != evaluation:
            return f"another evaluation {evaluation.name}"
    return ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def read_status(out: Path) -> Status:
    """How far the grid in a folder is, from its files alone.

    Raises
    ------
    BlemishError
        If the folder holds no grid.
    """
    plan = read_plan(out)
    if plan is None:
        raise BlemishError(f"{out}: holds no {PLAN}; give the --out of `blemish fleet fit`")
    states = plan.states(out)
    return Status(states, max(1, sum(state.state == "running" for state in states)))
