"""``blemish inspect`` on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from blemish.cli.options import DEFECT_FOUND, USER_ERROR
from blemish.settings import Device, Precision


def inspect(
    detector: Path,
    paths: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Path = Path("findings"),
    device: Device = "auto",
    precision: Precision = "auto",
    fail_on_defect: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Inspect images. Writes `findings.jsonl`, `findings.csv` and an overlay for each image.

    Example: `blemish inspect runs/gasket/detector.blemish photos/ --out findings`

    A file that cannot be read is reported in its row, and the others are inspected.

    Parameters
    ----------
    detector
        A .blemish file.
    paths
        Images, or folders of images (read with their subfolders).
    out
        Folder for the results.
    device
        auto takes CUDA if there is one.
    precision
        auto takes bf16 for a large network where the hardware is fast at it, else float32.
    fail_on_defect
        Exit with 1 if an image is defective, with 2 if none is but one cannot be read.
    """
    from blemish.commands.inspect import inspect_run

    n_defective, n_unreadable = inspect_run(detector, paths, out, device, precision)
    if fail_on_defect and (n_defective or n_unreadable):
        sys.exit(DEFECT_FOUND if n_defective else USER_ERROR)
