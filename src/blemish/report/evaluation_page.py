"""The report of an evaluation: one self-contained HTML file, for engineers and researchers.

It shows figures, curves and a table, then the images, wrong verdicts first. It loads nothing from the network.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blemish.data.layouts import Sample
from blemish.data.reading import read_image
from blemish.detector import Detector
from blemish.evaluation.evaluate import Evaluation
from blemish.files import write_text
from blemish.methods import changed_settings
from blemish.metrics.names import MEANINGS, TITLES
from blemish.report import charts
from blemish.report.charts import Axis, curves_chart, scores_chart
from blemish.report.page import (
    PAGE,
    STYLE,
    TABLE_STYLE,
    Figure,
    Row,
    figures_html,
    judgement,
    legend_html,
    make_row,
    row_html,
)

MAX_ROWS = 200
PICTURE_PX, QUALITY = 208, 80  # 200 rows of four pictures stay below 10 MB

COLUMNS = {"n_defective": "defective", "found": "found", **TITLES}
EXPLAINED = {"found": "share of the defective images that score above the threshold", **MEANINGS}


def write_report(path: Path, detector: Detector, evaluation: Evaluation, data_name: str) -> None:
    """Write the report. The images that it shows, at most 200, are inspected once more for their pictures.

    Raises
    ------
    BlemishError
        If the file cannot be written, or an image can no longer be read.
    """
    shown = _chosen(evaluation)
    rows = [_row(detector, evaluation.samples[number]) for number in shown]
    metrics = evaluation.metrics
    parts = {
        "title": html.escape(f"{data_name}: {detector.method_name}, {_verdict(metrics)}"),
        "style": STYLE + TABLE_STYLE + charts.STYLE + _STYLE,
        "intro": f"<p>{_intro(detector, metrics)}</p>",
        "figures": figures_html(_figures(metrics, detector)),
        "legend": f'<div class="charts">{_charts(evaluation)}</div>{_table(metrics)}{legend_html(rows)}'
        + _toolbar(evaluation, rows),
        "rows": "\n".join(row_html(row, QUALITY) for row in rows),
        "footer": f"Protocol {metrics['protocol']}: {html.escape(metrics['protocol_description'])}."
        f"<script>{_SCRIPT}</script>",
    }
    write_text(path, PAGE.format(**parts))


def _chosen(evaluation: Evaluation) -> list[int]:
    """Indices of the samples on the page: the worst misses, the worst false alarms, then others evenly by score."""
    is_rejected = evaluation.is_rejected
    labels = np.array([sample.is_defective for sample in evaluation.samples])
    order = np.argsort(evaluation.scores, kind="stable")
    misses = [int(i) for i in order if labels[i] and not is_rejected[i]]
    alarms = [int(i) for i in order[::-1] if not labels[i] and is_rejected[i]]
    correct = [int(i) for i in order[::-1] if is_rejected[i] == labels[i]]
    n_correct = max(MAX_ROWS - len(misses) - len(alarms), MAX_ROWS // 4)
    if len(correct) > n_correct:
        correct = [correct[int(i * len(correct) / n_correct)] for i in range(n_correct)]
    n_wrong = MAX_ROWS - len(correct)
    n_misses = max(n_wrong - len(alarms), n_wrong // 2)
    n_alarms = max(n_wrong - len(misses), n_wrong // 2)
    return [*misses[:n_misses], *alarms[:n_alarms], *correct]


def _row(detector: Detector, sample: Sample) -> Row:
    image = read_image(sample.path, detector.bits)
    finding = detector.inspect(image, explain=True)
    size_hw = image.shape[0], image.shape[1]
    mask = sample.mask.read(size_hw) if sample.mask is not None else None
    if not sample.is_defective:
        mask = np.zeros(size_hw, np.bool_)
    name = "/".join(sample.path.parts[-2:])
    return make_row(
        name, image, finding, detector.pixel_threshold, truth=sample.defect, true_mask=mask, long_side_px=PICTURE_PX
    )


# --- texts and figures ---------------------------------------------------------------------------------------


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _verdict(metrics: dict[str, Any]) -> str:
    if metrics["image_auroc"] is None:
        return f"{'good' if metrics['n_good'] else 'defective'} images only"
    return f"image AUROC {_percent(metrics['image_auroc'])}"


def _intro(detector: Detector, metrics: dict[str, Any]) -> str:
    provenance = detector.provenance
    settings = changed_settings(
        detector.method_name, str(provenance.get("recipe", "")), detector.settings, provenance.get("chosen", {})
    )
    trained = _trained(provenance, ", ".join(f"{name}={value}" for name, value in settings.items()))
    without_masks = metrics["n_defective"] and not metrics["n_masks"]
    return html.escape(
        f"A detector of method {detector.method_name}, {trained}evaluated on {metrics['n_good']} good and "
        f"{metrics['n_defective']} defective images. Their labels were used only for this report: the threshold "
        + _threshold_source(detector)
        + (" The defective images have no masks, so there are no figures of pixels." if without_masks else "")
    )


def _trained(provenance: dict[str, Any], changed: str) -> str:
    """What the detector has learned from, and with which settings; of a joined one, what it is made of."""
    if parts := provenance.get("parts"):
        return f"which joins {', '.join(parts)} (recipes: {provenance['recipe']}), "
    if not {"n_train", "recipe", "seed"} <= set(provenance):
        return ""
    return (
        f"trained on {provenance['n_train']} good images (recipe {provenance['recipe']}{' with ' * bool(changed)}"
        f"{changed}, seed {provenance['seed']}), "
    )


def _threshold_source(detector: Detector) -> str:
    if detector.threshold.n_calibration:
        return "comes from held-out good images."
    return "comes from images that were trained on." if detector.threshold.doubt else "was set by hand."


def _figures(metrics: dict[str, Any], detector: Detector) -> list[Figure]:
    n_good, n_defective, threshold = metrics["n_good"], metrics["n_defective"], detector.threshold
    figures = []
    if n_defective:
        n_detected = round(metrics["found"] * n_defective)
        missed = f"{n_defective - n_detected} missed, at the threshold of {threshold.value:.3g}."
        if n_outside := metrics["n_outside_region"]:
            missed += f" {n_outside} of all have no labelled pixel in the region of interest."
        figures.append(Figure("Defective images found", f"{n_detected} of {n_defective}", missed))
    if n_good:
        n_rejected = round(metrics["false_rejects"] * n_good)
        share = f"False alarms: {_percent(metrics['false_rejects'])}. {threshold.explain()}"
        figures.append(Figure("Good images rejected", f"{n_rejected} of {n_good}", share))
    if n_unlike := metrics["n_good_unlike"] + metrics["n_defective_unlike"]:
        meaning = f"{metrics['n_good_unlike']} good ones and {metrics['n_defective_unlike']} defective ones. "
        meaning += "The figures here count them by their scores; on the line they are neither good nor defective."
        figures.append(Figure("Unlike the good images", str(n_unlike), meaning))
    if metrics["image_auroc"] is not None:
        meaning = "How often a defective image scores above a good one, for any threshold. 50 % is chance."
        figures.append(Figure("Image AUROC", _percent(metrics["image_auroc"]), meaning))
    if metrics["pixel_ap"] is not None:
        meaning = "How well the anomaly map ranks defective pixels above good ones. "
        meaning += f"Pixel AUROC {_percent(metrics['pixel_auroc'])}, AUPRO {_percent(metrics['pixel_aupro'])}."
        if metrics["n_masks"] < n_defective:
            meaning += f" Of the {metrics['n_masks']} of {n_defective} defective images that have a mask."
        figures.append(Figure("Pixel AP", _percent(metrics["pixel_ap"]), meaning))
    return figures


def _charts(evaluation: Evaluation) -> str:
    labels = np.array([sample.is_defective for sample in evaluation.samples])
    curves = evaluation.rankings.curves(max_points=400)
    rate, recall = Axis("false-positive rate"), Axis("recall")
    scores = scores_chart(
        "Image scores", evaluation.scores[~labels], evaluation.scores[labels], evaluation.metrics["threshold"]
    )
    roc = [("images", curves["image_roc"]), ("pixels", curves["pixel_roc"])]
    pr = [("images", curves["image_pr"]), ("pixels", curves["pixel_pr"])]
    pro_rate = Axis("false-positive rate", 0.0, 0.3, (0.0, 0.1, 0.2, 0.3))
    return "".join(
        [
            scores,
            curves_chart("ROC", rate, recall, roc),
            curves_chart("Precision against recall", recall, Axis("precision"), pr),
            curves_chart(
                "PRO: overlap with each defect", pro_rate, Axis("overlap"), [("regions", curves["pixel_pro"])]
            ),
        ]
    )


def _table(metrics: dict[str, Any]) -> str:
    """The metrics by kind of defect, the hardest kind first."""
    kinds = sorted(metrics["by_defect"].items(), key=lambda item: item[1]["image_auroc"] or 0.0)
    if not kinds:
        return ""
    columns = [name for name in COLUMNS if name in metrics]  # only some data have all metrics
    heads = "".join(f'<th scope="col">{COLUMNS[name]}</th>' for name in columns)
    rows = "".join(_table_row(name, row, columns) for name, row in kinds)
    rows += _table_row("all", metrics, columns, "mean")
    explained = (name for name in columns if name in EXPLAINED)
    meanings = "".join(f"<li><b>{COLUMNS[name]}</b>: {EXPLAINED[name]}.</li>" for name in explained)
    return (
        f'<div class="table"><table aria-label="By kind of defect"><thead><tr><th scope="col">Kind of defect</th>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        f"<details><summary>What the columns mean</summary><ul>{meanings}</ul></details>"
    )


def _table_row(name: str, row: dict[str, Any], columns: Sequence[str], kind: str = "") -> str:
    cells = "".join(
        f"<td>{row[column] if column == 'n_defective' else _percent(row[column])}</td>" for column in columns
    )
    return f'<tr class="{kind}"><th scope="row">{html.escape(name)}</th>{cells}</tr>'


# --- filter and order ----------------------------------------------------------------------------------------


def _toolbar(evaluation: Evaluation, rows: Sequence[Row]) -> str:
    kinds = sorted({sample.defect for sample in evaluation.samples if sample.is_defective})
    options = "".join(f'<option value="truth:{html.escape(kind)}">{html.escape(kind)}</option>' for kind in kinds)
    n_all, n_shown = len(evaluation.samples), len(rows)
    n_wrong = sum(
        is_rejected != sample.is_defective
        for is_rejected, sample in zip(evaluation.is_rejected, evaluation.samples, strict=True)
    )
    n_wrong_shown = sum(judgement(row)[0] in ("missed", "false-alarm") for row in rows)
    heading = f"All {n_all} images"
    if n_shown < n_all:
        heading = (
            f"{n_shown} of {n_all} images: {n_wrong_shown} of {n_wrong} wrong verdicts, the worst first, and others"
        )
    return (
        f'<form class="toolbar" aria-label="Images" onsubmit="return false"><b>{heading}</b>'
        f'<label>Show <select id="show">{_options(SHOW)}'
        f'<optgroup label="kind of defect">{options}</optgroup></select></label>'
        f'<label>Order <select id="order">{_options(ORDER)}</select></label>'
        f'<output id="count" aria-live="polite"></output></form>'
    )


SHOW: Sequence[tuple[str, str]] = (
    ("", "all"),
    ("judgement:missed", "missed"),
    ("judgement:false-alarm", "false alarms"),
    ("judgement:found", "found"),
    ("judgement:passed", "correctly passed"),
)
ORDER: Sequence[tuple[str, str]] = (("", "wrong verdicts first"), ("high", "highest score"), ("low", "lowest score"))


def _options(choices: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<option value="{value}">{text}</option>' for value, text in choices)


_SCRIPT = """
const main = document.querySelector("main"), rows = [...main.querySelectorAll("section")];
const show = document.getElementById("show"), order = document.getElementById("order");
function update() {
  const [key, value] = show.value.split(/:(.*)/s), sign = { high: -1, low: 1 }[order.value] || 0;
  const sorted = sign ? [...rows].sort((a, b) => sign * (a.dataset.score - b.dataset.score)) : rows;
  let n = 0;
  for (const row of sorted) { row.hidden = key !== "" && row.dataset[key] !== value; n += !row.hidden; }
  main.append(...sorted);
  document.getElementById("count").textContent = n === rows.length ? "" : n + " shown";
}
show.onchange = order.onchange = update;
update();
"""

_STYLE = """
.toolbar { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem 1.25rem; margin: 1.25rem 0 .5rem; }
.toolbar select { font: inherit; padding: .3rem; color: var(--text); background: var(--card);
border: 1px solid var(--line); border-radius: 6px; }
section[hidden] { display: none; }
"""
