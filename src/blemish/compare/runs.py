"""Evaluations on disk: find the `metrics.json` files below a path and read them. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from blemish.errors import BlemishError
from blemish.metrics.names import TITLES
from blemish.settings import flat

METRICS = tuple(TITLES)
"""The metrics that can be compared, by their names in `metrics.json`."""


@dataclass(frozen=True)
class Run:
    """The evaluation of one trained detector on one test set.

    Attributes
    ----------
    path : the `metrics.json` file.
    method, recipe : of the detector.
    seed : of the training; None for converted weights.
    options : settings that determine the result, by name: every setting ("anomalies.shape"), the textures.
    conditions : conditions that may influence the result, by name: the number of training images, the precision.
    data : the name of the test set's folder or file.
    n_good, n_defective : the numbers of test images.
    protocol : the name of the evaluation protocol; figures under different protocols are never compared.
    metrics : fractions of 1 by the names in `METRICS`; None where a metric is not defined.
    protocol_description : the protocol in one sentence; "" if there is no description.
    changed : names of the options that are not those of the recipe.
    """

    path: Path
    method: str
    recipe: str
    seed: int | None
    options: Mapping[str, str]
    conditions: Mapping[str, str]
    data: str
    n_good: int
    n_defective: int
    protocol: str
    metrics: Mapping[str, float | None]
    protocol_description: str = ""
    changed: tuple[str, ...] = ()


def find_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Read the evaluations at or below the given paths, each file once, in the order of the paths.

    Parameters
    ----------
    paths : run folders, evaluation folders, `metrics.json` files, or folders of any of these.

    Returns
    -------
    The runs, and a warning for each detector that has not been evaluated.

    Raises
    ------
    BlemishError
        If a path holds no evaluation, or an evaluation cannot be read or does not name its detector or data.
    """
    files: dict[Path, Path] = {}
    not_evaluated = []
    for path in paths:
        paths_below = list(_metrics_files(path))
        files |= {file.resolve(): file for file in paths_below if file.resolve() not in files}
        evaluated_folders = {parent for file in paths_below for parent in file.parents}
        for detector in sorted(path.rglob("detector.blemish")) if path.is_dir() else ():
            if detector.parent not in evaluated_folders:
                not_evaluated.append(f"{detector.parent} is left out: there is no metrics.json in it or below")
    return [read_run(file) for file in files.values()], list(dict.fromkeys(not_evaluated))


def _metrics_files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise BlemishError(
            f"{path}: no such file or folder; give run folders, or folders written by `blemish evaluate`"
        )
    matches = sorted(path.rglob("metrics.json"))
    if not matches:
        raise BlemishError(
            f"{path}: no metrics.json in it or below; first run "
            f"`blemish evaluate {path / 'detector.blemish'} DATA --out {path / 'evaluation'}`"
        )
    yield from matches


def read_run(path: Path) -> Run:
    """Read one `metrics.json`. If it does not name its detector (older versions), the run folder around it does.

    Raises
    ------
    BlemishError
        If it cannot be read, is no `metrics.json` of `blemish evaluate`, or does not name its detector or data.
    """
    content = _read_json(path)
    detector = content.get("detector")
    if not isinstance(detector, dict):
        detector, data = _from_run_folder(path)
    else:
        data = content.get("data")
    try:
        method, recipe = str(detector["method"]), str(detector["recipe"])
        seed = None if detector.get("seed") is None else int(detector["seed"])
        protocol, n_good, n_defective = str(content["protocol"]), int(content["n_good"]), int(content["n_defective"])
    except (KeyError, TypeError, ValueError) as error:
        raise BlemishError(
            f"{path}: missing or invalid value in metrics.json ({error}); evaluate the detector again"
        ) from error
    if not isinstance(data, str):
        raise BlemishError(f"{path}: the key 'data' is missing or no text; evaluate the detector again")
    conditions = {name: str(detector[name]) for name in ("n_train", "precision") if name in detector}
    return Run(
        path, method, recipe, seed, _options(detector), conditions, data, n_good, n_defective, protocol,
        _figures(path, content), str(content.get("protocol_description") or ""),
        tuple(detector.get("changed_settings") or ()),
    )  # fmt: skip


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BlemishError(f"{path}: cannot be read as JSON ({error}); evaluate the detector again") from error
    if not isinstance(content, dict):
        raise BlemishError(f"{path}: holds no JSON object; give a metrics.json written by `blemish evaluate`")
    return content


def _figures(path: Path, content: Mapping[str, Any]) -> dict[str, float | None]:
    values = {name: content.get(name) for name in METRICS}
    for name, value in values.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 <= value <= 1):
            raise BlemishError(f"{path}: {name} is {value!r}, should be in [0, 1]; evaluate the detector again")
    if not any(name in content for name in METRICS):
        raise BlemishError(
            f"{path}: has none of {', '.join(METRICS)}; give a metrics.json written by `blemish evaluate`"
        )
    return values


def _from_run_folder(path: Path) -> tuple[dict[str, Any], Any]:
    """Detector and data from `summary.json` and `config.yaml` in the folder of the file or the folder above."""
    for folder in (path.parent, path.absolute().parent.parent):
        if (folder / "summary.json").is_file() and (folder / "config.yaml").is_file():
            try:
                config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
                data = Path(config["data"])
                detector = {**_read_json(folder / "summary.json"), "settings": dict(config["settings"])}
            except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
                reason = str(error).splitlines()[0]
                raise BlemishError(
                    f"{folder / 'config.yaml'}: cannot be read as a configuration of `fit` ({reason}); "
                    "evaluate the detector again"
                ) from error
            return detector, data.stem if data.suffix == ".csv" else data.name
    raise BlemishError(
        f"{path}: does not name its detector (written by an older version) and does not lie in a run folder; "
        "evaluate the detector again"
    )


def _options(detector: Mapping[str, Any]) -> dict[str, str]:
    """What determines a result in addition to method, recipe and seed: names and values as text."""
    settings = dict(flat(detector.get("settings") or {}))
    settings.pop("seed", None)
    options = {name: json.dumps(value, ensure_ascii=False, default=str) for name, value in settings.items()}
    options["textures"] = json.dumps(detector.get("textures"), ensure_ascii=False)
    if detector.get("n_defects"):
        options["n_defects"] = str(detector["n_defects"])
    if detector.get("pretrained_sha256"):
        options["codebook"] = detector["pretrained_sha256"][:8]
    if detector.get("converted_from"):
        options["weights"] = "converted"
    return options
