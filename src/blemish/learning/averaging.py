"""Which weights a stage of training ends with: the last ones, their moving average, or those that did best."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from blemish.methods.base import Learner, Stage


class Average:
    """Exponential moving average of weights and batch-norm statistics; does nothing at a decay of 0."""

    def __init__(self, method: Learner, decay: float) -> None:
        self.decay = decay
        everything = [*method.parameters(), *method.buffers()]
        self.live = [one.detach() for one in everything if one.is_floating_point()] if decay > 0 else []
        self.shadow = [one.clone() for one in self.live]

    def update(self, step: int) -> None:
        if self.live:  # short memory at first, so that the start is forgotten
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.shadow, self.live, 1.0 - decay)

    def apply(self) -> None:
        if self.live:
            torch._foreach_copy_(self.live, self.shadow)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The average in place of the weights, for a while."""
        last = [one.clone() for one in self.live]
        self.apply()
        try:
            yield
        finally:
            if self.live:
                torch._foreach_copy_(self.live, last)

    def load(self, shadow: list[Tensor]) -> None:
        for mine, theirs in zip(self.shadow, shadow, strict=True):
            mine.copy_(theirs)


class Best:
    """The weights that did best on the validation images; does nothing for a stage that does not validate."""

    def __init__(self, method: Learner, stage: Stage) -> None:
        self.stage, self.n_worse = stage, 0
        everything = [*method.parameters(), *method.buffers()] if stage.validate_every else []
        self.live = [one.detach() for one in everything]
        self.weights = [one.clone() for one in self.live]
        self.value, self.step = -math.inf, 0

    def is_due(self, done: int, n_steps: int) -> bool:
        every = self.stage.validate_every
        return every > 0 and (done % every == 0 or done == n_steps)

    def offer(self, step: int, value: float, *, is_counted: bool) -> None:
        """Keep the weights of this step if they did better than all before; if not, that may cost patience."""
        if value > self.value:
            self.value, self.step, self.n_worse = value, step, 0
            torch._foreach_copy_(self.weights, self.live)
        elif is_counted:
            self.n_worse += 1

    @property
    def is_final(self) -> bool:
        """Whether patience is at its end."""
        return 0 < self.stage.patience <= self.n_worse

    def apply(self) -> None:
        if self.step:
            torch._foreach_copy_(self.live, self.weights)

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("value", "step", "n_worse", "weights")}

    def load(self, state: dict[str, Any]) -> None:
        for mine, theirs in zip(self.weights, state["weights"], strict=True):
            mine.copy_(theirs)
        for name in ("value", "step", "n_worse"):
            setattr(self, name, state[name])
