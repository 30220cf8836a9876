"""blemish: learns from photographs of good parts only; finds and outlines the defects.

    import blemish
    detector = blemish.fit("parts/good", method="draem", recipe="small")
    finding = detector.inspect("part_17.png")

Importing it is fast: torch is loaded only when a name that needs it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from blemish.errors import BlemishError

if TYPE_CHECKING:
    from pathlib import Path

    from blemish.detector import Detector, Finding
    from blemish.devices import Precision
    from blemish.learning.combining import combine
    from blemish.learning.fit import fit
    from blemish.learning.recalibrating import calibrate
    from blemish.methods.draem import DRAEM, DRAEMSettings
    from blemish.methods.dsr import DSR, DSRSettings
    from blemish.methods.patchcore import PatchCore, PatchCoreSettings
    from blemish.methods.ssae import SSAE
    from blemish.methods.ssae.settings import SSAESettings

__all__ = [
    "DRAEM",
    "DSR",
    "SSAE",
    "BlemishError",
    "DRAEMSettings",
    "DSRSettings",
    "Detector",
    "Finding",
    "PatchCore",
    "PatchCoreSettings",
    "SSAESettings",
    "calibrate",
    "combine",
    "fit",
    "load",
]

_HOMES = {
    "calibrate": "blemish.learning.recalibrating",
    "combine": "blemish.learning.combining",
    "fit": "blemish.learning.fit",
    "Detector": "blemish.detector",
    "Finding": "blemish.detector",
    "DRAEM": "blemish.methods.draem",
    "DRAEMSettings": "blemish.methods.draem",
    "DSR": "blemish.methods.dsr",
    "DSRSettings": "blemish.methods.dsr",
    "PatchCore": "blemish.methods.patchcore",
    "PatchCoreSettings": "blemish.methods.patchcore",
    "SSAE": "blemish.methods.ssae",
    "SSAESettings": "blemish.methods.ssae.settings",
}


def load(path: str | Path, device: str = "cpu", precision: Precision = "auto") -> Detector:
    """Read a detector from a ``.blemish`` file; see ``Detector.load``."""
    from blemish.detector import Detector

    return Detector.load(path, device, precision)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'blemish' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
