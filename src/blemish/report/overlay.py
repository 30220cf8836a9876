"""Draw findings onto photographs. Pure functions: arrays in, arrays out; pictures are (H, W, 3) uint8 RGB."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.errors import BlemishError

if TYPE_CHECKING:
    from blemish.detector import Finding

Rgb = tuple[int, int, int]

OUTLINE_RGB: Rgb = (255, 221, 0)
BORDER_RGB: Rgb = (0, 0, 0)
DEFECT_RGB: Rgb = (168, 30, 6)
UNLIKE_RGB: Rgb = (92, 60, 128)
PASS_RGB: Rgb = (0, 92, 120)  # colour-blind readers can tell it from the red of defects
PAPER_RGB: Rgb = (32, 32, 32)

HIT_RGB: Rgb = (0, 158, 115)
EXTRA_RGB: Rgb = (240, 228, 66)
MISSED_RGB: Rgb = (204, 92, 167)
"""Colours of pixels that are defective and outlined; only outlined; only defective. Colour-blind readers can tell
them apart (after Okabe and Ito), also by their lightness."""

MIN_LONG_SIDE_PX = 448
"""Smaller images are enlarged by an integer factor before outlines are drawn."""
MIN_PICTURE_WIDTH_PX = 320
"""Narrower pictures get a margin, so that the caption fits."""


def draw_outlines(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw outlines just outside the regions of a mask, so that even a hairline defect stays visible.

    The line is yellow with a black border on both sides, which is visible on any background. Its width grows with the
    square root of the image's area, so that it does not cover a narrow strip.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB
    mask : (H, W) bool

    Returns
    -------
    (H, W, 3) uint8 RGB, a copy.
    """
    picture = image.copy()
    if not mask.any():
        return picture
    line_px = max(2, round(float(np.sqrt(mask.size)) / 300))
    gap_px = (line_px + 1) // 2 + 3  # the inner black line ends where the mask begins
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * gap_px + 1, 2 * gap_px + 1))
    widened = cv2.dilate(mask.astype(np.uint8), disc)
    contours, _ = cv2.findContours(widened, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for colour, width_px in ((BORDER_RGB, line_px + 2), (OUTLINE_RGB, line_px)):
        cv2.drawContours(picture, contours, -1, colour, width_px, cv2.LINE_AA)
    return picture


def draw_region(image: NDArray[np.uint8], region: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw the border of the region of interest, thinner than outlines of defects, and dashed.

    Dashes are white and black in turn, so that half of them are visible on any background.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB
    region : (H, W) bool, true inside.

    Returns
    -------
    (H, W, 3) uint8 RGB, a copy.
    """
    picture = image.copy()
    line_px = max(1, round(float(np.sqrt(region.size)) / 900))
    dash_px = 8 * line_px
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for contour in contours:
        dashes = [contour[start : start + dash_px + 1] for start in range(0, len(contour), dash_px)]
        for first, value in enumerate((255, 0)):
            cv2.polylines(picture, dashes[first::2], False, (value,) * 3, line_px)
    return picture


def draw_hits_and_misses(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], true_mask: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Colour the pixels that were found, falsely outlined, and missed; all others are grey.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB
    mask : (H, W) bool, the predicted mask.
    true_mask : (H, W) bool, the defective pixels.

    Returns
    -------
    (H, W, 3) uint8 RGB
    """
    picture = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] * 0.6 + 40, 3, axis=2)
    colours = ((mask & true_mask, HIT_RGB), (mask & ~true_mask, EXTRA_RGB), (true_mask & ~mask, MISSED_RGB))
    for part, colour in colours:
        picture[part] = 0.35 * picture[part] + 0.65 * np.array(colour)
    return np.asarray(np.round(picture), dtype=np.uint8)


def draw_map(image: NDArray[np.uint8], anomaly_map: NDArray[Any], threshold: float) -> NDArray[np.uint8]:
    """Draw the anomaly map as a heatmap over the photograph in grey.

    The colour scale depends on the threshold alone, not on the image. The threshold is the middle of the scale;
    values below half of it are not coloured, so a good image stays grey.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB
    anomaly_map : (H, W) float, >= 0
    threshold : of the map's values; with 0, everything above 0 is coloured.

    Returns
    -------
    (H, W, 3) uint8 RGB
    """
    heat = heat_scale(anomaly_map, threshold)
    opacity = np.clip((heat - 1 / 3) / (1 / 2 - 1 / 3), 0, 1)[..., None] * 0.85
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] * 0.6 + 40
    picture = grey * (1 - opacity) + heat_colours(heat) * opacity
    return np.asarray(np.round(picture), dtype=np.uint8)


def heat_scale(values: NDArray[Any], threshold: float) -> NDArray[np.float32]:
    """Scale map values >= 0 to [0, 1): the threshold to 1/2, half of it to 1/3, twice of it to 2/3."""
    positive = np.maximum(values, 0).astype(np.float32)
    tiny = float(np.finfo(np.float32).tiny)
    return np.asarray(positive / (positive + max(threshold, tiny)), dtype=np.float32)


def heat_colours(heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Colours (..., 3) uint8 RGB of values in [0, 1], from dark to bright: their order is visible in grey, too."""
    index = np.round(np.clip(heat, 0, 1) * 255).astype(np.uint8)
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_INFERNO)[:, 0, ::-1]
    return np.asarray(table[index], dtype=np.uint8)


def score_texts(score: float, threshold: float) -> tuple[str, str]:
    """Score and threshold as text, with as many digits as are needed to see which is larger."""
    for digits in (3, 4, 6, 9):
        texts = f"{score:.{digits}g}", f"{threshold:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts


def overlay(image: NDArray[np.uint8], finding: Finding, region: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """The picture of one inspected image: the photograph with outlines, and below it a caption with the verdict.

    Parameters
    ----------
    image : (H, W, 3) uint8 RGB
    finding : the finding for this image.
    region : (H, W) bool, the region of interest, whose border is drawn; None if all was judged.

    Returns
    -------
    (H', W', 3) uint8 RGB. The photograph is at the top left, with its original pixels unless it is small. A small one
    is enlarged by an integer factor; a narrow one gets a margin at the right.
    """
    factor = -(-MIN_LONG_SIDE_PX // max(image.shape[:2]))
    size_wh = image.shape[1] * factor, image.shape[0] * factor
    mask, photograph = finding.mask, image
    if factor > 1:
        mask = cv2.resize(mask.astype(np.float32), size_wh, interpolation=cv2.INTER_LINEAR) > 0.5
        photograph = np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    if region is not None:
        photograph = draw_region(
            photograph, cv2.resize(region.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST) > 0
        )
    margin_px = max(0, MIN_PICTURE_WIDTH_PX - size_wh[0])
    picture = cv2.copyMakeBorder(
        draw_outlines(photograph, mask), 0, 0, 0, margin_px, cv2.BORDER_CONSTANT, value=PAPER_RGB
    )
    score, threshold = score_texts(finding.score, finding.threshold)
    if finding.unlike:
        more = f" (and {len(finding.unlike) - 1} more)" if len(finding.unlike) > 1 else ""
        return np.vstack([picture, _caption(f"UNLIKE   {finding.unlike[0]}{more}", UNLIKE_RGB, picture.shape)])
    verdict, colour = ("DEFECT", DEFECT_RGB) if finding.is_defective else ("PASS", PASS_RGB)
    small = f", {finding.too_small}" if finding.too_small else ""
    return np.vstack(
        [picture, _caption(f"{verdict}   score {score}, limit {threshold}{small}", colour, picture.shape)]
    )


def _caption(text: str, background: Rgb, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """A strip with text, as wide as the picture; its height grows with the picture, and the text is scaled to fit."""
    height_px = round(float(np.clip(np.sqrt(shape[0] * shape[1]) / 16, 24, 240)))
    strip = np.full((height_px, shape[1], 3), background, np.uint8)
    thickness = max(1, height_px // 18)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, thickness)
    left_px = height_px // 3
    scale = min(0.5 * height_px / height, (shape[1] - 2 * left_px) / width)
    origin = left_px, round((height_px + scale * height) / 2)
    cv2.putText(strip, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return strip


def as_jpeg(picture: NDArray[np.uint8], quality: int = 90) -> bytes:
    """An (H, W, 3) uint8 RGB picture as JPEG, without chroma subsampling, which would make thin lines grey.

    Raises
    ------
    BlemishError
        If a side is too long for JPEG.
    """
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    if max(picture.shape) > 65_500:
        shape = picture.shape
        raise BlemishError(
            f"a picture of {shape[1]}x{shape[0]} px is too long for JPEG; cut the photograph into pieces"
        )
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    return encoded.tobytes()


def as_png(picture: NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) uint8 RGB picture as PNG, compressed quickly."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    return encoded.tobytes()
