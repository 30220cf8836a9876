"""What the commands do with files: a run folder, a codebook, an evaluation. ``cli.py`` parses and calls these."""

from __future__ import annotations

import csv
import inspect
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from accelerate import PartialState
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from blemish.convert import convert_codebook, convert_draem
from blemish.data.layouts import name_of, open_dataset
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.devices import Device, Precision, resolve_device
from blemish.errors import BlemishError
from blemish.evaluation import Evaluation
from blemish.evaluation import evaluate as evaluate_detector
from blemish.exporting import write_onnx, write_openvino
from blemish.files import make_folder, replace_file, write_text
from blemish.fitting import fit
from blemish.methods.codebook import save_codebook
from blemish.pretraining import pretrain
from blemish.progress import TrainingProgress
from blemish.report.evaluation_page import write_report
from blemish.report.overlay import as_jpeg
from blemish.report.reconstructions import draw_reconstructions
from blemish.settings import with_value
from blemish.training import TrainingInterrupted
from blemish.tuning import best_of, tune

# --- fit -----------------------------------------------------------------------------------------------------


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
    options = _read_config(config)
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


def pretrain_run(
    images: Sequence[Path], assignments: Sequence[str], out: Path, *, resume: bool, **options: Any
) -> None:
    """Train a codebook and tell how good it is."""
    if out.exists() and not resume:
        raise BlemishError(f"{out}: exists; take another --out, or remove it")
    folder = out.with_suffix("")
    if (folder / "checkpoint.pt").exists() and not resume:
        raise BlemishError(f"{folder}: holds a run that was stopped; give --resume to go on, or take another --out")
    try:
        with TrainingProgress() as progress:
            settings = assigned({}, assignments)
            made = pretrain(images, out, settings=settings, resume=resume, reporter=progress, **options)
    except TrainingInterrupted as stop:
        raise TrainingInterrupted(f"{stop}; the same with --resume goes on") from None
    if not PartialState().is_main_process:
        return
    sheet = folder / "reconstructions.jpg"
    with replace_file(sheet) as file:
        file.write(as_jpeg(draw_reconstructions(made.network, made.held_out)))
    held_out, used = made.card["held_out"], made.card["codes_in_use"]
    print(f"{len(made.held_out)} images that were held out: {held_out['psnr_db']} dB, SSIM {held_out['ssim']}")
    print(f"codes in use: {used['low']} low, {used['high']} high; look at {sheet}")
    print(out)


def _read_config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BlemishError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from error
    known = set(inspect.signature(fit).parameters) - {"out", "resume", "tensorboard", "reporter"}
    if not isinstance(content, dict) or not isinstance(content.get("settings") or {}, dict):
        raise BlemishError(f"{path}: should hold options like `recipe: small`, one a line")
    if unknown := sorted(map(str, set(content) - known)):
        raise BlemishError(f"{path}: unknown option {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    if isinstance(content.get("false_rejects"), str):  # YAML reads 1e-2 as text
        content["false_rejects"] = _number(content["false_rejects"])
    return content


def _number(text: str) -> Any:
    """A value as JSON reads it, else as YAML does: JSON knows that 1e-4 is a number."""
    try:
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)


def assigned(settings: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Settings with ``name=value`` or ``group.name=value`` put in; values are read as YAML."""
    result = dict(settings)
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if name == "seed":
            raise BlemishError("--set seed: give --seed instead, which also draws what is held out")
        if not equals:
            raise BlemishError(f"--set {assignment}: should be name=value, as in --set iterations=500")
        result = with_value(result, name, _number(value))
    return result


# --- tune ----------------------------------------------------------------------------------------------------


def tune_run(
    data: Path, tries: Sequence[str], assignments: Sequence[str], out: Path, options: Mapping[str, Any]
) -> None:
    """Fit with every combination of settings into ``out``, and print how they did."""
    tried: dict[str, list[Any]] = {}
    for one in tries:
        name, _, values = one.partition("=")
        try:
            tried[name] = yaml.safe_load(f"[{values}]")
        except yaml.YAMLError:
            tried[name] = []
        if not tried[name]:
            raise BlemishError(f"--try {one}: should be name=value,value, as in --try batch_size=4,8")
    given = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    with TrainingProgress() as progress:
        trials = tune(data, tried, out, settings=assigned({}, assignments), reporter=progress, **given)
    best = best_of(trials)
    table = Table(
        "trial", "settings", "training", "validation", caption="validation: pixel AUROC on simulated damage"
    )
    for trial in trials:
        words = ", ".join(f"{name}={value}" for name, value in trial.settings.items())
        cells = (trial.folder.name, escape(words), f"{trial.training_s:.0f} s", f"{trial.validation:.4f}")
        table.add_row(*cells, style="bold" if trial is best else None)
    Console().print(table)
    print(f"{out / 'detector.blemish'}: that of {best.folder.name}; settings in {out / 'config.yaml'}")


# --- evaluate ------------------------------------------------------------------------------------------------


def evaluate_run(
    detector_path: Path, data: Path, out: Path, device: Device, layout: str, protocol: str, precision: Precision
) -> None:
    """Write ``metrics.json``, ``scores.csv`` and ``report.html``, and print the table."""
    detector = Detector.load(detector_path, resolve_device(device), precision)
    make_folder(out)
    evaluation = evaluate_detector(detector, data, layout, protocol)
    write_text(out / "metrics.json", json.dumps(evaluation.metrics, indent=2) + "\n")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["path", "defect", "score", "is_rejected"])
    for sample, score in zip(evaluation.samples, evaluation.scores.tolist(), strict=True):
        writer.writerow([sample.path, sample.defect, score, score > detector.threshold.value])
    write_text(out / "scores.csv", text.getvalue())
    _print_table(evaluation, Console())
    write_report(out / "report.html", detector, evaluation, evaluation.metrics["data"])
    print(f"results in {out}; look at {out / 'report.html'}")


_COLUMNS = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_aupro", "found")


def _print_table(evaluation: Evaluation, console: Console) -> None:
    metrics = evaluation.metrics
    table = Table(
        "",
        "images",
        *(name.replace("_", " ") for name in _COLUMNS),
        caption=f"protocol {metrics['protocol']}: {metrics['protocol_description']}",
    )
    for name, row in metrics["by_defect"].items():
        table.add_row(escape(name), *_cells(row))
    table.add_row("all", *_cells(metrics), style="bold")
    console.print(table)
    if metrics["n_good"]:
        share = f"{100 * metrics['false_rejects']:.1f} %"
        print(f"{share} of {metrics['n_good']} good test images rejected at threshold {metrics['threshold']:.4g}")


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [str(row["n_defective"]), *("-" if row[name] is None else f"{row[name]:.3f}" for name in _COLUMNS)]


# --- export --------------------------------------------------------------------------------------------------


def export_run(
    detector_path: Path, out: Path, precision: Literal["float32", "int8"], good: Path | None, layout: str
) -> None:
    """Write a detector for another runtime; say what 8 bits change."""
    if out.suffix not in (".blemish", ".onnx", ".xml"):
        raise BlemishError(f"--out {out}: should end in .blemish or .xml (OpenVINO), or .onnx")
    if precision == "int8" and (good is None or out.suffix == ".onnx"):
        remedy = "take --out NAME.blemish or NAME.xml" if good else "give --good, a folder of good images"
        raise BlemishError(f"--precision int8: is for OpenVINO, and takes good images; {remedy}")
    if out.resolve() == detector_path.resolve():
        raise BlemishError(f"--out {out}: is the detector itself; take another name")
    detector = Detector.load(detector_path)
    if out.suffix == ".onnx":
        write_onnx(detector.method, out, detector.description)
        print(out)
        return
    paths = [] if good is None else [sample.path for sample in open_dataset(good, layout).train]
    images = load_images(paths, detector.size_hw) if paths else None
    exported = detector.compiled(images if precision == "int8" else None)
    if out.suffix == ".xml":
        write_openvino(exported.method.state_dict(), out)
    else:
        exported.save(out)
    if images is not None:
        _print_changes(paths, images, detector, exported)
    print(out)


def _print_changes(paths: Sequence[Path], images: Tensor, detector: Detector, exported: Detector) -> None:
    before, after = (one.maps_and_scores(images)[1] for one in (detector, exported))
    value = detector.threshold.value
    change = float((after - before).abs().max())
    changed = [path for path, a, b in zip(paths, before, after, strict=True) if bool(a > value) != bool(b > value)]
    print(f"{len(paths)} good images: scores change by at most {change:.2g}, the threshold is {value:.4g}")
    for path in changed:
        print(f"  another verdict on {path}")


# --- convert -------------------------------------------------------------------------------------------------


def convert_files(
    reconstructive: Path, discriminative: Path, out: Path, calibration: Path | None, false_rejects: float
) -> None:
    """Write a detector made from the authors' weights, calibrated on ``calibration`` if that is given."""
    method = convert_draem(reconstructive, discriminative)
    provenance = {"recipe": "paper", "converted_from": [reconstructive.name, discriminative.name]}
    if calibration is None:
        detector = Detector.uncalibrated(method, 0.5, false_rejects, provenance)
    else:
        paths = [sample.path for sample in open_dataset(calibration).train]
        size_hw = (method.settings.image_size_px,) * 2
        detector = Detector.calibrate(method, load_images(paths, size_hw), false_rejects, provenance)
    detector.save(out)
    print(detector.threshold.explain())
    print(f"{out}: image threshold {detector.threshold.value:.4g}")


def convert_codebook_file(weights: Path, out: Path) -> None:
    """Write a codebook file made from the authors' weights."""
    save_codebook(convert_codebook(weights), out, {"converted_from": weights.name})
    print(out)
