"""What an output is."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Sequence
from typing import Any, Protocol

from blemish.errors import BlemishError
from blemish.record.rows import Message

Deliveries = Generator[tuple[Message, str | None], None, None]
"""Messages, in order, as soon as the receiver has each of them, with None; or with why it refuses this one."""


class Away(Exception):
    """The receiver cannot take anything at the moment: one line that says why, without passwords.

    Parameters
    ----------
    pause_s : for so long it asks to be left alone.
    """

    def __init__(self, text: str, pause_s: float | None = None) -> None:
        super().__init__(text)
        self.pause_s = pause_s


class Output(Protocol):
    """Carries messages to one receiver."""

    name: str
    """Under which its messages wait in the outbox: of its kind, so that they wait also for a receiver that moves."""
    address: str
    """For people: without user and password."""
    is_live: bool
    """Whether it shows verdicts as they come, and has no use for old ones: it has no messages in the outbox."""

    def open(self) -> None:
        """Begin. A receiver that is away is no error.

        Raises
        ------
        BlemishError
            If it can never work, such as a file of another program, a port that is taken, a package that is missing.
        """

    def deliver(self, messages: Sequence[Message]) -> Deliveries:
        """Deliver messages in order.

        Raises
        ------
        Away
            If the receiver cannot take the next one; it is delivered again later, with those after it.
        """

    def close(self) -> None:
        """End, and take leave of the receiver if it is there."""


def needed(module: str, package: str, name: str) -> Any:
    """Import the package of an output.

    Raises
    ------
    BlemishError
        If it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise BlemishError(f'{name}: {package} is not installed; pip install "blemish[serve]"') from error
