"""``blemish demo``: train on cut-outs of a photograph of bricks, find defects drawn by hand, show a page."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import blemish
from blemish.commands.progress import TrainingProgress
from blemish.data.demo_images import TEST, TRAIN, make_demo_images
from blemish.data.layouts import Sample, open_dataset
from blemish.data.reading import read_image
from blemish.report.page import Figure, Row, make_row, write_page

if TYPE_CHECKING:
    from blemish.detector import Finding
    from blemish.thresholds import Threshold

DEMO_SETTINGS: dict[str, Any] = {
    "image_size_px": 128,
    "encoder": "trained",
    "patch_px": 2,
    "repair_reduction": 1,
    "score_window_px": 11,
    "iterations": 500,
    "reconstructive_widths": [32, 64, 128],
    "discriminative_widths": [24, 48, 64],
    "rotation_probability": 0.0,
}
"""Replace the settings of recipe `small`: for cut-outs of 128 px, three minutes on two cores."""
FALSE_REJECTS = 0.01

TITLE = "blemish demo: trained on good bricks only, finds defects it has never seen"
FOOTER = (
    "The promised rate of false alarms holds for new parts that are like the good parts used to set it. "
    "Neighbouring cut-outs of one photograph meet this only roughly. "
    "On your own photographs: blemish fit FOLDER-OF-GOOD-PARTS"
)


def run_demo(out: Path, seed: int = 0, open_page: bool = True) -> Path:
    """Train, inspect, and write a page with the results.

    Parameters
    ----------
    out : folder for `images`, `run` (with the detector) and `index.html`; created if missing.
    seed : seed of the training.
    open_page : open the page in a browser, if there is a display.

    Returns
    -------
    The path of the page.

    Raises
    ------
    BlemishError
        See `make_demo_images` and `blemish.fit`.
    """
    images = out / "images"
    make_demo_images(images)
    with TrainingProgress() as progress:
        detector = blemish.fit(
            images / "train" / "good",
            settings=DEMO_SETTINGS,
            calibration=images / "calibration",
            false_rejects=FALSE_REJECTS,
            seed=seed,
            out=out / "run",
            reporter=progress,
        )
    samples = sorted(open_dataset(images, "mvtec").test, key=lambda sample: not sample.is_defective)
    findings = detector.inspect([sample.path for sample in samples], explain=True)
    results = [_Result.of(sample, finding) for sample, finding in zip(samples, findings, strict=True)]
    rows = [_row(result, detector.pixel_threshold) for result in results]
    page = out / "index.html"
    write_page(page, TITLE, _intro(), rows, figures=_figures(results, detector.threshold), footer=FOOTER)
    for figure in _figures(results, detector.threshold):
        print(f"{figure.label}: {figure.value}. {figure.note}")
    print(f"Look at {page}")
    if open_page and _has_display():
        with suppress(webbrowser.Error):
            webbrowser.open(page.resolve().as_uri())
    return page


@dataclass(frozen=True)
class _Result:
    """The finding in one test image, and its true mask, (H, W) bool."""

    sample: Sample
    finding: Finding
    true_mask: NDArray[np.bool_]

    @classmethod
    def of(cls, sample: Sample, finding: Finding) -> _Result:
        size_hw = finding.mask.shape[0], finding.mask.shape[1]
        true_mask = sample.mask.read(size_hw) if sample.mask else np.zeros(size_hw, np.bool_)
        return cls(sample, finding, true_mask)

    @property
    def overlap_px(self) -> int:
        return int((self.finding.mask & self.true_mask).sum())


def _row(result: _Result, pixel_threshold: float) -> Row:
    sample, finding = result.sample, result.finding
    note = ""
    if sample.is_defective and finding.is_defective:
        covered = result.overlap_px / result.true_mask.sum()
        note = f"The outlines enclose {100 * covered:.0f} % of it." if covered else "But the outlines lie beside it."
    name = f"{sample.path.parent.name}/{sample.path.name}"
    return make_row(name, read_image(sample.path), finding, pixel_threshold, truth=sample.defect, note=note)


def _intro() -> str:
    n_defective = sum(patch.defect is not None for patch in TEST)
    return (
        f"<p>A DRÆM model was trained on {len(TRAIN)} cut-outs of a photograph of bricks, all of them without a "
        f"defect. Here it inspects {len(TEST)} cut-outs from another part of the same photograph: in {n_defective} "
        f"of them a defect was drawn by hand, and {len(TEST) - n_defective} were left as they are.</p>"
    )


def _figures(results: Sequence[_Result], threshold: Threshold) -> list[Figure]:
    defective = [result for result in results if result.sample.is_defective]
    good = [result for result in results if not result.sample.is_defective]
    detected = [result for result in defective if result.finding.is_defective]
    n_overlaps = sum(result.overlap_px > 0 for result in detected)
    n_rejected = sum(result.finding.is_defective for result in good)
    rate = f"{100 * threshold.false_reject_rate:g} %"
    return [
        Figure(
            "Defects found",
            f"{len(detected)} of {len(defective)}",
            f"In {n_overlaps} of them the outlines overlap the defect.",
        ),
        Figure(
            "Good images rejected",
            f"{n_rejected} of {len(good)}",
            f"False alarms. {len(good)} images are too few to measure a rate.",
        ),
        Figure(
            "Promised rate of false alarms",
            f"at most {rate}" if threshold.is_promised else "none",
            threshold.explain(),
        ),
    ]


def _has_display() -> bool:
    if os.environ.get("CI"):
        return False
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
