"""Progress of training: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

LINE_EVERY_S = 10.0


class TrainingProgress:
    """A ``training.Reporter`` on standard error."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stderr)
        self.bar: Progress | None = None
        self.stage = ""
        self.last_line_s = -LINE_EVERY_S

    def step(self, stage: str, step: int, n_steps: int, losses: dict[str, float], left_s: float) -> None:
        """Show that ``step`` of ``n_steps`` steps are done, their losses, and the remaining time in seconds."""
        values = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
        left = f"{int(left_s // 60)}:{int(left_s % 60):02d} left"
        if self.console.is_terminal:
            self._draw(stage, step, n_steps, f"{values}  {left}")
        elif step == n_steps or time.monotonic() - self.last_line_s >= LINE_EVERY_S:
            self.last_line_s = time.monotonic()
            print(f"{stage} {step}/{n_steps}  {values}  {left}", file=sys.stderr, flush=True)

    def _draw(self, stage: str, step: int, n_steps: int, text: str) -> None:
        if self.bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self.bar = Progress(*columns, console=self.console)
            self.bar.start()
        if stage != self.stage:
            self.task = self.bar.add_task(stage, total=n_steps, text="")
            self.stage = stage
        self.bar.update(self.task, completed=step, text=text)

    def __enter__(self) -> TrainingProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
