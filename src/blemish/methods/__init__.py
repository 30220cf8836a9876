"""The methods, one paper each, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blemish.errors import BlemishError
from blemish.methods.base import Method
from blemish.methods.draem import DRAEM
from blemish.methods.dsr import DSR
from blemish.methods.ssae import SSAE

OWN_RECIPE = "own"
"""Of a run whose method its caller has built: its settings are those that its ``config.yaml`` holds."""
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


def build(
    method: str,
    recipe: str,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    codebook: str | Path | None = None,
) -> Method:
    """A method with the settings of a recipe, some of them replaced. Its weights are drawn from ``seed``."""
    kind = method_type(method)
    recipes = {**kind.recipes, OWN_RECIPE: kind.settings_type()}
    if recipe not in recipes:
        raise BlemishError(f"unknown recipe {recipe!r} of {method}; there are: {', '.join(kind.recipes)}")
    chosen, given = recipes[recipe], dict(settings or {})
    if given.get("iterations") and "epochs" not in given and hasattr(chosen, "epochs"):  # the two exclude each other
        given["epochs"] = None
    return kind.build(chosen.replaced({**given, "seed": seed}), codebook)
