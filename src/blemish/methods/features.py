"""A U-Net whose encoder has learned to see on photographs of everything: the start of all recipes ``small``.

It is ours, and in none of the three papers. Who trains for minutes cannot afford to learn edges, grain and print from
a few hundred photographs of one product. The encoder is the network that comes with blemish (``backbones.py``,
EfficientNet-lite0 of ImageNet); only the decoder is trained, and where a stage says so, the encoder more slowly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.backbones import load_backbone
from blemish.errors import BlemishError
from blemish.layers import conv_norm_relu, double_conv, upsample_twice

EncoderKind = Literal["trained", "imagenet"]
"""Setting ``encoder``: ``trained`` is the paper's network, all of it trained; ``imagenet`` is a ``FeatureUNet``."""


def check_feature_widths(name: str, widths: tuple[int, ...]) -> None:
    """Raise BlemishError unless the setting ``name`` has the three widths of a ``FeatureUNet``."""
    if len(widths) != len(FeatureUNet.stages):
        raise BlemishError(
            f"setting {name}: {widths} should be three with encoder imagenet, the channels at 1/4, 1/8 and 1/16 of "
            f"the image's size, such as [32, 64, 96]"
        )


class FeatureUNet(nn.Module):
    """Decodes what a pretrained encoder sees of an image, beside pictures in patches of 4x4 pixels.

    Parameters
    ----------
    n_in, n_out : channels of the pictures and of the output.
    widths : channels of the decoder at 1/4, 1/8 and 1/16 of the image's size.
    context : layers at 1/8 of the size, from ``widths[1]`` to ``n_context`` channels.
    """

    patch_px: ClassVar[int] = 4
    multiple_px: ClassVar[int] = 16
    """Both sides of an image are multiples of this."""
    stages: ClassVar[tuple[int, ...]] = (1, 2, 4)
    """The encoder's stages that are decoded, at 1/4, 1/8 and 1/16 of the size."""

    def __init__(
        self, n_in: int, n_out: int, widths: tuple[int, ...], context: Iterable[nn.Module] = (), n_context: int = 0
    ) -> None:
        super().__init__()
        self.encoder = load_backbone(n_stages=max(self.stages) + 1)
        n_fine, n_middle, n_coarse = (self.encoder.channels[stage] for stage in self.stages)
        fine, middle, coarse = widths
        self.coarse = conv_norm_relu(n_coarse, coarse)
        self.reduce_coarse = nn.Conv2d(coarse, coarse // 2, 1)
        self.middle = nn.Sequential(conv_norm_relu(coarse // 2 + n_middle, middle), *context)
        self.reduce_middle = nn.Conv2d(n_context or middle, middle // 2, 1)
        self.patches = nn.Conv2d(n_in * self.patch_px**2, fine, 1)
        self.fine = double_conv(middle // 2 + n_fine + fine, fine, fine)
        self.head = nn.Conv2d(fine, n_out * self.patch_px**2, 3, padding=1)

    def forward(self, pictures: Tensor, images: Tensor) -> Tensor:
        """Output (B, n_out, H, W) for pictures (B, n_in, H, W) and the images (B, 3, H, W) in [0, 1] to encode."""
        features = self.encoder(images)  # of each stage (B, n, h, w)
        fine, middle, coarse = (features[stage] for stage in self.stages)
        x = self.reduce_coarse(self.coarse(coarse))  # (B, coarse / 2, H / 16, W / 16)
        x = self.middle(torch.cat([upsample_twice(x), middle], 1))  # (B, middle or n_context, H / 8, W / 8)
        patches = self.patches(F.pixel_unshuffle(pictures, self.patch_px))  # (B, fine, H / 4, W / 4)
        x = torch.cat([upsample_twice(self.reduce_middle(x)), fine, patches], 1)  # (B, ..., H / 4, W / 4)
        return F.pixel_shuffle(self.head(self.fine(x)), self.patch_px)  # (B, n_out, H, W)


def encoders_of(module: nn.Module) -> list[nn.Module]:
    """The pretrained encoders in a module: of each ``FeatureUNet`` one."""
    return [part.encoder for part in module.modules() if isinstance(part, FeatureUNet)]


def encoder_parameters(module: nn.Module) -> tuple[nn.Parameter, ...]:
    """The parameters of the pretrained encoders in a module."""
    return tuple(parameter for encoder in encoders_of(module) for parameter in encoder.parameters())


def own_parameters(module: nn.Module) -> tuple[nn.Parameter, ...]:
    """The parameters of a module that are not those of a pretrained encoder."""
    pretrained = set(encoder_parameters(module))
    return tuple(parameter for parameter in module.parameters() if parameter not in pretrained)
