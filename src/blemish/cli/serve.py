"""``blemish serve`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from blemish.settings import Device, Precision


def serve(
    *,
    product: Annotated[list[str], Parameter(negative="", consume_multiple=True)],
    storage: Path = Path("blemish-serve"),
    db: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: Annotated[str | None, Parameter(env_var="BLEMISH_TOKEN")] = None,
    deadline_ms: float = 10_000.0,
    queue: int = 64,
    max_mb: float = 50.0,
    keep_days: float | None = None,
    keep_gb: float | None = None,
    save: str = "overlays,images",
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Judge photographs that come over HTTP, and record every verdict, until it is stopped.

    Example: `blemish serve --product gasket=runs/gasket`

    Then: `curl -H "Content-Type: image/png" --data-binary @part.png "http://127.0.0.1:8000/products/gasket/inspect"`

    SIGTERM or Ctrl+C end it; what was accepted by then is judged and recorded. Exit code: 0 stopped, 2 a mistake.

    Parameters
    ----------
    product
        NAME=DETECTOR: a .blemish file, or the run folder of `fit` with one; several for several products.
    storage
        Folder for pictures and detectors.
    db
        Database of the record: a file (SQLite), or postgresql://user:password@host:port/name. Default: verdicts.db in
        --storage.
    host
        Address to listen on. Without a token only one that other machines do not reach.
    port
        0 takes one that is free.
    token
        What users have to send; better set as BLEMISH_TOKEN, since others on this machine see the command.
    deadline_ms
        After so long a photograph is answered as not inspected.
    queue
        Photographs of a product that may wait; further ones are refused (429).
    max_mb
        Of a photograph as it is sent.
    keep_days
        Remove pictures after so long. Verdicts are always kept.
    keep_gb
        Remove the oldest pictures beyond so much, those of good parts first.
    save
        Pictures that are kept, separated by commas: overlays (of parts that are not good), images (as sent); or none.
    device
        auto takes CUDA if there is one.
    precision
        auto takes bf16 for a large network where the hardware is fast at it, else float32.
    """
    from blemish.commands.serve import ServeOptions, serve_run

    serve_run(
        ServeOptions(
            products=product, storage=storage, db=db, host=host, port=port, token=token, deadline_ms=deadline_ms,
            queue=queue, max_mb=max_mb, keep_days=keep_days, keep_gb=keep_gb, save=save, device=device,
            precision=precision,
        )
    )  # fmt: skip
