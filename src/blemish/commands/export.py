"""``blemish export``: write a detector for another runtime, and report how the scores change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import compress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.artifact import artifact_at
from blemish.data.layouts import open_dataset
from blemish.data.loading import load_pieces
from blemish.data.reading import read_image
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.files import check_new, folder_for_files
from blemish.inspection.framing import Tiles, Whole
from blemish.inspection.sources import photographs
from blemish.inspection.stream import judge
from blemish.learning.alike import are_alike
from blemish.learning.images import load_tiles
from blemish.runtimes.base import needed
from blemish.runtimes.export import INPUTS, MAX_IMAGES, OUTPUTS, InputKind, write_onnx, write_openvino

PRECISION_HINT = {"INFERENCE_PRECISION_HINT": "f32"}
"""Without it, OpenVINO computes in bfloat16 where the processor is fast at that, which changes pixels and scores."""


def export_run(
    detector_path: Path,
    out: Path,
    precision: Literal["float32", "int8"],
    good: Path | None,
    layout: str,
    input_kind: InputKind = "photographs",
) -> None:
    """Write a detector for another runtime, and print what was written.

    With ``good`` images, run what was written on them, and print how their scores and verdicts change.
    """
    detector_path = artifact_at(detector_path)
    _check(detector_path, out, precision, good, input_kind)
    detector = Detector.load(detector_path)
    if out.suffix != ".blemish" and not isinstance(detector.framing, Whole | Tiles):
        raise BlemishError(
            f"{detector_path}: looks at a region of interest, which a file for other programs does not; take "
            f"--out NAME.blemish, which OpenVINO runs"
        )
    if out.suffix != ".blemish" and detector.min_area_px:
        raise BlemishError(
            f"{detector_path}: counts regions of {detector.min_area_px} px or more, which a file for other programs "
            f"does not; take --out NAME.blemish, or `blemish calibrate --min-area 0` before"
        )
    grid = detector.framing if isinstance(detector.framing, Tiles) else None
    paths, seen = _good_images(detector, detector_path, good, layout, precision)
    with folder_for_files(out.parent):
        if out.suffix == ".onnx":
            about = description_of_file(detector, out, "float32", input_kind)
            write_onnx(detector.method, out, about, input_kind, grid)
        else:
            compiled = detector.compiled(seen)
            if out.suffix == ".blemish":
                compiled.save(out)
            else:
                about = description_of_file(compiled, out, precision, input_kind)
                write_openvino(detector.method, compiled.runtime.tensors(), out, about, input_kind, grid)
    if paths:
        is_detector = out.suffix == ".blemish"
        before = _scores(detector, paths)
        after = _scores(compiled, paths) if is_detector else _scores_by_file(out, paths, detector, input_kind)
        _print_changes(paths, before, after, detector.threshold.value)
    if out.suffix != ".blemish":
        _print_summary(about)
    print(out)


def _check(detector_path: Path, out: Path, precision: str, good: Path | None, input_kind: InputKind) -> None:
    """Raise BlemishError if the options do not fit together."""
    if out.suffix not in (".blemish", ".onnx", ".xml"):
        raise BlemishError(f"--out {out}: should end in .blemish or .xml (OpenVINO), or .onnx")
    if precision == "int8" and (good is None or out.suffix == ".onnx"):
        remedy = "take --out NAME.blemish or NAME.xml" if good else "give --good, a folder of good images"
        raise BlemishError(f"--precision int8: works only with OpenVINO and needs good images; {remedy}")
    if out.suffix == ".blemish" and input_kind == "network":
        raise BlemishError(
            "--input network: a .blemish takes photographs of any size; take --out NAME.onnx or NAME.xml"
        )
    if out.resolve() == detector_path.resolve():
        raise BlemishError(f"--out {out}: is the detector itself; choose another name")
    for path in (out, out.with_suffix(".bin")) if out.suffix == ".xml" else (out,):
        check_new(path)


def _good_images(
    detector: Detector, detector_path: Path, good: Path | None, layout: str, precision: str
) -> tuple[list[Path], Tensor | None]:
    """The files of the good images, without strays, and for 8 bits what the network sees of them, (N, 3, h, w) uint8.

    Of a detector that inspects tiles, these are as many tiles as 8 bits look at, of all images.
    """
    if good is None:
        return [], None
    paths = [sample.path for sample in open_dataset(good, layout, only="train").train]
    framing, sizes_hw = detector.framing, dict[int, tuple[int, int]]()

    def overview(number: int, photograph: NDArray[np.uint8]) -> NDArray[np.uint8]:
        sizes_hw[number] = photograph.shape[0], photograph.shape[1]
        return framing.overview(photograph)[None]

    images = load_pieces(paths, [1] * len(paths), framing.tile_hw, overview, detector.bits)
    numbers = [*range(len(paths))]
    if paths and detector.likeness is not None:
        kept = are_alike(detector.likeness, detector.size_hw, images, paths, good, f"those of {detector_path}")
        numbers = [*compress(numbers, kept)]
    paths = [paths[number] for number in numbers]
    if precision != "int8":
        return paths, None
    if framing.is_one_tile:
        return paths, images[torch.tensor(numbers)]
    sizes_hw_of_paths = [sizes_hw[number] for number in numbers]
    return paths, load_tiles(paths, sizes_hw_of_paths, framing, MAX_IMAGES, detector.bits)[0]


# --- what the file says of itself ------------------------------------------------------------------------------


def description_of_file(detector: Detector, out: Path, precision: str, input_kind: InputKind) -> dict[str, Any]:
    """Return what another program has to know of an exported file, for JSON, in addition to the detector's own.

    Of the detector's description, ``likeness`` is left out, because the graph does not compute it.
    """
    own = {key: value for key, value in detector.description.items() if key != "likeness"}
    return own | {
        "blemish_version": version("blemish"),
        "runtime": "onnx" if out.suffix == ".onnx" else "openvino",
        "precision": precision,
        "input": _input_description(detector, input_kind),
        "outputs": _output_descriptions(detector, input_kind),
        "verdict": f"defective if score > {detector.threshold.value!r} (threshold.value)",
        "left_out": "likeness: the file does not say whether a photograph is unlike all good images",
        "openvino_hints": PRECISION_HINT if out.suffix == ".xml" else {},
    }


_RESIZING = {
    "area": "an axis that shrinks is averaged over areas (OpenCV's INTER_AREA), then one that grows is interpolated "
    "(INTER_LINEAR), each rounded to uint8",
    "bilinear": "both axes are interpolated (OpenCV's INTER_LINEAR), rounded to uint8",
}


def _input_description(detector: Detector, input_kind: InputKind) -> dict[str, Any]:
    (height, width), bits = detector.size_hw, detector.bits
    if isinstance(detector.framing, Tiles):
        preparation, rule = "cut", _cutting(detector.framing)
    else:
        rule = f"to {width} x {height} px, whatever the aspect; {_RESIZING[detector.settings.resizing]}"
        preparation = "resize"
    sixteen_bits = (
        "16-bit values: shift their highest used bit to bit 7, then cast to uint8"
        if bits is None
        else f"16-bit values: only the lowest {bits} bits are used; shift right by {bits - 8}, then cast to uint8"
    )
    convert = f"grey: repeat it three times; drop alpha; turn as EXIF says; {sixteen_bits}"
    if input_kind == "photographs":
        kind = {
            "shape": ["batch", "height", "width", 3],
            "layout": "NHWC",
            "dtype": "uint8",
            "range": [0, 255],
            preparation: f"done in the graph: {rule}",
        }
    else:
        kind = {
            "shape": ["batch", 3, height, width],
            "layout": "NCHW",
            "dtype": "float32",
            "range": [0, 1],
            preparation: f"to be done before, in uint8: {rule}; then divide by 255",
        }
    return {"name": INPUTS[input_kind], **kind, "colour": "RGB", "convert_before": convert}


def _cutting(framing: Tiles) -> str:
    (height, width), overlap = framing.size_hw, framing.overlap_px
    return (
        f"into tiles of {width} x {height} px of the photograph's own pixels. An axis shorter than a tile is "
        f"continued at its end by its mirror image (numpy.pad, symmetric). Along an axis of L px, tiles of S px "
        f"start at i * (L - S) // max(1, n - 1), i = 0 ... n - 1, of n = ceil((L - {overlap}) / (S - {overlap})) "
        f"tiles; each row of tiles has all columns"
    )


def _output_descriptions(detector: Detector, input_kind: InputKind) -> dict[str, Any]:
    (height, width), framing, worse = detector.size_hw, detector.framing, ">= 0, higher is worse"
    anomaly_map = {
        "shape": ["batch", 1, height, width],
        "dtype": "float32",
        "meaning": f"({width} x {height} px over the whole photograph) {worse}",
    }
    score = {"shape": ["batch"], "dtype": "float32", "meaning": worse}
    if isinstance(framing, Tiles) and input_kind == "photographs":
        anomaly_map |= {"shape": ["batch", 1, "height", "width"], "meaning": f"(of every pixel) {worse}"}
        score["meaning"] = f"(that of the worst tile) {worse}"
    elif isinstance(framing, Tiles):
        names = ("row_weights", "column_weights")
        weights = {name: values.tolist() for name, values in zip(names, framing.weights, strict=True)}
        join = (
            "to be done after: of every pixel, the mean over the tiles that have it, weighted by its row_weights * "
            "column_weights in the tile (in the metadata, outputs.anomaly_map); cropped to the photograph"
        )
        anomaly_map |= {"meaning": f"(of every pixel of a tile) {worse}", "join": join, **weights}
        score |= {"meaning": f"(of a tile) {worse}", "join": "to be done after: the largest of a photograph's tiles"}
    return dict(zip(OUTPUTS, (anomaly_map, score), strict=True))


def _print_summary(about: dict[str, Any]) -> None:
    taken = about["input"]
    shape, (least, most) = ", ".join(map(str, taken["shape"])), taken["range"]
    print(f"{about['runtime']}, {about['precision']}")
    print(f"input {taken['name']}: ({shape}) {taken['dtype']} {taken['colour']}, {least} to {most}")
    for preparation in {"resize", "cut"} & taken.keys():
        print(f"  {preparation}: {taken[preparation]}")
    for name, output in about["outputs"].items():
        print(f"output {name}: ({', '.join(map(str, output['shape']))}) {output['dtype']}, {output['meaning']}")
        if "join" in output:
            print(f"  join: {output['join']}")
    print(f"verdict: {about['verdict']}")
    print(f"left out: {about['left_out']}")
    for name, value in about["openvino_hints"].items():
        print(f"run it with {name}={value}, which keeps the scores; OpenVINO's default may be bfloat16")


# --- how the scores change -------------------------------------------------------------------------------------


def _scores(detector: Detector, paths: Sequence[Path]) -> list[float]:
    return list(judge(detector, photographs(paths), lambda judgement: judgement.checked().score))


def _scores_by_file(out: Path, paths: Sequence[Path], detector: Detector, input_kind: InputKind) -> list[float]:
    """Return the scores of photographs by an .onnx or .xml file, one at a time."""
    name, score = INPUTS[input_kind], OUTPUTS[1]
    run: Callable[[NDArray[Any]], Any]
    if out.suffix == ".onnx":
        session = needed("onnxruntime").InferenceSession(str(out), providers=["CPUExecutionProvider"])
        run = lambda images: session.run([score], {name: images})[0]  # noqa: E731
    else:
        compiled = needed("openvino").Core().compile_model(out, "CPU", PRECISION_HINT)
        run = lambda images: compiled({name: images})[score]  # noqa: E731
    scores = []
    for path in paths:
        photograph = read_image(path, detector.bits)  # (H, W, 3)
        images = [photograph[None]]
        if input_kind == "network":
            tiles = (tile.astype(np.float32) / np.float32(255) for tile in detector.framing.cut(photograph))
            images = [np.ascontiguousarray(tile.transpose(2, 0, 1)[None]) for tile in tiles]  # (1, 3, S, S) each
        scores.append(detector.framing.score(float(run(image)[0]) for image in images))
    return scores


def _print_changes(paths: Sequence[Path], before: Sequence[float], after: Sequence[float], threshold: float) -> None:
    pairs = list(zip(paths, before, after, strict=True))
    largest_change = max(abs(new - old) for _, old, new in pairs)
    print(f"{len(paths)} good images: scores change by at most {largest_change:.2g}, threshold {threshold:.4g}")
    for path in (path for path, old, new in pairs if (old > threshold) != (new > threshold)):
        print(f"  another verdict on {path}")
