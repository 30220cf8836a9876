"""The result of inspecting a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish.data.loading import resize
from blemish.regions import Region, only, outline, regions

ROW = (
    "path", "score", "threshold", "is_defective", "regions", "error", "verdict", "unlike", "overlay", "map", "mask",
    "min_area_px",
)  # fmt: skip
"""Keys of a row of ``findings.jsonl``."""
Verdict = Literal["good", "defective", "unlike"]


@dataclass(frozen=True)
class Finding:
    """The result of inspecting one photograph."""

    path: str | None
    """File of the photograph; None if it was not a file."""
    score: float
    """Image score, >= 0, higher is worse."""
    threshold: float
    is_defective: bool
    """Whether the score is above the threshold, and a region as large as the detector asks for is outlined."""
    map: NDArray[np.float32]
    """(H, W) float32 anomaly map in the size of the photograph, >= 0."""
    mask: NDArray[np.bool_]
    """(H, W) bool anomaly mask, the area to outline; all False if the photograph is not defective."""
    regions: list[Region]
    """The blemishes, worst first."""
    explanation: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """(H, W, 3) uint8 images that explain the result, such as ``reconstruction``; empty unless requested."""
    unlike: tuple[str, ...] = ()
    """Why the photograph is unlike the good images that the detector has learned from; empty if it is not."""
    min_area_px: int = 0
    """Least area of a region that is outlined: with none so large the photograph is good, whatever its score."""

    @property
    def verdict(self) -> Verdict:
        """``unlike`` if the photograph is not of the kind that the detector knows, whatever its score."""
        return "unlike" if self.unlike else "defective" if self.is_defective else "good"

    @property
    def too_small(self) -> str:
        """Why the photograph is good although its score is above the threshold; empty otherwise."""
        is_so = self.score > self.threshold and not self.is_defective
        return f"no region of {self.min_area_px} px or more" if is_so else ""

    def row(self) -> dict[str, Any]:
        """Return the row of ``findings.jsonl``."""
        regions = [
            {"bbox_xyxy": list(region.bbox_xyxy), "area_px": region.area_px, "peak": region.peak}
            for region in self.regions
        ]
        verdict = self.verdict, list(self.unlike)
        values = self.path, self.score, self.threshold, self.is_defective, regions, None, *verdict
        return dict.fromkeys(ROW) | dict(zip(ROW, values, strict=False)) | {"min_area_px": self.min_area_px}


def finding(
    anomaly_map: NDArray[np.float32],
    score: float,
    threshold: float,
    size_hw: tuple[int, int],
    path: str | None = None,
    explanation: dict[str, NDArray[np.uint8]] | None = None,
    unlike: Sequence[str] = (),
    pixel_threshold: float = 0.0,
    min_area_px: int = 0,
) -> Finding:
    """Build the finding of a photograph of ``size_hw`` px from a map (h, w) of any resolution and a finite score.

    Nothing below ``pixel_threshold``, which few pixels of good images reach, is outlined. Regions of less than
    ``min_area_px`` pixels are left out, and a photograph with no others is not defective.
    """
    anomaly_map = np.asarray(resize(anomaly_map, size_hw))
    is_defective = score > threshold
    mask = outline(anomaly_map, pixel_threshold) if is_defective else np.zeros(size_hw, dtype=np.bool_)
    blemishes = regions(anomaly_map, mask)
    if min_area_px and any(region.area_px < min_area_px for region in blemishes):
        large = [region for region in blemishes if region.area_px >= min_area_px]
        mask = only(mask, blemishes, large)
        is_defective, blemishes = bool(large), large
    return Finding(
        path, score, threshold, is_defective, anomaly_map, mask, blemishes, explanation or {}, tuple(unlike),
        min_area_px,
    )  # fmt: skip


def row_of_error(path: str | None, threshold: float, error: str, min_area_px: int = 0) -> dict[str, Any]:
    """Return the row of ``findings.jsonl`` for a photograph that could not be inspected."""
    values = {"path": path, "threshold": threshold, "error": error, "verdict": "not inspected"}
    return dict.fromkeys(ROW) | values | {"min_area_px": min_area_px}


def unlike_text(path: str | None, reasons: Sequence[str]) -> str:
    """One line that says why a photograph is unlike the good images: the strongest reason, and how many more."""
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{path}: unlike the good images: {reasons[0]}{more}"
