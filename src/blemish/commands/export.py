"""``blemish export``: a detector for another runtime, and what 8 bits change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from blemish.data.layouts import open_dataset
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.runtimes.export import write_onnx, write_openvino


def export_run(
    detector_path: Path, out: Path, precision: Literal["float32", "int8"], good: Path | None, layout: str
) -> None:
    """Write a detector for another runtime; say what 8 bits change."""
    if out.suffix not in (".blemish", ".onnx", ".xml"):
        raise BlemishError(f"--out {out}: should end in .blemish or .xml (OpenVINO), or .onnx")
    if precision == "int8" and (good is None or out.suffix == ".onnx"):
        remedy = "take --out NAME.blemish or NAME.xml" if good else "give --good, a folder of good images"
        raise BlemishError(f"--precision int8: is for OpenVINO, and takes good images; {remedy}")
    if out.resolve() == detector_path.resolve():
        raise BlemishError(f"--out {out}: is the detector itself; take another name")
    detector = Detector.load(detector_path)
    if out.suffix == ".onnx":
        write_onnx(detector.method, out, detector.description)
        print(out)
        return
    paths = [] if good is None else [sample.path for sample in open_dataset(good, layout).train]
    images = load_images(paths, detector.size_hw) if paths else None
    exported = detector.compiled(images if precision == "int8" else None)
    if out.suffix == ".xml":
        write_openvino(exported.runtime.tensors(), out)
    else:
        exported.save(out)
    if images is not None:
        _print_changes(paths, images, detector, exported)
    print(out)


def _print_changes(paths: Sequence[Path], images: Tensor, detector: Detector, exported: Detector) -> None:
    before, after = (one.maps_and_scores(images)[1] for one in (detector, exported))
    value = detector.threshold.value
    change = float((after - before).abs().max())
    changed = [path for path, a, b in zip(paths, before, after, strict=True) if bool(a > value) != bool(b > value)]
    print(f"{len(paths)} good images: scores change by at most {change:.2g}, the threshold is {value:.4g}")
    for path in changed:
        print(f"  another verdict on {path}")
