"""What happens, as it happens: each reader of the live feed has a queue of its own, which never stops the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

MOST_WAITING = 1000
"""Happenings that wait for a slow reader; of more the oldest are dropped, and it can ask for them by their id."""


@dataclass(frozen=True)
class Happening:
    """A verdict, a review or an event."""

    kind: str
    """``verdict``, ``review`` or ``event``."""
    content: dict[str, Any]
    """Its JSON."""
    product: str | None = None


class Feed:
    """Hands each happening to all who read. Readers live in event loops; happenings come from any thread."""

    def __init__(self) -> None:
        self._readers: dict[asyncio.Queue[Happening | None], asyncio.AbstractEventLoop] = {}
        self._is_closed = False

    @property
    def n_readers(self) -> int:
        """How many read."""
        return len(self._readers)

    def tell(self, kind: str, content: dict[str, Any], product: str | None = None) -> None:
        """Hand a happening to all who read."""
        self._give(Happening(kind, content, product))

    @contextmanager
    def read(self) -> Iterator[AsyncIterator[Happening]]:
        """What happens from now on, until the service ends."""
        waiting: asyncio.Queue[Happening | None] = asyncio.Queue()
        self._readers[waiting] = asyncio.get_running_loop()
        if self._is_closed:
            waiting.put_nowait(None)
        try:
            yield _all_in(waiting)
        finally:
            del self._readers[waiting]

    def close(self) -> None:
        """End all reading: nobody has to go away first."""
        self._is_closed = True
        self._give(None)

    def _give(self, happening: Happening | None) -> None:
        for waiting, loop in [*self._readers.items()]:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_put, waiting, happening)


async def _all_in(waiting: asyncio.Queue[Happening | None]) -> AsyncIterator[Happening]:
    while (happening := await waiting.get()) is not None:
        yield happening


def _put(waiting: asyncio.Queue[Happening | None], happening: Happening | None) -> None:
    if waiting.qsize() >= MOST_WAITING:
        waiting.get_nowait()
    waiting.put_nowait(happening)
