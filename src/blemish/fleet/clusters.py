"""Cells as tasks of a Ray cluster, which places them, and tries them again on another node if theirs dies."""

from __future__ import annotations

import logging
import os
import platform
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from blemish.errors import BlemishError
from blemish.fleet.board import Board
from blemish.fleet.cells import CELL, FAILED, Cell
from blemish.fleet.processes import Outcome, Worker

SHOW_EVERY_S = 5.0
"""Seconds between two looks into the folders of all cells, which lie on a network share."""
ANSWER_S = 10.0
"""Longest wait for the cluster to take a connection, s."""
STOP_S = 60.0
"""Longest wait for checkpoints after Ctrl-C, s."""


def work_at(folder: str, definition: str) -> tuple[str, str, int]:
    """Work at a cell, on a node: state and reason of the outcome, and the number of notices in the log.

    The work is done by a process of its own, so that its crash is a failure of the cell, and only the death of the
    node, or of Ray's process there, makes Ray try again.

    Parameters
    ----------
    definition : content of the cell's ``cell.json``.
    """
    path = Path(folder)
    if not (path / CELL).exists() or (path / CELL).read_text(encoding="utf-8") != definition:
        reason = f"{platform.node()}: does not see {path / CELL}; all nodes have to share --out and the data"
        return "failed", reason, 0
    worker = Worker(path)
    outcome = worker.wait()
    return outcome.state, outcome.reason, worker.notices()


def run_on_ray(cells: Sequence[Cell], out: Path, address: str, jobs: int | None, board: Board) -> list[Outcome]:
    """Work at cells on a cluster; parameters as of ``grid.run_grid``.

    A task has a GPU of its own if the cluster has GPUs and the cell may use one; else its share of the cores.

    Raises
    ------
    BlemishError
        If Ray is not installed, there is no such cluster, or a cell needs a GPU and the cluster has none.
    """
    ray = _ray()
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, address)
    board.every_s = SHOW_EVERY_S
    waiting, outcomes = deque(cells), []
    tasks: dict[Any, Cell] = {}
    try:
        task, placing = ray.remote(work_at), {"max_retries": -1, "scheduling_strategy": "SPREAD"}
        resources = _resources(ray, cells, jobs)
        n_at_once = jobs or len(cells)
        n_nodes = sum(node["Alive"] for node in ray.nodes())
        board.report(f"{len(cells)} cells for the Ray cluster {address} of {n_nodes} nodes")
        while waiting or tasks:
            while waiting and len(tasks) < n_at_once:
                cell = waiting.popleft()
                folder = out / cell.name
                definition = (folder / CELL).read_text(encoding="utf-8")
                tasks[task.options(**placing, **resources[cell.name]).remote(str(folder), definition)] = cell
                board.watched.add(cell.name)
            for reference in ray.wait([*tasks], timeout=1.0)[0]:
                cell = tasks.pop(reference)
                outcome, n_notices = _outcome(ray, reference, out / cell.name)
                outcomes.append(outcome)
                board.end(outcome, n_notices)
            board.update()
    except BaseException:
        _stop(ray, [*tasks], board)
        raise
    finally:
        if is_ours:
            ray.shutdown()
    return outcomes


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers otherwise
    try:
        import ray
    except ImportError as error:
        raise BlemishError('--ray: ray is not installed; pip install "blemish[fleet]"') from error
    return ray


def _connect(ray: Any, address: str) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False}
    if not address.startswith("ray://"):
        options["logging_level"] = "ERROR"
    if address == "local":
        options["include_dashboard"] = False
    try:
        _check_answers(address)
        ray.init(address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BlemishError(
            f"--ray {address}: no Ray cluster there ({reason}); `ray start --head` starts one, and --ray local one "
            f"for this run"
        ) from error


def _check_answers(address: str) -> None:
    """Raise OSError at once if nothing listens at HOST:PORT, for which Ray tries, and warns, for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()


def _resources(ray: Any, cells: Sequence[Cell], jobs: int | None) -> dict[str, dict[str, float]]:
    """What each cell's task asks of its node, by name.

    Raises
    ------
    BlemishError
        If a cell needs a GPU and the cluster has none.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    has_gpus = any(node.get("GPU") for node in nodes)
    resources = {}
    for cell in cells:
        device = cell.options["device"]
        if device == "cuda" and not has_gpus:
            raise BlemishError(f"cell {cell.name}: device cuda: no node of the cluster has a GPU")
        uses_gpu = has_gpus and device != "cpu"
        if uses_gpu:
            shares = [node.get("CPU", 0) // node["GPU"] for node in nodes if node.get("GPU")]
        else:
            n_at_once = min(len(cells), jobs or len(cells))
            smallest = min((node["CPU"] for node in nodes if node.get("CPU")), default=1)
            shares = [smallest, sum(node.get("CPU", 0) for node in nodes) // n_at_once]
        resources[cell.name] = {"num_cpus": max(1, min(shares)), "num_gpus": int(uses_gpu)}
    return resources


def _outcome(ray: Any, reference: Any, folder: Path) -> tuple[Outcome, int]:
    """How a cell ended, and the number of notices in its log; a failure is in its ``failed.txt`` then."""
    try:
        state, reason, n_notices = ray.get(reference)
    except Exception as error:  # of the task itself: blemish is not installed there, say
        lines = (str(error).strip() or type(error).__name__).splitlines()
        state, reason, n_notices = "failed", f"Ray's task failed: {lines[-1].strip()}", 0
    if state == "failed" and not (folder / FAILED).exists():
        (folder / FAILED).write_text(f"{reason}\n", encoding="utf-8", errors="backslashreplace")
    return Outcome(folder.name, state, reason), n_notices


def _stop(ray: Any, tasks: Sequence[Any], board: Board) -> None:
    """Let all tasks write their checkpoints and end."""
    board.report(f"stopping {len(tasks)} cells; those that run write their checkpoints")
    with suppress(Exception, KeyboardInterrupt):
        for task in tasks:
            ray.cancel(task, force=False)
        ray.wait(tasks, num_returns=len(tasks), timeout=STOP_S)
