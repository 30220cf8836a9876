"""DSR's networks that learn one product: the object-specific decoder (section 3.3, figure 4), in two parts.

Zavrtanik, Kristan, Skočaj, ECCV 2022, https://arxiv.org/abs/2208.01521
"""

from __future__ import annotations

from torch import Tensor, nn

from blemish.layers import Encoder, UNet, conv_norm_relu, double_conv, upsample_twice
from blemish.methods.dsr.vq import double, image_decoder


class SubspaceRestriction(nn.Module):
    """Restores the features of a good part from any codes; no skip connections (figure 4). 7.82 M parameters."""

    def __init__(self, n_features: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = Encoder(n_features, widths, nn.InstanceNorm2d)
        n_now, self.ups, self.blocks = widths[-1], nn.ModuleList(), nn.ModuleList()
        for n_out in reversed(widths[:-1]):
            self.ups.append(conv_norm_relu(n_now, n_out, nn.InstanceNorm2d))
            self.blocks.append(double_conv(n_out, n_out, n_out, nn.InstanceNorm2d))
            n_now = n_out
        self.head = nn.Conv2d(n_now, n_features, 3, padding=1)

    def forward(self, quantized: Tensor) -> Tensor:  # Q (B, D, h, w) -> F~ (B, D, h, w) float32
        x = self.encoder(quantized)[-1]  # (B, widths[-1], h / 2^n, w / 2^n), n = len(widths) - 1
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = block(up(upsample_twice(x)))  # (B, n_out, 2 h', 2 w'): twice the size at each step
        features: Tensor = self.head(x)  # (B, D, h, w)
        return features.float()


class ResidualRestriction(nn.Module):
    """F~ = K Q + R: keeps a share K of the features and adds R, both of a U-Net with skip connections. Ours.

    The bottleneck above has to learn all that makes up a good part before damage can show. After minutes, the grain
    of a surface is still lost, and its loss hides defects. This network begins with K = 0.88 and R = 0, and learns
    what to take away.
    """

    def __init__(self, n_features: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        up_widths = tuple(reversed(widths[:-1]))
        self.unet = UNet(n_features, widths, up_widths, norm=nn.InstanceNorm2d, n_out=2 * n_features)
        weight, bias = self.unet.head.weight, self.unet.head.bias
        assert bias is not None
        for tensor in (weight, bias):
            nn.init.zeros_(tensor)
        nn.init.constant_(bias[:n_features], 2.0)  # sigmoid(2) = 0.88

    def forward(self, quantized: Tensor) -> Tensor:  # Q (B, D, h, w) -> F~ (B, D, h, w) float32
        keep, change = self.unet(quantized).float().chunk(2, 1)  # (B, D, h, w) each
        features: Tensor = keep.sigmoid() * quantized + change  # (B, D, h, w)
        return features


class ObjectSpecificDecoder(nn.Module):
    """Decodes Q~_lo and Q~_hi, concatenated, to I_spc (section 3.3). 9.42 M parameters by default."""

    def __init__(self, n_features: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        first, second, third = widths
        self.layers = nn.Sequential(  # input (B, 2 D, H / 4, W / 4)
            double_conv(2 * n_features, first, second, nn.InstanceNorm2d),
            nn.MaxPool2d(2),  # (B, second, H / 8, W / 8)
            double_conv(second, second, third, nn.InstanceNorm2d),
            nn.MaxPool2d(2),  # (B, third, H / 16, W / 16)
            nn.Conv2d(third, 64, 1), double(64, 64), nn.ReLU(), double(64, 64), nn.ReLU(),  # (B, 64, H / 4, W / 4)
            image_decoder(64, 128, 64, 2),  # (B, 3, H, W)
        )  # fmt: skip

    def forward(self, joined: Tensor) -> Tensor:  # (B, 2 D, H / 4, W / 4) -> (B, 3, H, W) float32, about [0, 1]
        image: Tensor = self.layers(joined)
        return image.float()


def initialize(module: nn.Module) -> None:
    """The authors' initial weights of the image decoder and the detection module: N(0, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
