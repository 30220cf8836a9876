"""Trained detectors of different methods joined to one: which fit together, and the detector that is made of them."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from blemish.data.layouts import name_of
from blemish.detector import Detector
from blemish.devices import Device, resolve_device
from blemish.errors import BlemishError
from blemish.inspection.framing import Whole
from blemish.learning.calibration import TRAINED_ON, calibrated, calibrated_on_training
from blemish.learning.held_out import Part, good_images
from blemish.learning.images import digest_of
from blemish.learning.joining import Choice, fitted
from blemish.methods.base import Method
from blemish.methods.combined import Combined, largest_hw
from blemish.thresholds import n_needed


def combine(
    parts: Sequence[str | Path | Detector],
    *,
    good: str | Path,
    false_rejects: float = 0.01,
    seed: int = 0,
    layout: str = "auto",
    device: Device = "auto",
) -> Detector:
    """Join trained detectors to one, which inspects with all of them.

    Parameters
    ----------
    parts : two detectors or more, of any methods, or their files or run folders. One that was joined before counts
        as its parts.
    good : the folder or dataset that the parts were trained on, of which the images that all of them held out set the
        threshold; or a folder of further good photographs.
    false_rejects : in (0, 1), the share of good parts that may be rejected.
    seed : of the simulated damage, and of the division of further photographs.
    layout : of ``good``, if it is a dataset.

    Raises
    ------
    BlemishError
        If the parts do not fit together, or there are too few good images; the message names them and the remedy.
    """
    n_needed(false_rejects)  # raises if it is not a rate
    detectors = _detectors(parts, device)
    members = _members(detectors)
    bits = _checked(members)
    size_hw = largest_hw([member.method for member in members])
    images = good_images(members, good, layout, size_hw, bits, false_rejects, seed)
    choice, method = fitted(_named(members), images.measure, seed, [member.source for member in members])
    provenance = _provenance(
        members, choice, method, images.are_trained_on, len(images.measure), len(images.calibration)
    )
    provenance |= {"data": name_of(Path(good)), "bits": bits, "seed": _common([*members], "seed", seed)}
    likeness = next(
        (known.likeness for known in detectors.values() if known.size_hw == size_hw and known.likeness), None
    )
    about = false_rejects, provenance, bits, likeness
    if images.doubt == TRAINED_ON:
        return calibrated_on_training(method, images.calibration, *about)
    return calibrated(method, images.calibration, *about, images.doubt)


# --- the parts -----------------------------------------------------------------------------------------------


def _detectors(parts: Sequence[str | Path | Detector], device: Device) -> dict[str, Detector]:
    """The detectors by their file, or by their number if they were passed as objects."""
    if isinstance(parts, str | Path | Detector) or len(parts) < 2:
        raise BlemishError(
            "combine: two detectors or more are needed: blemish combine A.blemish B.blemish --good DIR"
        )
    resolved, detectors = resolve_device(device), dict[str, Detector]()
    for number, part in enumerate(parts, 1):
        detector = part if isinstance(part, Detector) else Detector.load(part, resolved)
        name = f"detector {number}" if isinstance(part, Detector) else str(part)
        if name in detectors:
            raise BlemishError(f"{name}: is given twice; give each detector once")
        detectors[name] = detector.to(resolved)
    return detectors


def _members(detectors: Mapping[str, Detector]) -> list[Part]:
    """The trained methods; those of a detector that was joined before, each.

    Raises
    ------
    BlemishError
        If a detector was exported, frames photographs otherwise than whole, or is there twice.
    """
    members, files = list[Part](), dict[str, str]()
    for source, detector in detectors.items():
        try:
            method = detector.method
        except BlemishError as error:
            raise BlemishError(f"{source}: {error}") from None
        if not isinstance(detector.framing, Whole):
            raise BlemishError(
                f"{source}: inspects tiles or a region; only detectors of whole photographs can be joined"
            )
        about: Mapping[str, Any] = detector.provenance.get("parts", {})
        trained = method.methods if isinstance(method, Combined) else {"": method}
        for name, part in trained.items():
            member_source = f"{source} ({name})" if name else source
            digest = digest_of(*part.state_dict().values())
            if digest in files:
                raise BlemishError(f"{member_source}: is the same detector as {files[digest]}; give each once")
            files[digest] = member_source
            provenance = about.get(name, {}) if name else detector.provenance
            members.append(Part(member_source, part, provenance, detector.bits, detector.likeness, detector.size_hw))
    return members


def _checked(members: Sequence[Part]) -> int | None:
    """How many bits of 16-bit values are used, after checking that the parts see photographs alike."""
    known = {member.bits: member.source for member in members if member.bits is not None}
    if len(known) > 1:
        uses = " and ".join(f"{source} {bits}" for bits, source in known.items())
        raise BlemishError(f"{uses} bits of 16: fit them with the same --bits")
    ways = {member.method.settings.resizing: member.source for member in members}
    if len(ways) > 1:
        uses = " and ".join(f"{source} by {way}" for way, source in ways.items())
        raise BlemishError(f"{uses}: photographs are resized differently; fit them with the same --set resizing")
    sizes_hw = [member.method.settings.size_hw for member in members]
    aspects = {width / height: member.source for (height, width), member in zip(sizes_hw, members, strict=True)}
    if len(aspects) > 1:
        uses = " and ".join(f"{source} {aspect:.3g} times as wide as tall" for aspect, source in aspects.items())
        raise BlemishError(f"{uses}: photographs are squeezed differently; fit them with sides in the same ratio")
    return next(iter(known), None)


def _named(members: Sequence[Part]) -> dict[str, Method]:
    """The methods by their names, further ones of the same method with a number."""
    named = dict[str, Method]()
    for member in members:
        name, number = member.method.name, 2
        while name in named:
            name, number = f"{member.method.name}-{number}", number + 1
        named[name] = member.method
    return named


def _common(members: Sequence[Part], key: str, otherwise: Any) -> Any:
    values = [member.provenance.get(key) for member in members]
    return values[0] if len({*values}) == 1 and values[0] is not None else otherwise


def _provenance(
    members: Sequence[Part],
    choice: Choice,
    method: Combined,
    are_trained_on: bool,
    n_measure: int,
    n_calibration: int,
) -> dict[str, Any]:
    names = [*_named(members)]
    recipes = (f"{name} {member.provenance.get('recipe', '')}" for name, member in zip(names, members, strict=True))
    return {
        "recipe": ", ".join(recipe.strip() for recipe in recipes),
        "parts": {
            name: {"file": Path(member.source).name, "method": member.method.name, **member.provenance}
            for name, member in zip(names, members, strict=True)
        },
        "n_measured": n_measure, "are_measured_trained_on": are_trained_on, "n_calibration": n_calibration,
        "chosen": {"scale": choice.scale},
        "part_weights": {name: round(weight, 4) for name, weight in zip(names, method.weight.tolist(), strict=True)},
        "pixel_ap_of_damage": choice.pixel_ap, "image_auroc_of_damage": choice.image_auroc,
        "versions": {"blemish": version("blemish"), "torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip
