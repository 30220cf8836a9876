"""The sheet of what a method trains on."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from blemish.commands.study import damage_run
from blemish.errors import BlemishError
from blemish.methods.dsr.vq import VQAutoencoder
from blemish.studies.damage import PICTURE_PX, DamageRow, sheet
from learning.test_fit import save_parts

SMALL = ["image_size_px=64", "batch_size=4"]


def run(data: Path, out: Path, method: str, n_images: int = 3) -> list[dict[str, str]]:
    damage_run(
        data, out, method=method, recipe="small", textures=None, n_images=n_images, seed=0, layout="auto",
        assignments=SMALL,
    )  # fmt: skip
    return list(csv.DictReader((out / "damage.csv").open()))


@pytest.fixture(autouse=True)
def a_small_codebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.methods.dsr.load_codebook", lambda *path: VQAutoencoder(40, 8, 4, 1))


@pytest.mark.parametrize("method", ["draem", "dsr", "ssae"])
def test_each_ablation_has_a_row_and_its_damage_is_measured(tmp_path: Path, method: str) -> None:
    rows = run(save_parts(tmp_path / "good", 12), tmp_path / "study", method)
    assert len(rows) >= 6
    assert len({row["damage"] for row in rows}) == len(rows)
    assert all(0 < float(row["mean_share"]) <= float(row["largest_share"]) <= 1 for row in rows)
    picture = np.asarray(Image.open(tmp_path / "study" / "damage.png"))
    assert picture.shape[1] == 3 * (PICTURE_PX + 8)
    assert "data:image/jpeg" in (tmp_path / "study" / "damage.html").read_text()
    assert json.loads((tmp_path / "study" / "damage.json").read_text())["size_px"] == 64


def test_rows_of_one_seed_are_damaged_at_the_same_places(tmp_path: Path) -> None:
    rows = {row["damage"]: row for row in run(save_parts(tmp_path / "good", 12), tmp_path / "study", "draem")}
    assert rows["colour"]["mean_share"] != rows["rectangles"]["mean_share"]
    opaque, mixed = (rows[name] for name in ("no-augmentation", "opacity"))
    assert float(opaque["mean_share"]) == pytest.approx(float(mixed["mean_share"]), rel=0.1)


def test_the_sheet_shows_what_is_not_damaged_once() -> None:
    good = torch.full((2, 3, 8, 8), 100, dtype=torch.uint8)
    pictures = {"decoded": np.zeros((2, 8, 8, 3), np.uint8), "decoded, damaged": np.ones((2, 8, 8, 3), np.uint8)}
    rows = [DamageRow(name, pictures, np.zeros((2, 8, 8), np.float32)) for name in ("first", "second")]
    height = sheet(good, rows).shape[0]
    assert height == 4 * sheet(good, []).shape[0]  # the good images, one clean and two damaged strips
    assert rows[0].figures() == {"damage": "first", "mean_share": 0.0, "largest_share": 0.0, "images_without": 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"method": "dream"}, "unknown method"), ({"n_images": 1}, "--images 1: should be at least 2")],
)
def test_bad_input_is_reported(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    arguments = {"method": "draem", "n_images": 3} | changes
    with pytest.raises(BlemishError, match=message):
        run(save_parts(tmp_path / "good", 12), tmp_path / "study", **arguments)  # type: ignore[arg-type]
