"""A photograph in, its verdict out."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.requests import ClientDisconnect

from blemish.serve.bodies import IMAGE_TYPES, check_image_type, drain, read_body
from blemish.serve.jobs import Full, Json, NotReady
from blemish.serve.schemas import Error, Name, NotDecoded, Verdict, errors
from blemish.serve.service import Service

router = APIRouter(tags=["inspect"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file of a photograph, as it is.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in IMAGE_TYPES},
    }
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    **errors(404, 408, 413, 415, 429, 503),
    200: {"model": Verdict, "description": "The verdict; its row is written."},
    400: {"model": NotDecoded | Error, "description": "Cannot be decoded, its row is written; or a wrong parameter."},
    413: {"model": NotDecoded | Error, "description": "Too many bytes or pixels."},
}


def as_response(row: Json) -> Response:
    """A verdict as an answer."""
    return Response(json.dumps(row, separators=(",", ":")), media_type="application/json")


@router.post("/products/{product}/inspect", responses=_RESPONSES, openapi_extra=_BODY)
async def inspect(
    product: str, request: Request, part: Name | None = None, lot: Name | None = None, name: Name | None = None
) -> Response:
    """Judge a photograph, the body of the request.

    It is answered when its verdict is in the record. One that is not judged by the deadline is answered as
    `not_inspected`.
    """
    service: Service = request.app.state.service
    check_image_type(request)
    try:
        line = service.admit(product)
    except (Full, NotReady):
        await drain(request, service.limits.max_bytes)
        raise
    try:
        content = await read_body(request, service.limits.max_bytes, service.limits.body_s)
    except ClientDisconnect:
        line.give_back()
        return Response(status_code=400)
    except BaseException:
        line.give_back()
        raise
    return as_response(await service.judge_admitted(line, content, part=part, lot=lot, name=name))
