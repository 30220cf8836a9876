"""``blemish inspect`` on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

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
    save: str = "overlays",
    map_format: Literal["tiff", "tiff16", "npy"] = "tiff",
    min_area: int | None = None,
    fail_on_defect: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Inspect images. Writes `findings.jsonl`, `findings.csv` and what `--save` names: by default overlays.

    Example: `blemish inspect runs/gasket/detector.blemish photos/ --out findings`

    Files are images by what they hold, however they are called. One that cannot be read is reported in its row, and
    the others are inspected; the exit code is then 2. Files in the folders that are no images are named.

    Parameters
    ----------
    detector
        A .blemish file, or the run folder of `fit` with one.
    paths
        Images, video files (each frame is inspected), or folders of images (read with their subfolders, and with
        folders that links lead to).
    out
        Folder for the results. Those of an earlier run in it are replaced; it may be among the photographs.
    device
        auto takes CUDA if there is one.
    precision
        auto takes bf16 for a large network where the hardware is fast at it, else float32.
    save
        Of each image, separated by commas: overlays (pictures with outlines), maps, masks (PNG), contours (polygons,
        in contours.jsonl), coco (one file, findings.coco.json), parquet (the table for many images); or all, or none.
    map_format
        Of --save maps, in the size of the image: tiff (32-bit floats; default), tiff16 (whole numbers; the file's
        description says of which unit), npy.
    min_area
        Outline only regions of so many pixels or more; an image with no others is good. Default: as the detector
        says, which is 0 unless `calibrate --min-area` has set it.
    fail_on_defect
        Exit with 1 if an image is defective or unlike the good images, also if another cannot be read.
    """
    from blemish.commands.inspect import inspect_run
    from blemish.commands.results import Saving

    saving = Saving.named(save, map_format)
    n_defective, n_errors = inspect_run(detector, paths, out, device, precision, saving, min_area)
    if fail_on_defect and n_defective:
        sys.exit(DEFECT_FOUND)
    if n_errors:
        sys.exit(USER_ERROR)
