"""The Open Inference Protocol (V2) over HTTP."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from blemish.serve import v2
from blemish.serve.bodies import check_encoding, drain, read_body
from blemish.serve.jobs import Json, NotAPhotograph, TooLarge, UnknownProduct
from blemish.serve.line import Line
from blemish.serve.schemas import errors
from blemish.serve.service import Service


async def _check_version(request: Request) -> None:
    """Check that a version that is asked for is the one that judges."""
    product, version = request.path_params.get("product"), request.path_params.get("version")
    if product is None or version is None:
        return
    served = request.app.state.service.line(product).served.digest[: v2.VERSION_DIGITS]
    if version != served:
        raise UnknownProduct(f"{product}: has no version {version}; there is {served}")


router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], dependencies=[Depends(_check_version)])
_STATE: dict[int | str, dict[str, Any]] = {200: {"description": "Yes."}, 503: {"description": "No."}}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_INFER: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "JSON; after it, if the header says so, the files of the photographs, each after its length.",
        "content": {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": _BINARY},
    }
}
_INFER_RESPONSES: dict[int | str, dict[str, Any]] = {
    **errors(404, 408, 413, 415, 429, 503),
    200: {"content": {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": _BINARY}},
}


@router.get("", responses=errors())
async def server(request: Request) -> Json:
    """The server."""
    return {"name": "blemish", "version": request.app.version, "extensions": ["binary_tensor_data"]}


@router.get("/health/live", responses=_STATE)
async def live() -> Json:
    """Whether it runs."""
    return {"live": True}


@router.get("/health/ready", responses=_STATE)
async def ready(request: Request) -> JSONResponse:
    """Whether all products can be inspected."""
    service: Service = request.app.state.service
    is_ready = not service.faults()
    return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)


@router.get("/models/{product}", responses=errors(404))
@router.get("/models/{product}/versions/{version}", responses=errors(404), include_in_schema=False)
async def model(product: str, request: Request) -> Json:
    """What a product takes and gives."""
    service: Service = request.app.state.service
    return v2.metadata(product, service.line(product).served.digest)


@router.get("/models/{product}/ready", responses={**errors(404), **_STATE})
@router.get("/models/{product}/versions/{version}/ready", responses=errors(404), include_in_schema=False)
async def model_ready(product: str, request: Request) -> JSONResponse:
    """Whether a product can be inspected."""
    service: Service = request.app.state.service
    is_ready = service.product(product)["is_ready"]
    return JSONResponse({"name": product, "ready": is_ready}, 200 if is_ready else 503)


@router.post("/models/{product}/infer", responses=_INFER_RESPONSES, openapi_extra=_INFER)
@router.post("/models/{product}/versions/{version}/infer", include_in_schema=False)
async def infer(
    product: str, request: Request, inference_header_content_length: Annotated[str | None, Header()] = None
) -> Response:
    """Judge a batch of photographs: all are accepted, or none."""
    service: Service = request.app.state.service
    check_encoding(request)
    service.line(product)
    max_bytes = 2 * service.limits.max_bytes
    try:
        line = service.admit(product)  # one, before the body is read; the others when their number is known
    except Exception:
        await drain(request, max_bytes)
        raise
    n_places = 1
    try:
        body = await read_body(request, max_bytes, service.limits.body_s)
        asked = v2.read_request(body, inference_header_content_length)
        service.check_sizes(asked.contents)
        line.take_places(len(asked.contents) - 1)
        n_places = len(asked.contents)
    except ClientDisconnect:
        line.give_back(n_places)
        return Response(status_code=400)
    except BaseException:
        line.give_back(n_places)
        raise
    rows = await asyncio.gather(*(_row(service, line, content, asked) for content in asked.contents))
    content, n_json = v2.answer(product, asked, rows)
    if n_json is None:
        return Response(content, media_type="application/json")
    return Response(
        content, headers={"Inference-Header-Content-Length": str(n_json)}, media_type="application/octet-stream"
    )


async def _row(service: Service, line: Line, content: bytes, asked: v2.Request) -> Json:
    """The verdict on one of the photographs; also of one that cannot be decoded."""
    try:
        return await service.judge_admitted(line, content, part=asked.part, lot=asked.lot)
    except NotAPhotograph as error:
        return error.row
    except TooLarge as error:  # cannot happen: the sizes were checked
        raise RuntimeError(str(error)) from error
