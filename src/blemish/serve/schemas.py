"""The JSON that goes in and out, for the description of the interface (OpenAPI); answers are not checked by it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(max_length=200)]
VerdictName = Literal["good", "defective", "unlike", "not_inspected"]
MAX_ID = 2**63 - 1
VerdictId = Annotated[int, Field(ge=1, le=MAX_ID)]


class Error(BaseModel):
    """Every error is one line."""

    error: str


class Review(BaseModel):
    """What a person said of a part."""

    is_defective: bool
    by: str | None
    note: str | None
    time: str


class Region(BaseModel):
    """A blemish: box (right and bottom exclusive) and area, px; the largest value of the map in it."""

    bbox_xyxy: list[int]
    area_px: int
    peak: float


class Verdict(BaseModel):
    """The verdict on a photograph."""

    id: int
    time: str
    product: str
    part: str | None
    lot: str | None
    name: str | None
    source: str | None
    verdict: VerdictName
    reason: str | None
    score: float | None
    threshold: float | None
    is_defective: bool | None
    regions: list[Region]
    unlike: list[str]
    detector: str | None
    photograph: str | None
    size_wh: list[int] | None
    ms: float | None
    has_image: bool
    has_overlay: bool
    review: Review | None


class VerdictWithReviews(Verdict):
    """A verdict with all reviews, newest first."""

    reviews: list[Review]


class NotDecoded(Verdict):
    """A photograph that was accepted, but cannot be decoded: its row, and the reason once more."""

    error: str


class Verdicts(BaseModel):
    """A page of verdicts; ``cursor`` asks for the next one, null at the end."""

    verdicts: list[Verdict]
    cursor: int | None


class NewReview(BaseModel):
    """What a person says of a part."""

    model_config = ConfigDict(extra="forbid")

    is_defective: Annotated[bool, Field(strict=True)]
    by: Name | None = None
    note: Annotated[str, StringConstraints(max_length=4000)] | None = None


class Drift(BaseModel):
    """A chart for drift: it alarms while the statistic is above the limit, and until it is back at zero."""

    kind: str
    statistic: float
    limit: float
    alarm: bool
    since: int | None
    text: str


class Product(BaseModel):
    """What is served of a product."""

    name: str
    method: str
    detector: str
    threshold: float
    promise: str
    false_reject_rate: float | None
    min_area_px: int
    bits: int | None
    keep_days: float | None
    size_wh: list[int]
    is_ready: bool
    waiting: int
    places: int
    drift: list[Drift]


class Products(BaseModel):
    """All products."""

    products: list[Product]


class Removed(BaseModel):
    """A product that is served no more."""

    removed: str


class ProductChange(BaseModel):
    """What is to change of a product; what is not given stays. A new product needs a detector.

    ``detector`` is the SHA-256 of one that was served before, or the path of a file on the machine of the service.
    ``keep_days`` is for the pictures of this product; 0 keeps them as those of other products.
    ``by`` is who wants it, for the log.
    """

    model_config = ConfigDict(extra="forbid")

    detector: Annotated[str, StringConstraints(min_length=1, max_length=4000)] | None = None
    threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    min_area_px: Annotated[int, Field(ge=0, le=2**31)] | None = None
    bits: Literal[8, 10, 12, 14, 16] | None = None
    keep_days: Annotated[float, Field(ge=0, le=100_000)] | None = None
    by: Name | None = None


class RecalibrationOrder(BaseModel):
    """``dry_run`` only tells. ``threshold`` is what a dry run told: if it is another by now, nothing is taken.
    ``by`` is who wants it, for the log."""

    model_config = ConfigDict(extra="forbid")

    false_rejects: Annotated[float, Field(gt=0, lt=1)] | None = None
    dry_run: Annotated[bool, Field(strict=True)] = True
    threshold: float | None = None
    by: Name | None = None


class ChangedVerdict(BaseModel):
    """A part of late that would have another verdict."""

    id: int
    part: str | None
    score: float
    verdict: VerdictName
    would_be: VerdictName


class Recalibrated(BaseModel):
    """A new threshold, what it promises, and what it changes."""

    threshold: float
    threshold_before: float
    n_good: int
    n_held_out: int
    n_reviewed: int
    n_left_out: int
    promised_false_rejects: float | None
    promise: str
    changed: list[ChangedVerdict]
    missed: list[int]
    taken: bool
    detector: str


class Health(BaseModel):
    """How the service goes; ``faults`` say why it is not ready."""

    model_config = ConfigDict(extra="allow")

    is_ready: bool
    faults: list[str]
    running_s: float
    waiting: int
    not_yet_written: int


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for its description; those that every route may give are included."""
    return {status: {"model": Error} for status in sorted({400, 401, *statuses})}
