"""One photograph on its way through the service, and what its verdict is made of."""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError
from blemish.record.rows import NewVerdict, verdict_json

Json = dict[str, Any]


class Refused(BlemishError):
    """A photograph that is not accepted, or an order that is not carried out: the service says why in one line."""

    status = 400
    """The HTTP status that says so."""


class UnknownProduct(Refused, LookupError):
    """There is no such product."""

    status = 404


class TooLarge(Refused):
    """The body has too many bytes, or the photograph too many pixels."""

    status = 413


class NotReady(Refused):
    """The product is not warm yet, the service is about to end, or the record is away."""

    status = 503


class Conflict(Refused):
    """It cannot be done as things are; nothing has changed."""

    status = 409


class Full(Refused):
    """The queue of the product is full.

    Parameters
    ----------
    retry_after_s : when there is likely to be room.
    """

    status = 429

    def __init__(self, text: str, retry_after_s: int) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class NotAPhotograph(Refused):
    """A photograph that was accepted, but cannot be decoded: its row exists.

    Parameters
    ----------
    row : the JSON of its verdict.
    """

    def __init__(self, text: str, row: Json, *, is_too_large: bool = False) -> None:
        super().__init__(text)
        self.row = row
        if is_too_large:
            self.status = TooLarge.status


@dataclass(eq=False)
class Job:
    """A photograph that was accepted; it ends as one row.

    The deadline and the judge both may want to write the row: who claims it first does.
    """

    product: str
    content: bytes
    """As sent."""
    n_px: int
    """By its header, or the most that are decoded at a time if only a decoder can tell."""
    size_wh: tuple[int, int] | None = None
    part: str | None = None
    lot: str | None = None
    name: str | None = None
    source: str = "http"
    bits: int | None = 16
    """With how many bits its 16-bit values are decoded."""
    arrived: float = field(default_factory=time.time)
    """s since 1970."""
    began_s: float = field(default_factory=time.monotonic)
    pixels: NDArray[np.uint8] | None = None
    """(H, W, 3) uint8 RGB, from decoding to judging."""
    fault: BlemishError | None = None
    """Why it could not be decoded."""
    ms: float = 0.0
    """From its arrival until its verdict was decided."""
    done: Future[Json] = field(default_factory=Future)
    """The JSON of the verdict, once the row is committed."""
    _claim: threading.Lock = field(default_factory=threading.Lock)

    def claim(self) -> bool:
        """Whether the caller is the one who writes the row: true once."""
        if not self._claim.acquire(blocking=False):
            return False
        self.ms = round(1000 * (time.monotonic() - self.began_s), 1)
        if self.pixels is not None:
            self.size_wh = self.pixels.shape[1], self.pixels.shape[0]
        return True

    @property
    def is_claimed(self) -> bool:
        """Whether its verdict is decided; there is nothing left to do for it."""
        return self._claim.locked()

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the photograph as sent, hex."""
        return hashlib.sha256(self.content).hexdigest()

    def verdict(self, **columns: Any) -> NewVerdict:
        """The row of this photograph with what was found."""
        width, height = self.size_wh or (None, None)
        return NewVerdict(
            product=self.product,
            part=self.part,
            lot=self.lot,
            name=self.name,
            source=self.source,
            photograph=self.digest,
            n_bytes=len(self.content),
            width=width,
            height=height,
            ms=self.ms,
            **columns,
        )


def as_json(new: NewVerdict, number: int) -> Json:
    """The JSON of a verdict that was just committed under an id."""
    return verdict_json(new.row(None) | {"id": number}, None)
