"""``blemish compare`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from blemish.cli.options import MetricName


def compare(
    runs: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    metric: Annotated[list[MetricName] | None, Parameter(negative="")] = None,
    out: Path | None = None,
) -> None:
    """Compare runs with each other and with the papers: mean and spread over seeds, for each test set.

    Example: `blemish compare runs/bottle-draem-small-0 runs/bottle-draem-small-1 --out comparison`

    All figures are in percent. Runs of one method and recipe are one column, unless another setting differs; runs
    measured under different protocols are never in one table.

    Parameters
    ----------
    runs
        Run folders, evaluation folders or `metrics.json` files, or folders with any of these below.
    metric
        Only this metric; can be given several times. Default: all of them.
    out
        Also write `compare.html`, `compare.md` and `compare.csv` into this folder.
    """
    from blemish.commands.compare import compare_run

    compare_run(runs, metric or (), out)
