"""blemish: learn from photographs of good parts only; find and outline the defects.

    import blemish
    detector = blemish.fit("parts/good", method="draem", recipe="small")
    finding = detector.inspect("part_17.png")

Importing it is cheap: torch is loaded when something that needs it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from blemish.errors import BlemishError

if TYPE_CHECKING:
    from pathlib import Path

    from blemish.detector import Detector, Finding
    from blemish.fitting import fit
    from blemish.methods.draem import DRAEM, DRAEMSettings

__all__ = ["DRAEM", "BlemishError", "DRAEMSettings", "Detector", "Finding", "fit", "load"]

_HOMES = {
    "fit": "blemish.fitting",
    "Detector": "blemish.detector",
    "Finding": "blemish.detector",
    "DRAEM": "blemish.methods.draem",
    "DRAEMSettings": "blemish.methods.draem",
}


def load(path: str | Path, device: str = "cpu") -> Detector:
    """Read a ``.blemish`` file: see ``Detector.load``."""
    from blemish.detector import Detector

    return Detector.load(path, device)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'blemish' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
