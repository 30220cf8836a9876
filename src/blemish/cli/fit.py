"""``blemish fit`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from blemish.cli.options import DeviceName, PrecisionName


def fit(
    data: Path | None = None,
    /,
    *,
    method: str | None = None,
    recipe: str | None = None,
    textures: Path | None = None,
    codebook: Path | None = None,
    defects: Path | None = None,
    defect_masks: Path | None = None,
    calibration: Path | None = None,
    false_rejects: float | None = None,
    seed: int | None = None,
    device: DeviceName | None = None,
    precision: PrecisionName | None = None,
    layout: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    out: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    tensorboard: Annotated[bool, Parameter(negative="")] = False,
    config: Path | None = None,
) -> None:
    """Learn from good images; writes a run folder with `detector.blemish` in it.

    Example: `blemish fit parts/good --recipe small --out runs/gasket`

    Parameters
    ----------
    data
        Folder of good images, dataset of a known layout, or .csv manifest (path,label,mask,split).
    method
        Which paper: draem (default), dsr, ssae.
    recipe
        paper (the authors' schedule), fast (today's GPU), small (a laptop's CPU; default). Of ssae also
        paper-object, and paper-CATEGORY for each category of MVTec AD.
    textures
        Folder of photographs that simulated damage is made of (draem, ssae; dsr only with
        `--set anomalies=image`). Default: textures made on the spot.
    codebook
        File of `blemish pretrain` (dsr). Default: the one that comes with blemish.
    defects
        Folder of photographs of real defects that join the simulated ones (draem, dsr); one is enough. Without
        --defect-masks a dataset whose training images include defective ones.
    defect_masks
        Folder of their masks: a name like the photograph's, white where it is defective.
    calibration
        Folder of good images to set the threshold from. Default: 10 % of DATA are held out.
    false_rejects
        Share of good parts that may be rejected. Default: 0.01.
    seed
        Same seed, same machine: same weights (on a CPU). Default: 0.
    device
        Default: auto.
    precision
        Default: auto, bf16 where the hardware is fast at it.
    layout
        auto (default), or a layout that `blemish data --help` lists.
    set_
        A single setting in place of the recipe's: `--set iterations=500`, `--set anomalies.probability=0.7`.
    out
        Run folder. Default: runs/<data>-<method>-<recipe>-<seed>.
    resume
        Go on from the last checkpoint in --out.
    overwrite
        Start anew although --out holds a run.
    tensorboard
        Also log to TensorBoard, in --out (needs `pip install "blemish[tracking]"`).
    config
        YAML file with these options, as each run writes it; what is given beside it wins.
    """
    from blemish.commands.fit import fit_run

    given = {
        "data": data, "method": method, "recipe": recipe, "textures": textures, "codebook": codebook,
        "defects": defects, "defect_masks": defect_masks, "calibration": calibration,
        "false_rejects": false_rejects, "seed": seed, "device": device, "precision": precision, "layout": layout,
    }  # fmt: skip
    fit_run(given, set_ or [], config, out, resume=resume, overwrite=overwrite, tensorboard=tensorboard)
