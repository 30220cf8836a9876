"""Work that a GPU repeats as one launch (CUDA graphs): a step of training, an inspection.

A graph repeats the same kernels on the same memory. So shapes stay as they were, what a step draws is put where the
step reads it (``synthesis/draw.Tape``), and results lie where they lay before: the next repetition overwrites them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import Tape

Result = TypeVar("Result")
Inspect = Callable[[Tensor], tuple[Tensor, Tensor]]

N_WARM_UP = 3
"""Steps that run as they are before one is captured: in them libraries choose kernels, and optimizers make their
state."""
MAX_BATCH_SIZES = 4
"""Sizes of batches for which an inspection keeps a graph."""
_one_at_a_time = threading.Lock()
"""A process captures one graph at a time: its beginning waits for all streams, which a capture does not allow."""


def capture(work: Callable[[], Result], device: torch.device) -> tuple[Callable[[], None], Result]:
    """Record what ``work`` launches, without running it; returns what runs it, and where its results will lie.

    On a stream of the device's own: that which torch takes by itself is of the card that captured first.
    """
    with _one_at_a_time, torch.cuda.device(device):
        torch.cuda.empty_cache()  # the graph has memory of its own
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        before = torch.cuda.current_stream(device)
        try:
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                result = work()
        except RuntimeError:  # torch leaves its stream and its memory in place, if the capture itself has failed
            torch.cuda.set_stream(before)
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(device.index, graph.pool())
            raise
    return graph.replay, result


def aside(work: Callable[[], Result], device: torch.device) -> Result:
    """Run ``work`` on a stream of its own, as has to be done before it is captured."""
    if device.type != "cuda":
        return work()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        result = work()
    torch.cuda.current_stream(device).wait_stream(stream)
    return result


def side_by_side(device: torch.device, *works: Callable[[], Result]) -> list[Result]:
    """Do what does not depend on each other and needs no gradients: at the same time in a graph, as a few images are
    little work for a GPU; else one after the other."""
    if device.type != "cuda" or torch.is_grad_enabled() or not torch.cuda.is_current_stream_capturing():
        return [work() for work in works]
    here = torch.cuda.current_stream(device)
    streams = [here, *(torch.cuda.Stream(device) for _ in works[1:])]  # type: ignore[no-untyped-call]
    results = []
    for stream in streams[1:]:
        stream.wait_stream(here)
    try:
        for stream, work in zip(streams, works, strict=True):
            with torch.cuda.stream(stream):
                results.append(work())
    finally:  # also where one fails: a capture ends only when all streams have come back
        for stream in streams[1:]:
            here.wait_stream(stream)
    return results


def _tell(what: str, error: Exception) -> None:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    print(f"blemish: {what} cannot be a CUDA graph here and goes on without ({reason})", file=sys.stderr)


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
                    self.replay, self.result = capture(self.step, self.device)
            except RuntimeError as error:
                _tell("the training step", error)
        if self.replay is None or self.result is None:
            return self.step()
        self.tape.refill()
        self.replay()
        return self.result


class GraphedInspection:
    """An inspection of batches, repeated as a graph for each size of batch that comes more than once.

    Safe to call from several threads, which take turns.

    Parameters
    ----------
    inspect : (B, 3, H, W) float images to anomaly maps (B, 1, H, W) and image scores (B,).
    """

    def __init__(self, inspect: Inspect) -> None:
        self.inspect = inspect
        self.lock = threading.Lock()
        self.most = MAX_BATCH_SIZES
        self.seen: set[torch.Size] = set()
        self.graphs: dict[torch.Size, tuple[Callable[[], None], Tensor, tuple[Tensor, Tensor]]] = {}

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect a batch."""
        with self.lock:
            shape = images.shape
            if shape in self.seen and shape not in self.graphs and len(self.graphs) < self.most:
                self._capture(images)
            if shape not in self.graphs:
                self.seen.add(shape)
                return self.inspect(images)
            replay, place, (maps, scores) = self.graphs[shape]
            place.copy_(images)
            replay()
            return maps.clone(), scores.clone()

    def _capture(self, images: Tensor) -> None:
        place = images.clone()
        try:
            aside(lambda: self.inspect(place), images.device)
            replay, result = capture(lambda: self.inspect(place), images.device)
        except RuntimeError as error:
            _tell("the inspection", error)
            self.most = 0
            return
        self.graphs[images.shape] = replay, place, result
