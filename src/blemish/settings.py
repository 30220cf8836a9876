"""Frozen dataclasses of settings that come from YAML, JSON or a command line: checked when they are made."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from blemish.errors import BlemishError

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bf16"]


@dataclass(frozen=True)
class CheckedSettings:
    """A frozen dataclass whose values are of the types it declares; lists become tuples, mappings nested settings.

    Raises
    ------
    BlemishError
        On a value of another type: names the setting and what it may be.
    """

    noun: ClassVar[str] = "setting"
    """What errors call a value."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for one in fields(self):
            value, hint = getattr(self, one.name), hints[one.name]
            if isinstance(value, list):  # JSON and YAML know no tuples
                value = tuple(value)
            if isinstance(value, Mapping) and isinstance(hint, type) and issubclass(hint, CheckedSettings):
                value = hint.from_dict(value)
            if hint is float and isinstance(value, str):  # YAML reads 1e-4 as text
                with suppress(ValueError):
                    value = float(value)
            if isinstance(value, str) and Path in (hint, *get_args(hint)):
                value = Path(value)
            object.__setattr__(self, one.name, value)
            if not _fits(value, hint):
                raise BlemishError(f"{self.noun} {one.name}: {value!r} should be {_spoken(hint)}")

    def check_range(self, *names: str, least: float, most: float = math.inf) -> None:
        """Refuse settings (each value of a tuple) that are below ``least``, above ``most``, or no number."""
        for name in names:
            value = getattr(self, name)
            if not all(least <= one <= most for one in (value if isinstance(value, tuple) else (value,))):
                limits = f"at least {least:g}" if most == math.inf else f"in [{least:g}, {most:g}]"
                raise BlemishError(f"setting {name}: {value} should be {limits}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Settings from names and values; an unknown name is told with the known ones."""
        known = [one.name for one in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise BlemishError(f"unknown {cls.noun} {', '.join(unknown)}; {cls.__name__} has: {', '.join(known)}")
        return cls(**values)

    def replaced(self, values: Mapping[str, Any]) -> Self:
        """A copy with some values replaced; a mapping for nested settings replaces some of theirs."""
        new = {one.name: getattr(self, one.name) for one in fields(self)}
        for name, value in values.items():
            inner = new.get(name)
            new[name] = (
                inner.replaced(value) if isinstance(inner, CheckedSettings) and isinstance(value, Mapping) else value
            )
        return self.from_dict(new)


def with_value(settings: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """A copy of nested names and values with one of them set: ``with_value({}, "anomalies.shape", "perlin")``."""
    first, dot, rest = name.partition(".")
    inner = settings.get(first)
    return {**settings, first: with_value(inner if isinstance(inner, Mapping) else {}, rest, value) if dot else value}


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin is Mapping:
        return isinstance(value, Mapping)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(one, arguments[0]) for one in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _spoken(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    return str(getattr(hint, "__name__", hint)) if get_origin(hint) is None else str(hint)
