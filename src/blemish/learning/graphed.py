"""A training step as a CUDA graph: a GPU repeats it as one launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Generator

from blemish import graphs
from blemish.graphs import on_side_stream, warn_without_graph
from blemish.synthesis.draw import Tape

Result = TypeVar("Result")
N_WARM_UP = 3
"""Steps that run normally before the capture: in them, libraries choose kernels and optimizers create their state."""


class GraphedStep(Generic[Result]):
    """A training step that is repeated as a CUDA graph from the fourth call on.

    If it cannot be captured, one line on stderr reports this and the steps continue without a graph.

    Parameters
    ----------
    step : one step. Must draw random numbers only through ``draw.drawn``, with the same shapes in each call.
    generator : CPU generator that the step draws from.
    """

    def __init__(self, step: Callable[[], Result], generator: Generator, device: torch.device) -> None:
        self.step, self.device = step, device
        self.tape = Tape(generator, device)
        self.n_calls = 0
        self.replay: Callable[[], None] | None = None
        self.result: Result | None = None

    def __call__(self) -> Result:
        """Take the step. The next call overwrites the result."""
        self.n_calls += 1
        if self.n_calls == N_WARM_UP:
            with self.tape.recording():
                return on_side_stream(self.step, self.device)
        if self.n_calls < N_WARM_UP:
            return on_side_stream(self.step, self.device)
        if self.n_calls == N_WARM_UP + 1:
            try:
                with self.tape.playing():
                    self.replay, self.result = graphs.capture(self.step, self.device)
            except RuntimeError as error:
                warn_without_graph("the training step", error)
        if self.replay is None or self.result is None:
            return self.step()
        self.tape.refill()
        self.replay()
        return self.result
