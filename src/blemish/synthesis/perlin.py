"""Perlin noise (Perlin, *An image synthesizer*, SIGGRAPH 1985): the shapes of simulated damage.

Without rotation, gradient noise is separable: with the weights ``w`` of the fade curve and the offsets
``d`` to the lattice points, noise = (w_y) G_x (w_x d_x)' + (w_y d_y) G_y (w_x)'. So a whole batch, each image
with frequencies of its own, is a few small matrix products; one gather turns it.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import drawn, is_static, uniform
from blemish.synthesis.geometry import rotate_nearest


def _axis_weights(positions: Tensor, lattice_points: int) -> tuple[Tensor, Tensor]:
    """Fade weights and weighted offsets of (B, L) positions to each lattice point: twice (B, L, K)."""
    offset = positions[..., None] - torch.arange(lattice_points, device=positions.device)
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
    """Gradient noise for a batch, each image with frequencies of its own.

    Parameters
    ----------
    cycles_xy : (B, 2) float on ``device``, lattice cells across the width and across the height.
    size_hw : height and width of the noise, px; any size.
    generator : CPU generator for the gradients and the lattice's phase (no place is favoured).
    max_cycles : none of ``cycles_xy`` is larger. Needed on a GPU, where no shape follows from what was drawn.

    Returns
    -------
    (B, H, W) float32 on ``device``, within [-1, 1] (unit gradients, times the square root of 2).
    """
    height, width = size_hw
    n = len(cycles_xy)
    if is_static(device):
        assert max_cycles is not None, "on a GPU the size of the lattice has to be known beforehand"
        points_x = points_y = int(max_cycles) + 3
    else:
        points_x, points_y = (int(most) + 3 for most in cycles_xy.amax(0).tolist())
    directions = drawn(lambda g: uniform(0.0, 2.0 * math.pi, (n, points_y, points_x), g), generator, device)
    phase = drawn(lambda g: uniform(0.0, 1.0, (n, 2), g), generator, device)
    x = phase[:, :1] + cycles_xy[:, :1] * ((torch.arange(width, device=device) + 0.5) / width)
    y = phase[:, 1:] + cycles_xy[:, 1:] * ((torch.arange(height, device=device) + 0.5) / height)
    weight_x, slope_x = _axis_weights(x, points_x)  # (B, W, points_x)
    weight_y, slope_y = _axis_weights(y, points_y)  # (B, H, points_y)
    gradient_x, gradient_y = directions.cos() * math.sqrt(2.0), directions.sin() * math.sqrt(2.0)
    across_x, across_y = weight_y @ gradient_x, slope_y @ gradient_y  # (B, H, points_x)
    if is_static(device):  # lattice points beyond an image's last one weigh nothing
        return torch.baddbmm(across_x @ slope_x.mT, across_y, weight_x.mT)
    noise = torch.empty(n, height, width, device=device)
    for image, n_cycles in enumerate(cycles_xy[:, 0].tolist()):
        used = int(n_cycles) + 3
        torch.mm(across_x[image, :, :used], slope_x[image, :, :used].T, out=noise[image])
        noise[image].addmm_(across_y[image, :, :used], weight_x[image, :, :used].T)
    return noise


def perlin_masks(
    n: int,
    size_hw: tuple[int, int],
    generator: Generator,
    device: torch.device,
    *,
    octaves: tuple[int, int] = (0, 6),
    max_rotation_deg: float = 90.0,
    threshold: float = 0.5,
) -> Tensor:
    """Binary shapes from thresholded Perlin noise (DRÆM section 3.3, figure 4).

    Frequencies are 2^k with k drawn for each axis from ``octaves`` (upper bound excluded), the noise is
    turned by U[-max_rotation_deg, max_rotation_deg] and cut at ``threshold``. A mask may come out empty.

    Returns
    -------
    (n, H, W) bool on ``device``.
    """
    height, width = size_hw
    side = math.ceil(math.hypot(height, width))  # a canvas from which any turned image can be cut
    max_cycles = 2.0 ** (octaves[1] - 1) * side / min(height, width)

    def cycles(generator: Generator) -> Tensor:
        canvas = torch.tensor([side / width, side / height])
        return 2.0 ** torch.randint(*octaves, (n, 2), generator=generator) * canvas

    cycles_xy = drawn(cycles, generator, device)
    angles_rad = drawn(
        lambda g: torch.deg2rad(uniform(-max_rotation_deg, max_rotation_deg, (n,), g)), generator, device
    )
    with torch.autocast(device.type, enabled=False):  # positions do not fit into bf16
        shapes = perlin_noise(cycles_xy, (side, side), generator, device, max_cycles) > threshold
    return rotate_nearest(shapes[:, None], angles_rad, size_hw)[:, 0]
