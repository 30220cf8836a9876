"""Good images -> Detector: data, training, calibration in one page."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
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
from blemish.files import make_folder, write_text
from blemish.learning.calibration import calibrated
from blemish.learning.images import SplitImages, split_images
from blemish.learning.ingredients import ingredients_of
from blemish.learning.options import FitOptions
from blemish.learning.record import Reporter, TrainingRecord
from blemish.learning.training import Trainer
from blemish.methods import OWN_RECIPE, build
from blemish.methods.base import OF_THE_SPEED, Ingredients, Method


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
    method : which paper; or a method that was built (``blemish.DSR.build(settings)``), which is trained in place.
    out : run folder for ``detector.blemish``, ``config.yaml``, ``metrics.jsonl``, ``summary.json`` and the
        checkpoint; None keeps nothing on disk.
    resume : go on from the checkpoint in ``out``.
    options : the fields of ``learning.options.FitOptions``: ``recipe``, ``settings``, ``textures``, ``codebook``,
        ``defects``, ``defect_masks``, ``calibration``, ``false_rejects``, ``seed``, ``device``, ``precision``,
        ``layout``.

    Raises
    ------
    BlemishError
        If something given is wrong: names it and the remedy.
    """
    chosen = _options(data, method, options)
    network = method if isinstance(method, Method) else _network(chosen)
    size_hw = (network.settings.image_size_px,) * 2
    folder = make_folder(Path(out)) if out is not None else None
    share = network.validation_share
    images = split_images(chosen.data, chosen.calibration, chosen.layout, size_hw, chosen.seed, share)
    ingredients = ingredients_of(network, chosen.textures, chosen.defects, chosen.defect_masks)
    config = chosen.config(asdict(network.settings))
    trainer = Trainer(
        network, images.train, ingredients, validation=images.validation, seed=chosen.seed, device=chosen.device,
        precision=chosen.precision, folder=folder, fingerprint=_fingerprint(images, network, ingredients),
        tensorboard=tensorboard, reporter=reporter, resume=resume,
    )  # fmt: skip
    is_first = trainer.accelerator.is_main_process
    if folder is not None and is_first:  # all that was given is in order: from here on an earlier run may be replaced
        _clear(folder, keep_checkpoint=resume)
        write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    record = trainer.run()
    finished = network.finish(images.train, images.validation)
    provenance = _provenance(chosen, images, network, ingredients, record)
    provenance |= {"chosen": finished.settings, "validation": finished.value}
    detector = calibrated(network, images.calibration, chosen.false_rejects, provenance)
    if folder is not None and is_first:
        detector.save(folder / "detector.blemish")
        write_text(folder / "summary.json", json.dumps(_summary(detector, record), indent=2) + "\n")
    return detector


def _options(data: str | Path, method: str | Method, options: Mapping[str, Any]) -> FitOptions:
    """Checked; of a method that was built, with what it says of itself."""
    if not isinstance(method, Method):
        return FitOptions.from_dict({"data": data, "method": method, **options})
    if fixed := sorted({"recipe", "settings", "codebook"} & {*options}):
        raise BlemishError(f"{', '.join(fixed)}: of no use with a method that was built; build it with them")
    own = {"method": method.name, "recipe": OWN_RECIPE, "seed": method.settings.seed}
    return FitOptions.from_dict({"data": data, **own, **options})


def _network(options: FitOptions) -> Method:
    return build(options.method, options.recipe, options.seed, options.settings, options.codebook)


def state_of(folder: Path, data: str | Path, **options: Any) -> Literal["empty", "started", "finished"]:
    """How far a run folder is with ``fit(data, **options)``.

    Raises
    ------
    BlemishError
        If it holds a run of something else.
    """
    if not (folder / "config.yaml").exists():
        return "empty"
    asked = FitOptions.from_dict({"data": data, **options})
    wanted = asked.config(_network(asked).settings.of_the_result())
    try:
        found = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        found = None
    if isinstance(found, dict) and isinstance(found.get("settings"), dict):
        found["settings"] = {name: value for name, value in found["settings"].items() if name not in OF_THE_SPEED}
    if found != wanted:
        raise BlemishError(f"{folder}: holds a run with other data, options or settings; take another --out")
    return "finished" if (folder / "summary.json").exists() else "started"


def _clear(folder: Path, *, keep_checkpoint: bool) -> None:
    """Remove what an earlier run left, so that nothing old stands beside what is new."""
    old = ["detector.blemish", "summary.json", *(path.name for path in folder.glob(".*.part"))]
    for name in old if keep_checkpoint else [*old, "checkpoint.pt"]:
        (folder / name).unlink(missing_ok=True)


def _fingerprint(images: SplitImages, method: Method, ingredients: Ingredients) -> str:
    """What must be equal for a checkpoint to be resumed."""
    banks = [bank.images for bank in (ingredients.textures, ingredients.defects) if bank is not None]
    settings = json.dumps(method.settings.of_the_result(), sort_keys=True)
    return _digest(images.train, images.validation, *banks, *method.pretrained, settings)


def _provenance(
    options: FitOptions, images: SplitImages, method: Method, ingredients: Ingredients, record: TrainingRecord
) -> dict[str, Any]:
    """What a detector tells of where it comes from."""
    return {
        "recipe": options.recipe, "seed": options.seed, "data": name_of(options.data),
        "n_train": len(images.train), "n_validation": len(images.validation),
        "n_calibration": len(images.calibration),
        "data_sha256": _digest(images.train, images.validation, images.calibration),
        "textures": "none" if ingredients.textures is None else ingredients.textures.source,
        "pretrained_sha256": _digest(*method.pretrained) if method.pretrained else None,
        "n_defects": 0 if ingredients.defects is None else len(ingredients.defects),
        "iterations": record.iterations, "precision": record.precision, "device": record.device,
        "versions": {"blemish": version("blemish"), "torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        is_tensor = isinstance(part, Tensor)
        digest.update(part.cpu().contiguous().view(-1).numpy() if is_tensor else str(part).encode())  # no copy: large
    return digest.hexdigest()


def _summary(detector: Detector, record: TrainingRecord) -> dict[str, Any]:
    """What scripts read after a run."""
    provenance = detector.provenance
    return {
        "method": detector.method_name,
        "recipe": provenance["recipe"],
        "seed": provenance["seed"],
        "iterations": record.iterations,
        "training_s": round(record.training_s, 3),
        "images_per_s": round(record.images_per_s, 3),
        "threshold": detector.threshold.value,
        "pixel_threshold": detector.pixel_threshold,
        "false_rejects": detector.threshold.false_reject_rate,
        "false_rejects_promised": detector.threshold.is_promised,
        "n_train": provenance["n_train"],
        "n_calibration": provenance["n_calibration"],
        "textures": provenance["textures"],
        "n_defects": provenance["n_defects"],
        "chosen": provenance["chosen"],
        "validation": provenance["validation"],
        "parameters": sum(parameter.numel() for parameter in detector.method.parameters()),
        "device": record.device,
        "precision": record.precision,
        "versions": provenance["versions"],
    }
