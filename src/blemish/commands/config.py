"""Options and settings from a YAML file and from ``--set``."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from blemish.errors import BlemishError
from blemish.learning.fit import fit
from blemish.settings import with_value


def read_config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BlemishError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from error
    known = set(inspect.signature(fit).parameters) - {"out", "resume", "tensorboard", "reporter"}
    if not isinstance(content, dict) or not isinstance(content.get("settings") or {}, dict):
        raise BlemishError(f"{path}: should hold options like `recipe: small`, one a line")
    if unknown := sorted(map(str, set(content) - known)):
        raise BlemishError(f"{path}: unknown option {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    if isinstance(content.get("false_rejects"), str):  # YAML reads 1e-2 as text
        content["false_rejects"] = _number(content["false_rejects"])
    return content


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
