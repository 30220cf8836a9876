"""A self-contained HTML page: the inspected images, the pictures of the model, and the verdicts. No network."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.files import write_text
from blemish.report.overlay import as_jpeg, draw_hits_and_misses, draw_map, draw_outlines, heat_colours, score_texts

if TYPE_CHECKING:
    from blemish.detector import Finding

LONG_SIDE_PX = 320
"""Long side of pictures on the page. A picture more than three times as wide as high gets a line of its own."""
WIDE = 3.75
"""Wide pictures are longer by this factor."""

HEADINGS = {
    "reconstruction": "What the model thinks it should look like",
    "amplified": "Model output with the defect amplified",
}
"""Headings of the pictures of a method; pictures without a heading here are shown under their own names."""

LEGEND = {
    "Photograph": "the inspected image.",
    HEADINGS["reconstruction"]: "the model's reconstruction of the image without the defect.",
    HEADINGS["amplified"]: "the model's output, in which unusual areas are changed even more on purpose.",
    "object-specific": "the image as the decoder sees it that only knows good parts.",
    "general": "the image as the decoder sees it that knows any picture; what differs from the other is unusual.",
    "map": "how unusual each pixel is to one of the joined methods: mid-grey is what few good images reach.",
    "Anomaly map": "how unusual each pixel is: bright is unusual, grey is normal. All images share one scale.",
    "Outline": "unusual areas are outlined in yellow if the image is judged defective.",
    "Found and missed": "the predicted mask compared with the true mask: green is found, yellow is marked but "
    "good, pink is missed.",
}
"""What the headings mean, for the legend of the page. Those of a joined detector have the name of a part before."""


@dataclass(frozen=True)
class Figure:
    """A summary figure: its label, its value, and a sentence of explanation."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One inspected image on the page.

    Attributes
    ----------
    name : of the image.
    score, threshold, is_defective : the verdict.
    pictures : heading and (H, W, 3) uint8 RGB, in the order in which they are shown.
    truth : the true label: "good", the kind of defect, or None if it is unknown.
    note : a sentence about the verdict.
    """

    name: str
    score: float
    threshold: float
    is_defective: bool
    pictures: tuple[tuple[str, NDArray[np.uint8]], ...]
    truth: str | None = None
    note: str = ""


def make_row(
    name: str,
    image: NDArray[np.uint8],
    finding: Finding,
    pixel_threshold: float,
    *,
    truth: str | None = None,
    true_mask: NDArray[np.bool_] | None = None,
    note: str = "",
    long_side_px: int = LONG_SIDE_PX,
) -> Row:
    """The row of one inspected image: photograph, pictures of the method, anomaly map, outline.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB
    finding : the finding for this image.
    pixel_threshold : of the anomaly map, see `overlay.draw_map`.
    truth, note : see `Row`; the reasons of a photograph unlike the good images are put before the note.
    true_mask : (H, W) bool; if given, the predicted mask is compared with it in place of the outline.
    long_side_px : of the pictures.
    """

    def fitted_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        # When a mask is shrunk, any share of a pixel counts, so that a hairline does not vanish.
        share = fitted(mask.astype(np.float32), long_side_px)
        return np.asarray(share > (0.5 if photograph.size > image.size else 0.0))

    photograph = fitted(image, long_side_px)
    pictures = [("Photograph", photograph)]
    pictures += [
        (HEADINGS.get(key, key), fitted(picture, long_side_px)) for key, picture in finding.explanation.items()
    ]
    pictures += [("Anomaly map", draw_map(photograph, fitted(finding.map, long_side_px), pixel_threshold))]
    if true_mask is None:
        pictures += [("Outline", draw_outlines(photograph, fitted_mask(finding.mask)))]
    else:
        comparison = draw_hits_and_misses(photograph, fitted_mask(finding.mask), fitted_mask(true_mask))
        pictures += [("Found and missed", comparison)]
    if finding.too_small:
        note = f"It is good, as it has {finding.too_small}. {note}".strip()
    if finding.unlike:
        note = f"Unlike the good images: {'; '.join(finding.unlike)}. {note}".strip()
    return Row(name, finding.score, finding.threshold, finding.is_defective, tuple(pictures), truth, note)


def fitted(picture: NDArray[Any], long_side_px: int) -> NDArray[Any]:
    """A picture, map or mask, resized to its size on the page."""
    height, width = picture.shape[:2]
    factor = long_side_px * (WIDE if _is_wide(picture) else 1.0) / max(height, width)
    size_wh = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR))


def _is_wide(picture: NDArray[Any]) -> bool:
    return bool(picture.shape[1] > 3 * picture.shape[0])


def write_page(
    path: Path, title: str, intro_html: str, rows: Iterable[Row], *, figures: Sequence[Figure] = (), footer: str = ""
) -> None:
    """Write one self-contained HTML file: styles and pictures are inside, and there is no script.

    Parameters
    ----------
    path : of the HTML file; its folder exists.
    title : heading and window title.
    intro_html : the introduction as trusted HTML; everything else is escaped.
    rows : one for each image, in the order of the page.
    figures : the summary above the rows.
    footer : a last sentence.

    Raises
    ------
    BlemishError
        If the file cannot be written.
    """
    shown = list(rows)
    parts = {
        "title": html.escape(title),
        "style": STYLE,
        "intro": intro_html,
        "figures": figures_html(figures),
        "legend": legend_html(shown),
        "rows": "\n".join(map(row_html, shown)),
        "footer": html.escape(footer),
    }
    write_text(path, PAGE.format(**parts))


def figures_html(figures: Sequence[Figure]) -> str:
    """The summary figures, side by side."""
    items = "".join(
        f"<div><dt>{html.escape(figure.label)}</dt><dd>{html.escape(figure.value)}</dd>"
        f"<p>{html.escape(figure.note)}</p></div>"
        for figure in figures
    )
    return f"<dl>{items}</dl>" if items else ""


def legend_html(rows: Sequence[Row]) -> str:
    """The legend: what the headings in these rows mean."""
    by_key: dict[str, dict[str, None]] = {}
    for heading in (heading for row in rows for heading, _ in row.pictures):
        last = heading.split(" ")[-1]
        by_key.setdefault(heading if heading in LEGEND else HEADINGS.get(last, last), {})[heading] = None
    lines = [
        f"<li><b>{html.escape(', '.join(by_key[key]))}</b>: {meaning}</li>"
        for key, meaning in LEGEND.items() if key in by_key
    ]  # fmt: skip
    colours = heat_colours(np.linspace(0, 1, 9, dtype=np.float32)).tolist()
    gradient = ", ".join(f"rgb({r} {g} {b})" for r, g, b in colours)
    return _LEGEND.format(lines="\n".join(lines), gradient=gradient)


def row_html(row: Row, quality: int = 90) -> str:
    """One row with its pictures; its `data-` attributes hold score, true label and judgement for filters."""
    name, truth = html.escape(row.name).replace("/", "/<wbr>"), html.escape(row.truth or "")
    score, threshold = (html.escape(text) for text in score_texts(row.score, row.threshold))
    verdict, relation = "DEFECT" if row.is_defective else "PASS", "" if row.score > row.threshold else "not "
    pictures = "".join(picture_html(row.name, heading, picture, quality) for heading, picture in row.pictures)
    label = f"<p>True label: {truth}. {judgement(row)[1]}</p>" if row.truth else ""
    note = f"<p>{html.escape(row.note)}</p>" if row.note else ""
    return (
        f'<section data-score="{row.score:.9g}" data-truth="{truth}" data-judgement="{judgement(row)[0]}">'
        f'<div class="verdict {verdict.lower()}"><h2>{name}</h2><strong>{verdict}</strong>'
        f"<p>Score {score}, {relation}above the limit {threshold}.</p>{label}{note}</div>{pictures}</section>"
    )


def picture_html(name: str, heading: str, picture: NDArray[np.uint8], quality: int = 90) -> str:
    """An (H, W, 3) uint8 RGB picture of the image ``name``, with its heading below it."""
    heading, alt = html.escape(heading), html.escape(f"{heading} of {name}")
    shape = "wide" if _is_wide(picture) else "narrow"
    size = f'width="{picture.shape[1]}" height="{picture.shape[0]}"'
    img = f'<img src="{_data_uri(picture, quality)}" alt="{alt}" {size}>'
    return f'<figure class="{shape}">{img}<figcaption>{heading}</figcaption></figure>'


def judgement(row: Row) -> tuple[str, str]:
    """Whether a verdict is right: "found", "missed", "false-alarm" or "passed" for filters, and the same as HTML.

    Both are empty if the true label is unknown.
    """
    if not row.truth:
        return "", ""
    if row.is_defective:
        return ("false-alarm", "<b>False alarm.</b>") if row.truth == "good" else ("found", "Found.")
    return ("passed", "Correctly passed.") if row.truth == "good" else ("missed", "<b>Missed.</b>")


def _data_uri(picture: NDArray[np.uint8], quality: int) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(as_jpeg(picture, quality)).decode()}"


_LEGEND = """<details open><summary>How to read a row</summary><ul>
{lines}
<li><b>Verdict</b>: one score for the whole image. DEFECT if the score is above the limit, else PASS.</li></ul>
<p class="scale"><span>Anomaly map: normal</span><i style="background: linear-gradient(to right, {gradient})"></i>
<span>very unusual</span></p></details>"""

STYLE = """:root { color-scheme: light dark; --text: #1b1b1b; --dim: #595959; --page: #f5f5f3; --card: #fff;
--line: #d8d8d4; --defect: #a81e06; --pass: #005c78; }
@media (prefers-color-scheme: dark) { :root { --text: #ececea; --dim: #a9a9a5; --page: #161616; --card: #212121;
--line: #3a3a38; --defect: #ff8a70; --pass: #6cc7e6; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 1rem; background: var(--page); color: var(--text);
font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: .5rem 0; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 0; font-size: .95rem; font-weight: 600; overflow-wrap: anywhere; }
header > p { max-width: 46rem; }
dl { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; }
dl > div, details, section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
dl > div { flex: 1 1 14rem; padding: .75rem 1rem; }
dt { color: var(--dim); font-size: .9rem; }
dd { margin: 0; font-size: 1.6rem; font-weight: 600; line-height: 1.2; }
dl p { margin: .25rem 0 0; color: var(--dim); font-size: .85rem; }
details { margin: 1rem 0; padding: .6rem 1rem; font-size: .92rem; }
summary { cursor: pointer; font-weight: 600; }
ul { margin: .5rem 0; padding-left: 1.2rem; }
.scale { display: flex; align-items: center; gap: .5rem; max-width: 30rem; margin: .5rem 0; font-size: .85rem; }
.scale i { flex: 1; height: .8rem; border-radius: 3px; }
section { display: grid; grid-template-columns: 13.5rem repeat(auto-fit, minmax(8rem, 1fr)); gap: .75rem;
margin: .75rem 0; padding: .75rem; }
.verdict { padding-left: .75rem; border-left: 5px solid; }
.verdict strong { font-size: 1.25rem; letter-spacing: .03em; }
.verdict p { margin: .2rem 0; font-size: .88rem; }
.verdict.defect { border-color: var(--defect); } .verdict.defect strong { color: var(--defect); }
.verdict.pass { border-color: var(--pass); } .verdict.pass strong { color: var(--pass); }
figure { margin: 0; }
figcaption { margin-top: .3rem; color: var(--dim); font-size: .8rem; line-height: 1.3; }
img { display: block; width: 100%; height: auto; max-height: 26rem; object-fit: contain; border-radius: 4px; }
.wide { grid-column: 1 / -1; }
footer { color: var(--dim); font-size: .85rem; margin: 1.5rem 0; }
@media (max-width: 760px) { section { grid-template-columns: 1fr 1fr; } .verdict { grid-column: 1 / -1; } }"""

TABLE_STYLE = """
.table { margin: 1rem 0 0; max-width: 100%; overflow-x: auto; background: var(--card); border: 1px solid var(--line);
border-radius: 8px; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .35rem .75rem; text-align: right; font-weight: 400; white-space: nowrap; }
th:first-child { position: sticky; left: 0; background: var(--card); text-align: left; }
thead th { font-weight: 600; white-space: normal; }
tbody > tr > * { border-top: 1px solid var(--line); } tbody > tr.mean > * { font-weight: 600; }
"""
"""Styles of `<div class="table"><table>`, for pages with a table."""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><header><h1>{title}</h1>{intro}{figures}{legend}</header>
<main>
{rows}
</main><footer>{footer}</footer></body></html>
"""
