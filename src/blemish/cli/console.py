"""What the command line prints, on consoles of any encoding, into pipes that are closed early, on full disks."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from io import TextIOWrapper
from typing import Any


class Console:
    """Standard output or standard error that never stops a command: what cannot be written is dropped.

    A command whose output goes to ``head`` does all its work, and ends with its own exit code.
    """

    def __init__(self, stream: TextIOWrapper) -> None:
        self.stream = stream
        self.error: OSError | None = None
        """Why text was lost; None if it was not, or if its reader has closed the pipe."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError as error:
            self._drop_from_here(error)
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            self._drop_from_here(error)

    def _drop_from_here(self, error: OSError) -> None:
        """Let everything go nowhere, also what the interpreter still flushes at its end."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            self.error = error


def prepare_console() -> None:
    """Let names that the console's encoding lacks appear escaped (``\\u90e8``), and no stream stop the command."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            if stream is getattr(sys, f"__{name}__"):
                setattr(sys, name, Console(stream))


def lost_output() -> str | None:
    """Why a part of standard output is lost, if it is: a full disk."""
    sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    return None if error is None else f"standard output: {error.strerror or error}"


def silence_libraries() -> None:
    """Let warnings of libraries appear only if asked for (``python -W default``): what matters is told by blemish."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
