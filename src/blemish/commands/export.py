"""``blemish export``: write a detector for another runtime, and report how the scores change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from blemish.artifact import artifact_at
from blemish.data.layouts import open_dataset
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.runtimes.export import write_onnx, write_openvino


def export_run(
    detector_path: Path, out: Path, precision: Literal["float32", "int8"], good: Path | None, layout: str
) -> None:
    """Write a detector for another runtime; with ``good`` images, print how their scores and verdicts change."""
    if out.suffix not in (".blemish", ".onnx", ".xml"):
        raise BlemishError(f"--out {out}: should end in .blemish or .xml (OpenVINO), or .onnx")
    if precision == "int8" and (good is None or out.suffix == ".onnx"):
        remedy = "take --out NAME.blemish or NAME.xml" if good else "give --good, a folder of good images"
        raise BlemishError(f"--precision int8: works only with OpenVINO and needs good images; {remedy}")
    detector_path = artifact_at(detector_path)
    if out.resolve() == detector_path.resolve():
        raise BlemishError(f"--out {out}: is the detector itself; choose another name")
    detector = Detector.load(detector_path)
    if out.suffix == ".onnx":
        write_onnx(detector.method, out, detector.description)
        print(out)
        return
    paths = [] if good is None else [sample.path for sample in open_dataset(good, layout, only="train").train]
    images = load_images(paths, detector.size_hw, detector.bits) if paths else None
    exported = detector.compiled(images if precision == "int8" else None)
    if out.suffix == ".xml":
        write_openvino(exported.runtime.tensors(), out)
    else:
        exported.save(out)
    if images is not None:
        _print_changes(paths, images, detector, exported)
    print(out)


def _print_changes(paths: Sequence[Path], images: Tensor, detector: Detector, exported: Detector) -> None:
    before = detector.maps_and_scores(images)[1]  # (N,)
    after = exported.maps_and_scores(images)[1]  # (N,)
    threshold = detector.threshold.value
    largest_change = float((after - before).abs().max())
    has_changed = ((before > threshold) != (after > threshold)).tolist()
    print(f"{len(paths)} good images: scores change by at most {largest_change:.2g}, threshold {threshold:.4g}")
    for path in (path for path, changed in zip(paths, has_changed, strict=True) if changed):
        print(f"  another verdict on {path}")
