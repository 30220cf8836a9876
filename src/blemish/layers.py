"""Layers that several methods share. They have no state except their weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.devices import kernels_for

Norm = Callable[[int], nn.Module]


class Layers(nn.Sequential):
    """``nn.Sequential`` that fuses the norm and the ReLU behind a convolution on a GPU: fewer passes over memory."""

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        while layers:
            layer = layers.pop(0)
            kernels = kernels_for(x) if len(layers) > 1 and _uses_input_statistics(layers[0]) else None
            if kernels is not None and isinstance(layers[1], nn.ReLU):
                x, bias = _without_bias(layer, x)  # (B, C, H, W), (C,)
                x = kernels.norm_relu(x, layers[0], bias)  # (B, C, H, W)
                del layers[:2]
            else:
                x = layer(x)
        return x


def _uses_input_statistics(layer: nn.Module) -> bool:
    """Whether a layer is a norm that computes its statistics from its input."""
    if isinstance(layer, nn.BatchNorm2d):
        return layer.training
    return isinstance(layer, nn.InstanceNorm2d) and not layer.track_running_stats


def _without_bias(layer: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """A convolution's output without its bias, and the bias (None if there is none); other layers run as usual."""
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation, layer.groups), layer.bias
    if isinstance(layer, nn.ConvTranspose2d):
        geometry: tuple[Any, ...] = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
        return F.conv_transpose2d(x, layer.weight, None, *geometry), layer.bias
    return layer(x), None


def conv_norm_relu(n_in: int, n_out: int, norm: Norm = nn.BatchNorm2d) -> Layers:
    """3x3 convolution, norm, ReLU. (B, n_in, H, W) to (B, n_out, H, W)."""
    # Instance norm returns a view. Changing a view in place costs autograd three copies.
    in_place = norm is nn.BatchNorm2d
    return Layers(nn.Conv2d(n_in, n_out, 3, padding=1), norm(n_out), nn.ReLU(in_place))


def double_conv(n_in: int, n_middle: int, n_out: int, norm: Norm = nn.BatchNorm2d) -> Layers:
    """Two 3x3 convolutions, each with norm and ReLU. (B, n_in, H, W) to (B, n_out, H, W)."""
    return Layers(*conv_norm_relu(n_in, n_middle, norm), *conv_norm_relu(n_middle, n_out, norm))


class Encoder(nn.Module):
    """Blocks of two convolutions with max-pooling between the blocks. Returns the output of every block."""

    def __init__(self, n_in: int, widths: tuple[int, ...], norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        inputs = (n_in, *widths[:-1])
        self.blocks = nn.ModuleList(double_conv(i, o, o, norm) for i, o in zip(inputs, widths, strict=True))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> list[Tensor]:  # (B, n_in, H, W)
        features = []
        for level, block in enumerate(self.blocks):
            x = block(self.pool(x) if level else x)  # (B, widths[level], H / 2^level, W / 2^level)
            features.append(x)
        return features


class UNet(nn.Module):
    """An encoder and a decoder with a skip connection at every resolution.

    Parameters
    ----------
    n_in : channels of the input.
    widths : channels of each encoder block; H and W are multiples of ``patch_px`` x 2^(number of blocks - 1).
    up_widths : output channels of each decoder step, the deepest first.
    patch_px : the network works on patches of this side as if they were pixels; the output has full resolution.
    n_out : channels of the output; two are logits, of which channel 1 is the anomaly.
    """

    def __init__(
        self,
        n_in: int,
        widths: tuple[int, ...],
        up_widths: tuple[int, ...],
        patch_px: int = 1,
        norm: Norm = nn.BatchNorm2d,
        n_out: int = 2,
    ) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.encoder = Encoder(n_in * patch_px**2, widths, norm)
        n_now, self.ups, self.blocks = widths[-1], nn.ModuleList(), nn.ModuleList()
        for n_skip, n_up in zip(reversed(widths[:-1]), up_widths, strict=True):
            self.ups.append(conv_norm_relu(n_now, n_up, norm))
            self.blocks.append(double_conv(n_up + n_skip, n_up, n_up, norm))
            n_now = n_up
        self.head = nn.Conv2d(n_now, n_out * patch_px**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, H, W) -> (B, n_out, H, W)
        x = F.pixel_unshuffle(x, self.patch_px)  # (B, n_in * p^2, h, w) with p = patch_px, h = H / p, w = W / p
        *skips, x = self.encoder(x)  # level k: (B, widths[k], h / 2^k, w / 2^k)
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = torch.cat([up(upsample_twice(x)), skips.pop()], 1)  # (B, n_up + n_skip, 2 h', 2 w')
            x = block(x)  # (B, n_up, 2 h', 2 w'): twice the size at each step
        x = self.head(x)  # (B, n_out p^2, h, w)
        return F.pixel_shuffle(x, self.patch_px)  # (B, n_out, H, W)


def upsample_twice(x: Tensor) -> Tensor:
    """Double height and width, bilinear with aligned corners. (B, C, H, W) to (B, C, 2H, 2W)."""
    if x.device.type == "cpu" or torch.compiler.is_compiling():  # an exported graph keeps the interpolation operator
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
    return upsample_by_products(x)


def upsample_by_products(x: Tensor) -> Tensor:
    """``upsample_twice`` as a product with a banded matrix along each axis, which reads memory sequentially.

    Parameters
    ----------
    x : (B, C, H, W) float, channels last or not.

    Returns
    -------
    (B, C, 2H, 2W) in the same memory format, to the precision of x's dtype.
    """
    n_images, n_channels, height, width = x.shape
    rows = upsampling_matrix(height, x.dtype, x.device)  # (2H, H)
    columns = upsampling_matrix(width, x.dtype, x.device)  # (2W, W)
    if n_channels > 1 and x.is_contiguous(memory_format=torch.channels_last):
        flat = x.permute(0, 2, 3, 1).reshape(n_images, height, width * n_channels)  # (B, H, W C)
        tall = torch.bmm(rows.expand(n_images, -1, -1), flat)  # (B, 2H, W C)
        flat = tall.view(n_images * 2 * height, width, n_channels)  # (B 2H, W, C)
        large = torch.bmm(columns.expand(len(flat), -1, -1), flat)  # (B 2H, 2W, C)
        return large.view(n_images, 2 * height, 2 * width, n_channels).permute(0, 3, 1, 2)  # (B, C, 2H, 2W)
    flat = x.reshape(n_images * n_channels, height, width)  # (B C, H, W)
    tall = torch.bmm(rows.expand(len(flat), -1, -1), flat)  # (B C, 2H, W)
    return F.linear(tall, columns).view(n_images, n_channels, 2 * height, 2 * width)  # (B, C, 2H, 2W)


@functools.cache  # never evicted: a CUDA graph that reads the matrix does not keep it alive
def upsampling_matrix(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Matrix that doubles the number of samples along an axis: linear interpolation with aligned ends.

    Returns
    -------
    (2 length, length) of ``dtype``, with two neighbouring weights in each row. They sum to exactly 1 in any
    precision, so a constant input stays constant. Do not write to it.
    """
    with torch.inference_mode(False):  # first needed by an inspection, it must be usable in training, too
        position = torch.arange(2 * length, dtype=torch.float64) * (length - 1) / (2 * length - 1)  # (2 length,)
        left = position.floor()
        steps = 2.0 / torch.finfo(dtype).eps  # numbers from 1/2 to 1 are multiples of 1 / steps
        fraction = ((position - left) * steps).round() / steps  # the weight of the right neighbour
        offset = torch.arange(length) - left[:, None]  # (2 length, length)
        weights = (offset == 0) * (1.0 - fraction[:, None]) + (offset == 1) * fraction[:, None]
        return weights.to(dtype).to(device)


def pad_to_multiple(images: Tensor, multiple_px: int) -> Tensor:
    """Repeat the border at the bottom and right until H and W are multiples of ``multiple_px``."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple_px, 0, -height % multiple_px), mode="replicate")


def blur_matrix(length: int, window_px: int, sigma_px: float, device: torch.device) -> Tensor:
    """Gaussian blur along an axis as a matrix, with zero padding: ``blur_matrix(H, ...) @ x`` blurs columns.

    Returns
    -------
    (length, length) float32, symmetric and banded; the window sums to 1. Do not write to it.
    """
    if torch.compiler.is_compiling():  # a traced tensor must not get into the cache
        return _blur_matrix(length, window_px, sigma_px, device)
    return _cached_blur_matrix(length, window_px, sigma_px, device)


@functools.cache  # never evicted, as in upsampling_matrix
def _cached_blur_matrix(length: int, window_px: int, sigma_px: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # as in upsampling_matrix
        return _blur_matrix(length, window_px, sigma_px, device)


def _blur_matrix(length: int, window_px: int, sigma_px: float, device: torch.device) -> Tensor:
    distance = torch.arange(length)[:, None] - torch.arange(length)  # (length, length)
    reach = torch.arange(window_px) - window_px // 2
    total = torch.exp(-(reach**2) / (2 * sigma_px**2)).sum()
    blur = torch.exp(-(distance**2) / (2 * sigma_px**2)) / total * (distance.abs() <= window_px // 2)
    return blur.to(device)
