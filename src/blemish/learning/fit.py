"""From good images to a detector: data, training and calibration."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from torch import Tensor

from blemish.data.layouts import name_of
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.files import owned_folder, write_text
from blemish.inspection.framing import Framing, Whole
from blemish.learning.calibration import calibrated, calibrated_on_training
from blemish.learning.images import SplitImages, digest_of, split_images, tiles_of
from blemish.learning.ingredients import ingredients_of
from blemish.learning.options import FitOptions
from blemish.learning.record import Reporter, TrainingRecord
from blemish.learning.sizes import framing_of, with_size
from blemish.learning.training import Trainer
from blemish.methods import NOT_TRAINED, OWN_RECIPE, build, settings_of
from blemish.methods.base import SIZE_SETTINGS, SPEED_SETTINGS, Ingredients, Method
from blemish.methods.combined import Combined


def fit(
    data: str | Path,
    *,
    method: str | Method = "draem",
    out: str | Path | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    reporter: Reporter | None = None,
    **options: Any,
) -> Detector:
    """Learn from good images what good parts look like.

    Parameters
    ----------
    data : a folder of good images, or a dataset of a known layout (its good training images are used, its test
        images are never read).
    method : name of the method; or a method object (``blemish.DSR.build(settings)``), which is trained in place.
    out : run folder for ``detector.blemish``, ``config.yaml``, ``metrics.jsonl``, ``summary.json`` and the
        checkpoint; None writes nothing to disk.
    resume : continue from the checkpoint in ``out``.
    options : the other fields of ``learning.options.FitOptions``, where each is explained: ``recipe``, ``settings``,
        ``textures``, ``calibration``, ``false_rejects``, ``seed``, ``device`` and so on.

    Raises
    ------
    BlemishError
        If an argument is wrong; the message names it and the remedy.
    """
    checked = with_size(_options(data, method, options))
    network = method if isinstance(method, Method) else _network(checked)
    if any(getattr(network.settings, name) != checked.settings.get(name) for name in SIZE_SETTINGS) and checked.tile:
        raise BlemishError(f"option tile: {checked.tile}, but the method object is for another size; build it so")
    with owned_folder(Path(out)) if out is not None else nullcontext() as folder:
        return _fitted(checked, network, folder, resume=resume, tensorboard=tensorboard, reporter=reporter)


def _fitted(
    checked: FitOptions,
    network: Method,
    folder: Path | None,
    *,
    resume: bool,
    tensorboard: bool,
    reporter: Reporter | None,
) -> Detector:
    """Train on the checked options' images; ``folder`` is this run's own."""
    framing = framing_of(checked, network.settings)
    images = _split(checked, network, framing)
    train, validation = _seen_by_the_network(images, framing)
    ingredients = ingredients_of(
        network, checked.textures, checked.defects, checked.defect_masks, images.bits or 16, checked.mask_values,
        checked.n_defects, train,
    )  # fmt: skip
    config = checked.config(asdict(network.settings))
    trainer = Trainer(
        network, train, ingredients, validation=validation, n_good=images.n_good * len(train) // len(images.train),
        seed=checked.seed, device=checked.device, precision=checked.precision, folder=folder,
        fingerprint=_fingerprint(train, validation, network, ingredients), tensorboard=tensorboard,
        reporter=reporter, resume=resume,
    )  # fmt: skip
    is_main = trainer.accelerator.is_main_process
    if folder is not None and resume and not network.stages():  # no checkpoint says what the run was of
        _check_config(folder, checked.config(network.settings.result_settings()))
    if folder is not None and is_main:  # all arguments are valid: from here on an earlier run may be replaced
        _clear(folder, keep_checkpoint=resume)
        write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    record = trainer.run()
    began_s = time.perf_counter()
    finished = network.finish(train, validation)
    record.finish_s = time.perf_counter() - began_s
    provenance = _provenance(checked, images, framing, network, ingredients, record)
    provenance |= {"chosen": finished.settings, "validation": finished.value}
    detector = _detector(checked, network, images, provenance, framing)
    if folder is not None and is_main:
        detector.save(folder / "detector.blemish")
        write_text(folder / "summary.json", json.dumps(_summary(detector, record, images), indent=2) + "\n")
    return detector


def part_of(detector: Detector, part: str, options: FitOptions) -> Detector:
    """A part of a detector's method (``Method.part``) as a detector, finished and calibrated on the same images.

    Parameters
    ----------
    options : those that the detector was trained with.

    Raises
    ------
    BlemishError
        If the method has no such part.
    """
    method = detector.method.part(part)
    framing = framing_of(options, method.settings)
    images = _split(options, method, framing)
    finished = method.finish(*_seen_by_the_network(images, framing))
    provenance = {**detector.provenance, "chosen": finished.settings, "validation": finished.value, "part": part}
    return _detector(options, method, images, provenance, framing)


def _split(options: FitOptions, method: Method, framing: Framing) -> SplitImages:
    return split_images(
        options.data, options.calibration, options.layout, framing, options.seed, method.validation_share,
        options.bits,
    )  # fmt: skip


def _seen_by_the_network(images: SplitImages, framing: Framing) -> tuple[Tensor, Tensor]:
    """Training and validation images (N, 3, h, w) uint8: the photographs, or their tiles."""
    return (images.train, images.validation) if framing.is_one_tile else tiles_of(images, framing)


def _detector(
    options: FitOptions, method: Method, images: SplitImages, provenance: dict[str, Any], framing: Framing
) -> Detector:
    """The trained method with its thresholds."""
    about = options.false_rejects, provenance, images.bits, images.likeness()
    is_trained_on, n_seen = options.calibration == "none", len(images.train) + len(images.validation)
    photographs: Tensor | tuple[Path, ...] = images.train if is_trained_on else images.calibration
    if not isinstance(framing, Whole):
        photographs = images.paths[: len(images.train)] if is_trained_on else images.paths[n_seen:]
    if is_trained_on:
        return calibrated_on_training(method, photographs, *about, framing)
    return calibrated(method, photographs, *about, images.doubt, framing)


def _options(data: str | Path, method: str | Method, options: Mapping[str, Any]) -> FitOptions:
    """Return the checked options; for a method object, method and seed come from the object."""
    if not isinstance(method, Method):
        return FitOptions.from_dict({"data": data, "method": method, **options})
    if isinstance(method, Combined):
        raise BlemishError(NOT_TRAINED)
    if fixed := sorted({"recipe", "settings", "codebook", "image_size"} & {*options}):
        raise BlemishError(f"{', '.join(fixed)}: not used with a method object; pass them when you build the method")
    from_method = {"method": method.name, "recipe": OWN_RECIPE, "seed": method.settings.seed}
    return FitOptions.from_dict({"data": data, **from_method, **options})


def _network(options: FitOptions) -> Method:
    return build(options.method, options.recipe, options.seed, options.settings, options.codebook)


def state_of(folder: Path, data: str | Path, **options: Any) -> Literal["empty", "started", "finished"]:
    """Return the state of ``fit(data, **options)`` in a run folder.

    Raises
    ------
    BlemishError
        If the folder holds a run with other data, options or settings.
    """
    requested = with_size(FitOptions.from_dict({"data": data, **options}))
    settings = settings_of(requested.method, requested.recipe, requested.seed, requested.settings)
    if not _check_config(folder, requested.config(settings.result_settings())):
        return "empty"
    return "finished" if (folder / "summary.json").exists() else "started"


def _check_config(folder: Path, expected: Mapping[str, Any]) -> bool:
    """Whether there is a run in ``folder``; raises BlemishError if it has another configuration."""
    if not (folder / "config.yaml").exists():
        return False
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        config = None
    if isinstance(config, dict) and isinstance(config.get("settings"), dict):
        config = {**FitOptions.defaults(), **config}  # a run of an earlier version lacks the options that are new
        config["settings"] = {name: value for name, value in config["settings"].items() if name not in SPEED_SETTINGS}
    if config != expected:
        raise BlemishError(f"{folder}: holds a run with other data, options or settings; give another --out")
    return True


def _clear(folder: Path, *, keep_checkpoint: bool) -> None:
    """Remove the files of an earlier run, so that the folder never mixes files of two runs."""
    names = ["detector.blemish", "summary.json", *(path.name for path in folder.glob(".*.part"))]
    for name in names if keep_checkpoint else [*names, "checkpoint.pt"]:
        (folder / name).unlink(missing_ok=True)


def _fingerprint(train: Tensor, validation: Tensor, method: Method, ingredients: Ingredients) -> str:
    """Return a digest of images and settings that must be equal to resume from a checkpoint."""
    banks = [bank.images for bank in (ingredients.textures, ingredients.defects) if bank is not None]
    settings = json.dumps(method.settings.result_settings(), sort_keys=True)
    return digest_of(train, validation, *banks, *method.pretrained, settings)


def _provenance(
    options: FitOptions,
    images: SplitImages,
    framing: Framing,
    method: Method,
    ingredients: Ingredients,
    record: TrainingRecord,
) -> dict[str, Any]:
    """Return the origin of a detector, which is stored in its file."""
    return {
        "recipe": options.recipe, "seed": options.seed, "data": name_of(options.data),
        "n_train": len(images.train), "n_validation": len(images.validation),
        "n_calibration": len(images.calibration),
        "bits": images.bits,
        "smallest_blemish_px": images.smallest_blemish_px(framing),
        "data_sha256": images.sha256, "seen": images.seen,
        "looks": None if images.looks is None else images.looks.description(),
        "textures": "none" if ingredients.textures is None else ingredients.textures.source,
        "pretrained_sha256": digest_of(*method.pretrained) if method.pretrained else None,
        "n_defects": 0 if ingredients.defects is None else len(ingredients.defects),
        "iterations": record.iterations, "precision": record.precision, "device": record.device,
        "versions": {"blemish": version("blemish"), "torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip


def _summary(detector: Detector, record: TrainingRecord, images: SplitImages) -> dict[str, Any]:
    """Return the content of ``summary.json``."""
    provenance = detector.provenance
    return {
        "method": detector.method_name,
        "recipe": provenance["recipe"],
        "seed": provenance["seed"],
        "iterations": record.iterations,
        "training_s": round(record.training_s + record.finish_s, 3),
        "images_per_s": round(record.images_per_s, 3),
        "threshold": detector.threshold.value,
        "pixel_threshold": detector.pixel_threshold,
        "false_rejects": detector.threshold.false_reject_rate,
        "false_rejects_promised": detector.threshold.is_promised,
        "n_train": provenance["n_train"],
        "n_calibration": provenance["n_calibration"],
        "copies": images.copies,
        "smallest_blemish_px": provenance["smallest_blemish_px"],
        "textures": provenance["textures"],
        "n_defects": provenance["n_defects"],
        "chosen": provenance["chosen"],
        "validation": provenance["validation"],
        "parameters": sum(parameter.numel() for parameter in detector.method.parameters()),
        "device": record.device,
        "precision": record.precision,
        "versions": provenance["versions"],
    }
