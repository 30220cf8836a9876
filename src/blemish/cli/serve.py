"""``blemish serve`` on the command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from blemish.cli.options import TEMPORARY, OutputOptions
from blemish.errors import NotNow, print_line
from blemish.settings import Device, Precision


@Parameter(name="*")
@dataclass(frozen=True)
class Address:
    """Where the service is reached, and by whom."""

    host: Annotated[
        str,
        Parameter(help="Address to listen on. Without a token only one that other machines do not reach."),
    ] = "127.0.0.1"
    port: Annotated[int, Parameter(help="0 takes one that is free.")] = 8000
    token: Annotated[
        str | None,
        Parameter(
            env_var="BLEMISH_TOKEN",
            help="What users have to send. Better set BLEMISH_TOKEN: others on this machine see the command.",
        ),
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Bounds:
    """What is accepted, and how long it takes at most."""

    deadline_ms: Annotated[float, Parameter(help="After so long a photograph is answered as not inspected.")] = (
        10_000.0
    )
    queue: Annotated[
        int, Parameter(help="Photographs of a product that may wait; further ones are refused (429).")
    ] = 64
    max_mb: Annotated[float, Parameter(help="Size of a photograph as it is sent.")] = 50.0


@Parameter(name="*")
@dataclass(frozen=True)
class Kept:
    """What is kept."""

    db: Annotated[
        str | None,
        Parameter(
            help="Database of the record: a file (SQLite), or postgresql://user:password@host:port/name. Default: "
            "verdicts.db in --storage."
        ),
    ] = None
    storage: Annotated[Path, Parameter(help="Folder for pictures and detectors.")] = Path("blemish-serve")
    save: Annotated[
        str,
        Parameter(
            help="Pictures that are kept, separated by commas: overlays (of parts that are not good), images (as "
            "sent); or none."
        ),
    ] = "overlays,images"
    keep_days: Annotated[float | None, Parameter(help="Remove pictures after so long. Verdicts are always kept.")] = (
        None
    )
    keep_gb: Annotated[
        float | None, Parameter(help="Remove the oldest pictures beyond so much, those of good parts first.")
    ] = None


def serve(
    *,
    product: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None,
    address: Address | None = None,
    bounds: Bounds | None = None,
    kept: Kept | None = None,
    outputs: OutputOptions | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Judge photographs that come over HTTP, and record every verdict, until it is stopped.

    Example: `blemish serve --product gasket=runs/gasket`

    Then: `curl -H "Content-Type: image/png" --data-binary @part.png "http://127.0.0.1:8000/products/gasket/inspect"`

    SIGTERM or Ctrl+C end it; what was accepted by then is judged and recorded. Exit code: 0 stopped; 75 it
    cannot serve at the moment, because the database is away, or a port or --storage in use: to start again may
    help; 2 a mistake.

    Parameters
    ----------
    product
        NAME=DETECTOR: a .blemish file, or the run folder of `fit` with one; several for several products. A product
        whose file is the same as at the last start goes on with the threshold that was set since.
    device
        auto takes CUDA if there is one.
    precision
        auto takes bf16 for a large network where the hardware is fast at it, else float32.
    """
    from blemish.commands.serve import ServeOptions, serve_run

    about = {**vars(address or Address()), **vars(bounds or Bounds()), **vars(kept or Kept())}
    addresses = (outputs or OutputOptions()).addresses()
    options = ServeOptions(products=product or (), outputs=addresses, device=device, precision=precision, **about)
    try:
        serve_run(options)
    except NotNow as error:
        print_line(str(error))
        sys.exit(TEMPORARY)
