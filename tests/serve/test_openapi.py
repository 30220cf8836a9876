"""The description of the interface is true: schemathesis sends what it allows and what it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import DEFECTIVE, Running, running

pytest.importorskip("schemathesis")


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path) as each:
        for _ in range(3):
            each.inspect(DEFECTIVE).raise_for_status()
        yield each


def test_every_path_of_the_interface_is_described(line: Running) -> None:
    paths = line.http.get("/openapi.json").json()["paths"]
    assert {
        "/products", "/products/{product}", "/products/{product}/inspect", "/products/{product}/recalibrate",
        "/verdicts", "/verdicts/{number}", "/verdicts/{number}/image", "/verdicts/{number}/overlay",
        "/verdicts/{number}/review", "/events", "/metrics", "/health", "/v2", "/v2/health/live", "/v2/health/ready",
        "/v2/models/{product}", "/v2/models/{product}/ready", "/v2/models/{product}/infer",
    } <= set(paths)  # fmt: skip
    described = {status for path in paths.values() for each in path.values() for status in each["responses"]}
    assert "422" not in described


def test_schemathesis_finds_nothing(line: Running, tmp_path: Path) -> None:
    command = [
        Path(sys.executable).with_name("schemathesis"), "run", f"{line.url}/openapi.json", "--max-examples", "4",
        "--seed", "1", "--phases", "examples,coverage,fuzzing", "--exclude-path", "/events",
        "--request-timeout", "60", "--generation-database", "none",
        "--exclude-checks", "positive_data_acceptance",  # bytes at random are no photograph
    ]  # fmt: skip
    words, environment = list(map(str, command)), os.environ | {"NO_COLOR": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=400, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
