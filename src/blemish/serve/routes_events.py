"""What happens, as it happens: server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from blemish.serve.schemas import Name, errors
from blemish.serve.service import Service

router = APIRouter(tags=["events"])
MOST_MISSED = 1000
"""Verdicts that are sent again to who was away."""
_RESPONSES: dict[int | str, dict[str, Any]] = {
    **errors(),
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
}


@router.get("/events", responses=_RESPONSES, response_class=Response)
async def events(
    request: Request,
    product: Annotated[Name | None, Query(description="Only verdicts and events of this product.")] = None,
    last_event_id: Annotated[str | None, Header(description="The last verdict that was seen.")] = None,
) -> EventSourceResponse:
    """Verdicts, reviews and events as they come, without end.

    The name of each is `verdict`, `review` or `event`, its data the JSON. The id of verdicts is their own: a browser
    that comes back sends it, and gets what it has missed.
    """
    service: Service = request.app.state.service
    seen = int(last_event_id) if last_event_id is not None and last_event_id.isdecimal() else None
    return EventSourceResponse(_stream(service, product, seen), ping=15)


async def _stream(service: Service, product: str | None, seen: int | None) -> AsyncIterator[ServerSentEvent]:
    """Events in the form of the protocol."""
    with service.feed.read() as happenings:
        if seen is not None and seen < 2**63:
            missed, _ = await run_in_threadpool(
                service.record.verdicts, product=product, cursor=seen, limit=MOST_MISSED, newest_first=False
            )
            for row in missed:
                seen = row["id"]
                yield ServerSentEvent(json.dumps(row), event="verdict", id=str(row["id"]))
        async for happening in happenings:
            if product is not None and happening.product not in (None, product):
                continue
            is_verdict = happening.kind == "verdict"
            if is_verdict and seen is not None and happening.content["id"] <= seen:
                continue
            number = str(happening.content["id"]) if is_verdict else None
            yield ServerSentEvent(json.dumps(happening.content), event=happening.kind, id=number)
