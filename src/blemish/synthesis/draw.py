"""Random numbers for the simulators: drawn on the host, used where the images are.

Every random number of a training step goes through ``drawn``. So the step can be repeated as one CUDA graph: a
``Tape`` knows what was drawn in it, and draws all of it anew, into the same memory, before each repetition. For
that, shapes on a GPU never depend on what was drawn (``worth``): what is not spoiled there is worked on, too, and
left as it was.
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
    """Float32 numbers from U[low, high) in ``shape``, on the host."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def coin(probability: float, n: int, generator: Generator) -> Tensor:
    """(n,) bool on the host, each True with ``probability``."""
    return torch.rand(n, generator=generator) < probability


def drawn(make: Callable[[Generator], Drawn], generator: Generator, device: torch.device) -> Drawn:
    """What ``make`` draws on the host, on ``device``.

    Parameters
    ----------
    make : gives a host tensor, or a tuple of them, whose shapes depend on nothing that was drawn (but on a CPU).
        It may be called again for another step, so it holds no tensor of this one.
    generator : CPU generator, the only source of randomness.
    """
    tape = _tape.get()
    if tape is not None:
        return tape.drawn(make)  # type: ignore[return-value]
    made = make(generator)
    if isinstance(made, Tensor):
        return send(made, device)
    return tuple(send(part, device) for part in made)


def send(host: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to ``device`` without making the host wait for it."""
    if device.type == "cpu":
        return host
    return host.pin_memory().to(device, non_blocking=True)


def is_static(device: torch.device) -> bool:
    """Whether shapes must not depend on numbers: asking for those would make the host wait for a GPU."""
    return device.type != "cpu"


def worth(flags: Tensor) -> Tensor:
    """Which of (K,) bool flags are worth working on: indices of the True; of all where shapes are static."""
    if is_static(flags.device):
        return torch.arange(len(flags), device=flags.device)
    return torch.from_numpy(flags.numpy().nonzero()[0])  # in half of torch's time


class Tape:
    """What a step draws, in order, each at a fixed place in the device's memory.

    ``recording`` a step takes down what it draws; ``playing`` one hands it the fixed places instead of drawing;
    ``refill`` draws everything anew and sends it there, in one copy.

    Parameters
    ----------
    generator : CPU generator that ``refill`` draws from.
    device : where the places are.
    """

    ALIGNMENT = 16  # bytes; what any dtype may begin at

    def __init__(self, generator: Generator, device: torch.device) -> None:
        self.generator, self.device = generator, device
        self.makes: list[Make] = []
        self.places: list[Tensor | tuple[Tensor, ...]] = []
        self._memory = torch.empty(0, dtype=torch.uint8)
        self._turn: int | None = None  # of the place that is handed out next; None while recording

    @contextmanager
    def recording(self) -> Iterator[None]:
        """A step in which numbers are drawn as ever, and remembered."""
        self.makes, self.places, self._turn = [], [], None
        token = _tape.set(self)
        try:
            yield
        finally:
            _tape.reset(token)
        sizes = [(part.nbytes + self.ALIGNMENT - 1) // self.ALIGNMENT * self.ALIGNMENT for part in self._parts()]
        self._memory = torch.empty(sum(sizes), dtype=torch.uint8, device=self.device)
        starts = iter(torch.tensor([0, *sizes]).cumsum(0).tolist())
        self.places = [
            self._placed(place, starts)
            if isinstance(place, Tensor)
            else tuple(self._placed(p, starts) for p in place)
            for place in self.places
        ]

    @contextmanager
    def playing(self) -> Iterator[None]:
        """A step that is handed what ``refill`` drew."""
        self._turn = 0
        token = _tape.set(self)
        try:
            yield
        finally:
            _tape.reset(token)

    def drawn(self, make: Make) -> Tensor | tuple[Tensor, ...]:
        """What ``make`` gives, or, when playing, where ``refill`` put it."""
        if self._turn is not None:
            self._turn += 1
            return self.places[self._turn - 1]
        made = make(self.generator)
        parts = (made,) if isinstance(made, Tensor) else made
        sent = tuple(send(part, self.device) for part in parts)
        self.makes.append(make)
        self.places.append(sent[0] if isinstance(made, Tensor) else sent)
        return self.places[-1]

    def refill(self) -> None:
        """Draw everything anew, as the recorded step would."""
        host = torch.empty(len(self._memory), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        start = 0
        for make in self.makes:
            made = make(self.generator)
            for part in (made,) if isinstance(made, Tensor) else made:
                host[start : start + part.nbytes] = part.contiguous().view(-1).view(torch.uint8)
                start += (part.nbytes + self.ALIGNMENT - 1) // self.ALIGNMENT * self.ALIGNMENT
        self._memory.copy_(host, non_blocking=True)

    def _parts(self) -> list[Tensor]:
        return [part for place in self.places for part in ((place,) if isinstance(place, Tensor) else place)]

    def _placed(self, like: Tensor, starts: Iterator[int]) -> Tensor:
        """A copy of a tensor in this tape's memory."""
        start = next(starts)
        return self._memory[start : start + like.nbytes].view(like.dtype).view(like.shape).copy_(like)
