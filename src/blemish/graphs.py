"""CUDA graphs: work that a GPU repeats as one launch, such as a training step or an inspection.

A graph repeats the same kernels on the same memory. So shapes are fixed, random numbers of a step are written to the
memory that the step reads (``synthesis/draw.Tape``), and each repetition overwrites the results of the one before.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import torch

Result = TypeVar("Result")

_capture_lock = threading.Lock()
"""A process captures one graph at a time: starting a capture waits for all streams, and this breaks a running one."""


def capture(work: Callable[[], Result], device: torch.device) -> tuple[Callable[[], None], Result]:
    """Record what ``work`` launches, without running it.

    It captures on a new stream of ``device``: torch's default capture stream belongs to the card that captured first.

    Returns
    -------
    A function that runs the graph, and the tensors that it writes its results to.
    """
    with _capture_lock, torch.cuda.device(device):
        torch.cuda.empty_cache()  # the graph has its own memory pool
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        before = torch.cuda.current_stream(device)
        try:
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                result = work()
        except RuntimeError:  # after a failed capture torch restores neither the stream nor the memory pool
            torch.cuda.set_stream(before)
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(device.index, graph.pool())
            raise
    return graph.replay, result


def on_side_stream(work: Callable[[], Result], device: torch.device) -> Result:
    """Run ``work`` on a separate stream: the warm-up that CUDA requires before a capture. On a CPU, just run it."""
    if device.type != "cuda":
        return work()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        result = work()
    torch.cuda.current_stream(device).wait_stream(stream)
    return result


def side_by_side(device: torch.device, *works: Callable[[], Result]) -> list[Result]:
    """Run independent work in parallel streams while a graph is captured without gradients, else one after the other.

    A few images do not fill a GPU, so parallel streams save time.
    """
    if device.type != "cuda" or torch.is_grad_enabled() or not torch.cuda.is_current_stream_capturing():
        return [work() for work in works]
    current = torch.cuda.current_stream(device)
    streams = [current, *(torch.cuda.Stream(device) for _ in works[1:])]  # type: ignore[no-untyped-call]
    results = []
    for stream in streams[1:]:
        stream.wait_stream(current)
    try:
        for stream, work in zip(streams, works, strict=True):
            with torch.cuda.stream(stream):
                results.append(work())
    finally:  # also after an error: a capture ends only when all streams have joined
        for stream in streams[1:]:
            current.wait_stream(stream)
    return results


def warn_without_graph(work: str, error: Exception) -> None:
    """Print that ``work`` ("the training step") runs without a CUDA graph, and why."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    print(f"blemish: {work} cannot run as a CUDA graph here and continues without one ({reason})", file=sys.stderr)
