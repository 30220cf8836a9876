"""What tells the page's own requests from those of other sites, and where a login leads."""

from __future__ import annotations

import re
from collections.abc import Mapping

_OWN_ADDRESS = re.compile(r"/(?![/\\])[\x21-\x7e]*")


def is_own_request(headers: Mapping[str, str]) -> bool:
    """Whether a browser says that a request was made by a page of this service, not by another site.

    ``Sec-Fetch-Site`` tells it, or, where browsers do not send it (over http to another machine), ``Origin``.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    _, _, sender = headers.get("origin", "").partition("://")
    return bool(sender) and sender.lower() == headers.get("host", "").lower()


def own_address(address: str) -> str:
    """The address on this service to go to after the login; ``/`` if it would lead elsewhere."""
    return address if _OWN_ADDRESS.fullmatch(address) else "/"
