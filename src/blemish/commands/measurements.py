"""``blemish study table``, for tables and figures of the papers without a training."""

from __future__ import annotations

import html
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch

from blemish.commands.study import good_images, moments_run
from blemish.data.bits import bits_in_use
from blemish.data.layouts import datasets_at, name_of
from blemish.data.loading import load_images
from blemish.devices import Device, resolve_device
from blemish.errors import BlemishError
from blemish.files import make_folder
from blemish.inspection.stream import inspected
from blemish.methods import build
from blemish.runtimes.torch import TorchRuntime
from blemish.studies.output import percent, study_page, write_study
from blemish.studies.premise import violations
from blemish.studies.tables.page import sheet_html
from blemish.studies.tables.text import Sheet

SIZE_PX = 512
"""As in SSAE's footnote 7 and figure 8."""
MOST_IMAGES = 200
N_PLACES = 20
PAPER_IMAGES_PER_S = 58.0
BATCHES = (1, 8)
TIMED_S = 4.0


def measurement_run(name: str, data: Sequence[Path], out: Path, *, device: Device, seed: int) -> None:
    """Measure, print, and write ``<name>.csv``, ``.json`` and ``.html``; figure 8 also a page for each dataset.

    Raises
    ------
    BlemishError
        If data are missing, or cannot be read.
    """
    if name == "dsr-speed":
        _speed(out, device)
        return
    if not data:
        raise BlemishError(f"{name}: no data; give folders of good images, or datasets such as mvtec/carpet")
    datasets = [folder for path in data for folder in datasets_at(path)]
    if name == "ssae-figure-8":
        _distributions(datasets, out)
    else:
        _premise(datasets, out, seed)


def _distributions(data: Sequence[Path], out: Path) -> None:
    """Figure 8."""
    rows, lines, links = list[dict[str, Any]](), list[tuple[str, ...]](), []
    for path in data:
        name = name_of(path)
        links.append(f'<li><a href="{quote(name)}/moments.html">{html.escape(name)}: charts</a></li>')
        for moments in moments_run(
            path, out / name, kind="both", size_px=SIZE_PX, window_px=SIZE_PX // 2, layout="auto"
        ):
            figures = moments.figures()
            rows.append({"data": name, "kind": moments.kind, **figures})
            spread, sigma2, share = (figures[key] for key in ("spread_of_means", "sigma2", "largest_share"))
            numbers = ("–" if number is None else f"{number:.3f}" for number in (spread, sigma2, share))
            lines.append((name, moments.kind, *numbers))
    heads = ("data", "pixels of", "spread of the means / standard deviation", "σ²", "largest |S| / N")
    sheet = Sheet("Distributions of the pixels", "0 of spread: all pixels have the same mean", heads, tuple(lines))
    intro = (
        "<p>Do all pixels have the same distribution, as SSAE's proposition 2 and theorem 2 ask? The paper prints "
        f"curves of a texture and an object, and no numbers. The curves of each dataset:</p><ul>{''.join(links)}</ul>"
    )
    footer = f"Images of {SIZE_PX} px; windows of {SIZE_PX // 2} px (texture), the line through the middle (object)."
    page = study_page("SSAE, figure 8: distributions of pixels", intro, (), "", sheet_html(sheet), footer=footer)
    record = {"study": "ssae-figure-8", "size_px": SIZE_PX, "rows": rows}
    write_study(out, "ssae-figure-8", rows, record, page)


def _premise(data: Sequence[Path], out: Path, seed: int) -> None:
    """Footnote 7."""
    make_folder(out)
    rows, lines = list[dict[str, Any]](), list[tuple[str, ...]]()
    for path in data:
        dataset, paths = good_images(path, "auto")
        n = min(MOST_IMAGES, len(paths))
        used = [paths[number * len(paths) // n] for number in range(n)]
        images = load_images(used, (SIZE_PX, SIZE_PX), bits_in_use(paths) or 16)
        name = name_of(dataset.root)
        for counted in violations(images, N_PLACES, seed):
            size, allowed = f"{counted.share:.3f}", "yes" if counted.is_allowed else "no"
            rows.append({"data": name, **counted.row()})
            n_pairs, n_violating = str(counted.n_pairs), str(counted.n_violating)
            lines.append((name, size, allowed, n_pairs, n_violating, percent(counted.rate)))
            print(
                f"{name}: |S|/N {size} (allowed by theorem 2: {allowed}): {n_violating} of {n_pairs} pairs violate "
                f"the premise ({percent(counted.rate)})"
            )
    heads = ("data", "|S| / N", "allowed by theorem 2", "pairs", "violating", "rate")
    sheet = Sheet("Pairs that violate the premise", "at random places of the square S", heads, tuple(lines))
    intro = (
        "<p>Of two good images x and y, is the distance inside of a square S larger than in the rest? The paper "
        "finds no such pair on the textures of MVTec AD, as long as |S| is below 2 σ² |S_rest|.</p>"
    )
    footer = f"At most {MOST_IMAGES} images of {SIZE_PX} px, {N_PLACES} places for each size, seed {seed}."
    page = study_page("SSAE, footnote 7: the premise of theorem 2", intro, (), "", sheet_html(sheet), footer=footer)
    record = {"study": "ssae-footnote-7", "seed": seed, "size_px": SIZE_PX, "places": N_PLACES, "rows": rows}
    write_study(out, "ssae-footnote-7", rows, record, page)


def _speed(out: Path, device: Device) -> None:
    """How many images a second DSR's network inspects, with random weights; the paper says 58."""
    runtime = TorchRuntime(build("dsr", "paper").to(resolve_device(device)))
    side_px = runtime.settings.short_px
    make_folder(out)
    print(f"DSR's networks of recipe paper, {side_px} px, whatever --recipe says; some minutes on a CPU", flush=True)
    rows = []
    for batch in BATCHES:
        images_per_s = _images_per_s(runtime, batch)
        print(f"{batch} at a time: {images_per_s:.1f} images/s (paper: {PAPER_IMAGES_PER_S:.0f})", flush=True)
        rows.append({"batch": batch, "images_per_s": images_per_s, "paper_images_per_s": PAPER_IMAGES_PER_S})
    is_gpu = runtime.device.type == "cuda"
    where = torch.cuda.get_device_name() if is_gpu else platform.processor() or platform.machine()
    record = {
        "study": "dsr-speed", "device": str(runtime.device), "machine": where, "threads": torch.get_num_threads(),
        "precision": runtime.precision, "torch": torch.__version__, "size_px": side_px, "rows": rows,
    }  # fmt: skip
    heads, paper = ("images at a time", "ours", "paper"), f"{PAPER_IMAGES_PER_S:.0f}"
    lines = tuple((str(row["batch"]), f"{row['images_per_s']:.1f}", paper) for row in rows)
    sheet = Sheet("Images a second", "without the reading of files", heads, lines)
    intro = f"<p>DSR's networks (recipe paper, {side_px} px, {runtime.precision}) on {html.escape(where)}.</p>"
    footer = "The paper does not say on what it measured, nor how many images at a time."
    page = study_page("DSR: images a second", intro, (), "", sheet_html(sheet), footer=footer)
    write_study(out, "dsr-speed", rows, record, page)


def _images_per_s(runtime: TorchRuntime, batch: int) -> float:
    """Throughput for so many images at a time, from at least one batch after one that warms up."""
    tiles = list(np.random.default_rng(0).integers(0, 256, (batch, *runtime.settings.size_hw, 3), np.uint8))
    list(inspected(runtime, tiles))
    n_done, began_s = 0, time.perf_counter()
    while not n_done or time.perf_counter() - began_s < TIMED_S:
        list(inspected(runtime, tiles))
        n_done += batch
    return n_done / (time.perf_counter() - began_s)
