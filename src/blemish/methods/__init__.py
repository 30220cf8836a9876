"""The methods, one paper each, by name."""

from __future__ import annotations

from blemish.errors import BlemishError
from blemish.methods.base import Method
from blemish.methods.draem import DRAEM
from blemish.methods.dsr import DSR
from blemish.methods.ssae import SSAE

METHODS: dict[str, type[Method]] = {method.name: method for method in (DRAEM, DSR, SSAE)}


def method_type(name: str) -> type[Method]:
    """The class of a method.

    Raises
    ------
    BlemishError
        If there is no such method.
    """
    if name not in METHODS:
        raise BlemishError(f"unknown method {name!r}; there are: {', '.join(METHODS)}")
    return METHODS[name]
