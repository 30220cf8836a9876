"""Progress reports during a training run, and the record after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


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

    @property
    def images_per_s(self) -> float:
        """Training images per second."""
        return self.n_images_seen / self.training_s if self.training_s else 0.0
