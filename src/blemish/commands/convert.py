"""``blemish convert``: convert the authors' weights into blemish's files."""

from __future__ import annotations

from pathlib import Path

from blemish.data.bits import bits_in_use
from blemish.data.layouts import open_dataset
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.learning.calibration import calibrated
from blemish.methods.authors_weights import convert_codebook, convert_draem
from blemish.methods.dsr.codebook import save_codebook


def convert_files(
    reconstructive: Path, discriminative: Path, out: Path, calibration: Path | None, false_rejects: float
) -> None:
    """Write a detector made from the authors' weights, calibrated on the images of ``calibration`` if it is set."""
    method = convert_draem(reconstructive, discriminative)
    provenance = {"recipe": "paper", "converted_from": [reconstructive.name, discriminative.name]}
    if calibration is None:
        detector = Detector.uncalibrated(method, 0.5, false_rejects, provenance)
    else:
        paths = [sample.path for sample in open_dataset(calibration, only="train").train]
        size_hw = (method.settings.image_size_px,) * 2
        bits = bits_in_use(paths) or 16
        detector = calibrated(
            method, load_images(paths, size_hw, bits, method.settings.resizing), false_rejects, provenance, bits
        )
    detector.save(out)
    print(detector.threshold.explain())
    print(f"{out}: image threshold {detector.threshold.value:.4g}")


def convert_codebook_file(weights: Path, out: Path) -> None:
    """Write a codebook file made from the authors' weights."""
    save_codebook(convert_codebook(weights), out, {"converted_from": weights.name})
    print(out)
