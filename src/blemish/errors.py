"""The one kind of error a user can mend."""

from __future__ import annotations


class BlemishError(Exception):
    """A mistake in what blemish was given: one line that names the file or setting, and the remedy.

    The command line prints the line and exits with 2; from Python it is raised as it is.
    """
