"""``blemish evaluate``: measure a detector on labelled test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from blemish.detector import Detector
from blemish.devices import Device, Precision, resolve_device
from blemish.errors import print_notices
from blemish.evaluation.evaluate import Evaluation
from blemish.evaluation.evaluate import evaluate as evaluate_detector
from blemish.files import owned_folder
from blemish.report.results import REPORT, check_results, write_results


def evaluate_run(
    detector_path: Path,
    data: Path,
    out: Path,
    device: Device,
    layout: str,
    protocol: str,
    precision: Precision,
    mask_values: str = "auto",
) -> None:
    """Write ``metrics.json``, ``scores.csv`` and ``report.html``, and print the table."""
    check_results(out)
    detector = Detector.load(detector_path, resolve_device(device), precision)
    with owned_folder(out):
        _evaluate(detector, data, out, layout, protocol, mask_values)


def _evaluate(detector: Detector, data: Path, out: Path, layout: str, protocol: str, mask_values: str) -> None:
    evaluation = evaluate_detector(detector, data, layout, protocol, mask_values)
    print_notices(evaluation.notices)
    _print_table(evaluation, Console())
    if detector.threshold.n_calibration == 0:
        print(detector.threshold.explain())
    write_results(out, detector, evaluation)
    print(f"results in {out}; look at {out / REPORT}")


_COLUMNS = (
    "image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_aupro", "pixel_auspro_05", "found"
)  # fmt: skip
"""Those of them that an evaluation has."""


def _print_table(evaluation: Evaluation, console: Console) -> None:
    metrics = evaluation.metrics
    columns = [name for name in _COLUMNS if name in metrics]
    table = Table(
        Column("", overflow="fold"),
        *(Column(name.replace("_", "\n", 1), justify="right", no_wrap=True) for name in ("defective", *columns)),
        caption=f"protocol {metrics['protocol']}: {metrics['protocol_description']}",
        box=SIMPLE_HEAD,
        padding=0,
    )
    for name, row in metrics["by_defect"].items():
        table.add_row(escape(name), *_cells(row, columns))
    table.add_row("all", *_cells(metrics, columns), style="bold")
    console.print(table)
    if 0 < metrics["n_masks"] < metrics["n_defective"]:
        print(
            f"figures of pixels: of the {metrics['n_masks']} of {metrics['n_defective']} defective images with masks"
        )
    if metrics["n_good"]:
        share = f"{100 * metrics['false_rejects']:.1f} %"
        print(f"{share} of {metrics['n_good']} good test images rejected at threshold {metrics['threshold']:.4g}")


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [str(row["n_defective"]), *("-" if row[name] is None else f"{row[name]:.3f}" for name in columns)]
