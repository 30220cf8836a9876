"""Cameras as sources of photographs. A camera is known by its address; see ``open_camera``."""

from __future__ import annotations

import re
from typing import Any

from blemish.errors import BlemishError
from blemish.inspection.cameras.camera import Camera as Camera
from blemish.inspection.cameras.driver import Driver

ADDRESSES = (
    "0, 1, ... (a device of the system), rtsp://..., http://..., https://..., udp://... (a stream), "
    "aravis (the first GigE Vision or USB3 Vision camera), aravis:NAME (the camera of that name)"
)
_STREAM = re.compile(r"(?:rtsps?|https?|udp)://.", re.IGNORECASE)


def is_camera(address: str) -> bool:
    """Whether this is the address of a camera, rather than a path."""
    return bool(
        (address.isascii() and address.isdecimal())
        or _STREAM.match(address)
        or address == "aravis"
        or (address.startswith("aravis:") and len(address) > len("aravis:"))
    )


def open_camera(address: str, **settings: Any) -> Camera:
    """Return the camera at an address; it is opened when it is entered.

    Parameters
    ----------
    address : one of ``ADDRESSES``.
    settings : of ``Camera``.

    Raises
    ------
    BlemishError
        If no camera can have this address, or the library for it is not installed.
    """
    return Camera(_driver(address), **settings)


def _driver(address: str) -> Driver:
    if not is_camera(address):
        raise BlemishError(f"{address!r} is no address of a camera; give one of {ADDRESSES}")
    if address.startswith("aravis"):
        from blemish.inspection.cameras.aravis import AravisCamera  # needs libraries that are rarely there

        return AravisCamera(address)
    from blemish.inspection.cameras.opencv import OpenCVCamera

    return OpenCVCamera(address)
