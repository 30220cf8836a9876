"""Progress reports during a training run, its log, and the record after it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from blemish.files import write_text


class Reporter(Protocol):
    """Interface for reports of training progress."""

    def step(self, stage: str, step: int, n_steps: int, losses: dict[str, float], left_s: float) -> None:
        """Report that ``step`` of ``n_steps`` steps of ``stage`` are done; ``left_s`` is the expected time left."""


@dataclass
class TrainingRecord:
    """Size, time, device and precision of a finished training run."""

    iterations: int
    n_images_seen: int
    training_s: float
    device: str
    precision: str
    finish_s: float = 0.0
    """Time of ``Method.finish``, which is all that a method without training stages takes."""

    @property
    def images_per_s(self) -> float:
        """Training images per second of the training steps."""
        return self.n_images_seen / self.training_s if self.training_s else 0.0


def keep_rows(log: Path, n_steps_done: int) -> None:
    """Keep the rows of ``metrics.jsonl`` up to the checkpoint from which training continues; without one, none."""
    kept = []
    for row in log.read_text(encoding="utf-8").splitlines() if n_steps_done and log.exists() else []:
        with suppress(ValueError):  # a row that a full disk cut short
            kept += [row] if json.loads(row)["total_step"] <= n_steps_done else []
    if kept:
        write_text(log, "".join(f"{row}\n" for row in kept))
    else:
        log.unlink(missing_ok=True)
