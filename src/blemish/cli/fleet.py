"""``blemish fleet`` on the command line."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from blemish.cli.options import GridOptions

fleet = App(
    name="fleet", help="Train many detectors from one plan, in parallel or on a cluster, and go on after a crash."
)


@fleet.command
def fit(
    plan: Path,
    /,
    *,
    out: Path,
    grid: GridOptions | None = None,
) -> None:
    """Train a detector for each row of a table. Writes a run folder for each into --out.

    Example: `blemish fleet fit products.csv --out fleet --jobs 2`

    Each training is a process of its own: if one fails, the others go on, and the exit code is 2. The same command
    goes on where it was stopped or killed: what is done is not trained again, and a training that was begun goes on
    from its checkpoint. `log.txt` in each folder has its output, `failed.txt` the reason why it failed.

    Parameters
    ----------
    plan
        A .csv file with the columns name and data, and any option of `blemish fit` (method, recipe, seed, textures,
        ...); the column set holds settings, as in iterations=500;batch_size=4. Empty cells are the defaults.
        Relative paths start at the folder of the file.
    out
        Folder for the results. Later plans for it may add rows, and change none.
    """
    from blemish.commands.fleet import fleet_fit_run

    fleet_fit_run(plan, out, **vars(grid or GridOptions()))


@fleet.command
def status(out: Path, /) -> None:
    """Print how far the trainings in a folder are: also while they run elsewhere, and after a crash.

    Example: `blemish fleet status fleet`

    Parameters
    ----------
    out
        The --out of `blemish fleet fit`.
    """
    from blemish.commands.fleet import fleet_status_run

    fleet_status_run(out)
