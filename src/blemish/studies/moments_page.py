"""The page of the moments study: SSAE's figure 8 for the user's images, and what it means for proposition 2."""

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
"""Most points of a line in a chart."""
FLAT = 0.1
"""The line is called flat if the spread of the pixels' means and stds is below this share of a pixel's standard
deviation. The value is our choice, not the paper's."""


def moments_page(results: Sequence[Moments], data_name: str, n_images: int, size_px: int) -> str:
    """The page as HTML; ``results`` are those of the images of ``data_name``, resized to ``size_px``."""
    intro = (
        f"<p>{n_images} good training images of {html.escape(data_name)}, resized to {size_px}x{size_px} px. Grey "
        f"values are the mean of the channels, from 0 (black) to 1 (white).</p>"
    )
    return study_page(
        f"{data_name}: do all pixels have the same distribution?",
        intro,
        [figure for moments in results for figure in _figures(moments)],
        "".join(map(_chart, results)),
        reading("How to read the charts", _reading(results, size_px)),
        footer="After figure 8 of Bauer, Nakajima, Müller, Self-Supervised Training with Autoencoders for Visual "
        "Anomaly Detection (arXiv:2206.11723), section 4.2. Its theorem 2 defines sigma and the limit of |S|/N.",
    )


def _title(moments: Moments) -> str:
    if moments.kind == "object":
        return "As an object: the line through the middle"
    return "As a texture: windows of {0}x{0} px".format(*moments.mean.shape)


def _figures(moments: Moments) -> list[Figure]:
    values = moments.figures()
    kind = "As a texture" if moments.kind == "texture" else "As an object"
    spread = values["spread_of_means"]
    limit = f"For a variance σ² = {moments.variance:.4f} and a range of grey values of {moments.spread:.2f}."
    return [
        Figure(
            f"{kind}: spread of the pixels' means",
            "–" if spread is None else f"{spread:.3f}",
            "In standard deviations of one pixel; 0 means a flat line.",
        ),
        Figure(f"{kind}: largest |S|/N", percent(values["largest_share"] or 0.0), limit),
    ]


def _chart(moments: Moments) -> str:
    n = moments.mean.size
    x, low, high = _envelope(moments.mean.ravel(), moments.mean.ravel())
    _, low_edge, high_edge = _envelope((moments.mean - moments.std).ravel(), (moments.mean + moments.std).ravel())
    # Lowest and highest value of each cell in turn; all values in between are covered by the line.
    line = Curve(np.repeat(x, 2), np.stack([low, high], 1).ravel())
    place = "pixel along the line" if moments.kind == "object" else "pixel of the flattened window"
    axis = Axis(place, 0.0, float(max(n - 1, 1)), (0.0, float(max(n - 1, 1) // 2), float(max(n - 1, 1))))
    band = Band("± one standard deviation", x, low_edge, high_edge)
    name = "mean" if n <= MOST_CELLS else "mean (thickness: range over neighbouring pixels)"
    return curves_chart(_title(moments), axis, Axis("grey value"), [(name, line)], band=band)


def _envelope(
    low: NDArray[np.float64], high: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """First pixel, lowest ``low`` and highest ``high`` of each cell: at most ``MOST_CELLS`` runs of pixels."""
    starts = np.unique(np.linspace(0, len(low), MOST_CELLS, endpoint=False).astype(np.intp))
    return starts.astype(np.float64), np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)


def _reading(results: Sequence[Moments], size_px: int) -> list[str]:
    lines = [
        "<b>The question.</b> SSAE's proposition 2 and theorem 2 say how large a modified patch S may be so that the "
        "rest of a good image still identifies it. They assume that all pixels have the same distribution: the "
        "position of a pixel says nothing about its value. Then all pixels have the same mean and the same standard "
        "deviation, so the line and the band in the chart are flat."
    ]
    for moments in results:
        lines.append(_verdict(moments))
        if moments.kind == "texture":
            reach_px = size_px - len(moments.mean) + 1
            lines.append(
                f"<b>Note:</b> as the window slides, each of its pixels is averaged over {reach_px}x{reach_px} px of "
                f"the images. Structures that repeat within this distance are averaged out. What remains visible is "
                f"uneven light, or a part that is always at the same place."
            )
    lines.append(
        "<b>The largest |S|/N</b> is where |S| = 2 σ² (N − |S|), with σ divided by the range of the grey values. σ² "
        "is the mean of the pixels' variances over good images. For a range of 1, as the theorem is printed, it is "
        + " and ".join(
            f"{percent(moments.figures()['largest_share_of_unit_range'] or 0.0)} ({moments.kind})"
            for moments in results
        )
        + ". According to theorem 2, patches below this limit are sufficiently small, for images of infinite size; "
        "proposition 2 alone only requires patches of less than half of the image."
    )
    return lines


def _verdict(moments: Moments) -> str:
    values = moments.figures()
    means, stds = values["spread_of_means"], values["spread_of_stds"]
    if means is None or stds is None:
        return f"<b>{_title(moments)}.</b> The images do not differ here at all, so nothing can be measured."
    measured = (
        f"relative to the mean standard deviation of a pixel ({values['std']:.3f}), the spread of the pixels' means "
        f"is {means:.3f} and the spread of their standard deviations is {stds:.3f}"
    )
    if max(means, stds) < FLAT:
        verdict = (
            f"Both are below {FLAT}: the line is flat, as the paper finds for textures, and proposition 2 applies."
        )
    else:
        verdict = (
            f"They are not both below {FLAT}: the distribution depends on the position, as the paper finds for "
            f"objects. Proposition 2 and theorem 2 do not apply to these images as they are."
        )
    return f"<b>{_title(moments)}:</b> {measured}. {verdict}"
