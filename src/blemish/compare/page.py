"""A comparison as one page for people: no network, no script, light and dark, wide and narrow."""

from __future__ import annotations

import html
from collections.abc import Sequence

from blemish.compare.comparison import Cell, Column, Comparison, Row, Table
from blemish.compare.text import METRIC_NAMES, difference, percent, seeds, spread
from blemish.metrics.names import MEANINGS
from blemish.report.page import PAGE, STYLE


def comparison_page(comparison: Comparison) -> str:
    """The page as HTML; everything that comes from outside is escaped."""
    columns = dict.fromkeys(column for table in comparison.tables for column in table.columns)
    ours = "; ".join(column.label for column in columns if not column.is_published)
    title = f"blemish compare: {ours}" if len(ours) < 60 else "blemish compare"
    sections = "\n".join(_section_html(comparison, protocol) for protocol in comparison.protocols)
    parts = {
        "title": html.escape(title),
        "style": STYLE + _STYLE,
        "intro": f"<p>{_intro(comparison, ours)}</p>",
        "figures": _list_html("Take note", comparison.warnings, "mind"),
        "legend": _legend_html(comparison),
        "rows": sections,
        "footer": _list_html("Where the published figures come from", comparison.sources),
    }
    return PAGE.format(**parts)


def _intro(comparison: Comparison, ours: str) -> str:
    has_published = any(column.is_published for table in comparison.tables for column in table.columns)
    beside = ", beside what the papers print" if has_published else ""
    return f"Measured here: {html.escape(ours)}{beside}. All figures in %, higher is better."


def _list_html(heading: str, lines: Sequence[str], name: str = "sources") -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<div class="{name}"><b>{heading}</b><ul>{items}</ul></div>'


def _legend_html(comparison: Comparison) -> str:
    columns = [column for table in comparison.tables for column in table.columns]
    cells = [cell for table in comparison.tables for row in table.rows for cell in row.cells if cell]
    lines = []
    if any(len(cell.seeds) > 1 for cell in cells):
        lines.append(
            "<b>98.9 ± 0.3</b>: mean and standard deviation over trainings whose settings differ in the seed alone."
        )
    if any(cell.seeds for cell in cells):
        lines.append("<b>1 seed</b>: a single training; how much another would differ is not known.")
    if any(column.is_published for column in columns):
        lines.append("<b>Published</b>: what the authors print, shaded; how they measured is told at the end.")
        lines.append("<b>Small, below a figure</b>: the difference, ours minus published, in percentage points.")
    lines.append("<b>Bold</b>: best of its row, as printed.")
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f"<details open><summary>How to read the tables</summary><ul>{items}</ul></details>"


def _section_html(comparison: Comparison, protocol: str) -> str:
    tables = "\n".join(_table_html(table) for table in comparison.tables if table.protocol == protocol)
    return f'<p class="protocol"><b>Protocol:</b> {html.escape(comparison.protocols[protocol])}</p>\n{tables}'


def _table_html(table: Table) -> str:
    heads = "".join(_head_html(column, table.n_seeds(column)) for column in table.columns)
    rows = "\n".join(_row_html(table, row) for row in table.rows)
    name, meaning = METRIC_NAMES[table.metric], MEANINGS[table.metric]
    return (
        f'<div class="name"><h2>{name}, %</h2><small>{meaning}</small></div>'
        f'<div class="table"><table aria-label="{name}">\n'
        f'<thead><tr><th scope="col">Data</th>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>'
    )


def _head_html(column: Column, n_seeds: int | None) -> str:
    label = column.label if column.is_published else f"{column.method} {column.recipe}"
    below = "by its authors' protocol" if column.is_published else column.variant
    words = [html.escape(word) for word in (below, seeds(n_seeds) if n_seeds else "") if word]
    small = "".join(f"<small>{word}</small>" for word in words)
    return f'<th scope="col"{_class(is_published=column.is_published)}>{html.escape(label)}{small}</th>'


def _row_html(table: Table, row: Row) -> str:
    cells = "".join(
        _cell_html(column, cell, with_seeds=not table.n_seeds(column))
        for column, cell in zip(table.columns, row.cells, strict=True)
    )
    label = html.escape(row.label).replace("_", "_<wbr>")
    return f'<tr{_class(is_mean=row.is_mean)}><th scope="row">{label}</th>{cells}</tr>'


def _cell_html(column: Column, cell: Cell | None, *, with_seeds: bool) -> str:
    if cell is None:
        return f"<td{_class(is_published=column.is_published)}>–</td>"
    value = percent(cell.mean_percent)
    shown = f"<b>{value}</b>" if cell.is_best else value
    below = [] if cell.difference_points is None else [difference(cell.difference_points)]
    below += [seeds(len(cell.seeds))] if with_seeds and cell.seeds else []
    small = f"<small>{' · '.join(below)}</small>" if below else ""
    return f"<td{_class(is_published=column.is_published)}>{shown}{spread(cell)}{small}</td>"


def _class(*, is_published: bool = False, is_mean: bool = False) -> str:
    name = "published" if is_published else "mean" if is_mean else ""
    return f' class="{name}"' if name else ""


_STYLE = """
.mind { padding: .6rem 1rem; background: var(--card); border-left: 5px solid var(--defect); overflow-wrap: anywhere; }
.sources { max-width: 60rem; overflow-wrap: anywhere; }
.protocol { margin: 1.5rem 0 0; max-width: 60rem; }
.name { margin-top: 1.25rem; }
.table { margin: .4rem 0 1.25rem; width: fit-content; min-width: min(100%, 34rem); max-width: 100%; overflow-x: auto;
background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { width: 100%; border-collapse: separate; border-spacing: 0; font-variant-numeric: tabular-nums; }
small { display: block; color: var(--dim); font-size: .8rem; font-weight: 400; }
th, td { padding: .35rem .75rem; text-align: right; vertical-align: top; white-space: nowrap; font-weight: 400; }
tbody > tr > * { border-top: 1px solid var(--line); }
thead th { font-weight: 600; white-space: normal; }
th:first-child { position: sticky; left: 0; min-width: 6.5rem; background: var(--card); text-align: left;
white-space: normal; }
td b { font-weight: 700; }
.published { background: var(--page); }
tbody > tr.mean > * { border-top: 2px solid var(--dim); }
@media (max-width: 760px) { th, td { padding: .3rem .5rem; font-size: .92rem; } }
"""
