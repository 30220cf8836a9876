"""Streams around a capture of a CUDA graph; what graphs compute is tested in the methods' contract."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from blemish import graphs

SECOND = torch.device("cuda", 1)


class Cuda:
    """A stand-in for the parts of ``torch.cuda`` that a capture uses.

    Like torch, it captures on the stream of the card that captured first if it gets none.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.stream, self.streams, self.is_broken = "default", ["default"], False
        patch.setattr(torch.cuda, "empty_cache", lambda: None)
        patch.setattr(torch.cuda, "device", lambda device: nullcontext())
        patch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        patch.setattr(torch.cuda, "Stream", lambda device: f"of {device}, {len(self.streams)}")
        patch.setattr(torch.cuda, "current_stream", lambda device: self.stream)
        patch.setattr(torch.cuda, "set_stream", self.set_stream)
        patch.setattr(torch.cuda, "graph", self.graph)
        patch.setattr(torch._C, "_cuda_endAllocateToPool", lambda index, pool: None, raising=False)

    def set_stream(self, stream: str) -> None:
        self.stream = stream

    def pool(self) -> None: ...

    def replay(self) -> None: ...

    @contextmanager
    def graph(self, graph: Any, stream: str | None = None, capture_error_mode: str = "global") -> Iterator[None]:
        before, self.stream = self.stream, stream or "of the first card"
        self.streams.append(self.stream)
        yield
        if self.is_broken:  # the end of the capture fails and does not restore the stream
            raise RuntimeError("operation failed due to a previous error during capture")
        self.stream = before


def test_a_capture_is_on_a_stream_of_its_own_card(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    replay, result = graphs.capture(lambda: cuda.stream, SECOND)
    assert result == "of cuda:1, 1"
    assert cuda.stream == "default"
    assert replay == cuda.replay


def test_what_follows_a_capture_that_failed_is_on_the_stream_from_before(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    cuda.is_broken = True
    with pytest.raises(RuntimeError, match="during capture"):
        graphs.capture(lambda: None, SECOND)
    assert cuda.stream == "default"
    cuda.is_broken = False
    assert graphs.capture(lambda: cuda.stream, SECOND)[1] == "of cuda:1, 2"
