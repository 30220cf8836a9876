"""Detectors as they are served: their files are kept by digest, so that any verdict can be replayed."""

from __future__ import annotations

from pathlib import Path

from blemish.artifact import artifact_at
from blemish.detector import Detector
from blemish.devices import Device, Precision, resolve_device
from blemish.errors import BlemishError
from blemish.record.storage import Storage
from blemish.serve.line import Served


def load(path: Path, storage: Storage, device: Device = "auto", precision: Precision = "auto") -> Served:
    """Load a detector, and keep its file in the storage.

    Raises
    ------
    BlemishError
        If it cannot be loaded or kept.
    """
    path = artifact_at(path)
    detector = Detector.load(path, resolve_device(device), precision)  # first: what is no detector is not kept
    return Served(detector, storage.add_detector(path))


def load_kept(digest: str, storage: Storage, device: Device = "auto", precision: Precision = "auto") -> Served:
    """Load a detector that is kept in the storage.

    Raises
    ------
    BlemishError
        If it is not there, or cannot be loaded.
    """
    path = storage.detector(digest)
    if path is None:
        raise BlemishError(f"{digest[:12]}: no such detector is in {storage.folder}; give its file")
    return Served(Detector.load(path, resolve_device(device), precision), digest)
