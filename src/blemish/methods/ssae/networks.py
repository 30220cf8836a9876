"""SSAE's network (table 1), and the one that starts from a pretrained encoder, for minutes of training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.layers import Layers, conv_norm_relu, double_conv
from blemish.methods.features import FeatureUNet
from blemish.methods.ssae.settings import SSAESettings


class StackedDilatedConvolution(nn.Module):
    """SDC: parallel convolutions of several dilations, and a 3x3 convolution over their concatenated outputs.

    With the default dilations and kernel f, an output depends on 32 (f - 1) + 3 inputs along each axis.
    """

    def __init__(self, n_in: int, n_filters: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(n_in, n_filters, kernel, padding=d * (kernel // 2), dilation=d) for d in dilations
        )
        self.n_out = n_filters * len(dilations)
        self.merge = conv_norm_relu(self.n_out, self.n_out)
        self.receptive_field = max(dilations) * (kernel - 1) + 3
        """Inputs along each axis that an output depends on."""

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, H, W) -> (B, n_out, H, W)
        x = torch.cat([branch(x) for branch in self.branches], 1)  # (B, n_out, H, W), n_out = n_filters * n_dilations
        merged: Tensor = self.merge(x)  # (B, n_out, H, W)
        return merged


class Autoencoder(nn.Module):
    """F: maps images to images of the same size with values in (0, 1). Sides are multiples of ``multiple_px``."""

    def __init__(self, settings: SSAESettings) -> None:
        super().__init__()
        s, widths = settings, settings.widths
        self.patch_px = s.patch_px
        self.multiple_px = s.multiple_px
        n_pixel = 3 * s.patch_px**2
        encoder, n_in = [], n_pixel
        for width in widths:
            encoder += [double_conv(n_in, width, width), nn.MaxPool2d(2)]
            n_in = width
        middle = []
        for _ in range(s.n_stacks):
            middle.append(StackedDilatedConvolution(n_in, s.filters_per_dilation, s.kernel, s.dilations))
            n_in = middle[-1].n_out
        decoder = []
        for width in reversed(widths):
            decoder += [_up(n_in, width), double_conv(width, width, width)]
            n_in = width
        self.encoder, self.middle, self.decoder = (nn.Sequential(*layers) for layers in (encoder, middle, decoder))
        self.head = nn.Conv2d(n_in, n_pixel, 1)

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 3, H, W) float32 in (0, 1)
        x = F.pixel_unshuffle(images, self.patch_px)  # (B, 3 p^2, h, w) with p = patch_px, h = H / p, w = W / p
        x = self.encoder(x)  # (B, widths[-1], h / 2^n, w / 2^n), n = len(widths)
        x = self.middle(x)  # (B, filters_per_dilation * len(dilations), h / 2^n, w / 2^n)
        x = self.decoder(x)  # (B, widths[0], h, w)
        values: Tensor = self.head(x).float().sigmoid()  # (B, 3 p^2, h, w)
        return F.pixel_shuffle(values, self.patch_px)  # (B, 3, H, W)


def _up(n_in: int, n_out: int) -> Layers:
    """Transposed 3x3 convolution that doubles the size, batch norm, ReLU."""
    transposed = nn.ConvTranspose2d(n_in, n_out, 3, stride=2, padding=1, output_padding=1)
    return Layers(transposed, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


class ResidualFilter(nn.Module):
    """F(X) = X + D(X): what is to be changed in X, from what an ImageNet encoder sees of it. Ours.

    A new network reproduces its input, as D starts at zero. So training is spent on the repair alone, where an
    autoencoder spends most of it on learning to draw the product.
    """

    multiple_px = FeatureUNet.multiple_px

    def __init__(self, settings: SSAESettings) -> None:
        super().__init__()
        stacks, n_now = [], settings.widths[1]
        for _ in range(settings.n_stacks):
            stacks.append(
                StackedDilatedConvolution(n_now, settings.filters_per_dilation, settings.kernel, settings.dilations)
            )
            n_now = stacks[-1].n_out
        self.change = FeatureUNet(3, 3, settings.widths, stacks, n_now)
        nn.init.zeros_(self.change.head.weight)
        nn.init.zeros_(self.change.head.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, 3, H, W) float32, about [0, 1]
        repaired: Tensor = images.float() + self.change(images, images).float()
        return repaired


def network_for(settings: SSAESettings) -> Autoencoder | ResidualFilter:
    """A new network F as the settings say."""
    return Autoencoder(settings) if settings.encoder == "trained" else ResidualFilter(settings)
