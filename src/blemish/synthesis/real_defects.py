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

    def draw(
        self,
        batch_size: int,
        generator: Generator,
        settings: DefectSettings,
        device: torch.device,
        side_px: int | None = None,
    ) -> Spoiled:
        """Draw defects for a batch of ``batch_size``. No defect is drawn twice before all were drawn once.

        Parameters
        ----------
        side_px : of square crops, each of which shows some of its defect; None, or H and W, for whole images.

        Returns
        -------
        Spoiled
            Images (n, 3, h, w) in [0, 1] and masks (n, 1, h, w), n = ``settings.share`` x ``batch_size``, at least 1.
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
        if side_px is not None and side_px < max(samples.shape[-2:]):
            samples = _crops_with_defects(samples, side_px, generator)  # (n, 4, h, w)
        return Spoiled(samples[:, :3], samples[:, 3:])


def _crops_with_defects(samples: Tensor, side_px: int, generator: Generator) -> Tensor:
    """Square crops of images with their masks as last channel, (n, 4, H, W): (n, 4, side, side).

    Each contains a random pixel of its defect, at a random place of the crop unless the image ends there.
    """
    n, _, height, width = samples.shape
    noise, place = drawn(  # (n, H W), (n, 2)
        lambda g: (torch.rand(n, height * width, generator=g), torch.rand(n, 2, generator=g)),
        generator,
        samples.device,
    )
    pixel = (noise * (samples[:, 3] > 0).flatten(1)).argmax(1)  # (n,) a random pixel of the defect
    offset = (place * side_px).long()  # (n, 2)
    top = (pixel // width - offset[:, 0]).clamp(0, height - side_px)  # (n,)
    left = (pixel % width - offset[:, 1]).clamp(0, width - side_px)  # (n,)
    steps = torch.arange(side_px, device=samples.device)
    rows, columns = top[:, None] + steps, left[:, None] + steps  # (n, side) each
    images = torch.arange(n, device=samples.device).view(-1, 1, 1)
    crops = samples.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]]  # (n, side, side, 4)
    return crops.permute(0, 3, 1, 2)
