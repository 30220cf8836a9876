"""Mistakes that the user can correct: those that stop, and those that are only reported."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


class BlemishError(Exception):
    """A mistake in the input: the message is one line that names the file or setting, and the remedy.

    The command line prints the message and exits with code 2; from Python the exception is raised unchanged.
    """


class NotNow(BlemishError):
    """It cannot be done at the moment: a database is away, another program has a port or a folder. Later it may."""


class TooManyPixels(BlemishError):
    """An image that is refused by its size, before its pixels are decoded."""


def print_notices(lines: Sequence[str], most: int = 20) -> None:
    """Print what the user should know, although it stops nothing, to stderr: at most so many lines, and their number.

    Parameters
    ----------
    lines : each names the file and the remedy.
    """
    if os.environ.get("RANK", "0") != "0":  # of several processes only the first reports
        return
    for line in lines[:most]:
        print_line(line)
    if len(lines) > most:
        print_line(f"{len(lines) - most} more lines like these")


def print_line(line: str) -> None:
    """Print one line that the user should know to stderr, at once."""
    print(f"blemish: {line}", file=sys.stderr, flush=True)
