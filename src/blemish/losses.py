"""Losses and similarity maps of the papers. Pure functions that compute in float32, also under autocast."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.layers import blur_matrix


def l2_loss(reconstruction: Tensor, image: Tensor) -> Tensor:
    """Mean squared error of two (B, C, H, W) float tensors: a scalar (second term of DRÆM eq. 2)."""
    return F.mse_loss(reconstruction.float(), image.float())


def ssim_map(a: Tensor, b: Tensor, *, window_px: int = 11, sigma_px: float = 1.5) -> Tensor:
    """Structural similarity at every pixel (Wang et al. 2004; DRÆM eq. 1).

    Gaussian window, zero padding, C1 = 0.01^2, C2 = 0.03^2 for values in [0, 1].

    Parameters
    ----------
    a, b : (B, C, H, W) float in [0, 1].

    Returns
    -------
    (B, C, H, W) float32, at most 1; 1 where both images are equal.
    """
    with torch.autocast(a.device.type, enabled=False):
        a, b = a.float(), b.float()
        height, width = a.shape[-2:]
        down = blur_matrix(height, window_px, sigma_px, a.device)  # (H, H)
        across = blur_matrix(width, window_px, sigma_px, a.device)  # (W, W)

        def blur(*planes: Tensor) -> tuple[Tensor, ...]:  # two matrix products: a depthwise convolution is slower
            return (down @ torch.stack(planes) @ across).unbind(0)  # (B, C, H, W) for each plane

        mean_a, mean_aa, mean_ab = blur(a, a * a, a * b)  # (B, C, H, W) each
        mean_b, mean_bb = blur(b, b * b)
        variance_a, variance_b = mean_aa - mean_a**2, mean_bb - mean_b**2
        covariance = mean_ab - mean_a * mean_b
        c1, c2 = 0.01**2, 0.03**2
        luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
        structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
        similarity: Tensor = luminance * structure
        return similarity


def ssim_loss(reconstruction: Tensor, image: Tensor) -> Tensor:
    """1 - mean SSIM of two (B, C, H, W) tensors: a scalar in [0, 2] (DRÆM eq. 1)."""
    return 1.0 - ssim_map(reconstruction, image).mean()


def focal_loss(probability: Tensor, mask: Tensor, *, gamma: float = 2.0, smoothing: float = 1e-5) -> Tensor:
    """Focal loss for two classes of equal weight (Lin et al. 2017; DRÆM section 3.2).

    Per pixel -(1 - p_t)^gamma log p_t, where p_t is the probability of the true class with labels smoothed by
    ``smoothing``. As in the authors' code, ``smoothing`` is added to p_t once more.

    Parameters
    ----------
    probability : (B, 1, H, W) float in [0, 1], of the anomaly. Apply the softmax before, and only once.
    mask : (B, 1, H, W) float, 1 anomalous, 0 normal.

    Returns
    -------
    Scalar >= 0. A completely wrong prediction costs -log(2 smoothing) = 10.8, on normal and anomalous pixels alike.
    """
    p = probability.float()  # (B, 1, H, W)
    true = torch.where(mask > 0.5, p, 1.0 - p)
    p_t = (1.0 - smoothing) * true + smoothing * (1.0 - true) + smoothing
    return (-((1.0 - p_t) ** gamma) * p_t.log()).mean()


def msgms_map(a: Tensor, b: Tensor, *, n_scales: int = 4) -> Tensor:
    """Multi-scale gradient magnitude similarity (Zavrtanik et al., *RIAD*, 2020, eq. 3 to 5; DRÆM table 3).

    Parameters
    ----------
    a, b : (B, C, H, W) float in [0, 1]; averaged over channels first.

    Returns
    -------
    (B, 1, H, W) float32 in [0, 1], the mean over ``n_scales`` scales, each half the size of the one before;
    1 where both images are equal.
    """
    a, b = (x.float().mean(1, keepdim=True) for x in (a, b))  # (B, 1, H, W)
    size_hw = a.shape[-2:]

    def magnitude(x: Tensor) -> Tensor:
        """Gradient magnitude by Prewitt's masks: a difference across two pixels, averaged over three rows or columns.

        (B, 1, h, w) to (B, 1, h, w).
        """
        x = F.pad(x, (1, 1, 1, 1), mode="replicate")  # (B, 1, h + 2, w + 2)
        across = F.avg_pool2d(x[..., :-2] - x[..., 2:], (3, 1), 1)  # (B, 1, h, w)
        down = F.avg_pool2d(x[..., :-2, :] - x[..., 2:, :], (1, 3), 1)  # (B, 1, h, w)
        return (across.square() + down.square() + 1e-12).sqrt()

    constant, total = 0.0026, torch.zeros_like(a)
    for _ in range(n_scales):
        g_a, g_b = magnitude(a), magnitude(b)  # (B, 1, H / 2^k, W / 2^k), k = 0, 1, ...
        similarity = (2 * g_a * g_b + constant) / (g_a**2 + g_b**2 + constant)
        total = total + F.interpolate(similarity, size_hw, mode="bilinear", align_corners=False)
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total / n_scales
