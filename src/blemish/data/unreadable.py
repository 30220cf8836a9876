"""Photographs that cannot be read, of a set so large that training does without a few of them."""

from __future__ import annotations

from collections.abc import Mapping

from blemish.errors import BlemishError, print_notices

MOST_UNREADABLE = 0.01
"""Share of the photographs that training does without. More stop it."""


class UnreadablePhotographs(BlemishError):
    """More photographs than training does without cannot be read."""

    def __init__(self, message: str, is_shared: bool = True) -> None:
        super().__init__(message)
        self.is_shared = is_shared
        """Whether all processes raise it at the same step, so that they can write a checkpoint together."""


class Unreadable:
    """The photographs that cannot be read: each is told once, and too many are an error.

    Parameters
    ----------
    n_photographs : of how many.
    name : what messages call them all, such as their folder.
    """

    def __init__(self, n_photographs: int, name: str) -> None:
        self.n_photographs, self.name = n_photographs, name
        self.reasons: dict[str, str] = {}
        """The line of the error by the path of the photograph."""

    def add(self, reasons: Mapping[str, str]) -> None:
        """Add photographs, and print a line for each that is new."""
        new = {path: reason for path, reason in reasons.items() if path not in self.reasons}
        self.reasons |= new
        print_notices([f"{reason} (left out; others take its place)" for reason in new.values()])

    def check(self) -> None:
        """Check that few enough cannot be read.

        Raises
        ------
        UnreadablePhotographs
            If they are more than ``MOST_UNREADABLE``.
        """
        if len(self.reasons) > MOST_UNREADABLE * self.n_photographs:
            first = next(iter(self.reasons.values()))
            raise UnreadablePhotographs(
                f"{self.name}: {len(self.reasons)} of {self.n_photographs} photographs cannot be read, more than 1 "
                f"in {1 / MOST_UNREADABLE:.0f}; mend them or leave them out. The first: {first}"
            )
