"""``blemish study``: read images, measure, and write figures and a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from blemish.artifact import artifact_at
from blemish.commands.assignments import assigned
from blemish.commands.progress import TrainingProgress
from blemish.data.bits import bits_in_use
from blemish.data.layouts import Dataset, name_of, open_dataset
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.devices import Device, resolve_device
from blemish.errors import BlemishError
from blemish.files import make_folder, replace_file
from blemish.inspection.framing import Whole
from blemish.learning.ingredients import ingredients_of
from blemish.methods import build
from blemish.studies.damage import damage_page, damaged_rows, sheet
from blemish.studies.moments import KINDS, Kind, Moments, PixelSums, check_window, line_moments, window_moments
from blemish.studies.moments_page import moments_page
from blemish.studies.objectives import NAMES, study_objectives
from blemish.studies.orthogonality import AtWidth, Repair, figures, measure, widths_px
from blemish.studies.orthogonality_page import orthogonality_page
from blemish.studies.output import write_study

N_IN_MEMORY = 16
"""Number of images that the study of moments holds in memory at a time."""


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
    """Write ``orthogonality.csv``, ``.json`` and ``.html``, and print each row of the table as soon as it is known.

    Raises
    ------
    BlemishError
        If the detector makes no reconstruction, there are fewer than 2 images, or an option is too low.
    """
    for name, value, minimum in (("images", n_images, 2), ("widths", n_widths, 1), ("repeats", repeats, 1)):
        if value < minimum:
            raise BlemishError(f"--{name} {value}: should be at least {minimum}")
    detector_path = artifact_at(detector_path)
    detector = Detector.load(detector_path, resolve_device(device))
    repair = _repair_of(detector_path, detector)
    dataset, paths = good_images(data, layout)
    n_used = min(n_images, len(paths))
    make_folder(out)
    used_paths = [paths[number * len(paths) // n_used] for number in range(n_used)]
    images = load_images(used_paths, detector.size_hw, detector.bits, detector.settings.resizing)  # (N, 3, H, W)
    images, results = images.to(detector.device), []
    print("width  |S|/N  X^ nearest X  F(X^) nearest X  rms of F(X^) - X")
    for result in measure(images, repair, widths_px(n_widths, images.shape[-1]), repeats, seed):
        row = result.row()
        print(
            f"{row['width']:5.3f}  {row['share']:5.3f}  {100 * row['modified_nearest']:10.1f} %  "
            f"{100 * row['repaired_nearest']:13.1f} %  {row['rms_mean']:.4f} ± {row['rms_std']:.4f}",
            flush=True,
        )
        results.append(result)
    below_half = [result for result in results if result.share < 0.5]
    rows = [result.row() for result in results]
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
        "below_half": figures(below_half) if below_half else None,
        "widths": rows,
    }
    detector_name = " ".join(filter(None, (detector.method_name, str(provenance.get("recipe", "")))))
    page = orthogonality_page(results, name_of(data), detector_name, n_used)
    write_study(out, "orthogonality", rows, record, page)
    return results


def _repair_of(path: Path, detector: Detector) -> Repair:
    """The repair F: the reconstruction that the detector's method makes."""
    if not isinstance(detector.framing, Whole):
        raise BlemishError(f"{path}: inspects tiles or a region; give a detector of whole photographs")
    blank = torch.zeros(1, 3, *detector.size_hw, device=detector.device)
    if "reconstruction" not in detector.runtime.explain(blank):
        raise BlemishError(
            f"{path}: this {detector.method_name} gives no reconstruction, so there is no repair to study; give a "
            f"detector with one, as from: blemish fit DATA --method ssae --set objective=filter"
        )

    def repair(images: Tensor) -> Tensor:
        return detector.runtime.explain(images)["reconstruction"]

    return repair


def moments_run(data: Path, out: Path, *, kind: str, size_px: int, window_px: int, layout: str) -> list[Moments]:
    """Write ``moments.csv``, ``.json`` and ``.html``; ``kind`` is ``texture``, ``object`` or ``both``.

    Raises
    ------
    BlemishError
        If there are fewer than 2 images, or the window is larger than the images.
    """
    if size_px < 1:
        raise BlemishError(f"--size {size_px}: should be at least 1")
    kinds: tuple[Kind, ...] = tuple(candidate for candidate in KINDS if kind in (candidate, "both"))
    if "texture" in kinds:
        check_window(window_px, size_px)
    dataset, paths = good_images(data, layout)
    make_folder(out)
    starts = range(0, len(paths), N_IN_MEMORY)
    bits = bits_in_use(paths) or 16
    batches = (load_images(paths[start : start + N_IN_MEMORY], (size_px, size_px), bits) for start in starts)
    pixels = PixelSums.of(batches, size_px)
    results = [window_moments(pixels, window_px) if kind == "texture" else line_moments(pixels) for kind in kinds]
    record: dict[str, Any] = {
        "study": "moments",
        "data": name_of(data),
        "layout": dataset.layout,
        "n_images": pixels.n_images,
        "size_px": size_px,
        "window_px": window_px if "texture" in kinds else None,
        "grey": "mean of the channels, in [0, 1]",
        **{moments.kind: moments.figures() for moments in results},
    }
    for moments in results:
        values = moments.figures()
        print(
            f"{moments.kind}: spread of the pixels' means {_number(values['spread_of_means'])} of a standard "
            f"deviation, sigma^2 {values['sigma2']:.4f}, largest |S|/N {values['largest_share']:.3f}"
        )
    page = moments_page(results, name_of(data), pixels.n_images, size_px)
    write_study(out, "moments", [row for moments in results for row in _rows(moments)], record, page)
    return results


def _rows(moments: Moments) -> list[dict[str, Any]]:
    """A row for each pixel, in the order of the flattened window."""
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


def good_images(data: Path, layout: str) -> tuple[Dataset, list[Path]]:
    """The good training images, at least 2."""
    dataset = open_dataset(data, layout, only="train")
    paths = [sample.path for sample in dataset.train]
    if len(paths) < 2:
        raise BlemishError(
            f"{data}: {len(paths)} good training image{'s' * (len(paths) != 1)}; a study needs at least 2, and works "
            f"better with 50"
        )
    return dataset, paths


def damage_run(
    data: Path,
    out: Path,
    *,
    method: str,
    recipe: str,
    textures: Path | None,
    n_images: int,
    seed: int,
    layout: str,
    assignments: Sequence[str],
) -> None:
    """Write ``damage.png``, ``.csv``, ``.json`` and ``.html``.

    Raises
    ------
    BlemishError
        If the method or the recipe is unknown, or an option is too low.
    """
    if n_images < 2:
        raise BlemishError(f"--images {n_images}: should be at least 2")
    settings = assigned({}, assignments)
    network = build(method, recipe, seed, settings)
    dataset, paths = good_images(data, layout)
    size_hw = network.settings.size_hw
    shown = [paths[number * len(paths) // n_images] for number in range(min(n_images, len(paths)))]
    bits = bits_in_use(paths) or 16
    images = load_images(shown, size_hw, bits, network.settings.resizing)  # (B, 3, H, W)
    all_images = load_images(paths, size_hw, bits, network.settings.resizing) if method == "ssae" else images
    made_of = "" if not network.uses_textures else "generated" if textures is None else name_of(textures)
    make_folder(out)
    rows = []
    for row in damaged_rows(
        method, recipe, images, lambda made: ingredients_of(made, textures, good_images=all_images), seed, settings
    ):
        figures = row.figures()
        print(f"{row.name}: {100 * float(figures['mean_share']):.1f} % of an image on average")
        rows.append(row)
    picture = sheet(images, rows)
    with replace_file(out / "damage.png") as file:
        Image.fromarray(picture).save(file, "PNG")
    record = {
        "study": "damage", "data": name_of(data), "layout": dataset.layout, "method": method, "recipe": recipe,
        "seed": seed, "size_px": size_hw[0], "settings": settings, "rows": [row.figures() for row in rows],
    }  # fmt: skip
    page = damage_page(name_of(data), method, recipe, made_of, picture)
    write_study(out, "damage", [row.figures() for row in rows], record, page)


def objectives_run(data: Sequence[Path], out: Path, assignments: Sequence[str], **options: Any) -> None:
    """Write ``objectives.csv``, ``.html`` and the runs, and print the table."""
    with TrainingProgress() as progress:
        results = study_objectives(data, out, settings=assigned({}, assignments), reporter=progress, **options)
    for result in results:
        metrics = "  ".join(f"{name} {value:.3f}" for name, value in result.metrics.items() if value is not None)
        print(f"{result.data} {NAMES[result.objective]}: {metrics}")
