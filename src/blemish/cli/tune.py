"""``blemish tune`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from blemish.settings import Device


def tune(
    data: Path,
    /,
    *,
    method: str = "ssae",
    recipe: str = "small",
    try_: Annotated[list[str] | None, Parameter(name="--try", negative="")] = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    textures: Path | None = None,
    calibration: Path | None = None,
    false_rejects: float = 0.01,
    seed: int = 0,
    device: Device = "auto",
    layout: str = "auto",
    out: Path = Path("tuned"),
) -> None:
    """Choose settings on good images alone: fit with each, and keep what finds simulated damage best.

    Example: `blemish tune parts/good --try batch_size=4,8 --try difference=squared,ssim --out tuned`

    Writes a run folder for each combination, `trials.csv`, and the best one's `detector.blemish` and `config.yaml`,
    which `blemish fit --config` takes. The same command goes on where it was stopped.

    Parameters
    ----------
    data
        Folder of good images, dataset of a known layout, or .csv manifest (path,label,mask,split).
    method
        One that can be validated without defects: ssae.
    recipe
        Where the other settings come from.
    try_
        A setting and its values. Several times: all combinations. Default: half, the same and twice the recipe's
        batch_size, half and all of its iterations.
    set_
        A single setting in place of the recipe's, for all of them.
    textures
        As of `fit`.
    calibration
        As of `fit`.
    false_rejects
        As of `fit`.
    seed
        As of `fit`.
    device
        Default: auto.
    layout
        auto (default), or a layout that `blemish data --help` lists.
    out
        Folder for the results.
    """
    from blemish.commands.tune import tune_run

    options = {
        "textures": textures, "calibration": calibration, "false_rejects": false_rejects, "seed": seed,
        "device": device, "layout": layout,
    }  # fmt: skip
    tune_run(data, try_ or [], set_ or [], out, {"method": method, "recipe": recipe, **options})
