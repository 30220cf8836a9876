"""Files and folders -> ``findings.jsonl``, ``findings.csv`` and overlays (``blemish inspect``).

A few images at a time are read, judged and drawn, so a folder takes no more memory however many files are in it.
Beside a GPU, reading and drawing go on while it works. On a CPU they take turns with the network, each with all
cores: a convolution waits for its slowest core, and would wait for the one that draws.
"""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from blemish.data.loading import resize
from blemish.data.reading import list_images, read_image
from blemish.detector import Detector, Finding
from blemish.devices import Device, Precision, resolve_device
from blemish.errors import BlemishError
from blemish.files import make_folder, replace_file
from blemish.report.overlay import as_jpeg, overlay

N_AHEAD = 4
"""Images that are read before they are asked for, beyond those that a GPU judges meanwhile."""
TOGETHER_PX = 2**19
"""As many images are judged together as have these pixels at the detector's size: 8 of 256 px, 32 of 128 px."""
MAX_BATCH_PX = 24_000_000
"""But no more photographs than have these pixels: they are kept until they are drawn."""

Given = TypeVar("Given")
Made = TypeVar("Made")


def inspect_run(
    detector_path: Path, paths: Sequence[Path], out: Path, device: Device, precision: Precision = "auto"
) -> tuple[int, int]:
    """Inspect files and folders; returns how many images are defective, and how many unreadable."""
    detector = Detector.load(detector_path, resolve_device(device), precision)
    files = [file for file in _files(paths) if out.resolve() not in file.resolve().parents]  # none of our overlays
    make_folder(out / "overlays")
    n_images = n_defective = n_errors = 0
    with _opened(out / "findings.jsonl") as lines, _opened(out / "findings.csv") as table:
        writer = csv.DictWriter(table, _CSV_COLUMNS)
        writer.writeheader()
        for row in _rows(detector, files, out):  # one by one: a stop loses none of them
            print(json.dumps(row), file=lines, flush=True)
            writer.writerow(_csv_row(row))
            table.flush()
            n_images += 1
            n_defective += row["is_defective"] is True
            n_errors += row["error"] is not None
    print(f"{n_images} images: {n_defective} defective, {n_errors} unreadable; results in {out}")
    return n_defective, n_errors


# --- which files ---------------------------------------------------------------------------------------------


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = list_images(path, recursive=True)
        if not found:
            raise BlemishError(f"{path}: no images in it or below; give image files or a folder of them")
        yield from found


def _overlay_names(files: Sequence[Path]) -> list[str]:
    """A file name for each overlay: the image's, with its folder where two would be the same."""
    names, taken = [], set()
    for file in files:
        name = file.stem
        if name in taken:
            name = f"{file.parent.name}_{file.stem}"
        number, base = 2, name
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        names.append(f"{name}.jpg")
    return names


# --- reading, the network and drawing ------------------------------------------------------------------------


@dataclass
class _Photograph:
    """A file on its way."""

    file: Path
    overlay_name: str
    image: NDArray[np.uint8] | None = None
    """(H, W, 3), if it could be read."""
    small: NDArray[np.uint8] | None = None
    """The same at the detector's size."""
    error: str | None = None
    map: NDArray[np.float32] | None = None
    """Anomaly map at the detector's size."""
    score: float = 0.0


def _rows(detector: Detector, files: Sequence[Path], out: Path) -> Iterator[dict[str, Any]]:
    """Rows of ``findings.jsonl``, in the order of the files; a file that cannot be read becomes one with an error."""

    def read(named: tuple[Path, str]) -> _Photograph:
        photograph = _Photograph(*named)
        try:
            photograph.image = read_image(photograph.file)
            photograph.small = resize(photograph.image, detector.size_hw)
        except BlemishError as error:
            photograph.error = str(error)
        return photograph

    on_cpu = detector.device.type == "cpu"
    n_together = max(1, TOGETHER_PX // math.prod(detector.size_hw))
    drawing: deque[Future[dict[str, Any]]] = deque()

    def drawn() -> Iterator[dict[str, Any]]:
        while drawing:
            yield drawing.popleft().result()

    with ThreadPoolExecutor() as pool:
        named = zip(files, _overlay_names(files), strict=True)
        read_ones = _in_order(pool, read, named, N_AHEAD + (0 if on_cpu else n_together))
        for batch in _batches(read_ones, n_together):
            if on_cpu:
                yield from drawn()
            _judge(detector, batch)
            yield from drawn()
            drawing.extend(pool.submit(_draw, detector, one, out) for one in batch)
        yield from drawn()


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Given], Made], items: Iterable[Given], n_ahead: int
) -> Iterator[Made]:
    """``map(work, items)`` in other threads, at most ``n_ahead`` items ahead of who takes the results."""
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= n_ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _batches(photographs: Iterable[_Photograph], n_together: int) -> Iterator[list[_Photograph]]:
    """Some that fit into memory together."""
    batch: list[_Photograph] = []
    n_px = 0
    for one in photographs:
        batch.append(one)
        n_px += one.image.size // 3 if one.image is not None else 0
        if len(batch) == n_together or n_px > MAX_BATCH_PX:
            yield batch
            batch, n_px = [], 0
    if batch:
        yield batch


def _judge(detector: Detector, batch: list[_Photograph]) -> None:
    """Give those that could be read their map and score."""
    readable = [one for one in batch if one.small is not None]
    if readable:
        maps, scores = detector.maps_and_scores_of([one.small for one in readable if one.small is not None])
        for one, anomaly_map, score in zip(readable, maps[:, 0].numpy(), scores.tolist(), strict=True):
            one.map, one.score, one.small = anomaly_map, score, None


def _draw(detector: Detector, one: _Photograph, out: Path) -> dict[str, Any]:
    """The row of a photograph, whose overlay is written."""
    row: dict[str, Any] = dict.fromkeys(("path", "score", "threshold", "is_defective", "regions", "error"))
    row |= {"path": str(one.file), "threshold": detector.threshold.value}
    try:
        if one.image is None or one.map is None:
            raise BlemishError(one.error or f"{one.file}: was not read")
        finding = detector.finding(one.score, one.map, one.image.shape[:2], str(one.file))
        picture = as_jpeg(overlay(one.image, finding))
    except BlemishError as error:
        print(f"blemish: {error}", file=sys.stderr)
        return row | {"error": str(error)}
    with replace_file(out / "overlays" / one.overlay_name) as opened:
        opened.write(picture)
    return row | {"score": finding.score, "is_defective": finding.is_defective, "regions": _region_rows(finding)}


# --- what is written -----------------------------------------------------------------------------------------


def _opened(path: Path) -> TextIO:
    """A file of rows. A file name in another encoding than UTF-8 does not stop them."""
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


def _region_rows(finding: Finding) -> list[dict[str, Any]]:
    return [{"bbox_xyxy": list(one.bbox_xyxy), "area_px": one.area_px, "peak": one.peak} for one in finding.regions]


_CSV_COLUMNS = ("path", "score", "threshold", "is_defective", "n_regions", "largest_area_px", "error")


def _csv_row(row: Mapping[str, Any]) -> dict[str, Any]:
    found = row["regions"] or []
    counts = {"n_regions": len(found), "largest_area_px": max((region["area_px"] for region in found), default=0)}
    return {name: {**row, **counts}[name] for name in _CSV_COLUMNS}
