"""Settings chosen on good images alone: train with each, and keep what finds simulated damage best.

What a method calls its validation (``Method.validate``) is measured on good images that were kept from training, with
damage painted on them, the same for all settings. No defect and no test image is read.
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
    """One combination of settings, fitted."""

    folder: Path
    """Its run folder."""
    settings: dict[str, Any]
    """Those that were tried, by their dotted names."""
    validation: float
    """How well it finds simulated damage, as the method says it (``Method.validate``)."""
    training_s: float
    chosen: dict[str, Any]
    """What good images decided after training."""

    def row(self) -> dict[str, Any]:
        """A line of ``trials.csv``."""
        found = {"validation": self.validation, "training_s": self.training_s}
        return {"trial": self.folder.name, **self.settings, **found, **self.chosen}


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
    """Fit with every combination of the ``tried`` settings, and keep the best.

    A combination that an earlier call has fitted into ``out`` is not fitted again.

    Parameters
    ----------
    tried : names of settings and their values; empty tries half, the same and twice the recipe's batch size,
        and half and all of its iterations.
    out : folder for a run folder of each combination (``trial-01`` and so on), ``trials.csv``, and the best one's
        ``detector.blemish``, ``config.yaml`` (for ``blemish fit --config``) and ``summary.json``.
    settings : those that all combinations share, in place of the recipe's.
    options : further ones of ``fit``.

    Returns
    -------
    One for each combination, in the order of their folders.

    Raises
    ------
    BlemishError
        If the method does not validate, no damage shows on the images, a setting is unknown or of the wrong type, or
        ``out`` holds other trials.
    """
    if not method_type(method).validation_share:
        raise BlemishError(f"tune: {method} has nothing to choose by; methods that do: ssae")
    if "seed" in tried:
        raise BlemishError("tune: seed is no setting to choose; give --seed instead")
    shared, seed = dict(settings or {}), options.get("seed", 0)
    trials = _combinations(tried or _usual(build(method, recipe, seed, shared).settings))
    given = [functools.reduce(lambda put, one: with_value(put, *one), trial.items(), shared) for trial in trials]
    for one in given:  # mistakes are told before training
        build(method, recipe, seed, one)
    make_folder(out)
    done: list[Trial] = []
    for number, (trial, changes) in enumerate(zip(trials, given, strict=True), 1):
        folder = out / f"trial-{number:02d}"
        wanted = {"method": method, "recipe": recipe, "settings": changes, **options}
        state = state_of(folder, data, **wanted)
        if state != "finished":
            fit(data, out=folder, resume=state == "started", reporter=reporter, **wanted)
        summary = json.loads((folder / "summary.json").read_text())
        if summary["validation"] is None:
            raise BlemishError(f"tune: no simulated damage shows on the images of {data}, so nothing can be compared")
        done.append(Trial(folder, trial, *(summary[name] for name in ("validation", "training_s", "chosen"))))
        write_text(out / "trials.csv", _table([one.row() for one in done]))
    _copy_results(best_of(done), out)
    return done


def _copy_results(best: Trial, out: Path) -> None:
    for name in RESULT_FILES:
        with replace_file(out / name) as file:
            file.write((best.folder / name).read_bytes())


def best_of(trials: Sequence[Trial]) -> Trial:
    """The one that finds simulated damage best."""
    return max(trials, key=lambda trial: trial.validation)


def _usual(settings: Any) -> dict[str, list[int]]:
    """What is tried if nothing is asked for."""
    batch, iterations = settings.batch_size, settings.iterations
    return {"batch_size": [max(2, batch // 2), batch, 2 * batch], "iterations": [max(1, iterations // 2), iterations]}


def _combinations(tried: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values())]


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
