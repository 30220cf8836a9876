"""``blemish fit`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from blemish.cli.options import none_given
from blemish.learning import options as known

if TYPE_CHECKING:
    from blemish.learning.options import FitOptions as Options
else:
    Options = none_given(known.FitOptions, "data", "settings")


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
    """Learn from good images; writes a run folder with `detector.blemish` in it.

    Example: `blemish fit parts/good --recipe small --out runs/gasket`

    Parameters
    ----------
    data
        Folder of good images, dataset of a known layout, or .csv manifest (path,label,mask,split).
    set_
        A single setting in place of the recipe's: `--set iterations=500`, `--set anomalies.probability=0.7`.
    out
        Run folder. Default: runs/DATA-METHOD-RECIPE-SEED.
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

    given = {"data": data, **(vars(options) if options is not None else {})}
    fit_run(given, set_ or [], config, out, resume=resume, overwrite=overwrite, tensorboard=tensorboard)
