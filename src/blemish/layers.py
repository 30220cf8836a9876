"""Layers that more than one method uses. Pure: no state beyond their weights."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn_relu(n_in: int, n_out: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU. (B, n_in, H, W) to (B, n_out, H, W)."""
    return nn.Sequential(nn.Conv2d(n_in, n_out, 3, padding=1), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True))


def double_conv(n_in: int, n_middle: int, n_out: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with batch norm and ReLU. (B, n_in, H, W) to (B, n_out, H, W)."""
    return nn.Sequential(*conv_bn_relu(n_in, n_middle), *conv_bn_relu(n_middle, n_out))


def upsample_twice(x: Tensor) -> Tensor:
    """Double height and width, bilinear with aligned corners. (B, C, H, W) to (B, C, 2H, 2W)."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


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


@functools.lru_cache(maxsize=8)
def _kept_blur_matrix(length: int, window_px: int, sigma_px: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # made for an inspection, it has to serve training, too
        return _blur_matrix(length, window_px, sigma_px, device)


def _blur_matrix(length: int, window_px: int, sigma_px: float, device: torch.device) -> Tensor:
    distance = torch.arange(length)[:, None] - torch.arange(length)
    reach = torch.arange(window_px) - window_px // 2
    total = torch.exp(-(reach**2) / (2 * sigma_px**2)).sum()
    blur = torch.exp(-(distance**2) / (2 * sigma_px**2)) / total * (distance.abs() <= window_px // 2)
    return blur.to(device)
