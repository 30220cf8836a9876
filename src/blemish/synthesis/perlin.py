"""Perlin noise (Perlin, *An image synthesizer*, SIGGRAPH 1985): the shapes of simulated damage.

Without rotation, gradient noise is separable: with the weights ``w`` of the fade curve and the offsets
``d`` to the lattice points, noise = (w_y) G_x (w_x d_x)' + (w_y d_y) G_y (w_x)'. So the noise of a batch, with
different frequencies for each image, takes a few small matrix products. One gather rotates it.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import drawn, is_static, uniform
from blemish.synthesis.geometry import rotate_nearest


def _axis_weights(positions: Tensor, lattice_points: int) -> tuple[Tensor, Tensor]:
    """Fade weights and weighted offsets of (B, L) positions to each of K lattice points: (B, L, K) each."""
    offset = positions[..., None] - torch.arange(lattice_points, device=positions.device)  # (B, L, K)
    t = offset.abs().clamp_(max=1.0)
    weight = 1.0 - t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
    return weight, weight * offset


def perlin_noise(
    cycles_xy: Tensor,
    size_hw: tuple[int, int],
    generator: Generator,
    device: torch.device,
    max_cycles: float | None = None,
) -> Tensor:
    """Gradient noise for a batch, with different frequencies for each image.

    Parameters
    ----------
    cycles_xy : (B, 2) float on ``device``, lattice cells across the width and across the height.
    size_hw : height and width of the noise, px; any size.
    generator : CPU generator for the gradients and the lattice's phase (so no position is preferred).
    max_cycles : upper bound of ``cycles_xy``. Needed on a GPU, where shapes must not depend on random numbers.

    Returns
    -------
    (B, H, W) float32 on ``device``, within [-1, 1] (unit gradients, times the square root of 2).
    """
    height, width = size_hw
    n = len(cycles_xy)
    if is_static(device):
        assert max_cycles is not None, "on a GPU the size of the lattice must be known in advance: pass max_cycles"
        points_x = points_y = int(max_cycles) + 3
    else:
        points_x, points_y = (int(largest) + 3 for largest in cycles_xy.amax(0).tolist())
    directions = drawn(lambda g: uniform(0.0, 2.0 * math.pi, (n, points_y, points_x), g), generator, device)
    phase = drawn(lambda g: uniform(0.0, 1.0, (n, 2), g), generator, device)  # (B, 2)
    x = phase[:, :1] + cycles_xy[:, :1] * ((torch.arange(width, device=device) + 0.5) / width)  # (B, W)
    y = phase[:, 1:] + cycles_xy[:, 1:] * ((torch.arange(height, device=device) + 0.5) / height)  # (B, H)
    weight_x, slope_x = _axis_weights(x, points_x)  # (B, W, points_x)
    weight_y, slope_y = _axis_weights(y, points_y)  # (B, H, points_y)
    gradient_x, gradient_y = directions.cos() * math.sqrt(2.0), directions.sin() * math.sqrt(2.0)
    across_x, across_y = weight_y @ gradient_x, slope_y @ gradient_y  # (B, H, points_x)
    if is_static(device):  # lattice points beyond the last one of an image have weight 0
        return torch.baddbmm(across_x @ slope_x.mT, across_y, weight_x.mT)  # (B, H, W)
    noise = torch.empty(n, height, width, device=device)
    for number, n_cycles in enumerate(cycles_xy[:, 0].tolist()):
        used = int(n_cycles) + 3
        torch.mm(across_x[number, :, :used], slope_x[number, :, :used].T, out=noise[number])
        noise[number].addmm_(across_y[number, :, :used], weight_x[number, :, :used].T)
    return noise


def perlin_masks(
    n: int,
    size_hw: tuple[int, int],
    generator: Generator,
    device: torch.device,
    *,
    octaves: tuple[int, int] = (0, 6),
    max_rotation_deg: float = 90.0,
    thresholds: tuple[float, float] = (0.5, 0.5),
) -> Tensor:
    """Binary shapes from thresholded Perlin noise (DRÆM section 3.3, figure 4).

    Frequencies are 2^k with k drawn for each axis from ``octaves`` (upper bound excluded). The noise is
    rotated by U[-max_rotation_deg, max_rotation_deg] and thresholded at U[*thresholds]. A mask may be empty.

    Returns
    -------
    (n, H, W) bool on ``device``.
    """
    height, width = size_hw
    side = math.ceil(math.hypot(height, width))  # a square canvas that covers the image at any rotation
    max_cycles = 2.0 ** (octaves[1] - 1) * side / min(height, width)

    def cycles(generator: Generator) -> Tensor:
        canvas = torch.tensor([side / width, side / height])
        return 2.0 ** torch.randint(*octaves, (n, 2), generator=generator) * canvas

    cycles_xy = drawn(cycles, generator, device)  # (n, 2)
    angles_rad = drawn(
        lambda g: torch.deg2rad(uniform(-max_rotation_deg, max_rotation_deg, (n,), g)), generator, device
    )
    threshold: float | Tensor = thresholds[0]
    if thresholds[0] != thresholds[1]:
        threshold = drawn(lambda g: uniform(*thresholds, (n, 1, 1), g), generator, device)
    with torch.autocast(device.type, enabled=False):  # bf16 is too coarse for positions
        shapes = perlin_noise(cycles_xy, (side, side), generator, device, max_cycles) > threshold  # (n, side, side)
    return rotate_nearest(shapes[:, None], angles_rad, size_hw)[:, 0]  # (n, H, W)
