"""The error class for mistakes that the user can correct."""

from __future__ import annotations


class BlemishError(Exception):
    """A mistake in the input: the message is one line that names the file or setting, and the remedy.

    The command line prints the message and exits with code 2; from Python the exception is raised unchanged.
    """
