"""Real defects that are added to the simulated ones."""

from __future__ import annotations

import pytest
import torch

from blemish.errors import BlemishError
from blemish.synthesis.real_defects import DefectBank, DefectSettings

CPU = torch.device("cpu")


def bank(n: int, size_px: int = 8) -> DefectBank:
    """Image number k has the grey value 10 k; its defect, at the left, is 100 brighter."""
    images = torch.arange(n, dtype=torch.uint8).view(-1, 1, 1, 1).expand(n, 3, size_px, size_px) * 10
    masks = torch.zeros(n, 1, size_px, size_px, dtype=torch.uint8)
    masks[:, :, 1:4, 0] = 1
    return DefectBank(images + 100 * masks, masks)


def image_numbers(images: torch.Tensor) -> list[int]:
    """Numbers k of drawn images."""
    return [round(image.min().item() * 25.5) for image in images]


def test_masks_go_where_the_defects_go() -> None:
    images, masks = bank(5).draw(64, torch.Generator().manual_seed(0), DefectSettings(), CPU)
    assert images.shape == (32, 3, 8, 8)
    assert masks.shape == (32, 1, 8, 8)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(masks.sum((1, 2, 3)), torch.full((32,), 3.0))
    brightness = images - images.amin((1, 2, 3), keepdim=True)
    torch.testing.assert_close(brightness, (masks * (100 / 255)).expand_as(images), atol=1e-6, rtol=0)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 8, "every way to turn and mirror is drawn"


def test_without_turns_and_mirrors_they_stay_as_they_are() -> None:
    _, masks = bank(5).draw(64, torch.Generator().manual_seed(0), DefectSettings(mirror=False, turn=False), CPU)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 1


@pytest.mark.parametrize(("n_defects", "share", "n"), [(3, 0.5, 4), (16, 0.5, 4), (1, 1.0, 8), (20, 0.01, 1)])
def test_none_is_drawn_twice_before_all_were_drawn(n_defects: int, share: float, n: int) -> None:
    images, _ = bank(n_defects).draw(8, torch.Generator().manual_seed(1), DefectSettings(share=share), CPU)
    drawn = image_numbers(images)
    assert len(drawn) == n
    assert len(set(drawn)) == min(n, n_defects)


def test_a_share_is_checked() -> None:
    with pytest.raises(BlemishError, match="share"):
        DefectSettings(share=-1.0)
