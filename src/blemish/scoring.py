"""From anomaly map to image score."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from blemish.errors import BlemishError


def smoothed_maximum(anomaly_map: Tensor, window_px: int = 21) -> Tensor:
    """Image score of DRÆM, eq. (5): maximum of the local mean. Exportable.

    Parameters
    ----------
    anomaly_map : (B, 1, H, W) float
        Higher is worse.
    window_px : int, odd
        Side of the square window of the mean. Outside of the image the map counts as zero, so a blemish at the edge
        scores lower than the same blemish inside.

    Returns
    -------
    (B,) float, same dtype
    """
    if window_px < 1 or window_px % 2 == 0:
        raise BlemishError(f"window_px must be odd and positive, not {window_px}")
    reach_px = window_px // 2
    # The mean over a square is a mean along columns and then along rows: 2 * 21 instead of 21 * 21 reads per pixel.
    mean = F.avg_pool2d(anomaly_map, (window_px, 1), stride=1, padding=(reach_px, 0))  # (B, 1, H, W)
    mean = F.avg_pool2d(mean, (1, window_px), stride=1, padding=(0, reach_px))  # (B, 1, H, W)
    return mean.amax(dim=(1, 2, 3))  # (B,)
