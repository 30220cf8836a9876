"""A comparison as one self-contained HTML page: no network, no script; light or dark, wide or narrow screens."""

from __future__ import annotations

import html
from collections.abc import Sequence

from blemish.compare.comparison import Cell, Column, Comparison, Row, Table
from blemish.compare.text import METRIC_NAMES, difference, percent, seeds, spread
from blemish.metrics.names import MEANINGS
from blemish.report.page import PAGE, STYLE


def comparison_page(comparison: Comparison) -> str:
    """The page as HTML. All names and texts that come from files are escaped."""
    columns = dict.fromkeys(column for table in comparison.tables for column in table.columns)
    ours = "; ".join(column.label for column in columns if not column.is_published)
    title = f"blemish compare: {ours}" if len(ours) < 60 else "blemish compare"
    sections = "\n".join(_section_html(comparison, protocol) for protocol in comparison.protocols)
    parts = {
        "title": html.escape(title),
        "style": STYLE + _STYLE,
        "intro": f"<p>{_intro(comparison, ours)}</p>",
        "figures": _list_html("Warnings", comparison.warnings, "warnings"),
        "legend": _legend_html(comparison),
        "rows": sections,
        "footer": _list_html("Where the published figures come from", comparison.sources),
    }
    return PAGE.format(**parts)


def _intro(comparison: Comparison, ours: str) -> str:
    has_published = any(column.is_published for table in comparison.tables for column in table.columns)
    published = ", next to the figures published in the papers" if has_published else ""
    return f"Measured here: {html.escape(ours)}{published}. All figures are in %; higher is better."


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
            "<b>98.9 ± 0.3</b>: mean and standard deviation over trainings that differ only in their random seed."
        )
    if any(cell.seeds for cell in cells):
        lines.append("<b>1 seed</b>: a single training, so the variation between trainings is unknown.")
    if any(column.is_published for column in columns):
        lines.append(
            "<b>Published</b> (shaded): the figures in the paper. The end of the page says how they were measured."
        )
        lines.append("<b>Small, below a figure</b>: the difference in percentage points, ours minus published.")
    lines.append("<b>Bold</b>: the best figure of its row, as printed.")
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
    subtitle = "measured by its authors" if column.is_published else column.variant
    lines = [html.escape(line) for line in (subtitle, seeds(n_seeds) if n_seeds else "") if line]
    small = "".join(f"<small>{line}</small>" for line in lines)
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
    value_html = f"<b>{value}</b>" if cell.is_best else value
    notes = [] if cell.difference_points is None else [difference(cell.difference_points)]
    notes += [seeds(len(cell.seeds))] if with_seeds and cell.seeds else []
    small = f"<small>{' · '.join(notes)}</small>" if notes else ""
    return f"<td{_class(is_published=column.is_published)}>{value_html}{spread(cell)}{small}</td>"


def _class(*, is_published: bool = False, is_mean: bool = False) -> str:
    name = "published" if is_published else "mean" if is_mean else ""
    return f' class="{name}"' if name else ""


_STYLE = """
.warnings { padding: .6rem 1rem; background: var(--card); border-left: 5px solid var(--defect);
overflow-wrap: anywhere; }
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
