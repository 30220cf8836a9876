"""``blemish convert``: convert the authors' weights into blemish's files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from blemish.commands.authors_files import DISCRIMINATIVE, RECONSTRUCTIVE, WEIGHTS_SUFFIX, draem_files, dsr_files
from blemish.data.bits import bits_in_use
from blemish.data.layouts import open_dataset
from blemish.data.layouts.own import CSV, FOLDER
from blemish.data.listing import shortened
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.errors import BlemishError, print_notices
from blemish.files import check_own, folder_for_files
from blemish.learning.calibration import calibrated
from blemish.methods.authors_weights import convert_codebook, convert_draem, convert_dsr
from blemish.methods.base import Method
from blemish.methods.dsr.codebook import save_codebook
from blemish.methods.dsr.vq import VQAutoencoder
from blemish.thresholds import n_needed

SUFFIX = ".blemish"


@dataclass(frozen=True)
class Conversion:
    """One detector that is to be made."""

    files: tuple[Path, ...]
    """The authors' files."""
    convert: Callable[[], tuple[Method, list[str]]]
    """The method, and lines for the user about its files."""
    out: Path
    good: tuple[Path, ...] = ()
    """Good images to calibrate with; empty for none."""
    doubt: str = ""
    """Why the false-reject rate cannot be promised with these; see ``thresholds.Threshold``."""


def convert_draem_run(
    weights: Path,
    discriminative: Path | None,
    out: Path,
    categories: Sequence[str] = (),
    run: str | None = None,
    calibration: Path | None = None,
    false_rejects: float = 0.01,
) -> None:
    """Convert the two files of one category of DRÆM, or a folder of many (``authors_files.draem_files``).

    Parameters as of ``convert_dsr_run``; ``categories`` and ``run`` are those of a folder.
    """
    if discriminative is None and weights.suffix == WEIGHTS_SUFFIX and not weights.is_dir():
        raise BlemishError(
            f"{weights}: is one file; give the other network's (with _seg in its name), too, or the folder"
        )
    if discriminative is not None and weights.is_dir():
        raise BlemishError(f"{weights}: is a folder; give either a folder or the two files of one category")
    if discriminative is not None and (categories or run is not None):
        raise BlemishError(f"{weights}: --category and --run choose from a folder; leave them out, or give a folder")
    if discriminative is not None:
        conversion = _of_draem(weights, discriminative, out)
        _convert([_with_images(conversion, calibration)], false_rejects)
        return
    files = draem_files(weights, categories, run)
    outs = _outs(out, [*files])
    conversions = [
        _of_draem(parts[RECONSTRUCTIVE], parts[DISCRIMINATIVE], outs[category]) for category, parts in files.items()
    ]
    _convert(_with_images_by_category(conversions, [*files], calibration), false_rejects)


def convert_dsr_run(
    folder: Path,
    out: Path,
    categories: Sequence[str] = (),
    run: str | None = None,
    calibration: Path | None = None,
    false_rejects: float = 0.01,
) -> None:
    """Convert a folder of DSR's files (``authors_files.dsr_files``). All are checked before anything is written.

    Parameters
    ----------
    out : a folder, for a detector of each category; a ``.blemish`` file for a single one.
    categories, run : which files of the folder to take; by default all.
    calibration : good images of the category, or a folder with a dataset for each.

    Raises
    ------
    BlemishError
        If a file is missing or wrong, cannot be read or written, or there are no images to calibrate with.
    """
    codebook_path, files = dsr_files(folder, categories, run)
    outs = _outs(out, [*files])
    codebook = convert_codebook(codebook_path)
    conversions = [
        Conversion((codebook_path, *parts.values()), partial(_converted_dsr, parts, codebook), outs[category])
        for category, parts in files.items()
    ]
    _convert(_with_images_by_category(conversions, [*files], calibration), false_rejects)


def convert_codebook_file(weights: Path, out: Path) -> None:
    """Write a codebook file made from the authors' weights, in float32: in float16 an image would get other codes."""
    check_own(out, _is_safetensors)
    save_codebook(convert_codebook(weights), out, {"converted_from": weights.name}, torch.float32)
    print(out)


def _of_draem(reconstructive: Path, discriminative: Path, out: Path) -> Conversion:
    def convert() -> tuple[Method, list[str]]:
        return convert_draem(reconstructive, discriminative), []

    return Conversion((reconstructive, discriminative), convert, out)


def _converted_dsr(parts: Mapping[str, Path], codebook: VQAutoencoder) -> tuple[Method, list[str]]:
    method, unused = convert_dsr(parts, codebook)
    if not unused:
        return method, []
    path = parts["image_recon_module"]
    return method, [f"{path}: the authors' network does not use {shortened(unused)}, nor does the detector"]


def _outs(out: Path, categories: Sequence[str]) -> dict[str, Path]:
    """The detector's file of each category."""
    if out.suffix != SUFFIX:
        if out.exists() and not out.is_dir():
            raise BlemishError(f"{out}: is a file; choose a folder as --out, or a {SUFFIX} file for one category")
        return {category: out / f"{category}{SUFFIX}" for category in categories}
    if len(categories) > 1:
        names = shortened(categories)
        raise BlemishError(f"{out}: one file cannot hold {names}; choose a folder as --out, or one --category")
    return {categories[0]: out}


# --- calibration -----------------------------------------------------------------------------------------------


def _with_images_by_category(
    conversions: Sequence[Conversion], categories: Sequence[str], calibration: Path | None
) -> list[Conversion]:
    """The conversions with the good images of the category's folder; or, of a single one, of ``calibration``."""
    if calibration is None:
        return [*conversions]
    folders = [calibration / category for category in categories]
    missing = [folder.name for folder in folders if not folder.is_dir()]
    if missing and len(categories) > 1:
        raise BlemishError(
            f"{calibration}: no folder {shortened(missing)} in it; give one with a dataset for each category"
        )
    folders = [calibration] if missing else folders
    return [_with_images(conversion, folder) for conversion, folder in zip(conversions, folders, strict=True)]


def _with_images(conversion: Conversion, calibration: Path | None) -> Conversion:
    if calibration is None:
        return conversion
    dataset = open_dataset(calibration, only="train")
    print_notices([fault.text for fault in dataset.faults if fault.is_notice and fault.split in ("train", None)])
    good = tuple(sample.path for sample in dataset.train)
    if not good:
        raise BlemishError(f"{calibration}: no good training images in it; give good images to calibrate with")
    is_own = dataset.layout in (FOLDER.name, CSV.name)
    doubt = (
        ""
        if is_own
        else f"they are training images of {dataset.root.name}, which the networks may have been trained on"
    )
    return Conversion(conversion.files, conversion.convert, conversion.out, good, doubt)


# --- detectors -------------------------------------------------------------------------------------------------


def _convert(conversions: Sequence[Conversion], false_rejects: float) -> None:
    """Write all detectors, or none."""
    n_needed(false_rejects)  # checks the rate
    for conversion in conversions:
        check_own(conversion.out, _is_safetensors)
    _check(conversions)
    lines: list[str] = []
    with (
        folder_for_files(conversions[0].out.parent) as folder,
        TemporaryDirectory(prefix=".blemish-convert-", dir=folder) as staging,
    ):
        for number, conversion in enumerate(conversions, 1):
            detector = _detector(conversion, false_rejects)
            detector.save(Path(staging, conversion.out.name))
            if conversion.good or conversion is conversions[-1]:
                lines.append(detector.threshold.explain())
            lines.append(f"{conversion.out}: image threshold {detector.threshold.value:.4g}")
            if len(conversions) > 1:
                print(f"{conversion.out.stem} {number}/{len(conversions)}", file=sys.stderr, flush=True)
        for conversion in conversions:
            Path(staging, conversion.out.name).replace(conversion.out)
    print("\n".join(lines))


def _is_safetensors(content: bytes) -> bool:
    """Whether a file is a detector or a codebook, by its first bytes."""
    return content[8:9] == b"{"


def _check(conversions: Sequence[Conversion]) -> None:
    """Raise BlemishError with a line for each category that cannot be converted."""
    errors = []
    for conversion in conversions:
        try:
            conversion.convert()
        except BlemishError as error:
            errors.append(str(error))
    if errors:
        start = f"{len(errors)} of {len(conversions)} categories cannot be converted:"
        raise BlemishError("\n".join([start, *errors]) if len(errors) > 1 else errors[0])


def _detector(conversion: Conversion, false_rejects: float) -> Detector:
    method, notices = conversion.convert()
    print_notices(notices)
    provenance = {"recipe": "paper", "converted_from": [path.name for path in conversion.files]}
    if not conversion.good:
        return Detector.uncalibrated(method, 0.5, false_rejects, provenance)
    size_hw = method.settings.size_hw
    bits = bits_in_use(conversion.good) or 16
    images = load_images(conversion.good, size_hw, bits, method.settings.resizing)
    return calibrated(method, images, false_rejects, provenance, bits, doubt=conversion.doubt)
