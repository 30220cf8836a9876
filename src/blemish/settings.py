"""Frozen dataclasses of settings from YAML, JSON or the command line; the values are checked on construction."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from blemish.errors import BlemishError

Device = Literal["auto", "cpu", "cuda"]
Resizing = Literal["area", "bilinear"]
"""How photographs become what the network sees; see ``data.loading.resize``."""
Precision = Literal["auto", "float32", "bf16"]
MIN_SIDE_PX = 8
"""Images with a shorter side are refused."""


@dataclass(frozen=True)
class CheckedSettings:
    """A frozen dataclass that checks its values against the declared types.

    Lists become tuples, and mappings become nested settings.

    Raises
    ------
    BlemishError
        If a value has another type. The message names the setting and the allowed values.
    """

    noun: ClassVar[str] = "setting"
    """The word for a field in error messages."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in fields(self):
            value, hint = getattr(self, field.name), hints[field.name]
            if isinstance(value, list):  # JSON and YAML have no tuples
                value = tuple(value)
            if isinstance(value, Mapping) and isinstance(hint, type) and issubclass(hint, CheckedSettings):
                value = hint.from_dict(value)
            if hint is float and isinstance(value, str):  # YAML reads 1e-4 as text
                with suppress(ValueError):
                    value = float(value)
            if isinstance(value, str) and Path in (hint, *get_args(hint)) and not _has_type(value, hint):
                value = Path(value)
            object.__setattr__(self, field.name, value)
            if not _has_type(value, hint):
                raise BlemishError(f"{self.noun} {field.name}: {value!r} should be {_type_text(hint)}")
            if isinstance(value, int) and abs(value) >= 2**62:  # no generator of random numbers takes more
                raise BlemishError(f"{self.noun} {field.name}: {value} is too large")

    def check_range(
        self, *names: str, least: float | None = None, above: float | None = None, most: float = math.inf
    ) -> None:
        """Raise BlemishError if a setting is below ``least``, not above ``above``, above ``most``, infinite or NaN.

        Of a tuple, all values count. One of ``least`` and ``above`` is given.
        """
        lowest = least if above is None else math.nextafter(above, math.inf)
        assert lowest is not None
        limits = f"at least {least:g}" if above is None else f"above {above:g}"
        if most != math.inf:
            limits = f"in [{least:g}, {most:g}]" if above is None else f"{limits}, at most {most:g}"
        for name in names:
            value = getattr(self, name)
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(lowest <= number <= most and math.isfinite(number) for number in numbers):
                raise BlemishError(f"{self.noun} {name}: {value} should be {limits}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Settings from names and values. For an unknown name, the error lists the known ones."""
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise BlemishError(f"unknown {cls.noun} {', '.join(unknown)}; {cls.__name__} has: {', '.join(known)}")
        return cls(**values)

    def replaced(self, values: Mapping[str, Any]) -> Self:
        """A copy with the named values replaced. A mapping replaces only the named values of nested settings."""
        new = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            old = new.get(name)
            new[name] = (
                old.replaced(value) if isinstance(old, CheckedSettings) and isinstance(value, Mapping) else value
            )
        return self.from_dict(new)


def with_value(settings: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
    """A copy of nested settings with one value set by its dotted name.

    ``with_value({}, "anomalies.shape", "perlin")`` returns ``{"anomalies": {"shape": "perlin"}}``.
    """
    first, dot, rest = name.partition(".")
    old = settings.get(first)
    return {**settings, first: with_value(old if isinstance(old, Mapping) else {}, rest, value) if dot else value}


def _has_type(value: Any, hint: Any) -> bool:
    """Whether a value has the type of a type hint; an int is accepted as a float, a bool never as a number."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(_has_type(value, member) for member in arguments)
    if origin is Mapping:
        return isinstance(value, Mapping)
    if origin is tuple:
        return isinstance(value, tuple) and all(_has_type(item, arguments[0]) for item in value)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", Path: "a path"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def _type_text(hint: Any) -> str:
    """A type hint in the words of error messages."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join("null" if member is type(None) else _type_text(member) for member in arguments)
    if origin is tuple:
        return f"a list of {_PLURALS.get(arguments[0], 'values')}, in brackets, such as [1, 2]"
    return _WORDS.get(hint, "a group of settings")


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted names and values, such as ``anomalies.shape``."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
