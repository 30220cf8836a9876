"""What is known of a grid while it runs, and what is told of it. Does not import torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from blemish.fleet.plan import Plan
from blemish.fleet.processes import Outcome
from blemish.fleet.states import CellState, Status, cell_state, duration

Report = Callable[[str], None]
"""Takes a line for the user: a cell has begun or ended."""
Show = Callable[[Status], None]
"""Takes how far all cells are, about every second."""


class Board:
    """States of the cells of a plan, or of a part of it; only those of running ones are read again and again.

    Parameters
    ----------
    every_s : seconds between two calls of ``show``.
    """

    def __init__(self, plan: Plan, out: Path, report: Report, show: Show | None, every_s: float = 1.0) -> None:
        self.out, self.report, self.show, self.every_s = out, report, show, every_s
        self.plan = {cell.name: (cell, n) for cell, n in zip(plan.cells, plan.n_steps, strict=True)}
        self.states: dict[str, CellState] = {state.name: state for state in plan.states(out)}
        self.watched: set[str] = set()
        """Cells whose states may change."""
        self.running: dict[str, float] = {}
        """When cells have begun, by name."""
        self.shown_s = -every_s

    def read(self, names: Collection[str]) -> None:
        """Read the states of cells from their folders."""
        for name in names:
            cell, n_steps = self.plan[name]
            self.states[name] = cell_state(cell, self.out / name, n_steps)

    def begin(self, name: str, where: str = "") -> None:
        """A cell begins to be worked at."""
        self.watched.add(name)
        self.running[name] = time.monotonic()
        at = f" from step {self.states[name].steps_done}" if self.states[name].steps_done else ""
        self.report(f"{name}: begins{at}{where}")

    def end(self, outcome: Outcome, n_notices: int = 0) -> None:
        """A cell has ended."""
        began_s = self.running.pop(outcome.name, None)
        took = "" if began_s is None else f", in {duration(time.monotonic() - began_s)}"
        self.watched.discard(outcome.name)
        self.read([outcome.name])
        log = self.out / outcome.name / "log.txt"
        if outcome.state == "done":
            steps = self.states[outcome.name].progress
            notices = f"; {n_notices} notice{'s' * (n_notices != 1)} in {log}" if n_notices else ""
            n_done = sum(state.state == "done" for state in self.states.values() if state.name not in self.watched)
            self.report(f"{outcome.name}: done, {steps}{took} ({n_done} of {len(self.states)}){notices}")
        elif outcome.state == "failed":
            self.report(f"{outcome.name}: failed: {outcome.reason} [{log}]")
        else:
            self.report(f"{outcome.name}: stopped at {self.states[outcome.name].progress}")

    def update(self) -> None:
        """Show how far all cells are, if that has not been done for a while."""
        if self.show is None or time.monotonic() - self.shown_s < self.every_s:
            return
        self.shown_s = time.monotonic()
        self.read(self.watched)
        for name in self.running:
            if self.states[name].state != "done":  # also before it has its lock
                self.states[name] = replace(self.states[name], state="running")
        states = [*self.states.values()]
        self.show(Status(states, max(1, sum(state.state == "running" for state in states))))
