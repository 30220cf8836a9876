"""SSAE's table 4 and figures 2 and 4 on the user's own images: objective (1), objective (4) and their ensemble."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.layouts import Sample, name_of, open_dataset
from blemish.data.reading import read_image
from blemish.detector import Detector
from blemish.devices import Device, resolve_device
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import evaluate
from blemish.files import make_folder
from blemish.learning.fit import fit, part_of, state_of
from blemish.learning.options import FitOptions
from blemish.learning.record import Reporter
from blemish.methods.ssae import CHOSEN
from blemish.metrics.names import TITLES
from blemish.report.page import HEADINGS, Row, make_row, row_html
from blemish.studies.output import percent, study_page, write_study

HEADS = {name: TITLES[name] for name in ("image_auroc", "pixel_auroc", "image_ap", "pixel_ap", "pixel_aupro")}
PROTOCOL = "256/1"
NAMES = {"filter": "objective (1)", "amplify": "objective (4)", "ensemble": "ensemble"}
N_SHOWN = 8
"""Defective images of each dataset on the page, spread evenly over the test set; two good ones are added."""
PICTURE_PX = 200


@dataclass(frozen=True)
class ObjectiveResult:
    """The evaluation of one objective on one dataset."""

    data: str
    objective: str
    """A key of ``NAMES``."""
    metrics: Mapping[str, float | None]
    """By name as in ``metrics.json``, fractions of 1."""
    chosen: Mapping[str, int]
    """n_means, mean_px and correction (n, k, t), as chosen on good images for this objective."""

    def row(self) -> dict[str, Any]:
        """A line of ``objectives.csv``."""
        return {"data": self.data, "objective": NAMES[self.objective], **self.metrics, **self.chosen}


def study_objectives(
    data: Sequence[Path],
    out: Path,
    *,
    recipe: str = "small",
    settings: Mapping[str, Any] | None = None,
    textures: Path | None = None,
    seed: int = 0,
    device: Device = "auto",
    layout: str = "auto",
    reporter: Reporter | None = None,
) -> list[ObjectiveResult]:
    """Train both objectives on each dataset, and evaluate each of them and their ensemble.

    Both networks are trained in one run; n, k and t are then chosen for each objective separately.

    Parameters
    ----------
    data : datasets with labelled test images.
    out : folder for one run folder per dataset, ``objectives.csv``, ``.json`` and ``.html``.

    Raises
    ------
    BlemishError
        If two datasets have the same name, a dataset has no defective test images, or ``out`` holds other runs.
    """
    if "objective" in (settings or {}):
        raise BlemishError("study objectives: trains all objectives; leave out --set objective")
    names = [name_of(path) for path in data]
    if len(set(names)) < len(names):
        raise BlemishError(f"study objectives: two datasets have the same name ({', '.join(names)}); rename one")
    for path in data:  # checked before hours of training
        if not any(sample.is_defective for sample in open_dataset(path, layout).test):
            raise BlemishError(f"{path}: has no defective test images; give a dataset of a known layout")
    make_folder(out)
    results: list[ObjectiveResult] = []
    rows: list[Row] = []
    for path, name in zip(data, names, strict=True):
        folder, changes = out / name, {**(settings or {}), "objective": "ensemble"}
        options: dict[str, Any] = {
            "method": "ssae", "recipe": recipe, "settings": changes, "textures": textures, "seed": seed,
            "device": device, "layout": layout,
        }  # fmt: skip
        state = state_of(folder, path, **options)
        if state != "finished":
            fit(path, out=folder, resume=state == "started", reporter=reporter, **options)
        ensemble = Detector.load(folder / "detector.blemish", resolve_device(device))
        trained_with = FitOptions.from_dict({"data": path, **options})
        parts = {part: part_of(ensemble, part, trained_with) for part in ("filter", "amplify")}
        detectors = {**parts, "ensemble": ensemble}
        for objective, detector in detectors.items():
            metrics = evaluate(detector, path, layout, PROTOCOL).metrics
            chosen = {setting: getattr(detector.settings, setting) for setting in CHOSEN}
            results.append(ObjectiveResult(name, objective, {key: metrics[key] for key in HEADS}, chosen))
        rows += [_row(detectors, sample, name) for sample in shown_samples(open_dataset(path, layout).test)]
    page = study_page(TITLE, READING, (), "", _table(results), "\n".join(map(row_html, rows)), FOOTER)
    figures = [result.row() for result in results]
    record = {"study": "objectives", "recipe": recipe, "seed": seed, "protocol": PROTOCOL, "results": figures}
    write_study(out, "objectives", figures, record, page)
    return results


def shown_samples(samples: Sequence[Sample]) -> list[Sample]:
    """Defective images, evenly over the test set (which is sorted by kind of defect), and two good ones."""
    defective = [sample for sample in samples if sample.is_defective]
    good = [sample for sample in samples if not sample.is_defective]
    shown = []
    for group, count in ((defective, N_SHOWN), (good, 2)):
        shown += [group[int((i + 0.5) * len(group) / count)] for i in range(count)] if len(group) > count else group
    return shown


def _row(detectors: Mapping[str, Detector], sample: Sample, name: str) -> Row:
    """Photograph; reconstruction and heatmap of each objective; the ensemble's mask compared with the true one."""
    image = read_image(sample.path, next(iter(detectors.values())).bits)
    size_hw = image.shape[0], image.shape[1]
    mask = sample.mask.read(size_hw) if sample.mask else np.zeros(size_hw, np.bool_)
    pictures: list[tuple[str, NDArray[np.uint8]]] = []
    for objective, detector in detectors.items():
        finding = detector.inspect(image, explain=objective != "ensemble")
        row = make_row(
            f"{name}/{sample.path.parent.name}/{sample.path.name}", image, finding, detector.pixel_threshold,
            truth=sample.defect if sample.is_defective else "good", true_mask=mask, long_side_px=PICTURE_PX,
        )  # fmt: skip
        photograph, *explanations, hits_and_misses = row.pictures
        pictures += [photograph] if not pictures else []
        if objective != "ensemble":
            pictures += [(f"{_short(heading)}, {NAMES[objective]}", picture) for heading, picture in explanations]
    return Row(row.name, row.score, row.threshold, row.is_defective, (*pictures, hits_and_misses), row.truth)


def _short(heading: str) -> str:
    """A short heading, to which the name of the objective is added."""
    return "Reconstruction" if heading in HEADINGS.values() else heading


def _table(results: Sequence[ObjectiveResult]) -> str:
    heads = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in (*HEADS.values(), "n, k, t"))
    lines = []
    for result in results:
        values = [result.metrics[name] for name in HEADS]
        cells = ["-" if value is None else percent(value) for value in values]
        cells += [", ".join(map(str, result.chosen.values()))]
        name = html.escape(f"{result.data}, {NAMES[result.objective]}")
        lines.append(f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>')
    return (
        f'<div class="table"><table aria-label="By objective"><thead><tr><th scope="col"></th>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


TITLE = "SSAE's two training objectives compared"
READING = (
    "<p>Both networks are trained with the same kinds of simulated damage. With objective (1) the network is a "
    "filter: it reproduces good areas and repairs the rest, and the areas that it changes are the defect. With "
    "objective (4) the network is rewarded for errors in damaged areas: it does not repair a defect but amplifies "
    "it. According to the paper, (1) is more robust and (4) is sometimes more precise. The ensemble takes the larger "
    "value of both heatmaps at each pixel. The verdicts and the pictures of found and missed areas below are those "
    "of the ensemble.</p>"
)
FOOTER = (
    "After table 4 and figures 2 and 4 of Bauer, Nakajima, Müller, Self-Supervised Training with Autoencoders for "
    "Visual Anomaly Detection (arXiv:2206.11723). n, k and t are the parameters by which heatmaps are smoothed "
    "and corrected; they were chosen on good images with simulated damage. Protocol " + PROTOCOL + "."
)
