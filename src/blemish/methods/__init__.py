"""The methods by name; each implements one paper."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from blemish.errors import BlemishError
from blemish.methods.base import Method, Settings
from blemish.methods.draem import DRAEM
from blemish.methods.dsr import DSR
from blemish.methods.patchcore import PatchCore
from blemish.methods.ssae import SSAE
from blemish.settings import flat

OWN_RECIPE = "own"
"""Recipe name of a run whose caller has built the method; all its settings are in the run's ``config.yaml``."""
METHODS: dict[str, type[Method]] = {method.name: method for method in (DRAEM, DSR, SSAE, PatchCore)}

NOT_TRAINED = (
    "method combined: is not trained; train its parts, and join them: blemish combine A.blemish B.blemish --good DIR"
)
"""The mistake of who wants to train ``methods.combined.Combined``, which is not among ``METHODS``."""


def method_type(name: str) -> type[Method]:
    """The class of the method with this name.

    Raises
    ------
    BlemishError
        If there is no such method.
    """
    if name == "combined":
        raise BlemishError(NOT_TRAINED)
    if name not in METHODS:
        raise BlemishError(f"unknown method {name!r}; there are: {', '.join(METHODS)}")
    return METHODS[name]


def settings_of(method: str, recipe: str, seed: int = 0, settings: Mapping[str, Any] | None = None) -> Settings:
    """The settings of a recipe; ``settings`` override them. Builds no network.

    Raises
    ------
    BlemishError
        If there is no such method, recipe or setting, or a value is wrong.
    """
    kind = method_type(method)
    recipes = {**kind.recipes, OWN_RECIPE: kind.settings_type()}
    if recipe not in recipes:
        raise BlemishError(f"unknown recipe {recipe!r} of {method}; there are: {', '.join(kind.recipes)}")
    recipe_settings, overrides = recipes[recipe], dict(settings or {})
    if overrides.get("iterations") and "epochs" not in overrides and hasattr(recipe_settings, "epochs"):
        overrides["epochs"] = None  # iterations and epochs exclude each other
    return recipe_settings.replaced({**overrides, "seed": seed})


def changed_settings(method: str, recipe: str, settings: Settings, chosen: Collection[str] = ()) -> dict[str, Any]:
    """The settings that affect results and are not those of the recipe, by dotted name; none without a recipe.

    ``chosen`` are names of settings that training chose, which nobody has changed.
    """
    of_recipe = METHODS[method].recipes.get(recipe) if method in METHODS else None
    usual = dict(flat(of_recipe.result_settings())) if of_recipe is not None else {}
    return {
        name: value
        for name, value in flat(settings.result_settings())
        if name in usual and value not in (usual[name], None) and name not in (*chosen, "seed")
    }


def build(
    method: str,
    recipe: str,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    codebook: str | Path | None = None,
) -> Method:
    """A new method with ``settings_of`` these arguments. Its weights are drawn from ``seed``."""
    return method_type(method).build(settings_of(method, recipe, seed, settings), codebook)
