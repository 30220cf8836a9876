"""Good images -> Detector: data, training, calibration in one page."""

from __future__ import annotations

import hashlib
import inspect
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import yaml
from torch import Tensor

from blemish.data.defects import load_defects
from blemish.data.layouts import name_of, open_dataset
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.devices import Device, Precision
from blemish.errors import BlemishError
from blemish.files import make_folder, write_text
from blemish.learning.calibration import calibrated
from blemish.learning.training import Reporter, Trainer, TrainingRecord
from blemish.methods import method_type
from blemish.methods.base import OF_THE_SPEED, Method, Settings
from blemish.methods.dsr import DSR, DSRSettings
from blemish.methods.dsr.codebook import load_codebook
from blemish.synthesis.real_defects import DefectBank
from blemish.synthesis.textures import TextureBank
from blemish.thresholds import MIN_HELD_OUT, MIN_IMAGES, n_held_out, n_needed

CONFIG = (
    "data", "method", "recipe", "textures", "codebook", "defects", "defect_masks", "calibration", "false_rejects",
    "seed", "device", "precision", "layout",
)  # fmt: skip
"""Options of ``fit`` that a run is made of, beside its settings."""


def fit(
    data: str | Path,
    *,
    method: str = "draem",
    recipe: str = "small",
    settings: Mapping[str, Any] | None = None,
    textures: str | Path | None = None,
    codebook: str | Path | None = None,
    defects: str | Path | None = None,
    defect_masks: str | Path | None = None,
    calibration: str | Path | None = None,
    false_rejects: float = 0.01,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    layout: str = "auto",
    out: str | Path | None = None,
    resume: bool = False,
    tensorboard: bool = False,
    reporter: Reporter | None = None,
) -> Detector:
    """Learn from good images what good parts look like.

    Parameters
    ----------
    data : a folder of good images, or a dataset of a known layout (its good training images are used, its test
        images are never read).
    method, recipe : which paper, and which of its recipes: ``paper``, ``fast``, ``small``.
    settings : single settings in place of the recipe's.
    textures : folder of photographs that simulated damage is made of; None makes textures on the spot.
    codebook : file of ``blemish pretrain`` for a method that builds on one (dsr); None takes the one that comes with
        blemish.
    defects, defect_masks : folder of real defects, and of their masks, that join the simulated ones (draem, dsr); or
        only ``defects``: a dataset whose training images include some. They decide no threshold.
    calibration : good images to set the threshold from; None holds out 10 % of ``data`` (at least 5).
    false_rejects : the share of good parts that may be rejected.
    seed : of weights, order, damage and what is held out. Same seed, same machine, on a CPU: same weights.
    device, precision : ``auto`` takes CUDA if there is one, and bf16 where the hardware is fast at it.
    layout : ``auto`` or the name of one.
    out : run folder for ``detector.blemish``, ``config.yaml``, ``metrics.jsonl``, ``summary.json`` and the
        checkpoint; None keeps nothing on disk.
    resume : go on from the checkpoint in ``out``.

    Raises
    ------
    BlemishError
        If something given is wrong: names it and the remedy.
    """
    _check(false_rejects, device, precision)
    network = build(method, recipe, seed, settings, codebook)
    config = _config(
        network.settings, data=data, method=method, recipe=recipe, textures=textures, codebook=codebook,
        defects=defects, defect_masks=defect_masks, calibration=calibration, false_rejects=false_rejects, seed=seed,
        device=device, precision=precision, layout=layout,
    )  # fmt: skip
    size_hw = (network.settings.image_size_px,) * 2
    folder = make_folder(Path(out)) if out is not None else None
    images = split_images(data, calibration, layout, size_hw, seed, network.validation_share)
    network.textures = textures_of(network, textures, size_hw)
    network.defects = defects_of(network, defects, defect_masks, size_hw)
    trainer = Trainer(
        network, images.train, validation=images.validation, seed=seed, device=device, precision=precision,
        folder=folder, fingerprint=_fingerprint(images, network), tensorboard=tensorboard,
        reporter=reporter, resume=resume,
    )  # fmt: skip
    is_first = trainer.accelerator.is_main_process
    if folder is not None and is_first:  # all that was given is in order: from here on an earlier run may be replaced
        _clear(folder, keep_checkpoint=resume)
        write_text(folder / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    record = trainer.run()
    chosen = network.finish(images.validation.to(trainer.device).float() / 255.0)
    provenance = _provenance(config, images, network, record)
    provenance |= {"chosen": chosen.settings, "validation": chosen.value}
    network.textures = network.defects = None  # a detector needs none
    detector = calibrated(network, images.calibration, false_rejects, provenance)
    if folder is not None and is_first:
        detector.save(folder / "detector.blemish")
        write_text(folder / "summary.json", json.dumps(_summary(detector, record), indent=2) + "\n")
    return detector


def _config(settings: Settings, **options: Any) -> dict[str, Any]:
    """What ``config.yaml`` holds: options of ``fit``, and all settings."""
    given = {name: str(one) if isinstance(one, Path) else one for name, one in options.items()}
    return plain({**given, "settings": asdict(settings)})  # type: ignore[no-any-return]


def state_of(folder: Path, data: str | Path, **options: Any) -> Literal["empty", "started", "finished"]:
    """How far a run folder is with ``fit(data, **options)``.

    Raises
    ------
    BlemishError
        If it holds a run of something else.
    """
    if not (folder / "config.yaml").exists():
        return "empty"
    bound = inspect.signature(fit).bind(data, **options)
    bound.apply_defaults()
    asked = {name: value for name, value in bound.arguments.items() if name in CONFIG}
    words = asked["method"], asked["recipe"], asked["seed"]
    settings = build(*words, bound.arguments["settings"], asked["codebook"]).settings
    try:
        found = yaml.safe_load((folder / "config.yaml").read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        found = None
    wanted = _config(settings, **asked) | {"settings": plain(settings.of_the_result())}
    if isinstance(found, dict) and isinstance(found.get("settings"), dict):
        found["settings"] = {name: value for name, value in found["settings"].items() if name not in OF_THE_SPEED}
    if found != wanted:
        raise BlemishError(f"{folder}: holds a run with other data, options or settings; take another --out")
    return "finished" if (folder / "summary.json").exists() else "started"


def textures_of(method: Method, folder: str | Path | None, size_hw: tuple[int, int]) -> TextureBank | None:
    """What damage is made of, if the method pastes textures: those of a folder, or some made on the spot."""
    if not method.uses_textures:
        return None
    return TextureBank.from_folder(folder, size_hw) if folder else TextureBank.procedural(size_hw)


def defects_of(
    method: Method, folder: str | Path | None, masks: str | Path | None, size_hw: tuple[int, int]
) -> DefectBank | None:
    """Real defects to learn from beside the simulated ones, if a folder of them is given."""
    if folder is None:
        if masks is not None:
            raise BlemishError(f"defect_masks {masks}: no defects to go with them; give defects, too")
        return None
    if not method.uses_defects:
        raise BlemishError(
            f"defects {folder}: {method.name} with these settings learns from good images only; leave them out, or "
            f"take draem or dsr"
        )
    return DefectBank(*load_defects(folder, masks, size_hw))


def _check(false_rejects: float, device: str, precision: str) -> None:
    n_needed(false_rejects)  # refuses what is no rate
    for name, value, choices in (("device", device, get_args(Device)), ("precision", precision, get_args(Precision))):
        if value not in choices:
            raise BlemishError(f"{name} {value!r} is unknown; use {', '.join(choices)}")


def _clear(folder: Path, *, keep_checkpoint: bool) -> None:
    """Remove what an earlier run left, so that nothing old stands beside what is new."""
    old = ["detector.blemish", "summary.json", *(path.name for path in folder.glob(".*.part"))]
    for name in old if keep_checkpoint else [*old, "checkpoint.pt"]:
        (folder / name).unlink(missing_ok=True)


def build(
    method: str,
    recipe: str,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    codebook: str | Path | None = None,
) -> Method:
    """A method with the settings of a recipe, some of them replaced. Its weights are drawn from ``seed``."""
    kind = method_type(method)
    if recipe not in kind.recipes:
        raise BlemishError(f"unknown recipe {recipe!r} of {method}; there are: {', '.join(kind.recipes)}")
    chosen, given = kind.recipes[recipe], dict(settings or {})
    if given.get("iterations") and "epochs" not in given and hasattr(chosen, "epochs"):  # the two exclude each other
        given["epochs"] = None
    chosen = chosen.replaced({**given, "seed": seed})
    if codebook is None:
        return kind(chosen)
    if not isinstance(chosen, DSRSettings):
        raise BlemishError(f"codebook {codebook}: {method} builds on none; leave it out, or take dsr")
    return DSR(chosen, codebook=load_codebook(codebook))


@dataclass(frozen=True)
class SplitImages:
    """Good images, (N, 3, H, W) uint8."""

    train: Tensor
    validation: Tensor
    """What a method chooses by; none, for one that has nothing to choose."""
    calibration: Tensor


def split_images(
    data: str | Path,
    calibration: str | Path | None,
    layout: str,
    size_hw: tuple[int, int],
    seed: int,
    validation_share: float = 0.0,
) -> SplitImages:
    """Read the good training images and hold some out, or read those to calibrate on from their own folder.

    ``validation_share`` of the good images (at least 2, if any) is kept from training, too.
    """
    dataset = open_dataset(data, layout)
    paths = [sample.path for sample in dataset.train]
    if len(paths) < MIN_IMAGES:
        raise BlemishError(
            f"{data}: {len(paths)} good training image{'s' * (len(paths) != 1)}; at least {MIN_IMAGES} are needed, "
            f"50 to 500 are better"
        )
    if calibration is not None:
        held_out = [sample.path for sample in open_dataset(calibration).train]
        if len(held_out) < MIN_HELD_OUT:
            raise BlemishError(
                f"{calibration}: {len(held_out)} good images; at least {MIN_HELD_OUT} are needed to calibrate"
            )
        good = _shuffled(paths, seed + 1) if validation_share else paths
    else:
        order = _shuffled(paths, seed)
        n_calibration = n_held_out(len(paths))
        good, held_out = order[n_calibration:], order[:n_calibration]
        if validation_share:
            good = _shuffled(good, seed + 1)
    n_validation = max(2, round(validation_share * len(paths))) if validation_share else 0
    parts = good[n_validation:], good[:n_validation], held_out
    loaded = load_images([path for part in parts for path in part], size_hw)
    return SplitImages(*torch.split(loaded, [len(part) for part in parts]))  # views: they may lie in a file


def _shuffled(paths: Sequence[Path], seed: int) -> list[Path]:
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed))
    return [paths[number] for number in order.tolist()]


def _fingerprint(images: SplitImages, method: Method) -> str:
    """What must be equal for a checkpoint to be resumed."""
    banks = [bank.images for bank in (method.textures, method.defects) if bank is not None]
    settings = json.dumps(method.settings.of_the_result(), sort_keys=True)
    return _digest(images.train, images.validation, *banks, *method.pretrained, settings)


def _provenance(
    config: Mapping[str, Any], images: SplitImages, method: Method, record: TrainingRecord
) -> dict[str, Any]:
    """What a detector tells of where it comes from."""
    return {
        "recipe": config["recipe"], "seed": config["seed"], "data": name_of(Path(config["data"])),
        "n_train": len(images.train), "n_validation": len(images.validation),
        "n_calibration": len(images.calibration),
        "data_sha256": _digest(images.train, images.validation, images.calibration),
        "textures": "none" if method.textures is None else method.textures.source,
        "pretrained_sha256": _digest(*method.pretrained) if method.pretrained else None,
        "n_defects": 0 if method.defects is None else len(method.defects),
        "iterations": record.iterations, "precision": record.precision, "device": record.device,
        "versions": {"blemish": version("blemish"), "torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        is_tensor = isinstance(part, Tensor)
        digest.update(part.cpu().contiguous().view(-1).numpy() if is_tensor else str(part).encode())  # no copy: large
    return digest.hexdigest()


def plain(value: Any) -> Any:
    """Tuples to lists, all the way down: YAML that any reader understands."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value


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
