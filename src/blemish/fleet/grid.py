"""Run a grid of cells: on this machine in processes of their own, or on a Ray cluster. The way in is ``run_grid``."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from blemish.errors import BlemishError
from blemish.files import owned_folder
from blemish.fleet.board import Board, Report, Show
from blemish.fleet.cells import Cell, check_unique
from blemish.fleet.plan import Plan, check_same_plan, read_plan
from blemish.fleet.processes import POLL_S, Outcome, Worker
from blemish.fleet.steps import n_steps


def run_grid(
    cells: Sequence[Cell],
    out: Path,
    *,
    jobs: int | None = None,
    ray: str | None = None,
    only: Collection[str] = (),
    report: Report = print,
    show: Show | None = None,
) -> list[Outcome]:
    """Train and evaluate all cells that are not done, each in a process of its own, into ``out/<name of the cell>``.

    A cell that is done is never trained again; one that was stopped or killed goes on from its checkpoint; one that
    has failed is tried again. A failure stops no other cell.

    Parameters
    ----------
    out : gets ``plan.json`` and a folder for each cell: its run folder, with ``log.txt``, and, if it failed, the
        reason in ``failed.txt``. A later call may bring further cells, but has to bring all earlier ones unchanged.
    jobs : cells at the same time. Default: 1; on a cluster as many as it has room for.
    ray : address of a Ray cluster (``auto``, ``ray://HOST:10001``, ``local``), whose nodes share ``out`` and the data
        under the same paths.
    only : names of the cells to work at; empty for all.
    report : takes a line whenever a cell begins or ends.
    show : takes how far these cells are, about every second.

    Returns
    -------
    How each cell ended that was worked at in this call; those that were done before are not among them.

    Raises
    ------
    BlemishError
        Before anything is trained: if an option is wrong, ``out`` belongs to another plan or holds other runs,
        another process works in it, or there is no such cluster.
    KeyboardInterrupt
        After Ctrl-C, once all cells have written their checkpoints; a second Ctrl-C does not wait for them.
    """
    if jobs is not None and jobs < 1:
        raise BlemishError(f"--jobs {jobs}: should be at least 1")
    plan = plan_of(cells, only)
    with owned_folder(out.absolute()) as folder:
        check_folder(plan, folder)
        plan.write(folder)
        part = plan.part(only)
        board = Board(part, folder, report, show)
        todo = [cell for cell in part.cells if board.states[cell.name].state != "done"]
        if not todo:
            return []
        with _saying_how_to_go_on(board):
            if ray is not None:
                from blemish.fleet.clusters import run_on_ray

                return run_on_ray(todo, folder, ray, jobs, board)
            return _run_here(todo, folder, jobs or 1, board)


def plan_of(cells: Sequence[Cell], only: Collection[str] = ()) -> Plan:
    """The plan of these cells, all of whose options are checked.

    Raises
    ------
    BlemishError
        If an option is wrong; the message names the cell.
    """
    if not cells:
        raise BlemishError("the plan has no cells")
    check_unique([cell.name for cell in cells], "cells")
    if unknown := sorted({*only} - {cell.name for cell in cells}):
        names = ", ".join(cell.name for cell in cells)
        raise BlemishError(f"--only {' '.join(unknown)}: no such cell in the plan; there are: {names}")
    steps = []
    for cell in cells:
        try:
            steps.append(n_steps(cell))
        except BlemishError as error:
            raise BlemishError(f"cell {cell.name}: {error}") from error
    return Plan(cells, steps)


def check_folder(plan: Plan, out: Path) -> None:
    """Check that what a folder holds is of this plan: an earlier ``plan.json``, and the runs of its cells.

    Raises
    ------
    BlemishError
        If it is not.
    """
    from blemish.learning.fit import state_of

    if (earlier := read_plan(out)) is not None:
        check_same_plan(earlier, plan.cells, out)
    for cell in plan.cells:
        state_of(out / cell.name, **vars(cell.fit_options))


def _run_here(cells: Sequence[Cell], out: Path, jobs: int, board: Board) -> list[Outcome]:
    """Work at cells on this machine, so many at a time."""
    slots = deque(_environments(cells, jobs, board.report))
    waiting, outcomes = deque(cells), []
    workers: dict[Worker, dict[str, str]] = {}
    try:
        while waiting or workers:
            while waiting and slots:
                cell, environment = waiting.popleft(), slots.popleft()
                workers[Worker(out / cell.name, environment)] = environment
                gpu = environment.get("CUDA_VISIBLE_DEVICES")
                board.begin(cell.name, "" if gpu is None else f" on GPU {gpu}")
            for worker in [*workers]:
                if (outcome := worker.outcome()) is not None:
                    slots.append(workers.pop(worker))
                    outcomes.append(outcome)
                    board.end(outcome, worker.notices())
            board.update()
            time.sleep(POLL_S)
    except BaseException:
        _stop([*workers], board)
        raise
    return outcomes


def _stop(workers: Sequence[Worker], board: Board) -> None:
    """Let all workers write their checkpoints and end; at a second Ctrl-C they end at once."""
    for worker in workers:
        worker.stop()
    board.report(f"stopping {len(workers)} cells, which write their checkpoints; a second Ctrl-C does not wait")
    try:
        for worker in workers:
            board.end(worker.wait())
    except KeyboardInterrupt:
        for worker in workers:
            worker.kill()
            worker.process.wait()


@contextmanager
def _saying_how_to_go_on(board: Board) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as stop:
        board.read(board.states)
        n_done = sum(state.state == "done" for state in board.states.values())
        raise KeyboardInterrupt(
            f"stopped; {n_done} of {len(board.states)} cells are done; the same command goes on"
        ) from stop


def _environments(cells: Sequence[Cell], jobs: int, report: Report) -> list[dict[str, str]]:
    """Variables of the environment for each of the workers: the cores are divided, and GPUs given out in turn.

    Raises
    ------
    BlemishError
        If a cell needs a GPU and there is none.
    """
    jobs = min(jobs, max(1, len(cells)))
    gpus = visible_gpus() if any(cell.options["device"] != "cpu" for cell in cells) else []
    needing = [cell.name for cell in cells if cell.options["device"] == "cuda"]
    if needing and not gpus:
        raise BlemishError(f"cell {needing[0]}: device cuda: this machine has no CUDA device that torch can use")
    if gpus and jobs > len(gpus):
        report(f"--jobs {jobs}: more than the {len(gpus)} GPUs, so that trainings share one, its time and its memory")
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, n_cores // jobs))
    environments = [{"OMP_NUM_THREADS": threads} for _ in range(jobs)]
    for number, environment in enumerate(environments):
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number % len(gpus)]
    return environments


def visible_gpus() -> list[str]:
    """The GPUs that torch can use, as ``CUDA_VISIBLE_DEVICES`` names them; no CUDA context is made."""
    import torch

    n_gpus = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        [name.strip() for name in named.split(",")][:n_gpus] if named else [str(number) for number in range(n_gpus)]
    )
