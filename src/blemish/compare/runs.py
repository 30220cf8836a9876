"""Evaluations on disk: which `metrics.json` lie below a path, and what each of them is of. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from blemish.errors import BlemishError
from blemish.metrics.names import TITLES

METRICS = tuple(TITLES)
"""What can be compared, by its name in `metrics.json`."""


@dataclass(frozen=True)
class Run:
    """One trained detector held against one test set.

    Attributes
    ----------
    path : of its `metrics.json`.
    method, recipe : of the detector.
    seed : of its training; None for weights that were converted.
    options : what else decides the result, by name: every setting ("anomalies.shape"), the textures.
    conditions : what should not decide it but may, by name: the number of training images, the precision.
    data : the name of the test set's folder or file.
    n_good, n_defective : its images.
    protocol : the name of how it was measured; figures under different names are not compared.
    metrics : fractions of 1 by the names in `METRICS`; None where one is not defined.
    protocol_description : the protocol in a sentence; "" if its name is one.
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


def find_runs(paths: Sequence[Path]) -> tuple[list[Run], list[str]]:
    """Read the evaluations that lie at or below some paths, each once, in the order given.

    Parameters
    ----------
    paths : run folders, evaluation folders, `metrics.json` files, or folders of any of these.

    Returns
    -------
    The runs, and a line for each detector found that has not been evaluated.

    Raises
    ------
    BlemishError
        If a path holds no evaluation, or one of them cannot be read or does not say what it is of.
    """
    files: dict[Path, Path] = {}
    not_evaluated = []
    for path in paths:
        found = list(_metrics_files(path))
        files |= {file.resolve(): file for file in found if file.resolve() not in files}
        folders = {parent for file in found for parent in file.parents}
        for detector in sorted(path.rglob("detector.blemish")) if path.is_dir() else ():
            if detector.parent not in folders:
                not_evaluated.append(f"{detector.parent} is left out: there is no metrics.json in it or below")
    return [read_run(file) for file in files.values()], list(dict.fromkeys(not_evaluated))


def _metrics_files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise BlemishError(f"{path}: no such file or folder; give run folders, or folders that `evaluate` wrote")
    found = sorted(path.rglob("metrics.json"))
    if not found:
        raise BlemishError(
            f"{path}: no metrics.json in it or below; first run "
            f"`blemish evaluate {path / 'detector.blemish'} DATA --out {path / 'evaluation'}`"
        )
    yield from found


def read_run(path: Path) -> Run:
    """Read one `metrics.json`; what an older one does not say is taken from the run folder that it lies in.

    Raises
    ------
    BlemishError
        If it cannot be read, is no `metrics.json` of `blemish evaluate`, or nothing says what it is of.
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
            f"{path}: no metrics.json as compare needs it (lacks or misstates {error}); evaluate the detector again"
        ) from error
    if not isinstance(data, str):
        raise BlemishError(f"{path}: does not name its data; evaluate the detector again")
    conditions = {name: str(detector[name]) for name in ("n_train", "precision") if name in detector}
    return Run(
        path, method, recipe, seed, _options(detector), conditions, data, n_good, n_defective, protocol,
        _figures(path, content), str(content.get("protocol_description") or ""),
    )  # fmt: skip


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BlemishError(f"{path}: cannot be read as JSON ({error}); evaluate the detector again") from error
    if not isinstance(content, dict):
        raise BlemishError(f"{path}: holds no JSON object; give a metrics.json that `blemish evaluate` wrote")
    return content


def _figures(path: Path, content: Mapping[str, Any]) -> dict[str, float | None]:
    values = {name: content.get(name) for name in METRICS}
    for name, value in values.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 <= value <= 1):
            raise BlemishError(f"{path}: {name} is {value!r}, should be in [0, 1]; evaluate the detector again")
    if not any(name in content for name in METRICS):
        raise BlemishError(f"{path}: holds none of {', '.join(METRICS)}; give a metrics.json of `blemish evaluate`")
    return values


def _from_run_folder(path: Path) -> tuple[dict[str, Any], Any]:
    """Detector and data from `summary.json` and `config.yaml` beside the file or in the folder above."""
    for folder in (path.parent, path.absolute().parent.parent):
        if (folder / "summary.json").is_file() and (folder / "config.yaml").is_file():
            try:
                config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
                data = Path(config["data"])
                detector = {**_read_json(folder / "summary.json"), "settings": dict(config["settings"])}
            except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
                raise BlemishError(
                    f"{folder / 'config.yaml'}: cannot be read as what `fit` wrote ({str(error).splitlines()[0]}); "
                    "evaluate the detector again"
                ) from error
            return detector, data.stem if data.suffix == ".csv" else data.name
    raise BlemishError(
        f"{path}: does not say which detector it is of (an older blemish wrote it), and no run folder is around it; "
        "evaluate the detector again"
    )


def _options(detector: Mapping[str, Any]) -> dict[str, str]:
    """What decides a result beside method, recipe and seed: names and values as text."""
    flat = dict(_flat(detector.get("settings") or {}))
    flat.pop("seed", None)
    flat["textures"] = json.dumps(detector.get("textures"), ensure_ascii=False)
    if detector.get("n_defects"):
        flat["n_defects"] = str(detector["n_defects"])
    if detector.get("pretrained_sha256"):
        flat["codebook"] = detector["pretrained_sha256"][:8]
    if detector.get("converted_from"):
        flat["weights"] = "converted"
    return flat


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False, default=str)
