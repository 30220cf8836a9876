"""``blemish evaluate`` on the command line."""

from __future__ import annotations

from pathlib import Path

from blemish.settings import Device, Precision


def evaluate(
    detector: Path,
    data: Path,
    /,
    *,
    out: Path = Path("evaluation"),
    device: Device = "auto",
    layout: str = "auto",
    protocol: str = "256/1",
    precision: Precision = "auto",
    mask_values: str = "auto",
) -> None:
    """Measure a detector on labelled test images. Writes `metrics.json`, `scores.csv` and `report.html`.

    Example: `blemish evaluate runs/bottle-draem-small-0/detector.blemish mvtec/bottle --out evaluation`

    Parameters
    ----------
    detector
        A .blemish file, or the run folder of `fit` with one.
    data
        A dataset with test images: of a known layout, or a .csv manifest.
    out
        Folder for the results.
    device
        auto takes CUDA if there is one.
    layout
        auto (default), or a layout that `blemish data --help` lists.
    protocol
        The size at which maps and masks are compared: 256/1 (default), 256-crop224/1 (its middle),
        draem-authors/1 and dsr-authors/1 (as the code of the papers' authors, for comparison with the papers),
        network/1 or original/1.
    precision
        As of `inspect`.
    mask_values
        Which pixels of masks are defective: auto (default: those that are not black, in masks of two values),
        white (those above half), nonzero (all that are not black), inverted (black ones), alpha (opaque ones), or
        values, as in 1,2.
    """
    from blemish.commands.evaluate import evaluate_run

    evaluate_run(detector, data, out, device, layout, protocol, precision, mask_values)
