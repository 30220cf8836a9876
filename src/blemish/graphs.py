"""Work that a GPU repeats as one launch (CUDA graphs): a step of training, an inspection.

A graph repeats the same kernels on the same memory. So shapes stay as they were, what a step draws is put where the
step reads it (``synthesis/draw.Tape``), and results lie where they lay before: the next repetition overwrites them.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import torch

Result = TypeVar("Result")

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


def tell(what: str, error: Exception) -> None:
    """That something runs as it is, and why."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    print(f"blemish: {what} cannot be a CUDA graph here and goes on without ({reason})", file=sys.stderr)
