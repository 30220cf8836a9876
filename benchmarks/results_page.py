"""Generate the tables of figures in ``README.md`` and ``docs/results.md`` from the files in ``results/``.

A table stands between ``<!-- table NAME -->`` and ``<!-- end -->``; everything else on a page is written by hand.
``accuracy.py`` updates the pages, and a test compares them with the files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from scipy.stats import betabinom

from blemish.compare.papers import named_test_set, paper_figure
from blemish.metrics.names import TITLES
from blemish.studies.tables import TABLES as PAPER_TABLES
from blemish.studies.tables.results import MEAN, Ordering
from blemish.thresholds import lowest_rate
from line_tables import camera, method_title, saving, service, ways
from machine import read, table

REPOSITORY = Path(__file__).parents[1]
PAGES = (
    REPOSITORY / "README.md",
    *(REPOSITORY / "docs" / name for name in ("results.md", "line.md", "performance.md")),
)
METHODS = ("draem", "dsr", "ssae", "patchcore", "combined")
DATA = {"bottle": "MVTec AD bottle", "pill": "MVTec AD pill", "magnetic-tile": "magnetic tile (700 good)"}
PAPERS_METRICS = ("image_auroc", "pixel_auroc", "pixel_ap")
ORDERS = {None: "–", True: "holds", False: "does not"}
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
                | {name: f"{average(key, runs):.3f}" for key, name in TITLES.items() if key in runs[0]}
                | {
                    "good ones rejected": f"{average('false_rejects', runs):.1%}",
                    "defects found": f"{average('found', runs):.1%}",
                    "steps": runs[0]["iterations"],
                    "minutes beside other work": f"{average('training_s', runs) / 60:.1f}",
                    "commits": ", ".join(dict.fromkeys(run["commit"] for run in runs)),
                    "the paper's full network": published(method, data),
                }
            )
    return table(rows)


def promise() -> str:
    """The good test images that recipe `small` rejects, and how many a threshold of so few held-out images may."""
    rows = []
    for data, title in DATA.items():
        for method in METHODS:
            runs = runs_of(method, data)
            rejected = [round(run["false_rejects"] * run["n_good"]) for run in runs]
            limits = [most_rejected(run["n_calibration"], run["n_good"]) for run in runs]
            rows.append(
                {"data": title, "method": method_title(method)}
                | {"threshold from": ", ".join(dict.fromkeys(str(run["n_calibration"]) for run in runs))}
                | {"lowest rate that can be promised": lowest_rate(min(99, runs[0]["n_calibration"]))}
                | {"good test images": runs[0]["n_good"], "rejected, by seed": ", ".join(map(str, rejected))}
                | {"at most, 95 %": ", ".join(dict.fromkeys(map(str, limits)))}
                | {"within": f"{sum(map(int.__le__, rejected, limits))} of {len(runs)}"}
            )
    return table(rows)


def most_rejected(n_calibration: int, n_good: int, rate: float = 0.01) -> int:
    """So many of ``n_good`` images, or fewer, are rejected with a probability of at least 95 %, if all are alike.

    The threshold is the k-th largest score of the held-out images; how many of further ones lie above it follows a
    beta-binomial distribution.
    """
    k = max(1, math.floor((n_calibration + 1) * rate))
    return int(betabinom.ppf(0.95, n_good, k, n_calibration + 1 - k))


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


def protocols() -> str:
    """The same detectors of recipe `small` under our protocol and under those of the papers' authors."""
    rows = read("protocols")["rows"]
    columns = [(key, name) for key in ("pixel_ap", "image_auroc") for name in rows[0] if "/" in name]
    return table(
        [
            {"data": DATA[row["data"]], "method": method_title(row["method"]), "steps": row["iterations"]}
            | {f"{TITLES[key]}, {name}": f"{row[name][key]:.3f}" for key, name in columns}
            for row in rows
        ]
    )


def ssae_limits() -> str:
    """SSAE trained with each limit of the damage's size: judged by held-out good images, and on test images."""
    keys = ("image_auroc", "pixel_auroc", "pixel_ap")
    return table(
        [
            {"data": DATA[row["data"]], "limit": row["limit"], "steps": row["steps"]}
            | {"validation (decides)": f"{row['validation']:.4f}"}
            | {TITLES[key]: f"{row[key]:.3f}" for key in keys}
            for row in read("ssae-limits")["rows"]
        ]
    )


def patchcore_settings() -> str:
    """Settings of PatchCore, judged by simulated damage on held-out good images: means over the datasets."""
    rows = read("patchcore-settings")["rows"]
    kinds = ("pasted", "elastic", "swap")
    return table(
        [
            {"settings": name, "data": len(same)}
            | {f"pixel AP, {kind}": f"{average(f'pixel_ap_{kind}', same):.3f}" for kind in kinds}
            | {f"image AUROC, {kind}": f"{average(f'image_auroc_{kind}', same):.3f}" for kind in kinds}
            | {"s of a core to fit": f"{average('fit_cpu_s', same):.0f}"}
            | {"ms of a core an image": f"{average('inspect_cpu_ms', same):.0f}"}
            for name in dict.fromkeys(row["settings"] for row in rows)
            for same in [[row for row in rows if row["settings"] == name]]
        ]
    )


def rectangles() -> str:
    """Photographs of 500x1250 px: squeezed to a square, in their own shape, and by tiles."""
    return rows_of_sizes([row for row in read("rectangles")["rows"] if row["data"] not in DATA])


def tiles() -> str:
    """Square photographs of 512 px, whole and by tiles."""
    return rows_of_sizes([row for row in read("rectangles")["rows"] if row["data"] in DATA])


def rows_of_sizes(rows: Rows) -> str:
    """Rows of ``rectangles.json`` by method and data, the square that recipes take first."""
    names = {"squeezed to a square": "whole"}
    return table(
        [
            ({"data": DATA[row["data"]]} if row["data"] in DATA else {})
            | {"method": method_title(row["method"])}
            | {"photographs": names.get(row["size"], row["size"]) if row["data"] in DATA else row["size"]}
            | {"the network sees, px": "{1}x{0}".format(*row["network_hw"])}
            | {TITLES[name]: f"{row[name]:.3f}" for name in ("image_auroc", "pixel_ap", "pixel_aupro")}
            | {"good ones rejected": f"{row['false_rejects']:.1%}", "defects found": f"{row['found']:.1%}"}
            | {"minutes of a core to fit": f"{row['fit_cpu_s'] / 60:.2f}"}
            | {"s of a core a photograph": f"{row['inspect_cpu_s']:.2f}", "commit": row["commit"]}
            for row in sorted(
                rows, key=lambda row: (METHODS.index(row["method"]), row["data"], row["size"][0] == "-")
            )
        ]
    )


def draem_3() -> str:
    """DRÆM's ablations."""
    return paper_table("draem-3")


def dsr_5() -> str:
    """DSR's similarity bounds."""
    return paper_table("dsr-5")


def dsr_6() -> str:
    """DSR's ablations."""
    return paper_table("dsr-6")


def paper_table(name: str) -> str:
    """A table that `study table` measured: for each variant ours, the paper's in brackets, and ours of each category.

    "Order" says whether ours and the paper's lie on the same side of the variant of reference.
    """
    measured, definition = read(f"table-{name}"), PAPER_TABLES[name]
    figures = {(row["variant"], row["category"], row["metric"]): row for row in measured["figures"]}
    holds: dict[tuple[str, str], bool | None] = {}
    for row in measured["orderings"]:
        variant, metric = definition.variant(row["variant"]), row["metric"]
        holds[variant.key, metric] = Ordering(variant, metric, row["ours_points"], row["paper_points"]).holds
    categories = [category["name"] for category in measured["categories"]]
    rows = []
    for variant in definition.variants:
        row = {"variant": variant.label}
        for metric in definition.metrics:
            title, mean_of_all = TITLES[metric], figures[variant.key, MEAN, metric]
            row[f"{title} (paper)"] = f"{fraction(mean_of_all['mean_percent'])} " + (
                f"({fraction(mean_of_all['published_percent'])})"
            )
            row[f"order of {title}"] = ORDERS[holds.get((variant.key, metric))]
        if len(categories) > 1:
            for category in categories:
                row[category] = ", ".join(
                    fraction(figures[variant.key, category, metric]["mean_percent"]) for metric in definition.metrics
                )
        rows.append(row)
    return table(rows)


def fraction(percent: float | None) -> str:
    """A figure in percent as a fraction of 1."""
    return "–" if percent is None else f"{percent / 100:.3f}"


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        headline, accuracy, promise, protocols,
        image_scores, real_defects, ssae_damage, ssae_limits, patchcore_settings, rectangles, tiles,
        saving, camera, ways, service,
        draem_3, dsr_5, dsr_6,
        false_rejects, unlike, good_test_images,
    )
}  # fmt: skip


def runs_of(method: str, data: str) -> Rows:
    """The rows of recipe `small` on one dataset, one per seed."""
    return [row for row in read(f"accuracy-{method}-small")["rows"] if row["data"] == data]


def average(key: str, rows: Iterable[Mapping[str, Any]]) -> float:
    """Mean of one column over rows."""
    return mean(row[key] for row in rows)


def published(method: str, data: str) -> str:
    """The paper's figures for this test set as text, fractions of 1; empty if it has none."""
    test_set = named_test_set(data)
    if test_set is None:
        return ""
    figures = {name: paper_figure(method, test_set.dataset, test_set.category, name) for name in PAPERS_METRICS}
    return ", ".join(
        f"{TITLES[name]} {figure.value_percent / 100:.3f}" for name, figure in figures.items() if figure is not None
    )
