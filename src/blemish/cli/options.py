"""What several commands share: the values of options, and exit codes."""

from __future__ import annotations

from typing import Literal

DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["auto", "float32", "bf16"]
MetricName = Literal["image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro"]
DEFECT_FOUND, USER_ERROR, INTERNAL_ERROR, INTERRUPTED = 1, 2, 70, 130
