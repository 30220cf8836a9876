"""Real defects for supervised learning: a few photographs with masks, rotated and mirrored (DSR section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from blemish.settings import CheckedSettings
from blemish.synthesis.draw import drawn
from blemish.synthesis.geometry import randomly_mirror_and_turn
from blemish.synthesis.pasted_textures import Spoiled


@dataclass(frozen=True)
class DefectSettings(CheckedSettings):
    """How real defects, if there are any, are added to the simulated ones."""

    share: float = 0.5
    """Real defects added to a batch, as a share of its images; at least one. With 0.5, if half of the images have a
    simulated defect, there are as many real defects as simulated ones and as good images."""
    mirror: bool = True
    """Mirror the defects at random."""
    turn: bool = True
    """Rotate the defects by random multiples of 90 degrees."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("share", least=0.0, most=4.0)


class DefectBank:
    """Photographs of defective parts with masks of their defects.

    Parameters
    ----------
    images : (K, 3, H, W) uint8.
    masks : (K, 1, H, W) uint8, 1 where defective.
    """

    def __init__(self, images: Tensor, masks: Tensor) -> None:
        self.images = torch.cat([images, masks * 255], 1)  # (K, 4, H, W): the mask is the fourth channel

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, batch_size: int, generator: Generator, settings: DefectSettings, device: torch.device) -> Spoiled:
        """Draw defects for a batch of ``batch_size``. No defect is drawn twice before all were drawn once.

        Returns
        -------
        Spoiled
            Images (n, 3, H, W) in [0, 1] and masks (n, 1, H, W), n = ``settings.share`` x ``batch_size``, at least 1.
        """
        n = max(1, round(settings.share * batch_size))

        def make(generator: Generator) -> Tensor:
            rounds = [torch.randperm(len(self), generator=generator) for _ in range(-(-n // len(self)))]
            return torch.cat(rounds)[:n]

        self.images = self.images.to(device)
        samples = randomly_mirror_and_turn(  # (n, 4, H, W)
            self.images[drawn(make, generator, device)], generator,
            horizontally=settings.mirror, vertically=settings.mirror, quarter_turns=settings.turn,
        ).float() / 255.0  # fmt: skip
        return Spoiled(samples[:, :3], samples[:, 3:])
