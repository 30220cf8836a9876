"""``blemish watch`` on the command line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from blemish.cli.options import NOT_INSPECTED, TEMPORARY, OutputOptions, set_values
from blemish.errors import BlemishError, NotNow, print_line
from blemish.settings import Device, Precision

if TYPE_CHECKING:
    from blemish.commands.recording import RecordOptions


@Parameter(name="*")
@dataclass(frozen=True)
class Recorded:
    """The record in a database."""

    db: Annotated[
        str | None,
        Parameter(
            help="Also record each photograph in a database: a file for SQLite, or "
            "postgresql://user:password@host:port/name. What it has is not inspected again. The options below "
            "need it."
        ),
    ] = None
    product: Annotated[
        str | None, Parameter(help="What is inspected. Default: the name of the detector's folder.")
    ] = None
    storage: Annotated[
        Path | None,
        Parameter(help="Folder for photographs and overlays of what is not good; of all, with --save-good."),
    ] = None

    def options(self, outputs: OutputOptions) -> RecordOptions | None:
        """What is recorded, and carried elsewhere; None without a database."""
        if self.db is None:
            for name in {**set_values(self), **set_values(outputs)}:
                raise BlemishError(
                    f"--{name}: needs the record of a database, where all waits until it is delivered; give --db, "
                    "such as --db record.db"
                )
            return None
        from blemish.commands.recording import RecordOptions

        return RecordOptions(db=self.db, product=self.product, storage=self.storage, outputs=outputs.addresses())


def watch(
    source: str,
    /,
    *,
    detector: Path,
    out: Path,
    device: Device = "auto",
    precision: Precision = "auto",
    save: str = "overlays",
    save_good: Annotated[bool, Parameter(negative="")] = False,
    map_format: Literal["tiff", "tiff16", "npy"] = "tiff",
    min_area: int | None = None,
    poll: float = 0.5,
    patience: float = 600.0,
    recorded: Recorded | None = None,
    outputs: OutputOptions | None = None,
) -> None:
    """Inspect what a camera sends, or what comes into a folder, until it is stopped.

    Example: `blemish watch incoming/ --detector runs/gasket --out line-1`

    Rows are added to `findings.jsonl` and `findings.csv` in --out as they come; the same command goes on where it was
    stopped. `heartbeat.json` says every second that it is running, and how it goes. Exit code: 0 stopped by Ctrl+C or
    SIGTERM; 3 stopped, and some photographs were not inspected, as their rows say, or wait; 75 ended by itself,
    because the camera is gone, the disk full, or --out or a port in use: to start again may help; 2 a
    mistake: to start again does not.

    Parameters
    ----------
    source
        A folder (with its subfolders; also one on a network share), or a camera: 0 (number of a device),
        rtsp://..., http://..., aravis (the first GigE Vision or USB3 Vision camera), aravis:NAME.
    detector
        A .blemish file, or the run folder of `fit` with one.
    out
        Folder for the results; it may be in the folder that is watched.
    device
        auto takes CUDA if there is one.
    precision
        auto takes bf16 for a large network where the hardware is fast at it, else float32.
    save
        Of each photograph that is not good, separated by commas: overlays (default), maps, masks, contours,
        photographs (the frame of a camera itself, as PNG); or all, or none.
    save_good
        Save pictures of good photographs, too.
    map_format
        Of --save maps: tiff (32-bit floats; default), tiff16 (whole numbers), npy.
    min_area
        Outline only regions of so many pixels or more. Default: as the detector says.
    poll
        Of a folder: seconds between two looks. A file is taken when it has not changed for a second and has an end.
    patience
        Of a camera: seconds for which one that is gone is tried to be opened again.
    """
    about = save, map_format, save_good
    record = (recorded or Recorded()).options(outputs or OutputOptions())
    sys.exit(_code(source, detector, out, device, precision, about, min_area, poll, patience, record))


def _code(
    source: str,
    detector: Path,
    out: Path,
    device: Device,
    precision: Precision,
    about: tuple[str, Literal["tiff", "tiff16", "npy"], bool],
    min_area: int | None,
    poll: float,
    patience: float,
    record: RecordOptions | None,
) -> int:
    """Watch, and return the exit code."""
    from blemish.commands.results import Saving
    from blemish.commands.watch import WATCH_KINDS, watch_run

    saving = Saving.named(about[0], about[1], WATCH_KINDS, about[2])
    try:
        n_missing = watch_run(
            source, detector, out, device, precision, saving, min_area, record, poll_s=poll, patience_s=patience
        )
    except NotNow as error:
        print_line(str(error))
        return TEMPORARY
    return NOT_INSPECTED if n_missing else 0
