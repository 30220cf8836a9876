"""``blemish fit``: good images to a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState

from blemish.commands.config import assigned, read_config
from blemish.commands.progress import TrainingProgress
from blemish.data.layouts import name_of
from blemish.errors import BlemishError
from blemish.learning.fit import fit
from blemish.learning.training import TrainingInterrupted


def fit_run(
    given: Mapping[str, Any],
    assignments: Sequence[str],
    config: Path | None,
    out: Path | None,
    *,
    resume: bool,
    overwrite: bool,
    tensorboard: bool,
) -> None:
    """Train a detector into a run folder. What is ``given`` wins over the ``config`` file."""
    options = read_config(config)
    if any(given[name] not in (None, options.get(name)) for name in ("method", "recipe")):
        options.pop("settings", None)  # they were another recipe's
    options |= {name: value for name, value in given.items() if value is not None}
    options["settings"] = assigned(options.get("settings") or {}, assignments)
    if options.get("data") is None:
        raise BlemishError("fit: no data; give a folder of good images: blemish fit parts/good")
    data = options.pop("data")
    words = (
        name_of(Path(data)),
        options.get("method", "draem"),
        options.get("recipe", "small"),
        options.get("seed", 0),
    )
    folder = out if out is not None else Path("runs") / "-".join(map(str, words))
    if not (resume or overwrite) and any((folder / name).exists() for name in ("detector.blemish", "checkpoint.pt")):
        raise BlemishError(
            f"{folder}: already holds a run; give --resume to go on, --overwrite to start anew, or another --out"
        )
    try:
        with TrainingProgress() as progress:
            detector = fit(data, **options, out=folder, resume=resume, tensorboard=tensorboard, reporter=progress)
    except TrainingInterrupted as stop:
        raise TrainingInterrupted(f"{stop}; the same with --resume goes on") from None
    if not PartialState().is_main_process:  # the first of several processes tells
        return
    print(detector.threshold.explain())
    print(f"{folder / 'detector.blemish'}: image threshold {detector.threshold.value:.4g}")
