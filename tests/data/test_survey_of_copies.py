"""`blemish data` names photographs that are there twice, with different bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from blemish.data.survey import survey


def test_a_photograph_that_was_saved_again_is_reported(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 220, (16, 20, 20), dtype=np.uint8)
    textures = [Image.fromarray(pixels).resize((200, 200), Image.Resampling.BICUBIC) for pixels in coarse]
    for folder in ("train/good", "test/good", "test/dent"):
        (tmp_path / folder).mkdir(parents=True)
    for number, texture in enumerate(textures[:12]):
        texture.save(tmp_path / f"train/good/{number}.png")
    textures[3].save(tmp_path / "train/good/copy.jpg", quality=90)
    textures[5].resize((100, 100), Image.Resampling.BOX).save(tmp_path / "test/good/small.png")
    textures[12].save(tmp_path / "test/good/new.png")
    textures[13].save(tmp_path / "test/dent/new.png")
    problems = [
        problem
        for problem in [(problem.about, problem.text) for problem in survey(tmp_path).problems]
        if problem[0] in ("leak", "duplicate", "contradiction")
    ]
    (leak, leak_text), (duplicate, duplicate_text) = problems
    assert (leak, duplicate) == ("leak", "duplicate")
    assert "train/good/5.png (train, good) and " in leak_text
    assert "test/good/small.png (test, good) show the same photograph" in leak_text
    assert "train/good/3.png (train, good) and " in duplicate_text
    assert "train/good/copy.jpg (train, good) show the same photograph" in duplicate_text
