"""Framings by name: as a detector's file holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from blemish.errors import BlemishError
from blemish.inspection.framing import Framing, Tiles, Whole
from blemish.inspection.region import RegionOfInterest

KINDS: dict[str, type[Framing]] = {"whole": Whole, "tiles": Tiles, "region": RegionOfInterest}


def describe(framing: Framing) -> dict[str, Any]:
    """Return a description of the framing for JSON."""
    name = next(name for name, framing_type in KINDS.items() if framing_type is type(framing))
    values = {field.name: getattr(framing, field.name) for field in fields(framing)}  # type: ignore[arg-type]
    return {"kind": name} | {
        name: describe(value) if isinstance(value, Framing) else value for name, value in values.items()
    }


def from_description(description: Mapping[str, Any]) -> Framing:
    """Return the framing that ``describe`` described.

    Raises
    ------
    BlemishError
        If the kind of framing is unknown to this version.
    """
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in description.items()
    }
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise BlemishError(f"framing {kind!r} is unknown; there are: {', '.join(KINDS)}")
    if "size_px" in values:  # files of before: squares only
        values["size_hw"] = (values.pop("size_px"),) * 2
    if "inner" in values:
        values["inner"] = from_description(values["inner"])
    return KINDS[kind](**values)
