"""The output of every study: figures as CSV and JSON, and one self-contained HTML page with charts."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blemish.files import write_text
from blemish.report import charts
from blemish.report.page import PAGE, STYLE, TABLE_STYLE, Figure, figures_html


def write_study(
    folder: Path, name: str, rows: Sequence[Mapping[str, Any]], record: Mapping[str, Any], page: str
) -> None:
    """Write ``<name>.csv``, ``.json`` and ``.html``, and print where they are.

    Parameters
    ----------
    folder : must exist.
    rows : rows of the CSV table, at least one, all with the same columns.
    record : content of the JSON file.
    page : HTML from ``study_page``.
    """
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / f"{name}.csv", table.getvalue())
    write_text(folder / f"{name}.json", json.dumps(record, indent=2) + "\n")
    write_text(folder / f"{name}.html", page)
    print(f"results in {folder}; look at {folder / name}.html")


def study_page(
    title: str,
    intro_html: str,
    figures: Sequence[Figure],
    charts_html: str,
    reading_html: str,
    rows_html: str = "",
    footer: str = "",
) -> str:
    """One page: introduction, figures, charts, how to read them, pictures.

    Arguments whose names end in ``html`` are trusted; all others are escaped here.
    """
    parts = {
        "title": html.escape(title),
        "style": STYLE + TABLE_STYLE + charts.STYLE + _STYLE,
        "intro": intro_html,
        "figures": figures_html(figures),
        "legend": f'<div class="charts">{charts_html}</div>{reading_html}',
        "rows": rows_html,
        "footer": html.escape(footer),
    }
    return PAGE.format(**parts)


def reading(heading: str, lines: Sequence[str]) -> str:
    """A list of remarks on how to read the charts; each line is trusted HTML."""
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f"<details open><summary>{html.escape(heading)}</summary><ul>{items}</ul></details>"


def percent(share: float) -> str:
    """A share as text in percent, with a no-break space before the sign."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


_STYLE = """
header h2 { margin: 1.5rem 0 0; font-size: 1.1rem; } header small { color: var(--dim); }
.charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
details li { max-width: 60rem; margin: .3rem 0; }
.about p { margin: .3rem 0; font-size: .88rem; }
.about + figure, .about ~ figure { max-width: 20rem; }
section.pictures { grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }
section.pictures h2 { grid-column: 1 / -1; margin: 0; font-size: .95rem; }
@media (max-width: 760px) { .about { grid-column: 1 / -1; } }
"""
