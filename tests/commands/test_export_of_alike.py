"""``export --good``: only photographs of the product set the ranges of 8-bit numbers, or are compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import blemish
from blemish.commands.export import export_run
from blemish.errors import BlemishError
from learning.test_fit import TINY, part, save_parts


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    blemish.fit(save_parts(folder / "good", 20), settings=TINY, device="cpu", out=folder / "run")
    (folder / "others").mkdir()
    for number in range(6):
        Image.fromarray(255 - part(number)).save(folder / "others" / f"other {number}.png")
    return folder


def test_photographs_of_another_product_are_refused(workshop: Path, tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match=r"others: 6 of 6 photographs are unlike those of .*detector\.blemish"):
        export_run(workshop / "run", tmp_path / "new" / "x.onnx", "float32", workshop / "others", "auto")
    assert not (tmp_path / "new").exists()


def test_strays_are_named_and_left_out(workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixed = save_parts(tmp_path / "mixed", 4)
    Image.fromarray(255 - part(9)).save(mixed / "stray.png")
    export_run(workshop / "run", tmp_path / "new" / "x.onnx", "float32", mixed, "auto")
    out, err = capsys.readouterr()
    assert "mixed: 1 of 5 photographs are unlike those of" in err
    assert "stray.png: much brighter than any good image); they are left out" in err
    assert "4 good images: scores change by at most" in out
    assert (tmp_path / "new" / "x.onnx").exists()
