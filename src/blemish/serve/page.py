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

from blemish.serve import login, views
from blemish.serve.pictures import Files, Pictures

FOLDER = Path(__file__).parent
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of each page: nothing but its own files is loaded or run, and no other site can show it in a frame."""

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

    def __init__(self, service: Any, token: str | None) -> None:
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
            "now": f"{now_s:.3f}", "offset": 0 if offset is None else offset.total_seconds(), "zone": views.zone(),
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
        """Let only those in who may see the page, and act only on what it sent itself; a dependency of each route.

        Raises
        ------
        Answered
            With the way to the login, or a refusal.
        """
        if self.token is None:
            if not login.is_this_machine(request.headers.get("host", "")):
                text = "Without a token the page is only for this machine: open it as localhost."
                raise self.refuse(403, text, menu=False)
        elif not self.is_logged_in(request):
            wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            raise Answered(self.go("/login", next=wanted if request.method == "GET" else ""))
        if request.method != "GET" and not login.is_own_request(request.headers):
            raise self.refuse(403, "This was not sent by a page of this service.")

    def is_logged_in(self, request: Request) -> bool:
        """Whether a browser has a session."""
        value = request.cookies.get(login.COOKIE)
        return self.token is not None and login.is_session(value, self.token, time.time())

    def _files(self, part_id: int, detector: str | None) -> Files:
        """Where the pictures of a part are, and its detector."""
        kept = self.record.pictures(part_id)
        storage = self.service.storage
        if kept is None:
            return Files(None, None, None)
        image, overlay = (None if name is None else storage.path(name) for name in (kept.image, kept.overlay))
        return Files(image, overlay, None if detector is None else storage.detector_path(detector))


def add_page(app: FastAPI, service: Any, token: str | None) -> Page:
    """Add the page to an app. Call ``pictures.close()`` of what is returned when the app ends."""
    from blemish.serve import page_now, page_parts, page_products

    page = Page(service, token)

    async def answered(_: Request, error: Exception) -> Response:
        assert isinstance(error, Answered)
        return error.response

    app.add_exception_handler(Answered, answered)
    app.mount("/static", StaticFiles(directory=FOLDER / "static"), "static")
    open_routes = APIRouter(include_in_schema=False)
    _add_login(open_routes, page)
    app.include_router(open_routes)
    routes = APIRouter(include_in_schema=False, dependencies=[Depends(page.check)])
    for subject in (page_now, page_parts, page_products):
        subject.add_routes(routes, page)
    app.include_router(routes)
    return page


def _add_login(routes: APIRouter, page: Page) -> None:
    @routes.get("/login")
    def form(request: Request, next: str = "/") -> Response:
        if page.token is None or page.is_logged_in(request):
            return page.go(login.own_address(next))
        return page.show("login.html", menu=False, next=login.own_address(next))

    @routes.post("/login")
    async def log_in(
        request: Request, token: Annotated[str, Form(max_length=1000)], next: Annotated[str, Form()] = "/"
    ) -> Response:
        if not login.is_own_request(request.headers):
            raise page.refuse(403, "This was not sent by a page of this service.", menu=False)
        if page.token is None:
            return page.go("/")
        if not login.is_token(token, page.token):
            await asyncio.sleep(WRONG_TOKEN_S)
            text = "That is not the token of this service."
            return page.show("login.html", 403, menu=False, next=login.own_address(next), error=text)
        response = page.go(login.own_address(next))
        response.set_cookie(
            login.COOKIE, login.new_session(page.token, time.time()), max_age=login.SESSION_S, httponly=True,
            samesite="strict", secure=request.url.scheme == "https",
        )  # fmt: skip
        return response

    @routes.post("/logout")
    def log_out(request: Request) -> Response:
        if not login.is_own_request(request.headers):
            raise page.refuse(403, "This was not sent by a page of this service.", menu=False)
        response = page.go("/login")
        response.delete_cookie(login.COOKIE, httponly=True, samesite="strict")
        return response
