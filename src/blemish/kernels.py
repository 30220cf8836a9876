"""Triton kernels for operations that cost torch extra passes over a GPU's memory. Each names its torch equivalent.

Triton comes with torch's builds for CUDA on Linux. ``devices.kernels_for`` checks whether these kernels run.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

BLOCK_ROWS, BLOCK_CHANNELS = 32, 64
"""Rows and channels of the tile that a program processes at a time. ``_tiles`` doubles the channels if the number of
channels is a multiple of that. Measured on an H200."""
N_PROGRAMS = 1024
"""About this many programs share a sum over rows: several for each multiprocessor."""
TOTAL_PARTS, TOTAL_CHANNELS = 256, 16
"""Parts and channels of the tile in which a program adds up partial sums."""

# --- norm and ReLU ---------------------------------------------------------------------------------------------
#
# A channels-last tensor is seen as groups of rows of channels, (G, R, C). For batch norm all pixels of the batch are
# one group, for instance norm the pixels of each image. Each program sums a part of the rows, and the partial sums
# are added in a fixed order: equal inputs give equal results. Names ending in `_at` are pointers.


@triton.jit
def _tile(n_rows, n_channels, first_row, end_row, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """A program's tile from ``first_row`` on: channels (BLOCK_C,), offsets and inside-mask (BLOCK_R, BLOCK_C)."""
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    rows = first_row + tl.arange(0, BLOCK_R)
    inside = (rows < end_row)[:, None] & (channels < n_channels)[None, :]  # (BLOCK_R, BLOCK_C)
    group_row = tl.program_id(2).to(tl.int64) * n_rows + rows
    return channels, group_row[:, None] * n_channels + channels[None, :], inside


@triton.jit
def _sums_kernel(
    x_at, sums_at, n_rows, n_channels, n_parts, rows_per_part, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Sums of x - x0 and of its square, where x0 is the first row: this keeps precision when the mean is large."""
    part, group = tl.program_id(0), tl.program_id(2)
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    is_channel = channels < n_channels
    origin = tl.load(x_at + group.to(tl.int64) * n_rows * n_channels + channels, is_channel, 0.0).to(tl.float32)
    total = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    total_square = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    first = part * rows_per_part
    end = tl.minimum(first + rows_per_part, n_rows)
    for row in tl.range(first, end, BLOCK_R, num_stages=3):
        _, offsets, inside = _tile(n_rows, n_channels, row, end, BLOCK_R, BLOCK_C)
        x = tl.load(x_at + offsets, inside, 0.0).to(tl.float32)
        x = tl.where(inside, x - origin[None, :], 0.0)
        total += x
        total_square += x * x
    target_at = sums_at + (group * n_parts + part) * 2 * n_channels + channels  # sums: (G, parts, 2, C)
    tl.store(target_at, tl.sum(total, 0), is_channel)
    tl.store(target_at + n_channels, tl.sum(total_square, 0), is_channel)


@triton.jit
def _totals(
    sums_at, n_channels, n_parts, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """A program's channels, which of them exist, and both sums of each channel over all parts: (BLOCK_C,) each."""
    channels = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    first_sum, second_sum = tl.zeros((BLOCK_P, BLOCK_C), tl.float32), tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for first in range(0, n_parts, BLOCK_P):
        parts = first + tl.arange(0, BLOCK_P)
        inside = (parts < n_parts)[:, None] & (channels < n_channels)[None, :]
        offsets = (tl.program_id(1) * n_parts + parts)[:, None] * 2 * n_channels + channels[None, :]
        first_sum += tl.load(sums_at + offsets, inside, 0.0)
        second_sum += tl.load(sums_at + offsets + n_channels, inside, 0.0)
    return channels, channels < n_channels, tl.sum(first_sum, 0), tl.sum(second_sum, 0)


@triton.jit
def _totals_kernel(
    sums_at, totals_at, n_channels, n_parts, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Both sums of each channel over all parts: (G, parts, 2, C) to (G, 2, C)."""
    channels, is_channel, first_total, second_total = _totals(sums_at, n_channels, n_parts, BLOCK_P, BLOCK_C)
    target_at = totals_at + tl.program_id(1) * 2 * n_channels + channels
    tl.store(target_at, first_total, is_channel)
    tl.store(target_at + n_channels, second_total, is_channel)


@triton.jit
def _statistics_kernel(
    x_at, sums_at, statistics_at, running_mean_at, running_var_at, n_batches_at, bias_at, n_rows, n_channels, n_parts,
    eps, momentum, HAS_RUNNING: tl.constexpr, HAS_BIAS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Mean and 1 / deviation of each channel, (G, 2, C); updates the running statistics if there are any."""
    channels, is_channel, total, total_square = _totals(sums_at, n_channels, n_parts, BLOCK_P, BLOCK_C)
    group = tl.program_id(1)
    origin = tl.load(x_at + group.to(tl.int64) * n_rows * n_channels + channels, is_channel, 0.0).to(tl.float32)
    shift = total / n_rows
    mean = origin + shift
    variance = tl.maximum(total_square / n_rows - shift * shift, 0.0)
    target_at = statistics_at + group * 2 * n_channels + channels
    tl.store(target_at, mean, is_channel)
    tl.store(target_at + n_channels, 1.0 / tl.sqrt(variance + eps), is_channel)
    if HAS_RUNNING:
        if tl.program_id(0) == 0:
            tl.store(n_batches_at, tl.load(n_batches_at) + 1)
        if HAS_BIAS:
            mean += tl.load(bias_at + channels, is_channel, 0.0)
        old = tl.load(running_mean_at + channels, is_channel, 0.0)
        tl.store(running_mean_at + channels, old + momentum * (mean - old), is_channel)
        unbiased = variance * (n_rows / tl.maximum(n_rows - 1, 1))
        old = tl.load(running_var_at + channels, is_channel, 0.0)
        tl.store(running_var_at + channels, old + momentum * (unbiased - old), is_channel)


@triton.jit
def _normed(
    x, statistics_at, weight_at, shift_at, channels, n_channels, HAS_AFFINE: tl.constexpr
):  # fmt: skip
    """normed = (x - mean) / deviation, result = normed * weight + shift (before ReLU), scale = weight / deviation.

    normed and result are (BLOCK_R, BLOCK_C), scale is (BLOCK_C,).
    """
    is_channel = channels < n_channels
    source_at = statistics_at + tl.program_id(2) * 2 * n_channels + channels
    mean, scale = tl.load(source_at, is_channel, 0.0), tl.load(source_at + n_channels, is_channel, 0.0)
    normed = (x - mean[None, :]) * scale[None, :]
    result = normed
    if HAS_AFFINE:
        weight = tl.load(weight_at + channels, is_channel, 0.0).to(tl.float32)
        shift = tl.load(shift_at + channels, is_channel, 0.0).to(tl.float32)
        result = normed * weight[None, :] + shift[None, :]
        scale = scale * weight
    return normed, result, scale


@triton.jit
def _norm_relu_kernel(
    x_at, y_at, statistics_at, weight_at, shift_at, n_rows, n_channels, HAS_AFFINE: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """y = ReLU(norm(x)), a tile for each program."""
    channels, offsets, inside = _tile(n_rows, n_channels, tl.program_id(0) * BLOCK_R, n_rows, BLOCK_R, BLOCK_C)
    x = tl.load(x_at + offsets, inside, 0.0).to(tl.float32)
    _, y, _ = _normed(x, statistics_at, weight_at, shift_at, channels, n_channels, HAS_AFFINE)
    tl.store(y_at + offsets, tl.maximum(y, 0.0).to(y_at.dtype.element_ty), inside)


@triton.jit
def _gradient_sums_kernel(
    x_at, dy_at, sums_at, statistics_at, weight_at, shift_at, n_rows, n_channels, n_parts, rows_per_part,
    HAS_AFFINE: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Sums of the gradient g behind the ReLU and of g * normed, for each part of the rows: (G, parts, 2, C)."""
    part, group = tl.program_id(0), tl.program_id(2)
    total = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    total_normed = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    first = part * rows_per_part
    end = tl.minimum(first + rows_per_part, n_rows)
    for row in tl.range(first, end, BLOCK_R, num_stages=3):
        channels, offsets, inside = _tile(n_rows, n_channels, row, end, BLOCK_R, BLOCK_C)
        x = tl.load(x_at + offsets, inside, 0.0).to(tl.float32)
        normed, y, _ = _normed(x, statistics_at, weight_at, shift_at, channels, n_channels, HAS_AFFINE)
        dy = tl.load(dy_at + offsets, inside, 0.0).to(tl.float32)
        dy = tl.where(inside & (y > 0.0), dy, 0.0)
        total += dy
        total_normed += dy * normed
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    target_at = sums_at + (group * n_parts + part) * 2 * n_channels + channels
    tl.store(target_at, tl.sum(total, 0), channels < n_channels)
    tl.store(target_at + n_channels, tl.sum(total_normed, 0), channels < n_channels)


@triton.jit
def _gradient_kernel(
    x_at, dy_at, dx_at, totals_at, statistics_at, weight_at, shift_at, n_rows, n_channels, HAS_AFFINE: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Gradient of the norm's input: dx = (g - mean(g) - normed * mean(g * normed)) * scale."""
    channels, offsets, inside = _tile(n_rows, n_channels, tl.program_id(0) * BLOCK_R, n_rows, BLOCK_R, BLOCK_C)
    x = tl.load(x_at + offsets, inside, 0.0).to(tl.float32)
    normed, y, scale = _normed(x, statistics_at, weight_at, shift_at, channels, n_channels, HAS_AFFINE)
    dy = tl.load(dy_at + offsets, inside, 0.0).to(tl.float32)
    dy = tl.where(y > 0.0, dy, 0.0)
    source_at = totals_at + tl.program_id(2) * 2 * n_channels + channels
    mean_dy = tl.load(source_at, channels < n_channels, 0.0) / n_rows
    mean_dy_normed = tl.load(source_at + n_channels, channels < n_channels, 0.0) / n_rows
    dx = (dy - mean_dy[None, :] - normed * mean_dy_normed[None, :]) * scale[None, :]
    tl.store(dx_at + offsets, dx.to(dx_at.dtype.element_ty), inside)


def _shape(x: Tensor, norm: nn.Module) -> tuple[int, int, int]:
    """Numbers of groups, rows and channels of x (B, C, H, W)."""
    n_images, n_channels, height, width = x.shape
    if isinstance(norm, nn.InstanceNorm2d):
        return n_images, height * width, n_channels
    return 1, n_images * height * width, n_channels


def _parts(n_groups: int, n_rows: int, n_channels: int) -> tuple[int, int, int]:
    """How a sum over rows is split: the number of parts, rows per part, and number of channel blocks."""
    n_blocks = triton.cdiv(n_channels, BLOCK_CHANNELS)
    n_parts = max(1, min(N_PROGRAMS // (n_groups * n_blocks), triton.cdiv(n_rows, BLOCK_ROWS)))
    rows_per_part = triton.cdiv(triton.cdiv(n_rows, n_parts), BLOCK_ROWS) * BLOCK_ROWS
    return triton.cdiv(n_rows, rows_per_part), rows_per_part, n_blocks


def _tiles(n_groups: int, n_rows: int, n_channels: int) -> tuple[tuple[int, int, int], dict[str, int]]:
    """A grid of programs that process one tile each, and the sides of the tile."""
    width = BLOCK_CHANNELS * (1 + (n_channels % (2 * BLOCK_CHANNELS) == 0))
    grid = triton.cdiv(n_rows, BLOCK_ROWS), triton.cdiv(n_channels, width), n_groups
    return grid, {"BLOCK_R": BLOCK_ROWS, "BLOCK_C": width}


class _NormReLU(torch.autograd.Function):
    """The autograd function of ``norm_relu``."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, shift: Tensor | None, bias: Tensor | None, norm: Any
    ) -> Tensor:
        n_groups, n_rows, n_channels = shape = _shape(x, norm)
        n_parts, rows_per_part, n_blocks = _parts(*shape)
        tile = {"BLOCK_R": BLOCK_ROWS, "BLOCK_C": BLOCK_CHANNELS}
        sums = torch.empty(n_groups, n_parts, 2, n_channels, device=x.device)
        statistics = torch.empty(n_groups, 2, n_channels, device=x.device)
        y = torch.empty_like(x)
        _sums_kernel[n_parts, n_blocks, n_groups](x, sums, n_rows, n_channels, n_parts, rows_per_part, **tile)
        has_running = norm.running_mean is not None
        running = (norm.running_mean, norm.running_var, norm.num_batches_tracked) if has_running else (sums,) * 3
        total = {"BLOCK_P": TOTAL_PARTS, "BLOCK_C": TOTAL_CHANNELS}
        _statistics_kernel[triton.cdiv(n_channels, TOTAL_CHANNELS), n_groups](
            x, sums, statistics, *running, sums if bias is None else bias, n_rows, n_channels, n_parts,
            norm.eps, norm.momentum, HAS_RUNNING=has_running, HAS_BIAS=bias is not None, **total,
        )  # fmt: skip
        affine = (sums, sums) if weight is None else (weight, shift)
        grid, tile = _tiles(*shape)
        _norm_relu_kernel[grid](x, y, statistics, *affine, n_rows, n_channels, HAS_AFFINE=weight is not None, **tile)
        ctx.save_for_backward(x, statistics, *affine)
        ctx.shape, ctx.has_affine, ctx.bias = shape, weight is not None, bias
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, statistics, weight, shift = ctx.saved_tensors
        n_groups, n_rows, n_channels = ctx.shape
        n_parts, rows_per_part, n_blocks = _parts(*ctx.shape)
        tile = {"HAS_AFFINE": ctx.has_affine, "BLOCK_R": BLOCK_ROWS, "BLOCK_C": BLOCK_CHANNELS}
        dy, dx = dy.contiguous(memory_format=torch.channels_last), torch.empty_like(x)
        sums = torch.empty(n_groups, n_parts, 2, n_channels, device=x.device)
        _gradient_sums_kernel[n_parts, n_blocks, n_groups](
            x, dy, sums, statistics, weight, shift, n_rows, n_channels, n_parts, rows_per_part, **tile
        )
        totals = torch.empty(n_groups, 2, n_channels, device=x.device)
        total = {"BLOCK_P": TOTAL_PARTS, "BLOCK_C": TOTAL_CHANNELS}
        _totals_kernel[triton.cdiv(n_channels, TOTAL_CHANNELS), n_groups](sums, totals, n_channels, n_parts, **total)
        grid, tile = _tiles(*ctx.shape)
        _gradient_kernel[grid](
            x, dy, dx, totals, statistics, weight, shift, n_rows, n_channels, HAS_AFFINE=ctx.has_affine, **tile
        )
        all_groups = totals[0] if n_groups == 1 else totals.sum(0)  # (2, C)
        d_shift, d_weight = all_groups if ctx.has_affine else (None, None)  # (C,) each
        return dx, d_weight, d_shift, None if ctx.bias is None else torch.zeros_like(ctx.bias), None


def norm_relu(x: Tensor, norm: nn.BatchNorm2d | nn.InstanceNorm2d, bias: Tensor | None = None) -> Tensor:
    """``F.relu(norm(x + bias))`` for a norm that computes its statistics from its input.

    Two passes over memory forward and two backward, where torch needs four and five. The norm subtracts the bias
    again, so it is never added: its gradient is zero, and it only changes the running mean.

    Parameters
    ----------
    x : (B, C, H, W) float in any memory format; processed as channels last.
    norm : batch norm in training mode, or instance norm without running statistics. Running statistics are updated.
    bias : (C,), of the convolution before the norm.

    Returns
    -------
    (B, C, H, W) of x's dtype, channels last.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.cuda.device_of(x):  # Triton launches on the current card
        result: Tensor = _NormReLU.apply(x, norm.weight, norm.bias, bias, norm)
    return result


# --- bias and ReLU ---------------------------------------------------------------------------------------------


@triton.jit
def _bias_kernel(
    x_at, y_at, bias_at, n_numbers, n_channels, HAS_RELU: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """y = x + bias, or its ReLU; x and y are flat channels-last tensors, so channel = offset % n_channels."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_at + offsets, offsets < n_numbers, 0.0).to(tl.float32)
    x += tl.load(bias_at + offsets % n_channels).to(tl.float32)
    if HAS_RELU:
        x = tl.maximum(x, 0.0)
    tl.store(y_at + offsets, x.to(y_at.dtype.element_ty), offsets < n_numbers)


def add_bias(x: Tensor, bias: Tensor, has_relu: bool, dtype: torch.dtype) -> Tensor:
    """``x + bias.view(1, -1, 1, 1)`` as ``dtype``, with an optional ReLU: one pass over memory instead of three.

    Parameters
    ----------
    x : (B, C, H, W) float, channels last; overwritten if it already has ``dtype``.
    bias : (C,) float.

    Returns
    -------
    (B, C, H, W) of ``dtype``, channels last.
    """
    block = 4096
    y = x if x.dtype == dtype else torch.empty_like(x, dtype=dtype)
    grid, numbers = (triton.cdiv(x.numel(), block),), (x.numel(), x.shape[1])
    with torch.cuda.device_of(x):
        _bias_kernel[grid](x, y, bias, *numbers, HAS_RELU=has_relu, BLOCK=block)
    return y


# --- nearest codes ---------------------------------------------------------------------------------------------


@triton.jit
def _nearest_kernel(
    closeness_at, vectors_at, codes_at, nearest_at, n_codes, n_features, N_CANDIDATES: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr
):  # fmt: skip
    """One vector for each program: takes its closest code ``N_CANDIDATES`` times and compares float32 distances."""
    row = tl.program_id(0).to(tl.int64)
    indices, features = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    closeness = tl.load(closeness_at + row * n_codes + indices, indices < n_codes, float("-inf"))
    vector = tl.load(vectors_at + row * n_features + features, features < n_features, 0.0)
    nearest, least = 0, float("inf")
    for _ in tl.static_range(N_CANDIDATES):
        candidate = tl.minimum(tl.argmax(closeness, 0), n_codes - 1)  # argmax of NaN may be any index
        code = tl.load(codes_at + candidate * n_features + features, features < n_features, 0.0)
        distance = tl.sum((code - vector) * (code - vector), 0)
        is_nearer = (distance < least) | ((distance == least) & (candidate < nearest))
        nearest, least = tl.where(is_nearer, candidate, nearest), tl.where(is_nearer, distance, least)
        closeness = tl.where(indices == candidate, float("-inf"), closeness)
    tl.store(nearest_at + row, nearest)


def nearest_of_close(closeness: Tensor, vectors: Tensor, codes: Tensor, n_candidates: int) -> Tensor:
    """``vq.nearest_of_close`` that reads the closeness only once.

    Parameters
    ----------
    closeness : (M, N) float32, contiguous.
    vectors : (M, D) float32.
    codes : (N, D) float32.

    Returns
    -------
    (M,) int64 in [0, N): the nearest of the ``n_candidates`` closest codes; of equally near codes the first.
    """
    (n_vectors, n_codes), n_features = closeness.shape, codes.shape[1]
    nearest = torch.empty(n_vectors, dtype=torch.int64, device=closeness.device)
    blocks = {"BLOCK_N": triton.next_power_of_2(n_codes), "BLOCK_D": triton.next_power_of_2(n_features)}
    inputs = closeness, vectors.contiguous(), codes.contiguous()
    with torch.cuda.device_of(closeness):
        _nearest_kernel[(n_vectors,)](
            *inputs, nearest, n_codes, n_features, N_CANDIDATES=min(n_candidates, n_codes), **blocks
        )
    return nearest


@triton.jit
def _nth_kernel(distances_at, ranks_at, nth_at, n_codes, N_BISECTIONS: tl.constexpr, BLOCK: tl.constexpr):
    """One vector for each program: its distances are read once, and counted in registers."""
    row, indices = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    distances = tl.load(distances_at + row * n_codes + indices, indices < n_codes, float("inf"))
    low, wanted = tl.min(distances, 0), tl.load(ranks_at + row) + 1
    high = tl.max(tl.where(indices < n_codes, distances, float("-inf")), 0)
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        is_enough = tl.sum((distances <= middle).to(tl.int32), 0) >= wanted
        low, high = tl.where(is_enough, low, middle), tl.where(is_enough, middle, high)
    tl.store(nth_at + row, tl.argmax(tl.where(distances <= high, distances, float("-inf")), 0))


def nth_of_distances(distances: Tensor, ranks: Tensor, n_bisections: int) -> Tensor:
    """``replaced_codes.nth_of_distances`` that reads the distances (M, N) float32 only once: (M,) int64."""
    nth = torch.empty(len(distances), dtype=torch.int64, device=distances.device)
    block = triton.next_power_of_2(distances.shape[1])
    with torch.cuda.device_of(distances):
        _nth_kernel[(len(distances),)](
            distances, ranks.contiguous(), nth, distances.shape[1], N_BISECTIONS=n_bisections, BLOCK=block
        )
    return nth
