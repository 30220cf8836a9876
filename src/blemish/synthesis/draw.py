"""Random numbers for the simulators: drawn on the host, used on the images' device.

All random numbers of a training step are drawn through ``drawn``. This makes it possible to repeat the step as one
CUDA graph: a ``Tape`` records the draws of the step, and repeats them with new numbers, in the same memory, before
each repetition. For that, shapes on a GPU must not depend on random numbers (``indices_to_process``): there the
simulators also process the images without damage, and leave them unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Generator, Tensor

Drawn = TypeVar("Drawn", Tensor, tuple[Tensor, ...])
Make = Callable[[Generator], Tensor | tuple[Tensor, ...]]

_tape: ContextVar[Tape | None] = ContextVar("_tape", default=None)


def uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Float32 numbers from U[low, high) of shape ``shape``, on the host."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def coin(probability: float, n: int, generator: Generator) -> Tensor:
    """(n,) bool on the host, each True with ``probability``."""
    return torch.rand(n, generator=generator) < probability


def drawn(make: Callable[[Generator], Drawn], generator: Generator, device: torch.device) -> Drawn:
    """Draw random tensors with ``make`` on the host, and return them on ``device``.

    Parameters
    ----------
    make : returns a host tensor, or a tuple of them. Except on a CPU, their shapes must not depend on random numbers.
        A tape calls it again for other steps, so it must not refer to tensors of this step.
    generator : CPU generator, the only source of randomness.
    """
    tape = _tape.get()
    if tape is not None:
        return tape.drawn(make)  # type: ignore[return-value]
    draw = make(generator)
    if isinstance(draw, Tensor):
        return send(draw, device)
    return tuple(send(tensor, device) for tensor in draw)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to ``device`` without making the host wait for the copy."""
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)


def is_static(device: torch.device) -> bool:
    """Whether shapes must not depend on tensors' values: on a GPU the host would have to wait for them."""
    return device.type != "cpu"


def indices_to_process(flags: Tensor) -> Tensor:
    """Indices of the True among (K,) bool flags; all indices where shapes are static (``is_static``): (n,) int64."""
    if is_static(flags.device):
        return torch.arange(len(flags), device=flags.device)
    return torch.from_numpy(flags.numpy().nonzero()[0])  # takes half the time of torch's nonzero


class Tape:
    """The random draws of a step, in order, each at a fixed place in the device's memory.

    In ``recording``, a step draws as usual and the draws are recorded. In ``playing``, a step gets the tensors at the
    fixed places instead of drawing. ``refill`` repeats all draws and sends the new numbers to these places, in one
    copy.

    Parameters
    ----------
    generator : CPU generator that ``refill`` draws from.
    device : where the places are.
    """

    ALIGNMENT = 16  # bytes; a tensor of any dtype may begin at a multiple of this

    def __init__(self, generator: Generator, device: torch.device) -> None:
        self.generator, self.device = generator, device
        self.makes: list[Make] = []
        self.places: list[Tensor | tuple[Tensor, ...]] = []
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._next: int | None = None  # index of the next place in ``playing``; None while recording

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Run a step that draws its numbers as usual, and record the draws."""
        self.makes, self.places, self._next = [], [], None
        token = _tape.set(self)
        try:
            yield
        finally:
            _tape.reset(token)
        n_bytes = [tensor.nbytes for tensor in self._tensors()]
        sizes = [(n + self.ALIGNMENT - 1) // self.ALIGNMENT * self.ALIGNMENT for n in n_bytes]
        self._memory = torch.empty(sum(sizes), dtype=torch.uint8, device=self.device)
        starts = iter(torch.tensor([0, *sizes]).cumsum(0).tolist())
        self.places = [
            self._place(draw, starts)
            if isinstance(draw, Tensor)
            else tuple(self._place(tensor, starts) for tensor in draw)
            for draw in self.places
        ]

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Run a step that gets the recorded places, which ``refill`` fills, instead of drawing."""
        self._next = 0
        token = _tape.set(self)
        try:
            yield
        finally:
            _tape.reset(token)

    def drawn(self, make: Make) -> Tensor | tuple[Tensor, ...]:
        """The tensors that ``make`` draws; when playing, the next recorded place."""
        if self._next is not None:
            self._next += 1
            return self.places[self._next - 1]
        draw = make(self.generator)
        tensors = (draw,) if isinstance(draw, Tensor) else draw
        sent = tuple(send(tensor, self.device) for tensor in tensors)
        self.makes.append(make)
        self.places.append(sent[0] if isinstance(draw, Tensor) else sent)
        return self.places[-1]

    def refill(self) -> None:
        """Repeat all draws in the order of the recorded step, and send the numbers to their places."""
        buffer = torch.empty(len(self._memory), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        start = 0
        for make in self.makes:
            draw = make(self.generator)
            for tensor in (draw,) if isinstance(draw, Tensor) else draw:
                buffer[start : start + tensor.nbytes] = tensor.contiguous().view(-1).view(torch.uint8)
                start += (tensor.nbytes + self.ALIGNMENT - 1) // self.ALIGNMENT * self.ALIGNMENT
        self._memory.copy_(buffer, non_blocking=True)

    def _tensors(self) -> list[Tensor]:
        """All recorded tensors, in order."""
        return [tensor for place in self.places for tensor in ((place,) if isinstance(place, Tensor) else place)]

    def _place(self, tensor: Tensor, starts: Iterator[int]) -> Tensor:
        """Copy a tensor into this tape's memory, at the next of ``starts`` (bytes)."""
        start = next(starts)
        memory = self._memory[start : start + tensor.nbytes]
        return memory.view(tensor.dtype).view(tensor.shape).copy_(tensor)
