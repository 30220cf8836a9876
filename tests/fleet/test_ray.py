"""A grid on a Ray cluster of two nodes, of which one dies."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blemish.errors import BlemishError
from blemish.fleet import clusters
from blemish.fleet.cells import Cell
from blemish.fleet.grid import run_grid
from blemish.fleet.plan import read_status
from blemish.fleet.states import Status
from fleet.grids import cell, save_product

ray = pytest.importorskip("ray", reason="ray is not installed (pip install 'blemish[fleet]')")


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.victim = made.add_node(num_cpus=1)
    made.add_node(num_cpus=1)
    ray.init(made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_node_dies_and_all_cells_are_done_once(cluster: Any, tmp_path: Path) -> None:
    product = save_product(tmp_path / "bolt")
    cells = [cell(f"bolt-{seed}", product, seed=seed, evaluated=seed == 0, iterations=100) for seed in range(5)]
    broken = save_product(tmp_path / "bad")
    (broken / "train" / "good" / "0.png").write_bytes(b"")
    cells.append(cell("bad", broken))
    out = tmp_path / "out"
    before: dict[str, int] = {}
    removed: list[bool] = []

    def remove_a_node(status: Status) -> None:
        if status.counts["done"] and status.counts["running"] == 2 and not removed:
            removed.append(True)
            for state in status.cells:
                if state.state == "done":
                    before[state.name] = (out / state.name / "detector.blemish").stat().st_mtime_ns
            cluster.remove_node(cluster.victim, allow_graceful=False)

    lines: list[str] = []
    clusters.SHOW_EVERY_S, kept = 0.5, clusters.SHOW_EVERY_S
    try:
        outcomes = run_grid(cells, out, ray="auto", report=lines.append, show=remove_a_node)
    finally:
        clusters.SHOW_EVERY_S = kept
    assert removed
    assert before
    states = {outcome.name: outcome.state for outcome in outcomes}
    assert states == {"bad": "failed", **{f"bolt-{seed}": "done" for seed in range(5)}}
    assert read_status(out).counts == {"done": 5, "failed": 1}
    assert (out / "bad" / "failed.txt").read_text().startswith("1 of 12 images cannot be used")
    for name, time_ns in before.items():
        assert (out / name / "detector.blemish").stat().st_mtime_ns == time_ns, f"{name} was trained twice"
    for seed in range(5):
        rows = (out / f"bolt-{seed}" / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(row)["total_step"] for row in rows]
        assert steps == sorted(set(steps))
        assert steps[-1] == 100
    assert (out / "bolt-0" / "evaluation" / "metrics.json").exists()
    n_begun = sum((out / state.name / "log.txt").read_text().count("--- ") for state in read_status(out).cells)
    assert n_begun > len(cells), "the cell of the dead node was not tried again"


class FakeRay:
    """What ``_resources`` asks of Ray, on a cluster with these nodes."""

    def __init__(self, *nodes: dict[str, float]) -> None:
        self.resources = nodes

    def nodes(self) -> list[dict[str, Any]]:
        dead = {"Alive": False, "Resources": {"CPU": 1, "GPU": 1}}
        return [{"Alive": True, "Resources": resources} for resources in self.resources] + [dead]


def test_a_cell_asks_for_a_gpu_or_its_share_of_the_cores() -> None:
    cells = [Cell("auto", {"data": "parts"}), Cell("cpu", {"data": "parts", "device": "cpu"})]
    head = {"memory": 1.0}
    with_gpus = FakeRay(head, {"CPU": 16, "GPU": 4}, {"CPU": 64, "GPU": 8})
    assert clusters._resources(with_gpus, cells, None) == {
        "auto": {"num_cpus": 4, "num_gpus": 1},
        "cpu": {"num_cpus": 16, "num_gpus": 0},  # as many as the smallest node has
    }
    without = FakeRay(head, {"CPU": 4}, {"CPU": 8})
    assert clusters._resources(without, cells * 3, None)["auto"] == {"num_cpus": 2, "num_gpus": 0}
    assert clusters._resources(without, cells * 3, 4)["auto"] == {"num_cpus": 3, "num_gpus": 0}
    assert clusters._resources(without, cells * 30, None)["auto"] == {"num_cpus": 1, "num_gpus": 0}
    with pytest.raises(BlemishError, match="cell gpu: device cuda: no node of the cluster has a GPU"):
        clusters._resources(without, [Cell("gpu", {"data": "parts", "device": "cuda"})], None)


def test_no_cluster_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nSee elsewhere.")

    monkeypatch.setattr(ray, "init", refuse)
    cells = [cell("bolt", save_product(tmp_path / "bolt"))]
    with pytest.raises(
        BlemishError, match=r"--ray auto: no Ray cluster there \(Could not find any running Ray"
    ) as error:
        run_grid(cells, tmp_path / "out", ray="auto")
    assert "\n" not in str(error.value)


def test_a_node_that_does_not_share_the_folder_is_named(tmp_path: Path) -> None:
    state, reason, _ = clusters.work_at(str(tmp_path / "not mounted"), "{}")
    assert (state, "does not see" in reason) == ("failed", True)


def test_an_address_where_nothing_listens_is_refused_at_once(tmp_path: Path) -> None:
    cells = [cell("bolt", save_product(tmp_path / "bolt"))]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        for form in (address, f"ray://{address}"):
            with pytest.raises(BlemishError, match=f"--ray {form}: no Ray cluster there"):
                run_grid(cells, tmp_path / "out", ray=form)
