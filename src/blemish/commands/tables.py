"""``blemish study table``: a table of a paper, trained, evaluated and shown beside the paper's figures."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from blemish.commands.assignments import assigned
from blemish.commands.fleet import print_cost, run_cells
from blemish.commands.measurements import measurement_run
from blemish.commands.study import orthogonality_run
from blemish.errors import BlemishError, print_notices
from blemish.files import make_folder, write_text
from blemish.fleet.cells import DETECTOR, SUMMARY
from blemish.fleet.grid import check_folder, plan_of
from blemish.fleet.plan import read_plan
from blemish.settings import Device
from blemish.studies.orthogonality_page import orthogonality_charts
from blemish.studies.output import write_study
from blemish.studies.tables import MEASUREMENTS, TABLES, table_named
from blemish.studies.tables.base import PaperTable
from blemish.studies.tables.charts import charts_html
from blemish.studies.tables.page import table_markdown, table_page
from blemish.studies.tables.pictures import pictures_html
from blemish.studies.tables.plan import Request, categories_of, cell_name, cells_of, merged, wanted
from blemish.studies.tables.results import deviations, figures_of, orderings_of, rows
from blemish.studies.tables.text import sheets_of


def table_run(
    name: str,
    data: Sequence[Path],
    out: Path,
    *,
    recipe: str,
    seeds: Sequence[int],
    textures: Path | None,
    other_textures: Path | None,
    n_defects: Sequence[int],
    device: Device,
    assignments: Sequence[str],
    only: Sequence[str] | None,
    jobs: int | None,
    ray: str | None,
    dry_run: bool,
) -> None:
    """Train and evaluate what a table needs and write ``<name>.html``, ``.md``, ``.csv`` and ``.json``.

    Raises
    ------
    BlemishError
        Before anything is trained, if something is wrong; at the end, if a training has failed.
    """
    if name in MEASUREMENTS:
        measurement_run(name, data, out, device=device, seed=seeds[0])
        return
    table = table_named(name)
    if not data:
        raise BlemishError(f"{name}: no data; give folders of {table.dataset.name}")
    if n_defects:
        table = with_defects(table, n_defects)
    request = Request(
        table, categories_of(table, data), recipe, tuple(seeds), textures, other_textures, device,
        assigned({}, assignments), tuple(only or ()),
    )  # fmt: skip
    cells, left_out = cells_of(request)
    names = wanted(request, cells)
    if not names:
        raise BlemishError(f"{name}: nothing is left to train; {'; '.join(left_out) or 'check --only'}")
    earlier = read_plan(out) if out.is_dir() else None
    plan = merged(earlier.cells if earlier else (), cells, out)
    print_notices(left_out)
    if dry_run:
        print_cost(plan, out, jobs or 1, names)
        return
    check_folder(plan_of(plan, names), out)  # figures of another plan must not be shown as those of this one
    make_folder(out)
    try:
        run_cells(plan, out, jobs=jobs, ray=ray, only=names)
    finally:
        if read_plan(out) is not None:  # also after Ctrl-C or a failure: what is done is shown
            _write(request, out, left_out)


def _write(request: Request, out: Path, left_out: Sequence[str]) -> None:
    table = request.table
    plan = read_plan(out)
    assert plan is not None
    names = {cell.name for cell in cells_of(request)[0]}
    states = [state for state in plan.states(out) if state.name in names]
    unfinished = [f"{state.name} has failed: {state.reason}" for state in states if state.state == "failed"]
    if left := [state.name for state in states if state.state in ("left", "running")]:
        unfinished.append(f"{len(left)} trainings are not done yet: {', '.join(left)}")
    n_done = sum(state.state == "done" for state in states)
    state_text = f"{n_done} of {len(states)} trainings done, with recipe {request.recipe}"
    figures = figures_of(request, out)
    orderings = orderings_of(table, figures)
    sheets = sheets_of(table, figures, orderings)
    deviating = deviations(request, left_out, unfinished)
    write_text(out / f"{table.name}.md", table_markdown(table, sheets, deviating, state_text))
    record = {
        "table": table.name, "paper": table.paper, "printed": table.printed, "recipe": request.recipe,
        "seeds": list(request.seeds), "protocol": table.protocol, "settings": dict(request.settings),
        "categories": [{**asdict(category), "path": category.path.name} for category in request.categories],
        "trainings": [_training(out / state.name) for state in states if state.state == "done"],
        "deviations": deviating, "figures": rows(figures),
        "orderings": [
            {"variant": one.variant.key, "metric": one.metric, "ours_points": one.ours, "paper_points": one.published}
            for one in orderings
        ],
    }  # fmt: skip
    charts = charts_html(table, figures) or _orthogonality(request, out)
    page = table_page(table, sheets, deviating, state_text, charts, pictures_html(request, out))
    write_study(out, table.name, rows(figures), json.loads(json.dumps(record)), page)


def _training(folder: Path) -> dict[str, Any]:
    """What is known of a finished training."""
    summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    names = ("iterations", "training_s", "images_per_s", "n_train", "textures", "device", "precision", "versions")
    return {"name": folder.name, **{name: summary[name] for name in names}}


def _orthogonality(request: Request, out: Path) -> str:
    """Figure 9 of SSAE: charts of each detector of the first seed that is trained; "" for other tables."""
    variant, charts = request.table.variants[0], ""
    if request.table.name != "ssae-figure-9":
        return charts
    for category in request.categories:
        detector = out / cell_name(category, variant, request.seeds[0]) / DETECTOR
        if detector.exists():
            folder = f"{category.name}-orthogonality"
            results = orthogonality_run(
                detector, category.path, out / folder,
                n_images=100, n_widths=12, repeats=3, seed=request.seeds[0], device=request.device, layout="auto",
            )  # fmt: skip
            link = f'<a href="{folder}/orthogonality.html">how to read the charts, and pictures</a>'
            charts += f"{orthogonality_charts(results)}<p>{html.escape(category.name)}: {link}</p>"
    return charts


def with_defects(table: PaperTable, numbers: Sequence[int]) -> PaperTable:
    """The table with other numbers of real defects to learn from.

    Raises
    ------
    BlemishError
        If it does not learn from real defects.
    """
    pattern = next((variant for variant in table.variants if variant.needs == "defects"), None)
    if pattern is None:
        raise BlemishError(f"--n-defects: {table.name} does not learn from real defects; leave it out")
    if min(numbers) < 1 or len({*numbers}) < len(numbers):
        raise BlemishError(f"--n-defects {' '.join(map(str, numbers))}: give each number once, from 1 on")
    known = {variant.options.get("n_defects"): variant for variant in table.variants}
    variants = [variant for variant in table.variants if variant.needs != "defects"]
    for n in numbers:
        new = replace(
            pattern, key=f"dsr-{n}-defects", label=f"N = {n}", published=("", ""),
            options={**pattern.options, "n_defects": n},
        )  # fmt: skip
        variants.append(known.get(n, new))
    return replace(table, variants=tuple(variants))


def list_tables() -> None:
    """Print the names of all tables and figures, and what they are."""
    width = max(map(len, [*TABLES, *MEASUREMENTS]))
    for table in TABLES.values():
        metrics = ", ".join(table.metrics)
        print(
            f"{table.name:{width}}  {table.title} ({table.dataset.name}; {metrics}; {len(table.variants)} variants)"
        )
        if len(table.variants) > 1:
            print(f"{'':{width}}  --only {' '.join(variant.key for variant in table.variants)}")
    for name, text in MEASUREMENTS.items():
        print(f"{name:{width}}  {text}")
