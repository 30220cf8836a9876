"""The HTTP interface of the service; its routes are in ``routes_*.py``, by subject."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from blemish.errors import BlemishError, NotNow
from blemish.serve import routes_events, routes_inspect, routes_products, routes_state, routes_v2, routes_verdicts
from blemish.serve.guard import Guard
from blemish.serve.jobs import Full, NotAPhotograph, Refused
from blemish.serve.page import Page, add_page
from blemish.serve.service import Service

DESCRIPTION = """A photograph in, a verdict out. Every photograph that is accepted has a row in the record before it
is answered. Errors are JSON with one line: `{"error": "..."}`."""


def create_app(service: Service, token: str | None = None, hosts: Collection[str] | None = None) -> FastAPI:
    """Make the interface of a service that runs.

    Parameters
    ----------
    token : that who uses it has to send; None lets everybody through.
    hosts : names by which it may be called; None is any.
    """
    app = FastAPI(
        title="blemish", description=DESCRIPTION, version=_version(), docs_url=None, redoc_url=None,
        redirect_slashes=False,
    )  # fmt: skip
    app.state.service, app.state.token = service, token
    app.add_middleware(Guard, token=token, hosts=hosts)
    for routes in (routes_inspect, routes_verdicts, routes_products, routes_events, routes_state, routes_v2):
        app.include_router(routes.router, dependencies=[Depends(_check_query)])
    app.state.page = add_page(app, service, token)
    app.add_exception_handler(BlemishError, _on_mistake)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_fault)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("blemish")
    except PackageNotFoundError:
        return "0"


async def _check_query(request: Request) -> None:
    """Check that a path takes all parameters of the query, each once: one that is misspelt would have no effect."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise Refused(f"{name}: is no parameter here; there are {', '.join(known) or 'none'}")
        if len(request.query_params.getlist(name)) > 1:
            raise Refused(f"{name}: is given more than once")


def error(request: Request, line: str, status: int, headers: dict[str, str] | None = None, **more: Any) -> Response:
    """An error as the interface tells it; a browser that goes to an address gets a page."""
    line = " ".join(line.split())
    if "text/html" in request.headers.get("accept", ""):
        page: Page = request.app.state.page
        response = page.refuse(status, line).response
        response.headers.update({**(headers or {}), **({"Refresh": "5"} if status == 503 else {})})
        return response
    return JSONResponse({**more, "error": line}, status, headers)


async def _on_mistake(request: Request, mistake: Exception) -> Response:
    """Tell what the service says in one line."""
    if isinstance(mistake, Refused):
        request.app.state.service.metrics.refused.labels(mistake.status).inc()
    if isinstance(mistake, Full):
        return error(request, str(mistake), mistake.status, {"Retry-After": str(mistake.retry_after_s)})
    if isinstance(mistake, NotAPhotograph):
        return error(request, str(mistake), mistake.status, **mistake.row)
    status = mistake.status if isinstance(mistake, Refused) else 503 if isinstance(mistake, NotNow) else 400
    return error(request, str(mistake), status, {"Retry-After": "2"} if status == 503 else None)


async def _on_invalid(request: Request, invalid: Exception) -> Response:
    """Tell which parameter is wrong."""
    assert isinstance(invalid, RequestValidationError)
    first = invalid.errors()[0]
    if first["type"] == "model_attributes_type" and len(first["loc"]) == 1:
        return error(request, "the body: should be a JSON object, with Content-Type: application/json", 400)
    if first["type"] == "json_invalid":
        return error(request, f"the body is no valid JSON ({first['ctx']['error']})", 400)
    where = ".".join(str(part) for part in first["loc"][1:]) or f"the {first['loc'][0]}"
    fault = "is not known here" if first["type"] == "extra_forbidden" else first["msg"]
    return error(request, f"{where}: {fault}", 400)


async def _on_http_error(request: Request, failure: Exception) -> Response:
    assert isinstance(failure, HTTPException)
    if failure.status_code == 405:
        failure.headers = {**(failure.headers or {}), "Allow": ", ".join(_allowed(request))}
    line = f"{request.url.path}: {failure.detail}" if failure.status_code in (404, 405) else str(failure.detail)
    return error(request, line, failure.status_code, dict(failure.headers or {}))


def _allowed(request: Request) -> list[str]:
    """The methods of a path: the router names those of the first route only."""
    paths: dict[str, Any] = request.app.openapi()["paths"]
    found = (each for path, each in paths.items() if re.fullmatch(re.sub(r"{\w+}", "[^/]+", path), request.url.path))
    return sorted({method.upper() for each in found for method in each})


async def _on_fault(request: Request, fault: Exception) -> Response:
    return error(request, f"fault of blemish: {type(fault).__name__}; its log says more", 500)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The description of the interface, true to its errors: a parameter that is wrong is 400, never 422."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for methods in schema["paths"].values():
            for operation in methods.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            schema.get("components", {}).get("schemas", {}).pop(name, None)
        if app.state.token is not None:
            bearer = {"type": "http", "scheme": "bearer"}
            schema["components"]["securitySchemes"] = {"token": bearer}
            schema["security"] = [{"token": []}]
        app.openapi_schema = schema
    return app.openapi_schema
