"""A page for people: what was inspected, what the model made of it, and the verdict. One file, no network."""

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
from blemish.report.overlay import as_jpeg, draw_map, draw_outlines, heat_colours, score_texts

if TYPE_CHECKING:
    from blemish.detector import Finding

LONG_SIDE_PX, WIDE_PX = 320, 1200
"""Pictures on the page are shrunk or enlarged to this; one more than three times as wide as high gets a line."""

HEADINGS = {"reconstruction": "What the model thinks it should look like"}
"""Headings for a method's own pictures; others are shown under their own names."""

LEGEND = {
    "Photograph": "what was inspected.",
    HEADINGS["reconstruction"]: "the same image without the defect, as the model imagines it.",
    "Anomaly map": "how unusual each spot is; bright is unusual, uncoloured is normal. All images share one scale.",
    "Outline": "in yellow, what is unusual in an image that is judged defective.",
}
"""What the headings mean, for a reader who meets them for the first time."""


@dataclass(frozen=True)
class Figure:
    """A summary figure: what is counted, the count, and a sentence about it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One inspected image on the page.

    Attributes
    ----------
    name : what the image is called.
    score, threshold, is_defective : the verdict.
    pictures : heading and (H, W, 3) uint8 RGB, in the order they are shown.
    truth : what is known of the part: "good", the kind of defect, or None.
    note : a sentence on the verdict.
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
    note: str = "",
) -> Row:
    """The row of one inspected image: photograph, the method's own pictures, anomaly map, outline.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB
    finding : of this image.
    pixel_threshold : of the anomaly map, see `overlay.draw_map`.
    truth, note : see `Row`.
    """
    photograph = _fitted(image)
    # Any share of a pixel counts when a mask is shrunk: a hairline must not vanish.
    level = 0.5 if photograph.size > image.size else 0.0
    mask = _fitted(finding.mask.astype(np.float32)) > level
    pictures = [("Photograph", photograph)]
    pictures += [(HEADINGS.get(one, one), _fitted(picture)) for one, picture in finding.explanation.items()]
    pictures += [("Anomaly map", draw_map(photograph, _fitted(finding.map), pixel_threshold))]
    pictures += [("Outline", draw_outlines(photograph, mask))]
    return Row(name, finding.score, finding.threshold, finding.is_defective, tuple(pictures), truth, note)


def _fitted(picture: NDArray[Any]) -> NDArray[Any]:
    """A picture, map or mask at the size that it has on the page."""
    height, width = picture.shape[:2]
    factor = (WIDE_PX if _is_wide(picture) else LONG_SIDE_PX) / max(height, width)
    size_wh = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR))


def _is_wide(picture: NDArray[Any]) -> bool:
    return bool(picture.shape[1] > 3 * picture.shape[0])


def write_page(
    path: Path, title: str, intro_html: str, rows: Iterable[Row], *, figures: Sequence[Figure] = (), footer: str = ""
) -> None:
    """Write one HTML file that needs nothing else: styles and pictures are inside, and there is no script.

    Parameters
    ----------
    path : where to; its folder exists.
    title : heading and window title.
    intro_html : what was trained on what, as HTML that is trusted; everything else is escaped.
    rows : one for each image, in the order of the page.
    figures : the summary above the rows.
    footer : a last sentence.

    Raises
    ------
    BlemishError
        If the file cannot be written.
    """
    shown = list(rows)
    figures_html = "".join(
        f"<div><dt>{html.escape(one.label)}</dt><dd>{html.escape(one.value)}</dd><p>{html.escape(one.note)}</p></div>"
        for one in figures
    )
    parts = {
        "title": html.escape(title),
        "style": _STYLE,
        "intro": intro_html,
        "figures": f"<dl>{figures_html}</dl>" if figures else "",
        "legend": _legend_html(shown),
        "rows": "\n".join(_row_html(row) for row in shown),
        "footer": html.escape(footer),
    }
    write_text(path, _PAGE.format(**parts))


def _legend_html(rows: Sequence[Row]) -> str:
    headings = {heading for row in rows for heading, _ in row.pictures}
    lines = [f"<li><b>{heading}</b>: {meaning}</li>" for heading, meaning in LEGEND.items() if heading in headings]
    colours = heat_colours(np.linspace(0, 1, 9, dtype=np.float32)).tolist()
    gradient = ", ".join(f"rgb({r} {g} {b})" for r, g, b in colours)
    return _LEGEND.format(lines="\n".join(lines), gradient=gradient)


def _row_html(row: Row) -> str:
    name, truth = html.escape(row.name).replace("/", "/<wbr>"), html.escape(row.truth or "")
    score, threshold = (html.escape(text) for text in score_texts(row.score, row.threshold))
    verdict, relation = ("DEFECT", "above") if row.is_defective else ("PASS", "not above")
    pictures = "".join(_figure_html(row.name, heading, picture) for heading, picture in row.pictures)
    known = f"<p>True label: {truth}. {_judgement(row)}</p>" if row.truth else ""
    note = f"<p>{html.escape(row.note)}</p>" if row.note else ""
    return (
        f'<section><div class="verdict {verdict.lower()}"><h2>{name}</h2><strong>{verdict}</strong>'
        f"<p>Score {score}, {relation} the limit {threshold}.</p>{known}{note}</div>{pictures}</section>"
    )


def _figure_html(name: str, heading: str, picture: NDArray[np.uint8]) -> str:
    heading, alt = html.escape(heading), html.escape(f"{heading} of {name}")
    shape = "wide" if _is_wide(picture) else "narrow"
    size = f'width="{picture.shape[1]}" height="{picture.shape[0]}"'
    img = f'<img src="{_data_uri(picture)}" alt="{alt}" {size}>'
    return f'<figure class="{shape}">{img}<figcaption>{heading}</figcaption></figure>'


def _judgement(row: Row) -> str:
    if row.is_defective:
        return "<b>False alarm.</b>" if row.truth == "good" else "Found."
    return "Rightly passed." if row.truth == "good" else "<b>Missed.</b>"


def _data_uri(picture: NDArray[np.uint8]) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(as_jpeg(picture)).decode()}"


_LEGEND = """<details open><summary>How to read a row</summary><ul>
{lines}
<li><b>Verdict</b>: one score for the whole image. DEFECT if the score is above the limit, else PASS.</li></ul>
<p class="scale"><span>Anomaly map: normal</span><i style="background: linear-gradient(to right, {gradient})"></i>
<span>very unusual</span></p></details>"""

_STYLE = """:root { color-scheme: light dark; --text: #1b1b1b; --dim: #595959; --page: #f5f5f3; --card: #fff;
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

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body><header><h1>{title}</h1>{intro}{figures}{legend}</header>
<main>
{rows}
</main><footer>{footer}</footer></body></html>
"""
