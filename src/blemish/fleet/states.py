"""How far a grid is, from its files alone: also while it is worked at elsewhere, and after a crash. Without torch."""

from __future__ import annotations

import json
import os
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blemish.fleet.cells import DETECTOR, FAILED, LOCK, METRICS, SUMMARY, Cell
from blemish.fleet.locks import is_held

State = Literal["done", "running", "failed", "left"]
_TAIL_BYTES = 8192
MIN_STEPS = 20
"""Steps of a training that is not finished, from which on its rate counts."""


@dataclass(frozen=True)
class CellState:
    """How far a cell is."""

    name: str
    kind: str
    """As ``Cell.kind``."""
    state: State
    n_steps: int
    """Training steps of the whole cell; a training that stops early takes fewer."""
    steps_done: int = 0
    training_s: float = 0.0
    """Time that these steps took, s."""
    reason: str = ""
    """Why it failed, in one line."""

    @property
    def steps_left(self) -> int:
        """Training steps to take."""
        return 0 if self.state == "done" else max(0, self.n_steps - self.steps_done)

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        if not self.n_steps:
            return "no training steps"
        steps = f"step {self.steps_done} of {self.n_steps}"
        if self.state == "done":
            return f"{self.steps_done} steps"
        if self.state == "running" and not self.steps_left:
            return f"{steps}, evaluating"
        return "starting" if self.state == "running" and not self.steps_done else steps


def cell_state(cell: Cell, folder: Path, n_steps: int) -> CellState:
    """How far a cell is, from the files in its folder.

    Parameters
    ----------
    n_steps : steps of its training, as planned.
    """
    steps_done, training_s = _training(folder)
    reason = ""
    results = [folder / DETECTOR, folder / SUMMARY]
    results += [folder / evaluation.name / METRICS for evaluation in cell.evaluations]
    state: State = "left"
    if all(path.exists() for path in results):
        state = "done"
    elif is_held(folder / LOCK):
        state = "running"
    elif (folder / FAILED).exists():
        state = "failed"
        with suppress(OSError):
            reason = (folder / FAILED).read_text(encoding="utf-8", errors="backslashreplace").strip()
    return CellState(cell.name, cell.kind, state, n_steps, steps_done, training_s, reason)


def _training(folder: Path) -> tuple[int, float]:
    """Steps done and seconds that they took, from the end of ``metrics.jsonl``."""
    try:
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            rows = file.read().splitlines()
    except OSError:
        return 0, 0.0
    for row in reversed(rows):
        with suppress(ValueError, KeyError, TypeError):  # a row that is being written
            values = json.loads(row)
            return int(values["total_step"]), float(values["elapsed_s"])
    return 0, 0.0


@dataclass(frozen=True)
class Status:
    """How far all cells are."""

    cells: Sequence[CellState]
    """In the order of the plan."""
    n_parallel: int = 1
    """Cells that are worked at at the same time."""

    @property
    def counts(self) -> Mapping[State, int]:
        """Number of cells in each state."""
        return Counter(cell.state for cell in self.cells)

    @property
    def step_s(self) -> dict[str, float]:
        """Seconds of a step by kind, the median over finished cells; over started ones where none is finished."""
        rates: dict[tuple[str, bool], list[float]] = {}
        for cell in self.cells:
            is_done = cell.state == "done"
            if cell.steps_done >= (1 if is_done else MIN_STEPS) and cell.training_s:
                rates.setdefault((cell.kind, is_done), []).append(cell.training_s / cell.steps_done)
        medians = {key: statistics.median(values) for key, values in rates.items()}
        kinds = {kind for kind, _ in medians}
        return {kind: medians.get((kind, True), medians.get((kind, False), 0.0)) for kind in kinds}

    def left_s(self) -> tuple[float, int]:
        """Seconds of training that are left, failed cells aside, and the number of cells of which it is not known.

        Cells that run at the same time share the time; the longest one sets the least.
        """
        step_s = self.step_s
        unfinished = [cell for cell in self.cells if cell.state in ("running", "left") and cell.steps_left]
        known = [cell.steps_left * step_s[cell.kind] for cell in unfinished if cell.kind in step_s]
        seconds = max(sum(known) / max(1, self.n_parallel), max(known, default=0.0))
        return seconds, len(unfinished) - len(known)

    def line(self) -> str:
        """All of it in one line."""
        counts = self.counts
        running = [f"{cell.name}: {cell.progress}" for cell in self.cells if cell.state == "running"]
        named = f" ({'; '.join(running[:3])}{'; ...' * (len(running) > 3)})" if running else ""
        return (
            f"{counts['done']} of {len(self.cells)} done, {counts['running']} running{named}, "
            f"{counts['failed']} failed, {counts['left']} left; {self.left_text()}"
        )

    def left_text(self) -> str:
        """The time left, in words."""
        seconds, n_unknown = self.left_s()
        if not self.counts["running"] and not self.counts["left"]:
            return "the same command tries failed ones again" if self.counts["failed"] else "nothing is left to do"
        if n_unknown and not seconds:
            return "time left: unknown until a cell has trained for a while"
        without = f", and that of {n_unknown} cells of other kinds, unknown" if n_unknown else ""
        return f"about {duration(seconds)} of training left{without}"


def duration(seconds: float, least: str = "s") -> str:
    """A time in words: 40 s, 12 min, 3.5 h, 2.1 days; below 10 s as 3,200 ms if ``least`` is "ms"."""
    if least == "ms" and seconds < 10:
        return f"{1000 * seconds:,.0f} ms"
    for unit, unit_s, most in (("s", 1, 100), ("min", 60, 100), ("h", 3600, 48)):
        if seconds < most * unit_s:
            value = seconds / unit_s
            return f"{value:.1f} {unit}" if unit == "h" else f"{value:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"
