"""Many images as one tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from blemish.data.loading import load_images, resize
from learning.test_fit import part, save_parts


def test_resize_averages_when_it_shrinks() -> None:
    checker = np.indices((64, 64)).sum(0).astype(np.uint8) % 2 * 200
    assert (resize(checker, (32, 32)) == 100).all()
    lines = np.zeros((2000, 100), dtype=np.uint8)
    lines[::20] = 200  # thin lines in a strip whose width grows while its height shrinks
    assert (abs(resize(lines, (100, 128)).astype(int) - 10) <= 1).all()
    assert resize(checker, (100, 80)).shape == (100, 80)
    assert resize(checker, (100, 20)).shape == (100, 20)


def test_load_images_keeps_the_order(tmp_path: Path) -> None:
    folder = save_parts(tmp_path, 5)
    loaded = load_images([folder / f"part {number}.png" for number in (3, 1)], (40, 50))
    assert loaded.dtype == torch.uint8
    assert torch.equal(loaded[1].permute(1, 2, 0), torch.from_numpy(part(1)))
