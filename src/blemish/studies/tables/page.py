"""A table of a paper beside ours: one self-contained page, and Markdown."""

from __future__ import annotations

import html
from collections.abc import Sequence

from blemish.compare.papers import sources
from blemish.compare.text import markdown
from blemish.studies.output import study_page
from blemish.studies.tables.base import PaperTable
from blemish.studies.tables.text import NOTHING, Sheet

READING = {
    "paper": "<b>Paper</b>: the figure that it prints.",
    "Δ": "<b>Δ</b>: ours minus the paper's, in percentage points, where both are measured alike.",
    "same sign": "<b>Same sign</b>: whether ours differs from the variant of reference in the same direction as the "
    "paper's does.",
    "±": "<b>±</b>: standard deviation over seeds.",
}
"""What a word or sign on the page means."""


def table_page(
    table: PaperTable,
    sheets: Sequence[Sheet],
    deviating: Sequence[str],
    state: str,
    charts_html: str = "",
    rows_html: str = "",
) -> str:
    """The page as HTML.

    Parameters
    ----------
    deviating : what is not as in the paper.
    state : how many cells are done, in words.
    charts_html, rows_html : trusted markup of charts, and of pictures below the tables.
    """
    intro = f"<p>{html.escape(heading(table))}. {html.escape(state)}.</p>{deviations_html(deviating)}"
    shown = "\n".join(map(sheet_html, sheets))
    words = str([(sheet.heads, sheet.lines) for sheet in sheets])
    reading = " ".join(["Figures are in percent.", *(text for word, text in READING.items() if word in words)])
    return study_page(title(table), intro, (), charts_html, f"<p>{reading}</p>{shown}", rows_html, reference(table))


def title(table: PaperTable) -> str:
    """Such as "DRÆM, table 3: Ablation"."""
    return f"{sources()[table.paper].method}, {table.printed}: {table.title}"


def heading(table: PaperTable) -> str:
    """A sentence about how it is measured."""
    return f"Measured on {table.dataset.name} under protocol {table.protocol}"


def reference(table: PaperTable) -> str:
    """Where the paper's figures come from."""
    source = sources()[table.paper]
    where = f"{source.authors}: {source.title}, {source.published}, {source.url}"
    return f"{where}; measured by its authors: {source.protocol}."


def deviations_html(lines: Sequence[str]) -> str:
    """What deviates from the paper, as a list."""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<details open><summary>What is not as in the paper</summary><ul>{items}</ul></details>" if lines else ""


def sheet_html(sheet: Sheet) -> str:
    """One sheet, with its heading."""
    heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in sheet.heads)
    first_mean = len(sheet.lines) - sheet.n_means
    lines = []
    for number, (name, *cells) in enumerate(sheet.lines):
        texts = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        kind = ' class="mean"' if number >= first_mean else ""
        lines.append(f'<tr{kind}><th scope="row">{html.escape(name)}</th>{texts}</tr>')
    return (
        f"<h2>{html.escape(sheet.title)}</h2><small>{html.escape(sheet.meaning)}</small>"
        f'<div class="table"><table aria-label="{html.escape(sheet.title)}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def table_markdown(table: PaperTable, sheets: Sequence[Sheet], deviating: Sequence[str], state: str) -> str:
    """The same as Markdown for GitHub."""
    lines = [f"# {markdown(title(table))}", "", f"{markdown(heading(table))}. {markdown(state)}.", ""]
    for sheet in sheets:
        lines += [f"**{markdown(sheet.title)}** ({markdown(sheet.meaning)})", ""]
        lines.append("| " + " | ".join(markdown(head) or " " for head in sheet.heads) + " |")
        lines.append("|---" + "|---:" * (len(sheet.heads) - 1) + "|")
        lines += ["| " + " | ".join(markdown(cell) or NOTHING for cell in line) + " |" for line in sheet.lines]
        lines.append("")
    if deviating:
        lines += ["What is not as in the paper:", "", *(f"- {markdown(line)}" for line in deviating), ""]
    return "\n".join([*lines, markdown(reference(table))]) + "\n"
