"""``blemish inspect``: inspect files and folders; write ``findings.jsonl``, ``findings.csv`` and overlays."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from blemish.detector import Detector
from blemish.devices import Device, Precision, resolve_device
from blemish.errors import BlemishError
from blemish.files import make_folder, replace_file
from blemish.inspection.findings import unlike_text
from blemish.inspection.sinks import Rows, Table
from blemish.inspection.sources import image_files, photographs
from blemish.inspection.stream import Judgement, judge
from blemish.report.overlay import as_jpeg, overlay


def inspect_run(
    detector_path: Path, paths: Sequence[Path], out: Path, device: Device, precision: Precision = "auto"
) -> tuple[int, int]:
    """Inspect files and folders; return how many images are defective, and how many are unreadable."""
    detector = Detector.load(detector_path, resolve_device(device), precision)
    out_folder = out.resolve()  # overlays of an earlier run in it are not inspected
    files = [file for file in image_files(paths) if out_folder not in file.resolve().parents]
    make_folder(out / "overlays")
    n_images = n_defective = n_unlike = n_errors = 0

    def with_overlay(judgement: Judgement) -> Judgement:
        return draw_overlay(judgement, out / "overlays")

    with Rows(out / "findings.jsonl") as rows, Table(out / "findings.csv") as table:
        # Row by row, so that the rows so far are kept if the run is stopped.
        for judgement in judge(detector, photographs(files), with_overlay):
            rows.take(judgement)
            table.take(judgement)
            n_images += 1
            if judgement.error is not None:
                n_errors += 1
                print(f"blemish: {judgement.error}", file=sys.stderr)
            elif judgement.unlike:
                n_unlike += 1
                print(f"blemish: {unlike_text(judgement.photograph.path, judgement.unlike)}", file=sys.stderr)
            elif judgement.finding.is_defective:
                n_defective += 1
    unlike = f"{n_unlike} unlike the good images, " if n_unlike else ""
    print(f"{n_images} images: {n_defective} defective, {unlike}{n_errors} unreadable; results in {out}")
    return n_defective + n_unlike, n_errors


def draw_overlay(judgement: Judgement, folder: Path) -> Judgement:
    """Write the overlay of a photograph, release its pixels, and return the judgement."""
    if judgement.error is None and judgement.image is not None:
        try:
            jpeg = as_jpeg(overlay(judgement.image, judgement.finding))
        except BlemishError as error:
            judgement.error = error
        else:
            with replace_file(folder / f"{judgement.photograph.name}.jpg") as file:
                file.write(jpeg)
    judgement.image = None
    return judgement
