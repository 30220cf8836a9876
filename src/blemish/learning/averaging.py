"""The final weights of a training stage: the last weights, their moving average, or the best on validation images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from blemish.methods.base import Learner, Stage


class Average:
    """Exponential moving average of weights and batch-norm statistics; does nothing if the decay is 0."""

    def __init__(self, method: Learner, decay: float) -> None:
        self.decay = decay
        tensors = [*method.parameters(), *method.buffers()]
        self.live = [tensor.detach() for tensor in tensors if tensor.is_floating_point()] if decay > 0 else []
        self.shadow = [tensor.clone() for tensor in self.live]

    def update(self, step: int) -> None:
        if self.live:  # a low decay at first, so that the average forgets the initial weights
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.shadow, self.live, 1.0 - decay)

    def apply(self) -> None:
        if self.live:
            torch._foreach_copy_(self.live, self.shadow)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Use the average in place of the weights within the context."""
        last = [tensor.clone() for tensor in self.live]
        self.apply()
        try:
            yield
        finally:
            if self.live:
                torch._foreach_copy_(self.live, last)

    def load(self, shadow: list[Tensor]) -> None:
        for own, saved in zip(self.shadow, shadow, strict=True):
            own.copy_(saved)


class Best:
    """Keeps the weights with the best validation; does nothing for a stage without validation."""

    def __init__(self, method: Learner, stage: Stage) -> None:
        self.stage, self.n_worse = stage, 0
        tensors = [*method.parameters(), *method.buffers()] if stage.validate_every else []
        self.live = [tensor.detach() for tensor in tensors]
        self.weights = [tensor.clone() for tensor in self.live]
        self.value, self.step = -math.inf, 0

    def is_due(self, done: int, n_steps: int) -> bool:
        every = self.stage.validate_every
        return every > 0 and (done % every == 0 or done == n_steps)

    def offer(self, step: int, value: float, *, is_counted: bool) -> None:
        """Keep the weights of this step if ``value`` is the best so far; else use up patience if ``is_counted``."""
        if value > self.value:
            self.value, self.step, self.n_worse = value, step, 0
            torch._foreach_copy_(self.weights, self.live)
        elif is_counted:
            self.n_worse += 1

    @property
    def is_final(self) -> bool:
        """Whether the stage must stop because its patience is used up."""
        return 0 < self.stage.patience <= self.n_worse

    def apply(self) -> None:
        if self.step:
            torch._foreach_copy_(self.live, self.weights)

    def state(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("value", "step", "n_worse", "weights")}

    def load(self, state: dict[str, Any]) -> None:
        for own, saved in zip(self.weights, state["weights"], strict=True):
            own.copy_(saved)
        for name in ("value", "step", "n_worse"):
            setattr(self, name, state[name])
