"""Generate the tables of figures in ``README.md`` and ``docs/results.md`` from the files in ``results/``.

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``; everything else on a page is written by hand.
``accuracy.py`` updates the pages, and a test compares them with the files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from blemish.compare.papers import named_test_set, paper_figure, sources
from blemish.metrics.names import TITLES
from machine import RESULTS, table

REPOSITORY = Path(__file__).parents[1]
PAGES = (REPOSITORY / "README.md", REPOSITORY / "docs" / "results.md")
METHODS = ("draem", "dsr", "ssae")
DATA = {"bottle": "MVTec AD bottle", "pill": "MVTec AD pill", "magnetic-tile": "magnetic tile (700 good)"}
PAPERS_METRICS = ("image_auroc", "pixel_auroc", "pixel_ap")
Rows = Sequence[Mapping[str, Any]]


def update_pages() -> list[Path]:
    """Write the tables of all pages again; returns the pages that changed."""
    changed = []
    for page in PAGES:
        text = page.read_text()
        if (new := with_tables(text)) != text:
            page.write_text(new)
            changed.append(page)
    return changed


def with_tables(page: str) -> str:
    """The text of a page with its tables generated from the current results."""
    return re.sub(
        r"(<!-- table (\w+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}\n{TABLES[match[2]]()}\n\n{match[3]}",
        page,
        flags=re.DOTALL,
    )


def headline() -> str:
    """Image AUROC and pixel AP of recipe `small`: one row per dataset, one column per method."""
    rows = []
    for data, title in DATA.items():
        cells = {
            method_title(method): f"{average('image_auroc', runs):.3f}, {average('pixel_ap', runs):.3f}"
            for method in METHODS
            for runs in [runs_of(method, data)]
        }
        rows.append({"image AUROC, pixel AP": title, **cells})
    return table(rows)


def accuracy() -> str:
    """Means over seeds of recipe `small`, next to the papers' full networks."""
    rows = []
    for data, title in DATA.items():
        for method in METHODS:
            runs = runs_of(method, data)
            rows.append(
                {"data": title, "method": method_title(method), "seeds": len(runs)}
                | {name: f"{average(metric, runs):.3f}" for metric, name in TITLES.items()}
                | {
                    "good ones rejected": f"{average('false_rejects', runs):.1%}",
                    "defects found": f"{average('found', runs):.1%}",
                    "steps": runs[0]["iterations"],
                    "minutes on one core": round(average("training_s", runs) / 60),
                    "commits": ", ".join(dict.fromkeys(run["commit"] for run in runs)),
                    "the paper's full network": published(method, data),
                }
            )
    return table(rows)


def image_scores() -> str:
    """SSAE's image AUROC by the maximum of the heatmap and by the paper's sum."""
    rows = []
    for data, title in DATA.items():
        runs = runs_of("ssae", data)
        scores = {"maximum": "image_auroc_max", "sum (the paper's)": "image_auroc_sum"}
        rows.append({"data": title} | {name: f"{average(key, runs):.3f}" for name, key in scores.items()})
    return table(rows)


def real_defects() -> str:
    """DSR `small` trained with N real defects, means over seeds."""
    rows = read("supervised-dsr")["rows"]
    names = ("image_ap", "pixel_ap", "image_auroc", "pixel_auroc")
    numbers = dict.fromkeys(row["N"] for row in rows)
    groups = {number: [row for row in rows if row["N"] == number] for number in numbers}
    return table(
        [
            {"N": number, "seeds": len(group)} | {TITLES[name]: f"{average(name, group):.3f}" for name in names}
            for number, group in groups.items()
        ]
    )


def ssae_damage() -> str:
    """SSAE trained with each kind of damage."""
    columns = {"image AUROC (maximum)": "image_auroc_max", "image AUROC (sum)": "image_auroc_sum"}
    columns |= {TITLES[name]: name for name in ("pixel_auroc", "pixel_ap", "pixel_aupro")}
    return table(
        [
            {"damage": row["damage"]} | {title: f"{row[key]:.3f}" for title, key in columns.items()}
            for row in read("ssae-damage")["rows"]
        ]
    )


def false_rejects() -> str:
    """The promised and the measured rate of false rejects."""
    return table(
        [
            {
                "data": row["data"],
                "seed": row["seed"],
                "good images: trained on": row["n_train"],
                "threshold from": row["n_calibration"],
                "inspected": row["n_inspected"],
                "promised at most": f"{row['promised']:.1%}",
                "rejected": f"{row['measured']:.1%}",
            }
            for row in read("false-rejects")
        ]
    )


def unlike() -> str:
    """How many photographs of each kind are unlike the good images."""
    return table(read("unlike")["unlike"])


def good_test_images() -> str:
    """Figures of good test images beside those of good training images."""
    return table(read("good-test-images")["rows"])


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (headline, accuracy, image_scores, real_defects, ssae_damage, false_rejects, unlike, good_test_images)
}


def read(name: str) -> Any:
    """The content of a file in ``results/``."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def runs_of(method: str, data: str) -> Rows:
    """The rows of recipe `small` on one dataset, one per seed."""
    return [row for row in read(f"accuracy-{method}-small")["rows"] if row["data"] == data]


def average(key: str, rows: Iterable[Mapping[str, Any]]) -> float:
    """Mean of one column over rows."""
    return mean(row[key] for row in rows)


def method_title(method: str) -> str:
    """A method's name in print."""
    return sources()[method].method


def published(method: str, data: str) -> str:
    """The paper's figures for this test set as text, fractions of 1; empty if it has none."""
    test_set = named_test_set(data)
    if test_set is None:
        return ""
    figures = {name: paper_figure(method, test_set.dataset, test_set.category, name) for name in PAPERS_METRICS}
    return ", ".join(
        f"{TITLES[name]} {figure.value_percent / 100:.3f}" for name, figure in figures.items() if figure is not None
    )
