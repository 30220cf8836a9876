"""The operator's page: made by the server, without a build, and without anything from elsewhere."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import jinja2
from fastapi import APIRouter, Depends, FastAPI, Form, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from blemish.detector import Detector
from blemish.serve import login, views
from blemish.serve.guard import COOKIE, cookie_value, is_token
from blemish.serve.jobs import UnknownProduct
from blemish.serve.page_pictures import Files, Pictures
from blemish.serve.service import Service

FOLDER = Path(__file__).parent
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of each page: nothing but its own files is loaded or run, and no other site can show it in a frame."""

NAME_COOKIE = "blemish_name"
COOKIE_S = 90 * 86400
"""A screen on the wall is not logged out in the middle of a shift."""
WRONG_TOKEN_S = 0.5
"""A wrong token is answered so late, so that few can be tried."""


class Answered(Exception):
    """A request ends with this response."""

    def __init__(self, response: Response) -> None:
        self.response = response


class Page:
    """What all routes of the page share.

    Parameters
    ----------
    service : what is shown; a ``service.Service``.
    token : who gives it may see the page; None shows it to this machine alone.
    """

    def __init__(self, service: Service, token: str | None) -> None:
        self.service, self.token = service, token
        self.record = service.record
        self.pictures = Pictures(self._files)
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(FOLDER / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"clock": views.clock, "moment": views.moment, "span": views.span}
        self._templates.globals |= {
            "words": views.WORDS, "short_words": views.SHORT_WORDS, "has_token": token is not None,
        }  # fmt: skip

    def markup(self, template: str, **values: Any) -> str:
        """A template with its values, as text."""
        now_s = time.time()
        offset = views.local(now_s).utcoffset()
        common = {
            "now": round(now_s, 3), "offset": 0 if offset is None else offset.total_seconds(), "zone": views.zone(),
            "menu": True, "here": "", "message": "", "error": "",
        }  # fmt: skip
        return self._templates.get_template(template).render(common | values)

    def show(self, template: str, status: int = 200, **values: Any) -> Response:
        """A page."""
        return HTMLResponse(self.markup(template, **values), status, HEADERS)

    def refuse(self, status: int, text: str, *, menu: bool = True) -> Answered:
        """An error as a page, to be raised."""
        title = HTTPStatus(status).phrase.capitalize()
        return Answered(self.show("error.html", status, title=title, text=text, menu=menu))

    def go(self, address: str, **query: str) -> Response:
        """Lead the browser to an address of the page, with GET."""
        more = urlencode({key: value for key, value in query.items() if value})
        joined = address + ("&" if "?" in address else "?") * bool(more) + more
        return RedirectResponse(joined, 303, HEADERS)

    def check(self, request: Request) -> None:
        """Act only on what a page of this service sent, not on what another site lets a browser send.

        Raises
        ------
        Answered
            With a refusal.
        """
        if request.method != "GET" and not login.is_own_request(request.headers):
            raise self.refuse(403, "This was not sent by a page of this service.")

    def set_cookie(self, request: Request, response: Response, name: str, value: str) -> None:
        """Let a browser keep a value, which no script and no other site can use."""
        is_secure = request.url.scheme == "https"
        response.set_cookie(name, value, max_age=COOKIE_S, httponly=True, samesite="strict", secure=is_secure)

    def name_of(self, request: Request) -> str | None:
        """The name that somebody gave with a review in this browser; None if nobody has."""
        return views.unquoted(request.cookies.get(NAME_COOKIE, "")) or None

    def detector_of(self, product: str) -> Detector | None:
        """The detector that a product is judged by now; None if it is not served any more."""
        try:
            return self.service.line(product).served.detector
        except UnknownProduct:
            return None

    def health(self) -> list[dict[str, Any]]:
        """What is well and what is not."""
        return views.health_items(self.service.health(), self.service.storage.fault)

    def close(self) -> None:
        """End what makes pictures."""
        self.pictures.close()

    def _files(self, part_id: int, detector: str | None) -> Files:
        """Where the pictures of a part are, and its detector."""
        kept = self.record.pictures(part_id)
        storage = self.service.storage
        if kept is None:
            return Files(None, None, None)
        image, overlay = (None if name is None else storage.path(name) for name in (kept.image, kept.overlay))
        return Files(image, overlay, None if detector is None else storage.detector(detector))


def add_page(app: FastAPI, service: Service, token: str | None) -> Page:
    """Add the page to an app, which lets in only who may see it. ``close`` of what is returned ends it."""
    from blemish.serve import page_now, page_parts, page_products  # they need what stands above

    page = Page(service, token)

    async def answered(_: Request, error: Exception) -> Response:
        assert isinstance(error, Answered)
        return error.response

    app.add_exception_handler(Answered, answered)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), "static")
    routes = APIRouter(include_in_schema=False, dependencies=[Depends(page.check)])
    _add_login(routes, page)
    for subject in (page_now, page_parts, page_products):
        subject.add_routes(routes, page)
    app.include_router(routes)
    return page


def _add_login(routes: APIRouter, page: Page) -> None:
    def has_session(request: Request) -> bool:
        return page.token is None or is_token(request.cookies.get(COOKIE, ""), cookie_value(page.token))

    @routes.get("/login")
    def form(request: Request, next: str = "/") -> Response:
        address = login.own_address(next)
        return page.go(address) if has_session(request) else page.show("login.html", menu=False, next=address)

    @routes.post("/login")
    async def log_in(
        request: Request, token: Annotated[str, Form(max_length=1000)], next: Annotated[str, Form()] = "/"
    ) -> Response:
        address = login.own_address(next)
        if page.token is not None and not is_token(token, page.token):
            await asyncio.sleep(WRONG_TOKEN_S)
            text = "That is not the token of this service."
            return page.show("login.html", 403, menu=False, next=address, error=text)
        response = page.go(address)
        if page.token is not None:
            page.set_cookie(request, response, COOKIE, cookie_value(page.token))
        return response

    @routes.post("/logout")
    def log_out(request: Request) -> Response:
        response = page.go("/login")
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response
