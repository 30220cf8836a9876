"""The record: verdicts, their pictures, and what people say of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import FileResponse
from pydantic import BeforeValidator

from blemish.data.kinds import PREFIX_BYTES, kind_of_bytes
from blemish.serve.jobs import Json
from blemish.serve.schemas import (
    MAX_ID,
    Name,
    NewReview,
    Review,
    VerdictId,
    VerdictName,
    Verdicts,
    VerdictWithReviews,
    errors,
)
from blemish.serve.service import Service

router = APIRouter(tags=["verdicts"])
MOST_ROWS = 1000
_PICTURE: dict[int | str, dict[str, Any]] = {
    **errors(404),
    200: {"content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
}


def _no_number(value: Any) -> Any:
    """A time is ISO 8601; seconds since 1970 and milliseconds could be mistaken for each other."""
    if not isinstance(value, str) or re.fullmatch(r"\s*[-+]?[\d.]+(e[-+]?\d+)?\s*", value, re.IGNORECASE):
        raise ValueError("should be a date and time, such as 2026-11-29T08:00:00Z")
    return re.sub(r"(?<=\d) (?=\d\d:\d\d$)", "+", value) if "T" in value else value  # a + in a query is a space


Time = Annotated[datetime, BeforeValidator(_no_number)]


def seconds(when: datetime | None) -> float | None:
    """A time as s since 1970; one without a zone is UTC."""
    if when is None:
        return None
    return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()


@router.get("/verdicts", responses={**errors(), 200: {"model": Verdicts}})
def verdicts(
    request: Request,
    product: Name | None = None,
    since: Time | None = None,
    until: Time | None = None,
    verdict: VerdictName | None = None,
    reviewed: bool | None = None,
    part: Name | None = None,
    lot: Name | None = None,
    cursor: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_ROWS)] = 50,
    order: Literal["newest", "oldest"] = "newest",
) -> Json:
    """A page of verdicts. `cursor` of the answer asks for the next page; it is null at the end."""
    service: Service = request.app.state.service
    rows, following = service.record.verdicts(
        product=product, since=seconds(since), until=seconds(until), verdict=verdict, reviewed=reviewed, part=part,
        lot=lot, cursor=cursor, limit=limit, newest_first=order == "newest",
    )  # fmt: skip
    return {"verdicts": rows, "cursor": following}


@router.get("/verdicts/{number}", responses={**errors(404), 200: {"model": VerdictWithReviews}})
def verdict(number: VerdictId, request: Request) -> Json:
    """A verdict with all its reviews."""
    service: Service = request.app.state.service
    row = service.record.verdict(number)
    if row is None:
        raise _unknown(number)
    return row


@router.get("/verdicts/{number}/image", responses=_PICTURE, response_class=FileResponse)
def image(number: VerdictId, request: Request) -> FileResponse:
    """The photograph, as it was sent."""
    return _picture(number, request, "image")


@router.get("/verdicts/{number}/overlay", responses=_PICTURE, response_class=FileResponse)
def overlay(number: VerdictId, request: Request) -> FileResponse:
    """The photograph with its outlines."""
    return _picture(number, request, "overlay")


@router.post("/verdicts/{number}/review", responses={**errors(404, 415), 200: {"model": Review}})
def review(number: VerdictId, new: NewReview, request: Request) -> Json:
    """Say whether a part is defective. All reviews are kept; the newest counts."""
    service: Service = request.app.state.service
    try:
        return service.review(number, new.is_defective, new.by, new.note)
    except LookupError as error:
        raise _unknown(number) from error


def _unknown(number: int) -> HTTPException:
    return HTTPException(404, f"there is no verdict {number}")


def _picture(number: int, request: Request, kind: Literal["image", "overlay"]) -> FileResponse:
    """A file of a verdict."""
    service: Service = request.app.state.service
    pictures = service.record.pictures(number)
    if pictures is None:
        raise _unknown(number)
    path = service.storage.path(getattr(pictures, kind))
    if path is None:
        raise HTTPException(404, f"verdict {number} has no {kind}, or it is not kept any more")
    return FileResponse(path, media_type=_media_type(path), headers={"X-Content-Type-Options": "nosniff"})


def _media_type(path: Path) -> str:
    """The type of a picture by its first bytes: what was sent may be anything, and must not run in a browser."""
    with path.open("rb") as file:
        kind = kind_of_bytes(file.read(PREFIX_BYTES))
    if "overlay" in kind.name:
        return "image/jpeg"
    return f"image/{kind.name.lower()}" if kind.is_readable else "application/octet-stream"
