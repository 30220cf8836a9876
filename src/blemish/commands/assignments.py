"""Settings from ``--set NAME=VALUE``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from blemish.errors import BlemishError
from blemish.settings import with_value


def parsed(text: str) -> Any:
    """Read a value as JSON, or as YAML if it is not JSON. YAML alone would read 1e-4 as text."""
    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)


def assigned(settings: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Copy settings and set each ``name=value`` or ``group.name=value``; values are JSON or YAML."""
    changed = dict(settings)
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if name == "seed":
            raise BlemishError("--set seed: use --seed instead, which also selects the images that are held out")
        if not equals:
            raise BlemishError(f"--set {assignment}: should be name=value, as in --set iterations=500")
        changed = with_value(changed, name, parsed(value))
    return changed
