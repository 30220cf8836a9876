"""``blemish calibrate`` on the command line."""

from __future__ import annotations

from pathlib import Path

from blemish.settings import Device


def calibrate(
    detector: Path,
    good: Path | None = None,
    /,
    *,
    out: Path,
    false_rejects: float | None = None,
    threshold: float | None = None,
    min_area: int | None = None,
    layout: str = "auto",
    device: Device = "auto",
    reviews: str | None = None,
    product: str | None = None,
    storage: Path | None = None,
) -> None:
    """Set a detector's threshold anew, without training.

    Example: `blemish calibrate runs/gasket parts/good-of-today --out gasket-today.blemish`

    Photographs that the detector was trained on are left out. What is promised, and which verdicts on the good
    photographs change, is printed.

    Parameters
    ----------
    detector
        A .blemish file, or the run folder of `fit` with one.
    good
        Folder of good photographs, dataset of a known layout, or .csv manifest. Without it, give --threshold.
    out
        The .blemish file to write.
    false_rejects
        Share of good parts that may be rejected. Default: 0.01.
    threshold
        The threshold of the score instead; it promises nothing.
    min_area
        Outline only regions of so many pixels or more from now on; a photograph with no others is good.
    layout
        Of the good photographs: auto (default), or a layout that `blemish data --help` lists.
    device
        auto takes CUDA if there is one.
    reviews
        The database of `serve` or `watch` (a file, or postgresql://...). Photographs of parts that people called good
        count, too, where they are above the threshold of the good photographs: they can only raise it.
    product
        Whose reviews; needed if the database has those of several products.
    storage
        Folder of the pictures, if it is not where they were saved.
    """
    from blemish.commands.calibrate import Reviews, calibrate_run
    from blemish.errors import BlemishError

    if reviews is None and (product is not None or storage is not None):
        raise BlemishError("--product, --storage: say which reviews count; give --reviews, too")
    of = None if reviews is None else Reviews(reviews, product, storage)
    calibrate_run(detector, good, out, false_rejects, threshold, min_area, layout, device, of)
