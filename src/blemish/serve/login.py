"""Who may use the page: a session in a cookie, and requests that come from the page itself."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

COOKIE = "blemish_session"
SESSION_S = 30 * 86400
"""So long a login is valid; a screen on the wall is not logged out in the middle of a shift."""
_OWN_ADDRESS = re.compile(r"/(?![/\\])[\x21-\x7e]*")


def is_token(given: str, token: str) -> bool:
    """Whether a token is the right one; takes equally long if it is not."""
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), token.encode("utf-8", "surrogatepass"))


def new_session(token: str, now_s: float) -> str:
    """The cookie's value: when the session ends, signed with the token, which is not in it."""
    ends = f"{round(now_s + SESSION_S)}"
    return f"{ends}.{_signature(token, ends)}"


def is_session(value: str | None, token: str, now_s: float) -> bool:
    """Whether a cookie's value was made with this token, and is still valid."""
    ends, _, signature = (value or "").partition(".")
    if not (ends.isascii() and ends.isdigit() and len(ends) < 16):
        return False
    return hmac.compare_digest(signature.encode(), _signature(token, ends).encode()) and now_s < int(ends)


def _signature(token: str, ends: str) -> str:
    key = token.encode("utf-8", "surrogatepass")
    return hmac.new(key, b"blemish page until " + ends.encode(), hashlib.sha256).hexdigest()


def is_own_request(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a request was made by a page of this service, not by another site.

    ``Sec-Fetch-Site`` tells it, or, where browsers do not send it (over http to another machine), ``Origin``.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    _, _, sender = headers.get("origin", "").partition("://")
    return bool(sender) and sender.lower() == headers.get("host", "").lower()


def is_this_machine(host: str) -> bool:
    """Whether the ``Host`` of a request is this machine's own name for itself.

    A site elsewhere can let its name mean 127.0.0.1, and then reads what only this machine should; its name stays in
    ``Host``.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or ip_address(name).is_loopback
    except ValueError:
        return False


def own_address(address: str) -> str:
    """The address on this service to go to after the login; ``/`` if it would lead elsewhere."""
    return address if _OWN_ADDRESS.fullmatch(address) else "/"
