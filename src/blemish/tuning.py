"""Settings chosen on good images alone: train with each, and keep what finds simulated damage best.

What a method calls its validation (``Method.validate``) is measured on good images that were kept from training, with
damage of every kind painted on them. No defect and no test image is read.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from blemish.errors import BlemishError
from blemish.files import make_folder, replace_file, write_text
from blemish.fitting import build, fit, plain
from blemish.methods import method_type
from blemish.settings import with_value
from blemish.training import Reporter

RESULTS = ("validation", "training_s", "parameters")
RESULT_FILES = ("detector.blemish", "config.yaml", "summary.json")


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
) -> list[dict[str, Any]]:
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
    A row for each combination: its folder, its settings, how well it found simulated damage (``validation``).

    Raises
    ------
    BlemishError
        If the method does not validate, no damage shows on the images, or a setting is unknown or of the wrong type.
    """
    if not method_type(method).validation_share:
        raise BlemishError(f"tune: {method} has nothing to choose by; methods that do: ssae")
    shared, seed = dict(settings or {}), options.get("seed", 0)
    trials = _combinations(tried or _usual(build(method, recipe, seed, shared).settings))
    given = [functools.reduce(lambda put, one: with_value(put, *one), trial.items(), shared) for trial in trials]
    wanted = [build(method, recipe, seed, one).settings for one in given]  # mistakes come before training
    make_folder(out)
    rows: list[dict[str, Any]] = []
    for number, (trial, changes, whole) in enumerate(zip(trials, given, wanted, strict=True), 1):
        folder = out / f"trial-{number:02d}"
        config = {"data": str(data), "method": method, "recipe": recipe, "settings": plain(asdict(whole))}
        config |= {name: plain(value) for name, value in options.items()}
        if not _is_done(folder, config):
            fit(data, method=method, recipe=recipe, settings=changes, out=folder, reporter=reporter, **options)
        summary = json.loads((folder / "summary.json").read_text())
        if summary["validation"] is None:
            raise BlemishError(f"tune: no simulated damage shows on the images of {data}, so nothing can be compared")
        rows.append({"trial": folder.name, **trial, **{name: summary[name] for name in RESULTS}, **summary["chosen"]})
        write_text(out / "trials.csv", _table(rows))
    best = out / max(rows, key=lambda row: row["validation"])["trial"]
    for name in RESULT_FILES:
        with replace_file(out / name) as file:
            file.write((best / name).read_bytes())
    return rows


def _usual(settings: Any) -> dict[str, list[int]]:
    """What is tried if nothing is asked for."""
    batch, iterations = settings.batch_size, settings.iterations
    return {"batch_size": [max(2, batch // 2), batch, 2 * batch], "iterations": [max(1, iterations // 2), iterations]}


def _combinations(tried: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(tried, values, strict=True)) for values in itertools.product(*tried.values())]


def _is_done(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether an earlier call fitted this."""
    if not (folder / "summary.json").exists() or not (folder / "config.yaml").exists():
        return False
    found = yaml.safe_load((folder / "config.yaml").read_text())
    return all(found.get(name) == value for name, value in config.items())


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
