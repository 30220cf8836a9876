"""What torch does in more passes over a GPU's memory than are needed, as Triton kernels. Each names its torch twin.

Triton comes with torch's builds for CUDA on Linux. ``devices.kernels_for`` says whether these can be had.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

BLOCK_ROWS, BLOCK_CHANNELS = 32, 64
"""Sides of the tile that a program works on at a time; twice the channels where they fill it. Measured on an H200."""
N_PROGRAMS = 1024
"""About so many share a sum over rows: some for each multiprocessor."""
TOTAL_PARTS, TOTAL_CHANNELS = 256, 16
"""Sides of the tile in which a program adds up such sums."""

# --- norm and ReLU ---------------------------------------------------------------------------------------------
#
# Channels-last tensors are groups of rows of channels, (G, R, C): for batch norm all pixels of a batch are one group,
# for instance norm those of an image. Sums over rows are made in parts, each by one program, and added in order: the
# same again for the same numbers.


@triton.jit
def _tile(n_rows, n_channels, first_row, end_row, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr):
    """Channels, places and which of them are there, of a program's tile that begins at a row."""
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    rows = first_row + tl.arange(0, BLOCK_R)
    inside = (rows < end_row)[:, None] & (channels < n_channels)[None, :]
    group_row = tl.program_id(2).to(tl.int64) * n_rows + rows
    return channels, group_row[:, None] * n_channels + channels[None, :], inside


@triton.jit
def _sums_kernel(
    x_at, sums_at, n_rows, n_channels, n_parts, rows_a_part, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Sums of x - x0 and of its square, x0 being the first row: they lose nothing where the mean is large."""
    part, group = tl.program_id(0), tl.program_id(2)
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    is_channel = channels < n_channels
    origin = tl.load(x_at + group.to(tl.int64) * n_rows * n_channels + channels, is_channel, 0.0).to(tl.float32)
    total = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    total_square = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    first = part * rows_a_part
    end = tl.minimum(first + rows_a_part, n_rows)
    for row in tl.range(first, end, BLOCK_R, num_stages=3):
        _, places, inside = _tile(n_rows, n_channels, row, end, BLOCK_R, BLOCK_C)
        x = tl.load(x_at + places, inside, 0.0).to(tl.float32)
        x = tl.where(inside, x - origin[None, :], 0.0)
        total += x
        total_square += x * x
    to = sums_at + (group * n_parts + part) * 2 * n_channels + channels  # sums: (G, parts, 2, C)
    tl.store(to, tl.sum(total, 0), is_channel)
    tl.store(to + n_channels, tl.sum(total_square, 0), is_channel)


@triton.jit
def _totals(
    sums_at, n_channels, n_parts, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """A program's channels, which of them are there, and the two totals of each over all parts."""
    channels = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    one, other = tl.zeros((BLOCK_P, BLOCK_C), tl.float32), tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for first in range(0, n_parts, BLOCK_P):
        parts = first + tl.arange(0, BLOCK_P)
        inside = (parts < n_parts)[:, None] & (channels < n_channels)[None, :]
        places = (tl.program_id(1) * n_parts + parts)[:, None] * 2 * n_channels + channels[None, :]
        one += tl.load(sums_at + places, inside, 0.0)
        other += tl.load(sums_at + places + n_channels, inside, 0.0)
    return channels, channels < n_channels, tl.sum(one, 0), tl.sum(other, 0)


@triton.jit
def _totals_kernel(
    sums_at, totals_at, n_channels, n_parts, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    channels, is_channel, one, other = _totals(sums_at, n_channels, n_parts, BLOCK_P, BLOCK_C)
    to = totals_at + tl.program_id(1) * 2 * n_channels + channels
    tl.store(to, one, is_channel)
    tl.store(to + n_channels, other, is_channel)


@triton.jit
def _statistics_kernel(
    x_at, sums_at, statistics_at, running_mean_at, running_var_at, n_seen_at, bias_at, n_rows, n_channels, n_parts,
    eps, momentum, HAS_RUNNING: tl.constexpr, HAS_BIAS: tl.constexpr, BLOCK_P: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Mean and 1 / deviation of each channel, (G, 2, C), and the running ones that they move."""
    channels, is_channel, total, total_square = _totals(sums_at, n_channels, n_parts, BLOCK_P, BLOCK_C)
    group = tl.program_id(1)
    origin = tl.load(x_at + group.to(tl.int64) * n_rows * n_channels + channels, is_channel, 0.0).to(tl.float32)
    shift = total / n_rows
    mean = origin + shift
    variance = tl.maximum(total_square / n_rows - shift * shift, 0.0)
    to = statistics_at + group * 2 * n_channels + channels
    tl.store(to, mean, is_channel)
    tl.store(to + n_channels, 1.0 / tl.sqrt(variance + eps), is_channel)
    if HAS_RUNNING:
        if tl.program_id(0) == 0:
            tl.store(n_seen_at, tl.load(n_seen_at) + 1)
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
    """(x - mean) / deviation, that times weight and shifted, and weight / deviation; all before the ReLU."""
    is_channel = channels < n_channels
    place = statistics_at + tl.program_id(2) * 2 * n_channels + channels
    mean, scale = tl.load(place, is_channel, 0.0), tl.load(place + n_channels, is_channel, 0.0)
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
    channels, places, inside = _tile(n_rows, n_channels, tl.program_id(0) * BLOCK_R, n_rows, BLOCK_R, BLOCK_C)
    x = tl.load(x_at + places, inside, 0.0).to(tl.float32)
    _, y, _ = _normed(x, statistics_at, weight_at, shift_at, channels, n_channels, HAS_AFFINE)
    tl.store(y_at + places, tl.maximum(y, 0.0).to(y_at.dtype.element_ty), inside)


@triton.jit
def _gradient_sums_kernel(
    x_at, dy_at, sums_at, statistics_at, weight_at, shift_at, n_rows, n_channels, n_parts, rows_a_part,
    HAS_AFFINE: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Sums of the gradient that passes the ReLU, and of it times what is normed."""
    part, group = tl.program_id(0), tl.program_id(2)
    total = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    total_normed = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    first = part * rows_a_part
    end = tl.minimum(first + rows_a_part, n_rows)
    for row in tl.range(first, end, BLOCK_R, num_stages=3):
        channels, places, inside = _tile(n_rows, n_channels, row, end, BLOCK_R, BLOCK_C)
        x = tl.load(x_at + places, inside, 0.0).to(tl.float32)
        normed, y, _ = _normed(x, statistics_at, weight_at, shift_at, channels, n_channels, HAS_AFFINE)
        dy = tl.load(dy_at + places, inside, 0.0).to(tl.float32)
        dy = tl.where(inside & (y > 0.0), dy, 0.0)
        total += dy
        total_normed += dy * normed
    channels = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    to = sums_at + (group * n_parts + part) * 2 * n_channels + channels
    tl.store(to, tl.sum(total, 0), channels < n_channels)
    tl.store(to + n_channels, tl.sum(total_normed, 0), channels < n_channels)


@triton.jit
def _gradient_kernel(
    x_at, dy_at, dx_at, totals_at, statistics_at, weight_at, shift_at, n_rows, n_channels, HAS_AFFINE: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    channels, places, inside = _tile(n_rows, n_channels, tl.program_id(0) * BLOCK_R, n_rows, BLOCK_R, BLOCK_C)
    x = tl.load(x_at + places, inside, 0.0).to(tl.float32)
    normed, y, scale = _normed(x, statistics_at, weight_at, shift_at, channels, n_channels, HAS_AFFINE)
    dy = tl.load(dy_at + places, inside, 0.0).to(tl.float32)
    dy = tl.where(y > 0.0, dy, 0.0)
    of = totals_at + tl.program_id(2) * 2 * n_channels + channels
    mean_dy = tl.load(of, channels < n_channels, 0.0) / n_rows
    mean_dy_normed = tl.load(of + n_channels, channels < n_channels, 0.0) / n_rows
    dx = (dy - mean_dy[None, :] - normed * mean_dy_normed[None, :]) * scale[None, :]
    tl.store(dx_at + places, dx.to(dx_at.dtype.element_ty), inside)


def _shape(x: Tensor, norm: nn.Module) -> tuple[int, int, int]:
    """Groups, rows, channels."""
    n_images, n_channels, height, width = x.shape
    if isinstance(norm, nn.InstanceNorm2d):
        return n_images, height * width, n_channels
    return 1, n_images * height * width, n_channels


def _parts(n_groups: int, n_rows: int, n_channels: int) -> tuple[int, int, int]:
    """How many parts sums over rows are made in, how many rows a part has, how many blocks of channels there are."""
    n_blocks = triton.cdiv(n_channels, BLOCK_CHANNELS)
    n_parts = max(1, min(N_PROGRAMS // (n_groups * n_blocks), triton.cdiv(n_rows, BLOCK_ROWS)))
    rows_a_part = triton.cdiv(triton.cdiv(n_rows, n_parts), BLOCK_ROWS) * BLOCK_ROWS
    return triton.cdiv(n_rows, rows_a_part), rows_a_part, n_blocks


def _tiles(n_groups: int, n_rows: int, n_channels: int) -> tuple[tuple[int, int, int], dict[str, int]]:
    """The grid of programs that work on a tile each, and the tile."""
    width = BLOCK_CHANNELS * (1 + (n_channels % (2 * BLOCK_CHANNELS) == 0))
    grid = triton.cdiv(n_rows, BLOCK_ROWS), triton.cdiv(n_channels, width), n_groups
    return grid, {"BLOCK_R": BLOCK_ROWS, "BLOCK_C": width}


class _NormReLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, shift: Tensor | None, bias: Tensor | None, norm: Any
    ) -> Tensor:
        n_groups, n_rows, n_channels = shape = _shape(x, norm)
        n_parts, rows_a_part, n_blocks = _parts(*shape)
        tile = {"BLOCK_R": BLOCK_ROWS, "BLOCK_C": BLOCK_CHANNELS}
        sums = torch.empty(n_groups, n_parts, 2, n_channels, device=x.device)
        statistics = torch.empty(n_groups, 2, n_channels, device=x.device)
        y = torch.empty_like(x)
        _sums_kernel[n_parts, n_blocks, n_groups](x, sums, n_rows, n_channels, n_parts, rows_a_part, **tile)
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
        n_parts, rows_a_part, n_blocks = _parts(*ctx.shape)
        tile = {"HAS_AFFINE": ctx.has_affine, "BLOCK_R": BLOCK_ROWS, "BLOCK_C": BLOCK_CHANNELS}
        dy, dx = dy.contiguous(memory_format=torch.channels_last), torch.empty_like(x)
        sums = torch.empty(n_groups, n_parts, 2, n_channels, device=x.device)
        _gradient_sums_kernel[n_parts, n_blocks, n_groups](
            x, dy, sums, statistics, weight, shift, n_rows, n_channels, n_parts, rows_a_part, **tile
        )
        totals = torch.empty(n_groups, 2, n_channels, device=x.device)
        total = {"BLOCK_P": TOTAL_PARTS, "BLOCK_C": TOTAL_CHANNELS}
        _totals_kernel[triton.cdiv(n_channels, TOTAL_CHANNELS), n_groups](sums, totals, n_channels, n_parts, **total)
        grid, tile = _tiles(*ctx.shape)
        _gradient_kernel[grid](
            x, dy, dx, totals, statistics, weight, shift, n_rows, n_channels, HAS_AFFINE=ctx.has_affine, **tile
        )
        of_all = totals[0] if n_groups == 1 else totals.sum(0)
        d_shift, d_weight = of_all if ctx.has_affine else (None, None)
        return dx, d_weight, d_shift, None if ctx.bias is None else torch.zeros_like(ctx.bias), None


def norm_relu(x: Tensor, norm: nn.BatchNorm2d | nn.InstanceNorm2d, bias: Tensor | None = None) -> Tensor:
    """``F.relu(norm(x + bias))``, of a norm by the statistics of what it sees.

    Two passes over memory each way, where torch takes four and five. A bias that a norm takes away again is never
    added: its gradient is zero, and all that it moves is the running mean.

    Parameters
    ----------
    x : (B, C, H, W) float, of any order in memory; it is worked on with channels last.
    norm : batch norm in training mode, or instance norm without running statistics. Its statistics are moved.
    bias : (C,), of the convolution before.

    Returns
    -------
    (B, C, H, W) of x's dtype, channels last.
    """
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.cuda.device_of(x):  # Triton launches on the card that is current
        result: Tensor = _NormReLU.apply(x, norm.weight, norm.bias, bias, norm)
    return result


# --- bias and ReLU ---------------------------------------------------------------------------------------------


@triton.jit
def _bias_kernel(
    x_at, y_at, bias_at, n_numbers, n_channels, HAS_RELU: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_at + places, places < n_numbers, 0.0).to(tl.float32)
    x += tl.load(bias_at + places % n_channels).to(tl.float32)
    if HAS_RELU:
        x = tl.maximum(x, 0.0)
    tl.store(y_at + places, x.to(y_at.dtype.element_ty), places < n_numbers)


def add_bias(x: Tensor, bias: Tensor, has_relu: bool, dtype: torch.dtype) -> Tensor:
    """``x + bias.view(1, -1, 1, 1)``, its ReLU if asked for, as ``dtype``: one pass over memory in place of three.

    Parameters
    ----------
    x : (B, C, H, W) float, channels last; overwritten, if it is of ``dtype``.
    bias : (C,) float.
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
    row = tl.program_id(0).to(tl.int64)
    numbers, features = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    closeness = tl.load(closeness_at + row * n_codes + numbers, numbers < n_codes, float("-inf"))
    vector = tl.load(vectors_at + row * n_features + features, features < n_features, 0.0)
    nearest, least = 0, float("inf")
    for _ in tl.static_range(N_CANDIDATES):
        candidate = tl.minimum(tl.argmax(closeness, 0), n_codes - 1)  # of what is no number it may be any
        code = tl.load(codes_at + candidate * n_features + features, features < n_features, 0.0)
        distance = tl.sum((code - vector) * (code - vector), 0)
        is_nearer = (distance < least) | ((distance == least) & (candidate < nearest))
        nearest, least = tl.where(is_nearer, candidate, nearest), tl.where(is_nearer, distance, least)
        closeness = tl.where(numbers == candidate, float("-inf"), closeness)
    tl.store(nearest_at + row, nearest)


def nearest_of_close(closeness: Tensor, vectors: Tensor, codes: Tensor, n_candidates: int) -> Tensor:
    """``vq.nearest_of_close``, reading the closeness once.

    Parameters
    ----------
    closeness : (M, N) float32, contiguous.
    vectors : (M, D) float32.
    codes : (N, D) float32.

    Returns
    -------
    (M,) int64 in [0, N): of the ``n_candidates`` closest codes the nearest, the first of equals.
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
