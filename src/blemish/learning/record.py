"""What a training run tells: while it runs, and when it is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Reporter(Protocol):
    """Who is told how training goes."""

    def step(self, stage: str, step: int, n_steps: int, losses: dict[str, float], left_s: float) -> None:
        """``step`` of ``n_steps`` steps of ``stage`` are done; ``left_s`` more seconds are expected."""


@dataclass
class TrainingRecord:
    """What a training run was."""

    iterations: int
    n_images_seen: int
    training_s: float
    device: str
    precision: str

    @property
    def images_per_s(self) -> float:
        """Training images per second."""
        return self.n_images_seen / self.training_s if self.training_s else 0.0
