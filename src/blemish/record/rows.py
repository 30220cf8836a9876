"""What goes into the record, a new verdict, and what comes out: the JSON of verdicts, reviews and events."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

Verdict = Literal["good", "defective", "unlike", "not_inspected"]
VERDICTS: tuple[Verdict, ...] = ("good", "defective", "unlike", "not_inspected")
Json = dict[str, Any]
PRODUCT_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
"""Names of products: also parts of paths, addresses and topics."""


@dataclass(frozen=True, kw_only=True)
class NewVerdict:
    """A verdict that is to be recorded; None is what is not known."""

    product: str
    verdict: Verdict
    time: float = field(default_factory=time.time)
    """When it was judged, s since 1970, UTC."""
    source: str | None = None
    """Where the photograph came from: ``http``, a folder, the address of a camera."""
    name: str | None = None
    """Of the photograph: a file name or path."""
    part: str | None = None
    lot: str | None = None
    reason: str | None = None
    """Why it was not inspected, or is unlike the good images."""
    score: float | None = None
    threshold: float | None = None
    is_defective: bool | None = None
    regions: list[Json] = field(default_factory=list)
    """Of a defective one, as in ``Finding.row``: ``bbox_xyxy``, ``area_px``, ``peak``."""
    unlike: list[str] = field(default_factory=list)
    detector: str | None = None
    """SHA-256 of the detector's file, hex."""
    photograph: str | None = None
    """SHA-256 of the photograph's bytes, hex."""
    width: int | None = None
    height: int | None = None
    ms: float | None = None
    """From the arrival of the photograph to its verdict."""
    image: str | None = None
    """File of the photograph, relative to the storage."""
    overlay: str | None = None
    """File of the overlay, relative to the storage."""
    n_bytes: int | None = None
    """Size of the photograph as sent."""
    key: str = field(default_factory=lambda: uuid4().hex)
    """By which it is recognized: a verdict that is added again is not recorded twice."""

    def row(self, storage: str | None) -> Json:
        """The columns of ``tables.verdicts``; text and numbers that a database does not take are mended."""
        values = {item.name: storable(getattr(self, item.name)) for item in fields(self)}
        values |= {name: short(values[name]) for name in ("product", "part", "lot")}
        return values | {"storage": storage if self.image or self.overlay else None}


@dataclass(frozen=True)
class Message:
    """Something that an output has to deliver."""

    id: int
    output: str
    kind: Literal["verdict", "event"]
    payload: Json
    """The JSON of the verdict or event."""
    attempts: int
    """How often it has been tried."""


def storable(value: Any) -> Any:
    """A value as every database takes it: no NUL characters, no halves of characters, no numbers that are none."""
    if isinstance(value, str):
        return value.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(storable(key)): storable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [storable(item) for item in value]
    return storable(value.item()) if hasattr(value, "item") else storable(str(value))  # a number of NumPy's; a path


def short(text: str | None) -> str | None:
    """The beginning of a text, as long as an index takes: 500 characters."""
    return None if text is None else storable(text)[:500]


def iso(time_s: float) -> str:
    """A time (s since 1970) as ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds")


def verdict_json(row: Mapping[Any, Any], review: Json | None) -> Json:
    """The JSON of a verdict: the same over HTTP, MQTT and webhooks.

    Parameters
    ----------
    row : of ``tables.verdicts``.
    review : the JSON of the newest review.
    """
    has_size = row["width"] is not None and row["height"] is not None
    return {
        "id": row["id"],
        "time": iso(row["time"]),
        "product": row["product"],
        "part": row["part"],
        "lot": row["lot"],
        "name": row["name"],
        "source": row["source"],
        "verdict": row["verdict"],
        "reason": row["reason"],
        "score": row["score"],
        "threshold": row["threshold"],
        "is_defective": row["is_defective"],
        "regions": row["regions"],
        "unlike": row["unlike"],
        "detector": row["detector"],
        "photograph": row["photograph"],
        "size_wh": [row["width"], row["height"]] if has_size else None,
        "ms": row["ms"],
        "has_image": row["image"] is not None,
        "has_overlay": row["overlay"] is not None,
        "review": review,
    }


def review_json(row: Mapping[Any, Any]) -> Json:
    """The JSON of a review."""
    return {
        "is_defective": row["is_defective"],
        "by": row["by"],
        "note": row["note"],
        "time": iso(row["time"]),
    }


def event_json(row: Mapping[Any, Any]) -> Json:
    """The JSON of an event."""
    return {
        "id": row["id"],
        "time": iso(row["time"]),
        "product": row["product"],
        "kind": row["kind"],
        "text": row["text"],
        "details": row["details"],
    }
