"""Progress of many trainings: a table on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from blemish.fleet.states import CellState, Status, duration

LINE_EVERY_S = 60.0
N_SHOWN = 12
"""Running cells in the table that is drawn again and again."""
_STYLES = {"done": "green", "running": "bold", "failed": "red", "left": "dim"}


class FleetProgress:
    """What ``fleet.grid.run_grid`` reports and shows, on standard error."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr)
        self.live = Live(console=self.console, transient=True, auto_refresh=False)
        self.last_line_s = -LINE_EVERY_S

    def report(self, text: str) -> None:
        """A cell has begun or ended."""
        if self.console.is_terminal:
            self.console.print(escape(text), highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def show(self, status: Status) -> None:
        """Show how far all cells are."""
        if self.console.is_terminal:
            running = [state for state in status.cells if state.state == "running"][:N_SHOWN]
            table = [_table(running)] if running else []
            self.live.update(Group(*table, escape(status.line())), refresh=True)
        elif time.monotonic() - self.last_line_s >= LINE_EVERY_S:
            self.last_line_s = time.monotonic()
            print(status.line(), file=sys.stderr, flush=True)

    def __enter__(self) -> FleetProgress:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()


def print_status(status: Status, console: Console, left_s: Mapping[str, float] | None = None) -> None:
    """Print the table of all cells.

    Parameters
    ----------
    left_s : seconds that are left by name, where they are known better than from the other cells.
    """
    step_s = status.step_s
    known = {state.name: state.steps_left * step_s[state.kind] for state in status.cells if state.kind in step_s}
    console.print(_table(status.cells, known if left_s is None else left_s))


def _table(states: Sequence[CellState], left_s: Mapping[str, float] | None = None) -> Table:
    table = Table("", "state", "training", *(["training left"] if left_s is not None else []))
    for state in states:
        cells = [escape(state.name), state.state, state.progress]
        if left_s is not None:
            left = duration(left_s[state.name]) if state.name in left_s else "unknown"
            cells.append(left if state.state in ("running", "left", "failed") and state.steps_left else "")
        table.add_row(*cells, style=_STYLES[state.state])
    return table
