"""What a camera's library has to offer, and what it hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

WAIT_S = 0.2
"""The longest that a driver waits for a frame before it says that there is none, where its library allows that."""


class Gone(Exception):
    """The camera cannot be reached, or has stopped to send; it may come back. The message says how that shows."""


@dataclass(frozen=True)
class Frame:
    """A frame as it arrived."""

    image: NDArray[Any] | None
    """(H, W) or (H, W, 3) RGB, uint8 or uint16; None if the frame is not whole."""
    fault: str | None = None
    """Why it is not whole."""
    id: int | None = None
    """The number that the camera gave it; None if it gives none."""


class Driver(Protocol):
    """A camera through one library. After ``open`` all calls come from one thread."""

    address: str
    """As the user gave it; of a camera that was found, with its name."""

    def open(self) -> None:
        """Connect.

        Raises
        ------
        Gone
            If the camera cannot be reached.
        BlemishError
            If it is there and cannot be used.
        """

    def read(self) -> Frame | None:
        """Return the next frame; None if none arrived within ``WAIT_S``.

        Raises
        ------
        Gone
        """

    @property
    def is_free_running(self) -> bool:
        """Whether frames come all the time, without a trigger, so that their absence is a fault."""

    def close(self) -> None:
        """Disconnect; called more than once, and after a failed ``open``, too."""
