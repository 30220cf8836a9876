"""Without Ray, a cluster is refused in a line that says what to install."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from blemish.errors import BlemishError
from blemish.fleet.grid import run_grid
from fleet.grids import cell, save_product


def test_ray_that_is_missing_is_told_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    cells = [cell("bolt", save_product(tmp_path / "bolt"))]
    with pytest.raises(BlemishError, match=r'--ray: ray is not installed; pip install "blemish\[fleet\]"'):
        run_grid(cells, tmp_path / "out", ray="local")
