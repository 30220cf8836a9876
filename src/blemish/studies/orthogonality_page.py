"""The page of the orthogonality study: the three charts of SSAE's figure 9, how to read them, and example trials."""

from __future__ import annotations

import html
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from blemish.metrics import Curve
from blemish.report.charts import Axis, Band, axis_to, curves_chart
from blemish.report.overlay import draw_outlines
from blemish.report.page import LONG_SIDE_PX, Figure, picture_html
from blemish.studies.orthogonality import HALF_WIDTH, AtWidth, figures
from blemish.studies.output import percent, reading, study_page

MOST_PICTURES = 6
WIDTH = "patch width, √(|S|/N)"


def orthogonality_page(results: Sequence[AtWidth], data_name: str, detector_name: str, n_images: int) -> str:
    """The page as HTML.

    Parameters
    ----------
    results : one for each patch width, in ascending order of width; at least one.
    detector_name : method and recipe.
    n_images : number of good images.
    """
    below_half = [result for result in results if result.share < 0.5]
    intro = (
        f"<p>Detector {html.escape(detector_name)}, on {n_images} good training images X of "
        f"{html.escape(data_name)}, at {results[0].side_px} px. In each trial, a square patch S at a random position "
        f"in X was replaced by the same area of another good image. This gives the modified image X̂. The detector "
        f"repaired X̂, which gives F(X̂). {len(results)} patch widths with {figures(results[:1])['trials']} trials "
        f"each.</p>"
    )
    return study_page(
        f"{data_name}: is the repair an orthogonal projection onto good images?",
        intro,
        _figures(below_half),
        orthogonality_charts(results),
        reading("How to read the charts", _reading(results, below_half, n_images)),
        "\n".join(map(_row_html, _examples(results))),
        "After figure 9 of Bauer, Nakajima, Müller, Self-Supervised Training with Autoencoders for Visual Anomaly "
        "Detection (arXiv:2206.11723), section 4.2. N is the number of values of an image in all channels; values "
        "are in [0, 1].",
    )


def _figures(below_half: Sequence[AtWidth]) -> list[Figure]:
    if not below_half:
        return []
    summary = figures(below_half)
    trials = f"of {summary['trials']} trials with patches of less than half of the image."
    return [
        Figure("X̂ nearest to its own X", percent(summary["modified_nearest"]), f"Before the repair, {trials}"),
        Figure("F(X̂) nearest to its own X", percent(summary["repaired_nearest"]), f"After the repair, {trials}"),
        Figure(
            "Error of F(X̂)",
            f"{summary['rms_mean']:.4f} ± {summary['rms_std']:.4f}",
            f"Root mean square per value in [0, 1]. For X̂, before the repair: {summary['modified_rms_mean']:.4f}.",
        ),
    ]


def orthogonality_charts(results: Sequence[AtWidth]) -> str:
    """The charts of figure 9: how often the nearest good image is the original, and the error of the repair."""
    rows = [result.row() for result in results]
    column = {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}
    x, share = Axis(WIDTH), Axis("share of trials")
    limit = ("|S|/N = 0.5", HALF_WIDTH)
    nearest = [
        curves_chart(title, x, share, [(name, Curve(column["width"], column[key]))], limit=limit)
        for title, name, key in (
            ("Before the repair", "X is nearest to X̂", "modified_nearest"),
            ("After the repair", "X is nearest to F(X̂)", "repaired_nearest"),
        )
    ]
    mean, std = column["rms_mean"], column["rms_std"]
    band = Band("± one standard deviation", column["width"], mean - std, mean + std)
    error = curves_chart(
        "Distance from the original",
        x,
        axis_to("rms error", float(max((mean + std).max(), column["modified_rms_mean"].max()))),
        [
            ("F(X̂) − X", Curve(column["width"], mean)),
            ("X̂ − X, without repair", Curve(column["width"], column["modified_rms_mean"])),
        ],
        band=band,
        limit=limit,
    )
    return "".join([*nearest, error])


def _reading(results: Sequence[AtWidth], below_half: Sequence[AtWidth], n_images: int) -> list[str]:
    lines = [
        "<b>The question.</b> An orthogonal projection F maps any image to the good image nearest to it. If the "
        "repair is such a projection, |X̂ − F(X̂)|, from which SSAE computes its anomaly score, is the distance to the "
        "nearest good image.",
        "<b>Before the repair.</b> X̂ contains a patch of another image Y, so it differs from X only inside the patch "
        "and from Y only outside it. X is the nearest image as long as X and Y differ less inside the patch than "
        "outside. This is certain for small patches, a matter of chance near the vertical line, where the patch "
        "covers half of the image, and rare to the right of it. If X is not the image nearest to X̂, even a perfect "
        "projection does not recover it.",
        "<b>After the repair.</b> If F is nearly orthogonal, F(X̂) is nearest to X whenever X̂ is. To the left of the "
        "vertical line, this curve should then be as high as the first one. A lower curve means that F moves images "
        "towards other images, or all of them towards a single one: an F that always returns the same image reaches "
        f"1 of {n_images}.",
        "<b>Distance from the original.</b> For small patches, the line shows what F loses in any image, mostly fine "
        "detail. If the line stays flat, patches are repaired. If it rises with the dashed line, which is X̂ without "
        "repair, patches are left as they are. The paper prints |F(X̂) − X| / N, which is this value divided by √N = "
        f"{results[0].n_values ** 0.5:.0f}, so it is near 0 for any large image. The CSV file has both.",
    ]
    if below_half:
        summary = figures(below_half)
        lines.append(
            f"<b>Result.</b> For |S|/N &lt; 0.5, the repaired image is nearest to its own original in "
            f"{percent(summary['repaired_nearest'])} of the trials, and the modified image in "
            f"{percent(summary['modified_nearest'])}. The root mean square error per value is "
            f"{summary['rms_mean']:.4f} ± {summary['rms_std']:.4f} for F(X̂) and {summary['modified_rms_mean']:.4f} "
            f"for X̂. Divided by N as in the paper, the distance of F(X̂) is {summary['norm_per_n_mean']:.2g}."
        )
    lines.append(
        f"<b>Note:</b> “nearest” means among these {n_images} images; the detector may have been trained on them. "
        f"With few images, or with images that differ much, F(X̂) is easily nearest to X. If good images hardly "
        f"differ, as for a rigid part, a repair can look right and still be nearer to another image."
    )
    return lines


def _examples(results: Sequence[AtWidth]) -> list[AtWidth]:
    """The results whose example trial is shown, evenly over the widths."""
    n = min(len(results), MOST_PICTURES)
    return [results[(2 * number + 1) * len(results) // (2 * n)] for number in range(n)]


def _row_html(result: AtWidth) -> str:
    example, (top, left) = result.example, result.example.top_left
    image, modified, repaired = map(_at_page_size, (example.image, example.modified, example.repaired))
    scale = LONG_SIDE_PX / result.side_px
    box = np.zeros(image.shape[:2], np.bool_)
    rows, columns = (slice(round(start * scale), round((start + result.width_px) * scale)) for start in (top, left))
    box[rows, columns] = True
    name = f"Patch of {result.width_px} px"
    verdict = "F(X̂) is nearest to X." if example.is_repaired_nearest else "F(X̂) is nearer to another image."
    pictures = "".join(
        picture_html(name, heading, picture)
        for heading, picture in (
            ("X", image),
            ("X̂, with the patch outlined", draw_outlines(modified, box)),
            ("F(X̂)", repaired),
        )
    )
    return (
        f'<section><div class="about"><h2>{name}</h2><p>|S|/N = {result.share:.2f}, width {result.width:.2f}</p>'
        f"<p>{verdict}</p></div>{pictures}</section>"
    )


def _at_page_size(picture: Tensor) -> NDArray[np.uint8]:
    """Convert (3, S, S) uint8 to (H, W, 3) uint8, in the size of pictures on the page."""
    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
    return np.asarray(cv2.resize(pixels, (LONG_SIDE_PX, LONG_SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)
