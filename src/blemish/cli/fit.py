"""``blemish fit`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from blemish.cli.options import set_values, unset_options
from blemish.learning import options as learning

if TYPE_CHECKING:
    from blemish.learning.options import FitOptions as Options
else:
    Options = unset_options(learning.FitOptions, without=("data", "settings"))


def fit(
    data: Path | None = None,
    /,
    *,
    options: Options | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    out: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    tensorboard: Annotated[bool, Parameter(negative="")] = False,
    config: Path | None = None,
) -> None:
    """Learn from good images. Writes a run folder with `detector.blemish` in it.

    Example: `blemish fit parts/good --recipe small --out runs/gasket`

    Parameters
    ----------
    data
        Folder of good images, dataset of a known layout, or .csv manifest (path,label,mask,split).
    set_
        Replaces one setting of the recipe: `--set iterations=500`, `--set anomalies.probability=0.7`.
    out
        Run folder. Default: runs/DATA-METHOD-RECIPE-SEED.
    resume
        Continue from the last checkpoint in --out.
    overwrite
        Start again, replacing the run in --out.
    tensorboard
        Also log to TensorBoard, in --out (needs `pip install "blemish[tracking]"`).
    config
        YAML file with these options, as each run writes it. Options on the command line override it.
    """
    from blemish.commands.fit import fit_run

    chosen = {"data": data, **set_values(options)}
    fit_run(chosen, set_ or [], config, out, resume=resume, overwrite=overwrite, tensorboard=tensorboard)
