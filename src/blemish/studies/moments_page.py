"""The page of the study of moments: SSAE's figure 8 for one's own images, and what follows for proposition 2."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.metrics import Curve
from blemish.report.charts import Axis, Band, curves_chart
from blemish.report.page import Figure
from blemish.studies.moments import Moments
from blemish.studies.output import percent, reading, study_page

MOST_CELLS = 512
FLAT = 0.1
"""A line is called flat here if the means' spread is below this share of a pixel's standard deviation. Ours."""


def moments_page(found: Sequence[Moments], data_name: str, n_images: int, size_px: int) -> str:
    """The page as HTML; ``found`` are of images of ``data_name``, resized to ``size_px``."""
    intro = (
        f"<p>{n_images} good training images of {html.escape(data_name)}, resized to {size_px}x{size_px} px. Grey "
        f"values are the mean of the channels, from 0 (black) to 1 (white).</p>"
    )
    return study_page(
        f"{data_name}: have all pixels the same distribution?",
        intro,
        [figure for moments in found for figure in _figures(moments)],
        "".join(map(_chart, found)),
        reading("How to read the charts", _reading(found, size_px)),
        footer="After figure 8 of Bauer, Nakajima, Müller, Self-Supervised Training with Autoencoders for Visual "
        "Anomaly Detection (arXiv:2206.11723), section 4.2; sigma and the limit of |S|/N are those of its theorem 2.",
    )


def _title(moments: Moments) -> str:
    if moments.kind == "object":
        return "As an object: the line through the middle"
    return "As a texture: windows of {0}x{0} px".format(*moments.mean.shape)


def _figures(moments: Moments) -> list[Figure]:
    of = moments.figures()
    where = "As a texture" if moments.kind == "texture" else "As an object"
    spread = of["spread_of_means"]
    limit = f"Variance σ² = {moments.variance:.4f} in a range of {moments.spread:.2f}."
    return [
        Figure(
            f"{where}: spread of the pixels' means",
            "–" if spread is None else f"{spread:.3f}",
            "Of one pixel's standard deviation; 0 is a flat line.",
        ),
        Figure(f"{where}: largest |S|/N", percent(of["largest_share"] or 0.0), limit),
    ]


def _chart(moments: Moments) -> str:
    n = moments.mean.size
    x, low, high = _envelope(moments.mean.ravel(), moments.mean.ravel())
    _, low_edge, high_edge = _envelope((moments.mean - moments.std).ravel(), (moments.mean + moments.std).ravel())
    # Lowest and highest of each cell, one after the other: what is left out lies between them.
    line = Curve(np.repeat(x, 2), np.stack([low, high], 1).ravel())
    place = "pixel along the line" if moments.kind == "object" else "pixel of the flattened window"
    axis = Axis(place, 0.0, float(max(n - 1, 1)), (0.0, float(max(n - 1, 1) // 2), float(max(n - 1, 1))))
    band = Band("± one standard deviation", x, low_edge, high_edge)
    name = "mean" if n <= MOST_CELLS else "mean, as thick as it differs among neighbours"
    return curves_chart(_title(moments), axis, Axis("grey value"), [(name, line)], band=band)


def _envelope(
    low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """First pixel, lowest ``low`` and highest ``high`` of each of at most ``MOST_CELLS`` runs of pixels."""
    starts = np.unique(np.linspace(0, len(low), MOST_CELLS, endpoint=False).astype(np.intp))
    return starts.astype(np.float64), np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)


def _reading(found: Sequence[Moments], size_px: int) -> list[str]:
    lines = [
        "<b>What is asked.</b> SSAE's proposition 2 and theorem 2 say how large a modified patch S may be for a good "
        "image to stay recognizable by the rest of it. They suppose that every pixel has the same distribution: that "
        "where a pixel lies says nothing of its value. Then mean and standard deviation are the same for all pixels, "
        "and line and band are flat."
    ]
    for moments in found:
        lines.append(_verdict(moments))
        if moments.kind == "texture":
            reach_px = size_px - len(moments.mean) + 1
            lines.append(
                f"<b>Mind</b> that a window's pixel is an average over the {reach_px}x{reach_px} px that it meets as "
                f"the window slides. What repeats in less than that is evened out; what shows is light that falls "
                f"off, or a part that lies where it always lies."
            )
    lines.append(
        "<b>The largest |S|/N</b> is where |S| = 2 σ² (N − |S|), with σ divided by the range of the grey values. σ² "
        "is the mean of the pixels' variances over good images. With the theorem as printed, for a range of 1, it is "
        + " and ".join(
            f"{percent(one.figures()['largest_share_of_unit_range'] or 0.0)} ({one.kind})" for one in found
        )
        + ". Theorem 2 says that so much suffices, for images of endless size; proposition 2 by itself only asks for "
        "less than half of the image."
    )
    return lines


def _verdict(moments: Moments) -> str:
    of = moments.figures()
    means, stds = of["spread_of_means"], of["spread_of_stds"]
    if means is None or stds is None:
        return f"<b>{_title(moments)}.</b> The images do not differ here at all: there is nothing to say."
    measured = (
        f"the pixels' means spread by {means:.3f} of the mean standard deviation ({of['std']:.3f}), their standard "
        f"deviations by {stds:.3f} of it"
    )
    if max(means, stds) < FLAT:
        told = f"Both are below {FLAT}: the line is flat, as the paper finds for textures, and proposition 2 applies."
    else:
        told = (
            f"They are not both below {FLAT}: pixels differ by their place, as the paper finds for objects, and what "
            f"proposition 2 and theorem 2 say does not hold for these images as they stand."
        )
    return f"<b>{_title(moments)}:</b> {measured}. {told}"
