"""The settings of a recipe are those of the network that is built from it."""

from __future__ import annotations

from typing import Any

import pytest

from blemish.errors import BlemishError
from blemish.methods import build, changed_settings, settings_of


@pytest.mark.parametrize(
    ("method", "recipe", "settings"),
    [
        ("draem", "small", {"iterations": 7, "anomalies": {"probability": 0.25}}),
        ("draem", "own", {"iterations": 7, "reconstructive_widths": [4, 4], "discriminative_widths": [4, 4]}),
        ("dsr", "small", {}),
        ("ssae", "small", {"widths": [4, 6, 8]}),
    ],
)
def test_settings_without_a_network_are_those_with_one(method: str, recipe: str, settings: dict[str, Any]) -> None:
    expected = build(method, recipe, 3, settings).settings
    assert settings_of(method, recipe, 3, settings) == expected
    assert expected.seed == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("dream", "small"), "unknown method 'dream'"),
        (("draem", "quick"), "unknown recipe 'quick' of draem; there are: paper"),
        (("draem", "small", 0, {"sise": 1}), "unknown setting sise"),
    ],
)
def test_mistakes_are_told(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(BlemishError, match=message):
        settings_of(*arguments)


def test_only_settings_that_are_not_the_recipes_and_change_results_are_named() -> None:
    settings = settings_of(
        "draem", "small", 3, {"iterations": 7, "cuda_graphs": False, "anomalies": {"probability": 0.1}}
    )
    assert changed_settings("draem", "small", settings) == {"iterations": 7, "anomalies.probability": 0.1}
    assert changed_settings("draem", "small", settings, ("iterations",)) == {"anomalies.probability": 0.1}
    assert changed_settings("draem", "unknown", settings) == {}
