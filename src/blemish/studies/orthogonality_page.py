"""The page of the study of orthogonality: the three charts of SSAE's figure 9, their reading, and some trials."""

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


def orthogonality_page(found: Sequence[AtWidth], data_name: str, detector_name: str, n_images: int) -> str:
    """The page as HTML.

    Parameters
    ----------
    found : of each width, by rising width; at least one.
    detector_name : method and recipe.
    """
    below = [one for one in found if one.share < 0.5]
    intro = (
        f"<p>Detector {html.escape(detector_name)}, on {n_images} good training images X of "
        f"{html.escape(data_name)}, at {found[0].side_px} px. A square patch S of X, at a random place, was replaced "
        f"by the same place of another good image, which gives X̂; the detector repaired it, which gives F(X̂). "
        f"{len(found)} patch widths, {figures(found[:1])['trials']} trials each.</p>"
    )
    return study_page(
        f"{data_name}: is the repair an orthogonal projection onto good images?",
        intro,
        _figures(below),
        _charts(found),
        reading("How to read the charts", _reading(found, below, n_images)),
        "\n".join(map(_row_html, _some(found))),
        "After figure 9 of Bauer, Nakajima, Müller, Self-Supervised Training with Autoencoders for Visual Anomaly "
        "Detection (arXiv:2206.11723), section 4.2. N counts an image's values in all channels; they are in [0, 1].",
    )


def _figures(below: Sequence[AtWidth]) -> list[Figure]:
    if not below:
        return []
    all_of, n = figures(below), "of {} trials with patches of less than half of the image."
    told = n.format(all_of["trials"])
    error = f"{all_of['rms_mean']:.4f} ± {all_of['rms_std']:.4f}"
    return [
        Figure("X̂ nearest to its own X", percent(all_of["modified_nearest"]), f"Before the repair, {told}"),
        Figure("F(X̂) nearest to its own X", percent(all_of["repaired_nearest"]), f"After it, {told}"),
        Figure(
            "Error of F(X̂)",
            error,
            f"Root mean square per value in [0, 1]; of X̂, before the repair: {all_of['modified_rms_mean']:.4f}.",
        ),
    ]


def _charts(found: Sequence[AtWidth]) -> str:
    rows = [one.row() for one in found]
    column = {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}
    x, often = Axis(WIDTH), Axis("share of trials")
    limit = ("|S|/N = 0.5", HALF_WIDTH)
    nearest = [
        curves_chart(title, x, often, [(name, Curve(column["width"], column[key]))], limit=limit)
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
            ("X̂ − X, no repair", Curve(column["width"], column["modified_rms_mean"])),
        ],
        band=band,
        limit=limit,
    )
    return "".join([*nearest, error])


def _reading(found: Sequence[AtWidth], below: Sequence[AtWidth], n_images: int) -> list[str]:
    lines = [
        "<b>What is asked.</b> An orthogonal projection F gives back, for any image, the good image nearest to it. "
        "Then |X̂ − F(X̂)|, which SSAE's anomaly score is made of, is the distance from what is good.",
        "<b>Before the repair.</b> With a patch of another image Y in it, X̂ differs from X inside the patch only, "
        "and from Y outside of it only. So X stays nearest while X and Y differ less inside than outside: surely for "
        "small patches, by chance about the upright line, where the patch is half of the image, and rarely "
        "beyond. Where X̂ itself has left X, a projection cannot be expected to find it again.",
        "<b>After the repair.</b> If F is nearly orthogonal, F(X̂) lies nearest to X wherever X̂ does: to the left of "
        "the upright line this curve should be as high as the first. Where it is lower, F moves images towards "
        f"others, or all of them towards one: an F that always gives the same image reaches 1 of {n_images}.",
        "<b>Distance from the original.</b> Where patches are small, the line is what F loses of any image, fine "
        "detail mostly. If it stays flat, patches are repaired; if it rises with the dashed one, which is X̂ as it "
        "was, they are left as they are. The paper prints |F(X̂) − X| / N, which is this divided by √N = "
        f"{found[0].n_values ** 0.5:.0f}, and so near 0 for any large image; the CSV has both.",
    ]
    if below:
        of = figures(below)
        lines.append(
            f"<b>Measured here.</b> For |S|/N &lt; 0.5, the repaired image lies nearest its own original in "
            f"{percent(of['repaired_nearest'])} of the trials, the modified one in "
            f"{percent(of['modified_nearest'])}; the repair is off by {of['rms_mean']:.4f} ± {of['rms_std']:.4f} per "
            f"value (root mean square), X̂ by {of['modified_rms_mean']:.4f}; divided by N as in the paper, the "
            f"repair's distance is {of['norm_per_n_mean']:.2g}."
        )
    lines.append(
        f"<b>Mind.</b> Nearest means among these {n_images} images, and the detector may have been trained on them. "
        f"It is easily reached with few images, or such as differ much. Where good images hardly differ, as those of "
        f"one rigid part, a repair can look right and still lie nearer to another."
    )
    return lines


def _some(found: Sequence[AtWidth]) -> list[AtWidth]:
    """Those whose trial is shown: some, evenly."""
    n = min(len(found), MOST_PICTURES)
    return [found[(2 * number + 1) * len(found) // (2 * n)] for number in range(n)]


def _row_html(one: AtWidth) -> str:
    example, (top, left) = one.example, one.example.top_left
    image, modified, repaired = map(_shown, (example.image, example.modified, example.repaired))
    scale = LONG_SIDE_PX / one.side_px
    box = np.zeros(image.shape[:2], np.bool_)
    rows, columns = (slice(round(at * scale), round((at + one.width_px) * scale)) for at in (top, left))
    box[rows, columns] = True
    name = f"Patch of {one.width_px} px"
    verdict = "F(X̂) lies nearest to X." if example.is_repaired_nearest else "F(X̂) lies nearer to another image."
    pictures = "".join(
        picture_html(name, heading, picture)
        for heading, picture in (
            ("X", image),
            ("X̂, the patch outlined", draw_outlines(modified, box)),
            ("F(X̂)", repaired),
        )
    )
    return (
        f'<section><div class="about"><h2>{name}</h2><p>|S|/N = {one.share:.2f}, width {one.width:.2f}</p>'
        f"<p>{verdict}</p></div>{pictures}</section>"
    )


def _shown(picture: Tensor) -> NDArray[np.uint8]:
    """(3, S, S) uint8 to (H, W, 3), at the page's size."""
    pixels = np.ascontiguousarray(picture.permute(1, 2, 0).numpy())
    return np.asarray(cv2.resize(pixels, (LONG_SIDE_PX, LONG_SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)
