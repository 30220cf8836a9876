"""A stand-in until the storage of the record is merged."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path


class Storage:
    """Pictures and detectors in a folder."""

    def __init__(self, folder: Path, keep_days: float | None = None, keep_gb: float | None = None) -> None:
        self.folder = folder
        self._n = 0

    def save_image(self, product: str, content: bytes, time_s: float) -> str:
        return self._save(product, content, "png")

    def save_overlay(self, product: str, content: bytes, time_s: float) -> str:
        return self._save(product, content, "jpg")

    def _save(self, product: str, content: bytes, suffix: str) -> str:
        self._n += 1
        name = f"pictures/{product}/{hashlib.sha256(content).hexdigest()[:16]}-{self._n}.{suffix}"
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return name

    def path(self, name: str) -> Path:
        return self.folder / name

    def keep_detector(self, path: Path) -> str:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        target = self.detector(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        return digest

    def detector(self, digest: str) -> Path:
        return self.folder / "detectors" / f"{digest}.blemish"
