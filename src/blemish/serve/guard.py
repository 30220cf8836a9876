"""Who may use the service: a bearer token, or the cookie that the page sets; without a token only this machine."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "blemish"
OPEN_PATHS = {"/v2/health/live", "/v2/health/ready", "/login"}
"""Paths that need no token."""
OPEN_FOLDERS = ("/static/",)
LARGE_BODIES = ("/inspect", "/infer", "/setup")
"""Ends of the paths that take photographs or detectors."""
MAX_BODY_BYTES = 1_000_000
"""Of all other requests."""
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def cookie_value(token: str) -> str:
    """What the cookie of a browser holds that has given the token: it proves that, and does not hold the token."""
    return hmac.new(token.encode(), b"blemish page", hashlib.sha256).hexdigest()


def is_token(given: str, token: str) -> bool:
    """Whether a text is the token; takes equally long for any text."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


class Guard:
    """Lets through only who may.

    Parameters
    ----------
    token : None lets everybody through.
    hosts : names by which the service may be called, without port; None is any. Without a token, a page of another
        site could otherwise reach this machine under a name of its own, through the browser of who looks at it.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: Collection[str] | None = None) -> None:
        self.app, self.token, self.hosts = app, token, hosts
        self._cookie = None if token is None else cookie_value(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        if (refusal := self._refusal(request)) is not None:
            await refusal(scope, receive, send)
        elif request.url.path.endswith(LARGE_BODIES):  # they have limits of their own
            await self.app(scope, receive, send)
        else:
            await self.app(scope, _limited(receive), send)

    def _refusal(self, request: HTTPConnection) -> Response | None:
        """The answer to who may not."""
        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        if self.hosts is not None and host.lower() not in self.hosts:
            line = f"{host}: the service is not called so; use {', '.join(self.hosts)}, or give it a token"
            return JSONResponse({"error": line}, 400)
        path = request.url.path
        if self.token is None or path in OPEN_PATHS or path.startswith(OPEN_FOLDERS):
            return None
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and is_token(given.strip(), self.token):
            return None
        if self._cookie is not None and is_token(_cookie_of(request), self._cookie):
            return None
        if "text/html" in request.headers.get("accept", ""):
            wanted = f"{path}?{request.url.query}" if request.url.query else path
            return RedirectResponse(f"/login?{urlencode({'next': wanted})}", 303)
        line = "the token is missing or wrong; send it as the header Authorization: Bearer TOKEN"
        return JSONResponse({"error": line}, 401, {"WWW-Authenticate": "Bearer"})


def _limited(receive: Receive) -> Receive:
    """Receives a body of at most ``MAX_BODY_BYTES``."""
    n_bytes = 0

    async def limited() -> Message:
        nonlocal n_bytes
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > MAX_BODY_BYTES:
            raise HTTPException(413, f"the body has more than {MAX_BODY_BYTES / 1e6:g} MB")
        return message

    return limited


def _cookie_of(request: HTTPConnection) -> str:
    try:
        cookies: SimpleCookie = SimpleCookie(request.headers.get("cookie", ""))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""
