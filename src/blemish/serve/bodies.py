"""Bodies of requests: read up to a limit, whatever their headers say of their length."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.requests import ClientDisconnect, Request

from blemish.serve.jobs import Refused, TooLarge

IMAGE_TYPES = (
    "image/jpeg", "image/png", "image/tiff", "image/bmp", "image/webp", "image/gif", "image/avif",
    "application/octet-stream",
)  # fmt: skip
"""Content types of photographs."""
_ALSO_IMAGES = {"", "image/jpg", "image/pjpeg", "image/x-png", "image/tif", "image/x-tiff", "image/x-ms-bmp"}
DRAIN_S = 5.0
"""So long the rest of a body that is refused is read, since many clients look for the answer only after it."""


class WrongType(Refused):
    """The content type is none of those that are taken."""

    status = 415


class TooSlow(Refused):
    """The body did not come whole in time."""

    status = 408


def check_image_type(request: Request) -> None:
    """Check the content type of a photograph. What it really is, its first bytes say.

    Raises
    ------
    WrongType
        If it is not one of an image, or the body is compressed.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in IMAGE_TYPES and kind not in _ALSO_IMAGES:
        raise WrongType(f"Content-Type {kind}: should be that of a photograph, such as image/png or image/jpeg")
    check_encoding(request)


def check_encoding(request: Request) -> None:
    """Check that the body is not compressed; raises WrongType."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise WrongType(f"Content-Encoding {encoding}: is not taken; send the body as it is")


async def read_body(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """Read a body of at most so many bytes.

    Raises
    ------
    TooLarge
        If it has more, or says so.
    TooSlow
        If it has not come in time.
    ClientDisconnect
        If the client is gone.
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > max_bytes:
        await drain(request, max_bytes)
        raise _too_large(max_bytes)
    pieces, n_bytes = list[bytes](), 0
    try:
        async with asyncio.timeout(timeout_s):
            async for piece in request.stream():
                n_bytes += len(piece)
                if n_bytes > max_bytes:
                    break
                pieces.append(piece)
    except TimeoutError as error:
        raise TooSlow(f"the body did not come whole in {timeout_s:g} s") from error
    if n_bytes > max_bytes:
        pieces.clear()
        await drain(request, max_bytes)
        raise _too_large(max_bytes)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def drain(request: Request, max_bytes: int) -> None:
    """Read what is left of a body that is refused, up to so many bytes, and forget it."""
    n_bytes = 0
    with suppress(TimeoutError, ClientDisconnect, RuntimeError):  # RuntimeError: it is read already
        async with asyncio.timeout(DRAIN_S):
            async for piece in request.stream():
                n_bytes += len(piece)
                if n_bytes > max_bytes:
                    return


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"the body has more than {max_bytes / 1e6:g} MB; send a smaller photograph, or raise --max-mb")
