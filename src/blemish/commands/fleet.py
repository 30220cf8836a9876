"""``blemish fleet``: train many detectors from one plan, and say how far they are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console

from blemish.commands.fleet_progress import FleetProgress, print_status
from blemish.errors import BlemishError
from blemish.fleet.cells import Cell
from blemish.fleet.plan import read_status
from blemish.fleet.processes import Outcome
from blemish.fleet.states import Status, duration


def fleet_fit_run(
    plan: Path, out: Path, *, jobs: int | None, ray: str | None, only: Collection[str] | None, dry_run: bool
) -> None:
    """Train all that a plan lists, or say what it costs.

    Raises
    ------
    BlemishError
        If the plan is wrong, or at the end if a training has failed; the message names those.
    """
    from blemish.commands.plans import read_plan_csv

    cells = read_plan_csv(plan)
    if dry_run:
        print_cost(cells, out, jobs or 1, only or ())
    else:
        run_cells(cells, out, jobs=jobs, ray=ray, only=only or ())


def run_cells(
    cells: Sequence[Cell], out: Path, *, jobs: int | None = None, ray: str | None = None, only: Collection[str] = ()
) -> list[Outcome]:
    """``fleet.grid.run_grid`` with its progress on standard error, and a last line.

    Raises
    ------
    BlemishError
        As ``run_grid``; and at the end if a cell has failed.
    """
    from blemish.fleet.grid import run_grid

    with FleetProgress() as progress:
        outcomes = run_grid(cells, out, jobs=jobs, ray=ray, only=only, report=progress.report, show=progress.show)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    states = [state.state for state in read_status(out).cells if not only or state.name in only]
    print(f"{states.count('done')} of {len(states)} done; results in {out}")
    if failed:
        reasons = "; ".join(f"{outcome.name} ({outcome.reason})" for outcome in failed)
        raise BlemishError(f"{len(failed)} failed, which the same command tries again: {reasons}")
    return outcomes


def print_cost(cells: Sequence[Cell], out: Path, jobs: int, only: Collection[str] = ()) -> None:
    """Print what is to do, and how long it will take on this machine, and train nothing.

    Raises
    ------
    BlemishError
        As ``run_grid`` does before it trains.
    """
    from blemish.fleet.cost import training_s
    from blemish.fleet.grid import check_folder, plan_of

    plan = plan_of(cells, only)
    check_folder(plan, out)
    plan = plan.part(only)
    states = plan.states(out)
    todo = [cell for cell, state in zip(plan.cells, states, strict=True) if state.state != "done"]
    whole_s = dict(zip((cell.name for cell in todo), training_s(todo), strict=True))
    left_s = {
        state.name: whole_s[state.name] * state.steps_left / max(1, state.n_steps)
        for state in states if state.name in whole_s
    }  # fmt: skip
    print_status(Status(states), Console(), left_s)
    total_s = sum(left_s.values())
    at_once = max(total_s / jobs, max(left_s.values(), default=0.0))
    in_jobs = f"; {duration(at_once)} with --jobs {jobs}, if each is as fast as alone" if jobs > 1 else ""
    n_steps = sum(state.steps_left for state in states if state.name in left_s)
    print(
        f"{len(todo)} of {len(states)} to do: {n_steps} steps, about {duration(total_s)} of training on this machine"
        f"{in_jobs}; calibration and evaluation come on top"
    )


def fleet_status_run(out: Path) -> None:
    """Print how far the trainings in a folder are.

    Raises
    ------
    BlemishError
        If the folder holds none.
    """
    status = read_status(out)
    print_status(status, Console())
    for state in status.cells:
        if state.reason:
            print(f"{state.name}: failed: {state.reason} [{out / state.name / 'log.txt'}]")
    print(status.line())
