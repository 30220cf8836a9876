"""Settings from ``--set NAME=VALUE``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from blemish.errors import BlemishError
from blemish.settings import with_value


def _number(text: str) -> Any:
    """A value as JSON reads it, else as YAML does: JSON knows that 1e-4 is a number."""
    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)


def assigned(settings: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Settings with ``name=value`` or ``group.name=value`` put in; values are read as YAML."""
    result = dict(settings)
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if name == "seed":
            raise BlemishError("--set seed: give --seed instead, which also draws what is held out")
        if not equals:
            raise BlemishError(f"--set {assignment}: should be name=value, as in --set iterations=500")
        result = with_value(result, name, _number(value))
    return result
