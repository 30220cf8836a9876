"""Layers that more than one method uses. Pure: no state beyond their weights."""

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
    """``nn.Sequential``; on a GPU a convolution, the norm and the ReLU behind it take fewer passes over memory."""

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self)
        while parts:
            part = parts.pop(0)
            kernels = kernels_for(x) if len(parts) > 1 and _norms_by_what_it_sees(parts[0]) else None
            if kernels is not None and isinstance(parts[1], nn.ReLU):
                x, bias = _convolved(part, x)
                x = kernels.norm_relu(x, parts[0], bias)
                del parts[:2]
            else:
                x = part(x)
        return x


def _norms_by_what_it_sees(part: nn.Module) -> bool:
    """Whether a layer is a norm by the statistics of its input."""
    if isinstance(part, nn.BatchNorm2d):
        return part.training
    return isinstance(part, nn.InstanceNorm2d) and not part.track_running_stats


def _convolved(part: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """What a layer gives without its bias, and the bias that is still to be added, if it has one."""
    if isinstance(part, nn.Conv2d):
        return F.conv2d(x, part.weight, None, part.stride, part.padding, part.dilation, part.groups), part.bias
    if isinstance(part, nn.ConvTranspose2d):
        geometry: tuple[Any, ...] = (part.stride, part.padding, part.output_padding, part.groups, part.dilation)
        return F.conv_transpose2d(x, part.weight, None, *geometry), part.bias
    return part(x), None


def conv_norm_relu(n_in: int, n_out: int, norm: Norm = nn.BatchNorm2d) -> Layers:
    """3x3 convolution, norm, ReLU. (B, n_in, H, W) to (B, n_out, H, W)."""
    in_place = norm is nn.BatchNorm2d  # instance norm gives a view: of one changed in place, autograd makes 3 copies
    return Layers(nn.Conv2d(n_in, n_out, 3, padding=1), norm(n_out), nn.ReLU(in_place))


def double_conv(n_in: int, n_middle: int, n_out: int, norm: Norm = nn.BatchNorm2d) -> Layers:
    """Two 3x3 convolutions, each with norm and ReLU. (B, n_in, H, W) to (B, n_out, H, W)."""
    return Layers(*conv_norm_relu(n_in, n_middle, norm), *conv_norm_relu(n_middle, n_out, norm))


class Encoder(nn.Module):
    """Blocks of two convolutions with max-pooling between them. Returns the output of every block."""

    def __init__(self, n_in: int, widths: tuple[int, ...], norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        inputs = (n_in, *widths[:-1])
        self.blocks = nn.ModuleList(double_conv(i, o, o, norm) for i, o in zip(inputs, widths, strict=True))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> list[Tensor]:  # (B, n_in, H, W)
        features = []
        for level, block in enumerate(self.blocks):
            x = block(self.pool(x) if level else x)
            features.append(x)  # (B, widths[level], H / 2^level, W / 2^level)
        return features


class UNet(nn.Module):
    """An encoder, and as many steps back up, each of which sees the encoder's block of its size.

    Parameters
    ----------
    n_in : channels of the input.
    widths : channels of each block down; H and W are multiples of ``patch_px`` x 2^(number of blocks - 1).
    up_widths : channels that each step up ends with, the deepest first.
    patch_px : patches of this side are taken as pixels, and given back.
    """

    def __init__(
        self,
        n_in: int,
        widths: tuple[int, ...],
        up_widths: tuple[int, ...],
        patch_px: int = 1,
        norm: Norm = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.encoder = Encoder(n_in * patch_px**2, widths, norm)
        n_now, self.ups, self.blocks = widths[-1], nn.ModuleList(), nn.ModuleList()
        for n_skip, n_out in zip(reversed(widths[:-1]), up_widths, strict=True):
            self.ups.append(conv_norm_relu(n_now, n_out, norm))
            self.blocks.append(double_conv(n_out + n_skip, n_out, n_out, norm))
            n_now = n_out
        self.head = nn.Conv2d(n_now, 2 * patch_px**2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, H, W) -> logits (B, 2, H, W), the second the anomaly's
        *skips, x = self.encoder(F.pixel_unshuffle(x, self.patch_px))
        for up, block in zip(self.ups, self.blocks, strict=True):
            x = block(torch.cat([up(upsample_twice(x)), skips.pop()], 1))
        return F.pixel_shuffle(self.head(x), self.patch_px)


def upsample_twice(x: Tensor) -> Tensor:
    """Double height and width, bilinear with aligned corners. (B, C, H, W) to (B, C, 2H, 2W)."""
    if x.device.type == "cpu" or torch.compiler.is_compiling():  # exported models keep the operation of that name
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
    return upsample_by_products(x)


def upsample_by_products(x: Tensor) -> Tensor:
    """``upsample_twice`` as a product with a banded matrix along each axis, which reads memory in order.

    Parameters
    ----------
    x : (B, C, H, W) float, channels last or not.

    Returns
    -------
    (B, C, 2H, 2W) of the same order of memory, to the precision of x's dtype.
    """
    n_images, n_channels, height, width = x.shape
    rows = upsampling_matrix(height, x.dtype, x.device)  # (2H, H)
    columns = upsampling_matrix(width, x.dtype, x.device)  # (2W, W)
    if n_channels > 1 and x.is_contiguous(memory_format=torch.channels_last):
        flat = x.permute(0, 2, 3, 1).reshape(n_images, height, width * n_channels)
        tall = torch.bmm(rows.expand(n_images, -1, -1), flat)  # (B, 2H, W C)
        flat = tall.view(n_images * 2 * height, width, n_channels)
        large = torch.bmm(columns.expand(len(flat), -1, -1), flat)  # (B 2H, 2W, C)
        return large.view(n_images, 2 * height, 2 * width, n_channels).permute(0, 3, 1, 2)
    flat = x.reshape(n_images * n_channels, height, width)
    tall = torch.bmm(rows.expand(len(flat), -1, -1), flat)  # (B C, 2H, W)
    return F.linear(tall, columns).view(n_images, n_channels, 2 * height, 2 * width)


@functools.cache  # for good: a CUDA graph that reads it does not keep it
def upsampling_matrix(length: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Twice as many samples along an axis, linear with aligned ends.

    Returns
    -------
    (2 length, length) of ``dtype``, two neighbouring weights in a row. They sum to 1 exactly in any precision, so
    that what is even stays so. Do not write to it.
    """
    with torch.inference_mode(False):  # made for an inspection, it has to serve training, too
        position = torch.arange(2 * length, dtype=torch.float64) * (length - 1) / (2 * length - 1)
        left = position.floor()
        steps = 2.0 / torch.finfo(dtype).eps  # of numbers between 1/2 and 1
        fraction = ((position - left) * steps).round() / steps  # the weight of the right neighbour
        offset = torch.arange(length) - left[:, None]  # (2 length, length)
        weights = (offset == 0) * (1.0 - fraction[:, None]) + (offset == 1) * fraction[:, None]
        return weights.to(dtype).to(device)


def pad_to_multiple(images: Tensor, multiple_px: int) -> Tensor:
    """Repeat the border below and to the right until both sides are multiples of ``multiple_px``."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple_px, 0, -height % multiple_px), mode="replicate")


def blur_matrix(length: int, window_px: int, sigma_px: float, device: torch.device) -> Tensor:
    """Gaussian blur along an axis as a matrix, zero beyond the ends: ``blur_matrix(H, ...) @ x`` blurs columns.

    Returns
    -------
    (length, length) float32, symmetric and banded; the window sums to 1. Do not write to it.
    """
    if torch.compiler.is_compiling():  # what is traced is no tensor to keep
        return _blur_matrix(length, window_px, sigma_px, device)
    return _kept_blur_matrix(length, window_px, sigma_px, device)


@functools.cache  # for good: see above
def _kept_blur_matrix(length: int, window_px: int, sigma_px: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # made for an inspection, it has to serve training, too
        return _blur_matrix(length, window_px, sigma_px, device)


def _blur_matrix(length: int, window_px: int, sigma_px: float, device: torch.device) -> Tensor:
    distance = torch.arange(length)[:, None] - torch.arange(length)
    reach = torch.arange(window_px) - window_px // 2
    total = torch.exp(-(reach**2) / (2 * sigma_px**2)).sum()
    blur = torch.exp(-(distance**2) / (2 * sigma_px**2)) / total * (distance.abs() <= window_px // 2)
    return blur.to(device)
