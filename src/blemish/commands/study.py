"""What `blemish study` does with files: read, measure, write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from blemish.commands.assignments import assigned
from blemish.commands.progress import TrainingProgress
from blemish.data.layouts import Dataset, name_of, open_dataset
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.devices import Device, resolve_device
from blemish.errors import BlemishError
from blemish.files import make_folder
from blemish.studies.moments import KINDS, Kind, Moments, PixelSums, check_window, line_moments, window_moments
from blemish.studies.moments_page import moments_page
from blemish.studies.objectives import NAMES, study_objectives
from blemish.studies.orthogonality import AtWidth, Repair, figures, measure, widths_px
from blemish.studies.orthogonality_page import orthogonality_page
from blemish.studies.output import write_study

N_IN_MEMORY = 16
"""Images of the study of moments that are in memory at a time."""


def orthogonality_run(
    detector_path: Path,
    data: Path,
    out: Path,
    *,
    n_images: int,
    n_widths: int,
    repeats: int,
    seed: int,
    device: Device,
    layout: str,
) -> list[AtWidth]:
    """Write ``orthogonality.csv``, ``.json`` and ``.html``, and print the table as it grows.

    Raises
    ------
    BlemishError
        On a detector without a reconstruction, on fewer than 2 images, on numbers that are too low.
    """
    for name, value, least in (("images", n_images, 2), ("widths", n_widths, 1), ("repeats", repeats, 1)):
        if value < least:
            raise BlemishError(f"--{name} {value}: should be at least {least}")
    detector = Detector.load(detector_path, resolve_device(device))
    repair = _repair_of(detector_path, detector)
    dataset, paths = _good_images(data, layout)
    n_used = min(n_images, len(paths))
    make_folder(out)
    some = [paths[number * len(paths) // n_used] for number in range(n_used)]
    images = load_images(some, detector.size_hw).to(detector.device)
    found = []
    print("width  |S|/N  X^ nearest X  F(X^) nearest X  rms of F(X^) - X")
    for one in measure(images, repair, widths_px(n_widths, images.shape[-1]), repeats, seed):
        row = one.row()
        print(
            f"{row['width']:5.3f}  {row['share']:5.3f}  {100 * row['modified_nearest']:10.1f} %  "
            f"{100 * row['repaired_nearest']:13.1f} %  {row['rms_mean']:.4f} ± {row['rms_std']:.4f}",
            flush=True,
        )
        found.append(one)
    below = [one for one in found if one.share < 0.5]
    rows = [one.row() for one in found]
    provenance = detector.provenance
    record = {
        "study": "orthogonality",
        "data": name_of(data),
        "layout": dataset.layout,
        "detector": {"file": detector_path.name, "method": detector.method_name, **provenance},
        "seed": seed,
        "repeats": repeats,
        "n_images": n_used,
        "size_px": images.shape[-1],
        "n_values": images[0].numel(),
        "below_half": figures(below) if below else None,
        "widths": rows,
    }
    name = " ".join(filter(None, (detector.method_name, str(provenance.get("recipe", "")))))
    page = orthogonality_page(found, name_of(data), name, n_used)
    write_study(out, "orthogonality", rows, record, page)
    return found


def _repair_of(path: Path, detector: Detector) -> Repair:
    """F, as the detector's method explains itself."""
    blank = torch.zeros(1, 3, *detector.size_hw, device=detector.device)
    if "reconstruction" not in detector.runtime.explain(blank):
        raise BlemishError(
            f"{path}: this {detector.method_name} gives no reconstruction, it repairs nothing; give a detector that "
            f"does, as from: blemish fit DATA --method ssae --set objective=filter"
        )

    def repair(images: Tensor) -> Tensor:
        return detector.runtime.explain(images)["reconstruction"]

    return repair


def moments_run(data: Path, out: Path, *, kind: str, size_px: int, window_px: int, layout: str) -> list[Moments]:
    """Write ``moments.csv``, ``.json`` and ``.html``; ``kind`` is ``texture``, ``object`` or ``both``.

    Raises
    ------
    BlemishError
        On fewer than 2 images, or a window that is larger than the images.
    """
    if size_px < 1:
        raise BlemishError(f"--size {size_px}: should be at least 1")
    kinds: tuple[Kind, ...] = tuple(one for one in KINDS if kind in (one, "both"))
    if "texture" in kinds:
        check_window(window_px, size_px)
    dataset, paths = _good_images(data, layout)
    make_folder(out)
    starts = range(0, len(paths), N_IN_MEMORY)
    batches = (load_images(paths[start : start + N_IN_MEMORY], (size_px, size_px)) for start in starts)
    pixels = PixelSums.of(batches, size_px)
    found = [window_moments(pixels, window_px) if one == "texture" else line_moments(pixels) for one in kinds]
    record: dict[str, Any] = {
        "study": "moments",
        "data": name_of(data),
        "layout": dataset.layout,
        "n_images": pixels.n_images,
        "size_px": size_px,
        "window_px": window_px if "texture" in kinds else None,
        "grey": "mean of the channels, in [0, 1]",
        **{moments.kind: moments.figures() for moments in found},
    }
    for moments in found:
        of = moments.figures()
        print(
            f"{moments.kind}: spread of the pixels' means {_number(of['spread_of_means'])} of a standard deviation, "
            f"sigma^2 {of['sigma2']:.4f}, largest |S|/N {of['largest_share']:.3f}"
        )
    page = moments_page(found, name_of(data), pixels.n_images, size_px)
    write_study(out, "moments", [row for moments in found for row in _rows(moments)], record, page)
    return found


def _rows(moments: Moments) -> list[dict[str, Any]]:
    """A line for each pixel, in the order of the flattened window."""
    width_px = moments.mean.shape[1]
    values = zip(moments.mean.ravel().tolist(), moments.std.ravel().tolist(), strict=True)
    return [
        {
            "kind": moments.kind,
            "pixel": pixel,
            "y": pixel // width_px,
            "x": pixel % width_px,
            "mean": f"{mean:.7g}",
            "std": f"{std:.7g}",
        }
        for pixel, (mean, std) in enumerate(values)
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _good_images(data: Path, layout: str) -> tuple[Dataset, list[Path]]:
    """The good training images, at least 2."""
    dataset = open_dataset(data, layout)
    paths = [sample.path for sample in dataset.train]
    if len(paths) < 2:
        raise BlemishError(
            f"{data}: {len(paths)} good training image{'s' * (len(paths) != 1)}; a study needs at least 2, better 50"
        )
    return dataset, paths


def objectives_run(data: Sequence[Path], out: Path, assignments: Sequence[str], **options: Any) -> None:
    """Write ``objectives.csv``, ``.html`` and the runs, and print the table."""
    with TrainingProgress() as progress:
        results = study_objectives(data, out, settings=assigned({}, assignments), reporter=progress, **options)
    for one in results:
        figures_text = "  ".join(f"{name} {value:.3f}" for name, value in one.metrics.items() if value is not None)
        print(f"{one.data} {NAMES[one.objective]}: {figures_text}")
