"""``blemish tune`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from blemish.cli.options import set_values, unset_options
from blemish.learning import options as learning

if TYPE_CHECKING:
    from blemish.learning.options import FitOptions as Options
else:
    Options = unset_options(
        learning.FitOptions,
        without=("data", "method", "settings", "codebook", "defects", "defect_masks", "mask_values"),
    )


def tune(
    data: Path,
    /,
    *,
    method: str = "ssae",
    try_: Annotated[list[str] | None, Parameter(name="--try", negative="")] = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    options: Options | None = None,
    out: Path = Path("tuned"),
) -> None:
    """Choose settings on good images alone: train with each, and keep what finds simulated damage best.

    Example: `blemish tune parts/good --try batch_size=4,8 --try difference=squared,ssim --out tuned`

    Writes a run folder for each combination, `trials.csv`, and the best one's `detector.blemish` and `config.yaml`,
    which `blemish fit --config` takes. The same command continues where it was stopped.

    Parameters
    ----------
    data
        Folder of good images, dataset of a known layout, or .csv manifest (path,label,mask,split).
    method
        A method that can be validated without defects: ssae.
    try_
        A setting and its values. Give it several times for all combinations. Default: half, the same and twice the
        recipe's batch_size, half and all of its iterations.
    set_
        Replaces one setting of the recipe in all combinations.
    out
        Folder for the results.
    """
    from blemish.commands.tune import tune_run

    tune_run(data, try_ or [], set_ or [], out, {"method": method, **set_values(options)})
