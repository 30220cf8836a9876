"""Good images of a run: in memory, or in a memory-mapped file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import blemish
from blemish.data import loading
from blemish.errors import BlemishError
from blemish.inspection.framing import Tiles, Whole
from blemish.learning import images as images_of_a_run
from learning.test_fit import TINY, save_parts


def test_images_that_do_not_fit_into_memory_lie_in_a_file_and_train_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, temporary = save_parts(tmp_path / "good", 14), tmp_path / "temporary"
    temporary.mkdir()
    options: dict[str, Any] = {"settings": TINY, "false_rejects": 0.2}
    in_memory = blemish.fit(folder, **options)
    monkeypatch.setattr(loading, "MEMORY_SHARE", 0.0)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    mapped: list[bool] = []
    true_load = images_of_a_run.load_photographs

    def watched(*arguments: Any, **more: Any) -> tuple[torch.Tensor, list[tuple[int, int]]]:
        loaded = true_load(*arguments, **more)
        maps = Path("/proc/self/maps")
        mapped.append(not maps.exists() or f"{temporary}/" in maps.read_text())
        return loaded

    monkeypatch.setattr(images_of_a_run, "load_photographs", watched)
    in_file = blemish.fit(folder, **options)
    assert mapped == [True]
    assert not list(temporary.iterdir())
    assert in_file.provenance["data_sha256"] == in_memory.provenance["data_sha256"]
    assert in_file.calibration_scores == in_memory.calibration_scores
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(BlemishError, match="set TMPDIR to a folder on a larger disk"):
        blemish.fit(folder, **options)


@pytest.mark.parametrize(
    ("sizes_hw", "smallest_px"),
    [([(320, 64)] * 3, 30.0), ([(32, 16)] * 3, 3.0), ([(8, 8), (64, 64), (320, 64)], 6.0)],
)
def test_the_smallest_blemish_that_is_usually_seen(sizes_hw: list[tuple[int, int]], smallest_px: float) -> None:
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    split = images_of_a_run.SplitImages(images, images, images, None, sizes_hw)
    assert split.smallest_blemish_px(Whole((32, 32))) == smallest_px
    assert split.smallest_blemish_px(Tiles((32, 32), 8)) == 3.0
