"""``blemish fit``: train on good images into a run folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState

from blemish.commands.assignments import assigned
from blemish.commands.progress import TrainingProgress
from blemish.data.layouts import name_of
from blemish.errors import BlemishError
from blemish.files import check_own
from blemish.learning.fit import fit
from blemish.learning.images import SEEN_PX
from blemish.learning.interrupts import TrainingInterrupted
from blemish.learning.options import FitOptions, read_config
from blemish.methods.base import SIZE_SETTINGS


def fit_run(
    overrides: Mapping[str, Any],
    assignments: Sequence[str],
    config: Path | None,
    out: Path | None,
    *,
    resume: bool,
    overwrite: bool,
    tensorboard: bool,
) -> None:
    """Train a detector into a run folder. ``overrides`` that are not None replace values of the ``config`` file."""
    values = {} if config is None else read_config(config)
    if any(overrides.get(name) not in (None, values.get(name)) for name in ("method", "recipe")):
        values.pop("settings", None)  # they belong to another method or recipe
    values |= {name: value for name, value in overrides.items() if value is not None}
    if given := {"image_size", "tile"} & {name for name, value in overrides.items() if value is not None}:
        # instead of the size of the config file
        settings = values.get("settings") or {}
        values["settings"] = {name: value for name, value in settings.items() if name not in SIZE_SETTINGS}
        if "tile" not in given:
            values = {name: value for name, value in values.items() if name not in ("tile", "overlap")}
    values["settings"] = assigned(values.get("settings") or {}, assignments)
    if values.get("data") is None:
        raise BlemishError("fit: no data; give a folder of good images: blemish fit parts/good")
    options = FitOptions.from_dict(values)
    name_parts = name_of(options.data), options.method, options.recipe, options.seed
    folder = out if out is not None else Path("runs") / "-".join(map(str, name_parts))
    if not (resume or overwrite) and any((folder / name).exists() for name in ("detector.blemish", "checkpoint.pt")):
        raise BlemishError(
            f"{folder}: already holds a run; give --resume to continue, --overwrite to start again, or another --out"
        )
    check_own(folder / "config.yaml", _is_config)
    try:
        with TrainingProgress() as progress:
            detector = fit(**vars(options), out=folder, resume=resume, tensorboard=tensorboard, reporter=progress)
    except TrainingInterrupted as stop:
        raise TrainingInterrupted(f"{stop}; the same command with --resume continues") from None
    if not PartialState().is_main_process:  # only the first of several processes prints
        return
    if (bits := detector.provenance["bits"]) is not None:
        how = "as --bits says" if options.bits != "auto" else "as their largest value shows (--bits auto)"
        print(f"16-bit images are read as {bits} bits, up to {2**bits - 1}, {how}")
    height, width = detector.size_hw
    if (smallest_px := detector.provenance["smallest_blemish_px"]) > SEEN_PX:
        side_px = 64 * max(1, round(math.sqrt(width * height) / 64))
        print(
            f"photographs are shrunk to {width}x{height} px, where spots of less than about {smallest_px:.0f} px "
            f"are easily missed; a larger --image-size sees smaller ones, --tile {side_px} the photographs' own "
            f"pixels; both take longer"
        )
    print(detector.threshold.explain())
    print(f"{folder / 'detector.blemish'}: image threshold {detector.threshold.value:.4g}")


def _is_config(content: bytes) -> bool:
    """Whether a file is a ``config.yaml`` that fit wrote: it holds the method and its settings, and no comments."""
    lines = content.splitlines()
    has_keys = all(any(line.startswith(key) for line in lines) for key in (b"data:", b"method:", b"settings:"))
    return has_keys and not any(line.startswith(b"#") for line in lines)
