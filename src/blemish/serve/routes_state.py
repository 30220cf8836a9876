"""How the service goes."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from blemish.serve.metrics import CONTENT_TYPE
from blemish.serve.schemas import Health
from blemish.serve.service import Service

router = APIRouter(tags=["state"])


@router.get("/health", responses={200: {"model": Health}, 503: {"model": Health}})
def health(request: Request) -> JSONResponse:
    """How it goes; 503 if it is not ready."""
    service: Service = request.app.state.service
    state = service.health()
    return JSONResponse(state, 200 if state["is_ready"] else 503)


@router.get("/metrics", responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}})
def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)
