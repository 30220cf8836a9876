"""Steps of training that a GPU repeats as one launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Generator

from blemish import graphs
from blemish.graphs import aside, tell
from blemish.synthesis.draw import Tape

Result = TypeVar("Result")
N_WARM_UP = 3
"""Steps that run as they are before one is captured: in them libraries choose kernels, and optimizers make their
state."""


class GraphedStep(Generic[Result]):
    """A step of training, repeated as a graph from the fourth call on.

    If it cannot be captured, that is told in one line and the steps go on as they are.

    Parameters
    ----------
    step : draws only through ``draw.drawn``; its tensors have the same shapes each time.
    generator : CPU generator that it draws from.
    """

    def __init__(self, step: Callable[[], Result], generator: Generator, device: torch.device) -> None:
        self.step, self.device = step, device
        self.tape = Tape(generator, device)
        self.n_calls = 0
        self.replay: Callable[[], None] | None = None
        self.result: Result | None = None

    def __call__(self) -> Result:
        """Take the step. The result is overwritten by the next one."""
        self.n_calls += 1
        if self.n_calls == N_WARM_UP:
            with self.tape.recording():
                return aside(self.step, self.device)
        if self.n_calls < N_WARM_UP:
            return aside(self.step, self.device)
        if self.n_calls == N_WARM_UP + 1:
            try:
                with self.tape.playing():
                    self.replay, self.result = graphs.capture(self.step, self.device)
            except RuntimeError as error:
                tell("the training step", error)
        if self.replay is None or self.result is None:
            return self.step()
        self.tape.refill()
        self.replay()
        return self.result
