"""Stand-ins for what is missing on a machine without a GPU: the card, and its graphs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Result = TypeVar("Result")
CARD = torch.device("meta", 0)
"""Works out shapes and holds no numbers. As on a GPU, no number can be asked for without ``Tensor.cpu``."""
COPIES = {"_to_copy", "copy_"}
"""Operations that take tensors of both the host and a card."""
UNKNOWN = {"_fused_adam_", "_fused_adamw_"}
"""Operations that ``meta`` lacks. They change tensors in place, and so no shapes."""


def _tensors(*trees: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(trees) if isinstance(leaf, Tensor)]


class _NoMixing(TorchDispatchMode):
    """Refuses operations on tensors of both the host and the card, as a GPU does; torch's ``meta`` lets some pass."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kinds = {tensor.device.type for tensor in _tensors(args, kwargs) if tensor.ndim}
        if len(kinds) > 1 and func.overloadpacket.__name__ not in COPIES:
            raise RuntimeError(f"{func}: some tensors are on the host, others on the card")
        if func.overloadpacket.__name__ in UNKNOWN:
            return None
        return func(*args, **(kwargs or {}))


def _said(leaf: Any) -> Any:
    if isinstance(leaf, torch.ScriptObject):  # the profiler's
        return type(leaf)
    return (*leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else leaf


class Graph(TorchDispatchMode):
    """A stand-in for a CUDA graph: records what is launched, and repeats it on the same memory.

    As with one, what Python does between launches is not repeated, numbers that are no tensors are those of the
    recording, and recording changes no tensor. As on a card, a recording that touches the host's memory is refused.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.launches: list[tuple[Any, Any, Any, Any]] = []
        self.storages: dict[int, Any] = {}
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for tensor in _tensors(args, kwargs):
            if tensor.device.type != self.device.type:
                raise RuntimeError(f"{func}: a graph cannot hold work on the {tensor.device.type}")
            if self._is_new(tensor):
                self.before.append((tensor, tensor.detach().clone()))
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            if tensor.device.type != self.device.type:
                raise RuntimeError(f"{func}: a graph cannot hold work on the {tensor.device.type}")
            self._is_new(tensor)
        self.launches.append((func, args, kwargs, result))
        return result

    def _is_new(self, tensor: Tensor) -> bool:
        storage = tensor.untyped_storage()
        known = storage._cdata in self.storages
        self.storages[storage._cdata] = storage  # kept: its number must not become another's
        return not known

    @torch.no_grad()
    def undo(self) -> None:
        """Put back what the recording changed: on a card, nothing runs in it."""
        for tensor, value in self.before:
            tensor.detach().copy_(value)

    @torch.no_grad()
    def replay(self) -> None:
        """Launch the same again, on the same memory."""
        for func, args, kwargs, recorded in self.launches:
            again = func(*args, **kwargs)
            for old, new in zip(_tensors(recorded), _tensors(again), strict=True):
                if old.untyped_storage()._cdata != new.untyped_storage()._cdata:
                    old.detach().copy_(new)

    def said(self) -> list[str]:
        """What is launched, with its shapes and numbers: two graphs that say the same are the same."""
        return [f"{func} {[_said(leaf) for leaf in tree_leaves(rest)]}" for func, *rest, _ in self.launches]


def capture(work: Callable[[], Result], device: torch.device) -> tuple[Callable[[], None], Result]:
    """In place of ``blemish.graphs.capture``."""
    with Graph(device) as graph:
        result = work()
    graph.undo()
    return graph.replay, result


@contextmanager
def a_card(patch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A stand-in for a GPU, refusing what one refuses.

    That is: to mix its tensors with those of the host, to pin them, to tell a number (for which a GPU would make the
    host wait) but by ``Tensor.cpu``, and in a graph to reach for the host. As ``cuda`` and ``cuda:0``, the device
    asked for is not equal to that of its tensors.
    """

    def pinned(tensor: Tensor, *_: Any) -> Tensor:
        if tensor.device.type != "cpu":
            raise RuntimeError("cannot pin a tensor that is on the card")
        return tensor

    def fetched(tensor: Tensor) -> Tensor:
        """Any numbers: between 0 and 1; -1 of integers, which is a step that is none; true if it is one."""
        if tensor.device.type == "cpu":
            return tensor
        numbers = torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0))
        if tensor.dtype == torch.bool:
            return numbers > 0.5 if tensor.ndim else torch.tensor(True)
        return (numbers if tensor.is_floating_point() else torch.full_like(numbers, -1.0)).to(tensor.dtype)

    patch.setattr(Tensor, "pin_memory", pinned)
    patch.setattr(Tensor, "cpu", fetched)
    patch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # it does not know this device
    patch.setattr(
        sys.modules["torch.optim.optimizer"], "_get_fused_kernels_supported_devices", lambda: ["cpu", "meta"]
    )
    patch.setattr("blemish.graphs.capture", capture)
    with _NoMixing():
        yield CARD


@contextmanager
def graphs() -> Iterator[pytest.MonkeyPatch]:
    """A stand-in for CUDA graphs, on the CPU: it computes, in shapes that do not depend on what is drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blemish.graphs.capture", capture)
        for place in ("draw", "perlin"):
            patch.setattr(f"blemish.synthesis.{place}.is_static", lambda device: True)
        yield patch
