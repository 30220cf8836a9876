"""Tuning: choose settings on good images only. Train with each combination and keep the best on simulated damage.

The validation of the method (``Method.validate``) is measured on good images that were held out from training, with
simulated damage on them, the same for all settings. No real defect and no test image is read.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blemish.errors import BlemishError
from blemish.files import make_folder, replace_file, write_text
from blemish.learning.fit import fit, state_of
from blemish.learning.record import Reporter
from blemish.methods import build, method_type
from blemish.settings import with_value

RESULT_FILES = ("detector.blemish", "config.yaml", "summary.json")


@dataclass(frozen=True)
class Trial:
    """The result of training with one combination of settings."""

    folder: Path
    """Run folder of the trial."""
    settings: dict[str, Any]
    """Values of the tried settings, by their dotted names."""
    validation: float
    """Result of ``Method.validate``: how well simulated damage is detected; higher is better."""
    training_s: float
    chosen: dict[str, Any]
    """Settings that were chosen on good images after training."""

    def row(self) -> dict[str, Any]:
        """Return the row of ``trials.csv``."""
        results = {"validation": self.validation, "training_s": self.training_s}
        return {"trial": self.folder.name, **self.settings, **results, **self.chosen}


def tune(
    data: str | Path,
    tried: Mapping[str, Sequence[Any]],
    out: Path,
    *,
    method: str = "ssae",
    recipe: str = "small",
    settings: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> list[Trial]:
    """Train with every combination of the ``tried`` settings, and keep the best.

    A combination that an earlier call has finished in ``out`` is not trained again.

    Parameters
    ----------
    tried : values to try, by the names of settings; if empty: half, equal and twice the recipe's batch size, each
        with half and all of its iterations.
    out : folder for a run folder of each combination (``trial-01`` and so on), ``trials.csv``, and the files
        ``detector.blemish``, ``config.yaml`` (for ``blemish fit --config``) and ``summary.json`` of the best one.
    settings : settings of all combinations that replace those of the recipe.
    options : further options of ``fit``.

    Returns
    -------
    One trial for each combination, in the order of their folders.

    Raises
    ------
    BlemishError
        If the method has no validation, no simulated damage is visible on the images, a setting is unknown or has the
        wrong type, or ``out`` holds other trials.
    """
    if not method_type(method).validation_share:
        raise BlemishError(f"tune: {method} has nothing to choose by; methods that do: ssae")
    if "seed" in tried:
        raise BlemishError("tune: seed is no setting to choose; give --seed instead")
    shared, seed = dict(settings or {}), options.get("seed", 0)
    combinations = _combinations(tried or _default_values(build(method, recipe, seed, shared).settings))
    overrides = [_merged(shared, combination) for combination in combinations]
    for settings_of_trial in overrides:  # report mistakes before any training
        build(method, recipe, seed, settings_of_trial)
    make_folder(out)
    trials: list[Trial] = []
    for number, (combination, settings_of_trial) in enumerate(zip(combinations, overrides, strict=True), 1):
        folder = out / f"trial-{number:02d}"
        fit_options = {"method": method, "recipe": recipe, "settings": settings_of_trial, **options}
        state = state_of(folder, data, **fit_options)
        if state != "finished":
            fit(data, out=folder, resume=state == "started", reporter=reporter, **fit_options)
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        if summary["validation"] is None:
            raise BlemishError(f"tune: no simulated damage shows on the images of {data}, so nothing can be compared")
        results = (summary[name] for name in ("validation", "training_s", "chosen"))
        trials.append(Trial(folder, combination, *results))
        write_text(out / "trials.csv", _table([trial.row() for trial in trials]))
    _copy_results(best_of(trials), out)
    return trials


def _copy_results(best: Trial, out: Path) -> None:
    for name in RESULT_FILES:
        with replace_file(out / name) as file:
            file.write((best.folder / name).read_bytes())


def best_of(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the highest validation."""
    return max(trials, key=lambda trial: trial.validation)


def _default_values(settings: Any) -> dict[str, list[int]]:
    """Return the values to try by default."""
    batch, iterations = settings.batch_size, settings.iterations
    return {"batch_size": [max(2, batch // 2), batch, 2 * batch], "iterations": [max(1, iterations // 2), iterations]}


def _combinations(tried: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values())]


def _merged(settings: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return nested settings with the values of dotted names put in."""
    return functools.reduce(lambda nested, item: with_value(nested, *item), values.items(), settings)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
