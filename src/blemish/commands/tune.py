"""``blemish tune``: choose settings on good images, and print the result of each trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from blemish.commands.assignments import assigned
from blemish.commands.progress import TrainingProgress
from blemish.errors import BlemishError
from blemish.learning.tuning import best_of, tune


def tune_run(
    data: Path, tries: Sequence[str], assignments: Sequence[str], out: Path, options: Mapping[str, Any]
) -> None:
    """Fit with every combination of settings into ``out``, and print the result of each.

    ``tries`` holds ``name=value,value`` for each setting to vary; ``assignments`` are ``name=value``, for all trials.
    """
    values_by_setting: dict[str, list[Any]] = {}
    for text in tries:
        name, _, values = text.partition("=")
        try:
            values_by_setting[name] = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError:
            values_by_setting[name] = []
        if not values_by_setting[name]:
            raise BlemishError(f"--try {text}: should be name=value,value, as in --try batch_size=4,8")
    settings = assigned({}, assignments)
    fit_options = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    with TrainingProgress() as progress:
        trials = tune(data, values_by_setting, out, settings=settings, reporter=progress, **fit_options)
    best = best_of(trials)
    table = Table(
        "trial", "settings", "training", "validation", caption="validation: pixel AUROC on simulated damage"
    )
    for trial in trials:
        changes = ", ".join(f"{name}={value}" for name, value in trial.settings.items())
        cells = (trial.folder.name, escape(changes), f"{trial.training_s:.0f} s", f"{trial.validation:.4f}")
        table.add_row(*cells, style="bold" if trial is best else None)
    Console().print(table)
    print(f"{out / 'detector.blemish'}: that of {best.folder.name}; settings in {out / 'config.yaml'}")
