"""``blemish serve``: judge photographs that come over HTTP, and record every verdict, until it is stopped."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from blemish.devices import Device, Precision
from blemish.errors import BlemishError, NotNow
from blemish.files import make_folder
from blemish.record.rows import PRODUCT_NAME
from blemish.runtimes.base import needed

DATABASE = "verdicts.db"
PACKAGES = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "sse_starlette", "prometheus_client")
"""Of the extra ``serve``, what it cannot do without."""


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What ``blemish serve`` is told."""

    products: Sequence[str]
    """``NAME=DETECTOR`` each."""
    storage: Path
    db: str | None
    host: str
    port: int
    token: str | None
    deadline_ms: float
    queue: int
    max_mb: float
    outputs: Sequence[str]
    """Their addresses."""
    keep_days: float | None
    keep_gb: float | None
    save: str
    device: Device
    precision: Precision


def serve_run(options: ServeOptions) -> None:
    """Serve until SIGTERM or SIGINT; what was accepted by then is judged and recorded.

    Raises
    ------
    BlemishError
        If an option is wrong, or something that it needs cannot be used.
    NotNow
        If that may be over by itself: the database is away; a port, or the storage, is in use.
    """
    for package in PACKAGES:
        needed(package, "serve")
    paths, saved = products_of(options.products), saved_of(options.save)
    token = options.token or None
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise BlemishError(
            "--token: should be letters, digits and signs of ASCII without spaces, as headers take them"
        )
    from blemish.outputs.addresses import outputs_at
    from blemish.outputs.delivery import Delivery
    from blemish.record.record import RecordAway, VerdictRecord
    from blemish.record.storage import Storage
    from blemish.record.writer import Writer
    from blemish.serve.catalogue import added_products
    from blemish.serve.running import run
    from blemish.serve.service import Limits, Service

    limits = Limits(
        deadline_s=_at_least("--deadline-ms", options.deadline_ms, 1) / 1000,
        places=int(_at_least("--queue", options.queue, 1)),
        max_bytes=int(_at_least("--max-mb", options.max_mb, 0.001) * 1e6),
    )
    with ExitStack() as stack:
        listener = stack.enter_context(_listening(options.host, options.port, token))
        make_folder(options.storage, "--storage")
        record = stack.enter_context(VerdictRecord.open(options.db or str(options.storage / DATABASE)))
        served = {*paths, *added_products(record.product_settings())}
        delivery = stack.enter_context(Delivery(record, outputs_at(options.outputs, served)))
        storage = Storage(options.storage, options.keep_days, options.keep_gb, record=record)
        stack.enter_context(storage)
        writer = stack.enter_context(Writer(record, delivery.wake))
        service = Service(
            record, writer, storage, limits=limits, saved=saved, device=options.device, precision=options.precision
        )
        service.outputs = delivery.states
        stack.callback(service.close)
        service.decoders.start()
        service.catalogue.open(paths)
        names = ", ".join(each["name"] for each in service.products())
        record.add_event("started", f"serves {names}")
        try:
            run(service, [listener], token)
        finally:
            with suppress(RecordAway):
                record.add_event("stopped", "accepts no more photographs")
    print("stopped; what was accepted is recorded", flush=True)


def products_of(words: Sequence[str]) -> dict[str, Path]:
    """The products that ``--product`` names, with the paths of their detectors."""
    paths = dict[str, Path]()
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not path:
            raise BlemishError(f"--product {word}: should be NAME=DETECTOR, such as gasket=runs/gasket")
        if not re.fullmatch(PRODUCT_NAME, name):
            raise BlemishError(f"--product {word}: a name has letters, digits, '_', '-' and '.', at most 64")
        if name in paths:
            raise BlemishError(f"--product {word}: {name} is given twice")
        paths[name] = Path(path)
    return paths


def saved_of(text: str) -> list[str]:
    """The pictures that ``--save`` names."""
    from blemish.serve.pictures import SAVED

    names = [name.strip() for name in text.split(",")]
    if names == ["none"]:
        return []
    if any(name not in SAVED for name in names):
        raise BlemishError(f"--save {text}: should be none, or some of {','.join(SAVED)}, separated by commas")
    return names


def _at_least(option: str, value: float, least: float) -> float:
    if not least <= value < float("inf"):
        raise BlemishError(f"{option} {value:g}: should be at least {least:g}")
    return value


@contextmanager
def _listening(host: str, port: int, token: str | None) -> Iterator[socket.socket]:
    """A socket that waits for connections."""
    if not 0 <= port < 2**16:
        raise BlemishError(f"--port {port}: should be 0 to 65535; 0 takes one that is free")
    if token is None and not is_loopback(host):
        raise BlemishError(
            f"--host {host}: others could reach the service there; give it a --token, or set BLEMISH_TOKEN"
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise BlemishError(f"--host {host} --port {port}: no such address ({error})") from error
    with listener:
        try:
            if os.name != "nt":
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1024)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            text = f"--host {host} --port {port}: cannot listen there ({reason})"
            is_used = getattr(error, "errno", None) == errno.EADDRINUSE
            raise (NotNow if is_used else BlemishError)(text) from error
        yield listener


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
