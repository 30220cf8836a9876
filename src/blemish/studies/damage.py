"""What a method trains on: good images with its simulated damage, and with that of each ablation of its paper."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from blemish.errors import BlemishError
from blemish.methods import build
from blemish.methods.base import Ingredients, Method
from blemish.report.overlay import draw_outlines
from blemish.report.page import picture_html
from blemish.settings import CheckedSettings
from blemish.studies.output import study_page
from blemish.studies.tables import draem, dsr
from blemish.synthesis.pasted_textures import PAPER_AUGMENTATIONS

PICTURE_PX = 192
GAP_PX = 8
HEADING_PX = 26
_ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "draem": {
        "DRAEM (recipe)": {},
        **{variant.key: {**variant.settings} for variant in draem.ABLATIONS if "anomalies" in variant.settings},
        "paper-text": {
            "anomalies": {
                "augmentations": PAPER_AUGMENTATIONS,
                "min_threshold": 0.0,
                "max_threshold": 1.0,
                "min_opacity": 0.1,
            }
        },
    },
    "dsr": {
        "DSR (recipe)": {},
        "ranked by features": {"latent": {"ranking": "features"}},
        **{
            variant.key: {**variant.settings}
            for variant in dsr.ABLATIONS
            if {"latent", "anomalies"} & {*variant.settings}
        },
        **{f"lambda_s = {bound:g}": {"latent": {"similarity_bound": bound}} for bound in dsr.BOUNDS},
    },
    "ssae": {
        "SSAE (recipe)": {},
        "elastic": {"corruption": {"kinds": ["elastic"]}},
        "elastic, lighter or darker": {"corruption": {"kinds": ["elastic"], "brightness_probability": 1.0}},
        "cut-out": {"corruption": {"kinds": ["cut-out"]}},
        "swap": {"corruption": {"kinds": ["swap"]}},
        "occlusion": {"corruption": {"kinds": ["occlusion"]}},
        "rotation of the whole": {"corruption": {"kinds": ["elastic"], "rotation_probability": 1.0}},
        "limited by theorem 2": {"corruption": {"kinds": ["elastic"], "limit": "theorem"}},
        "occlusion without a limit": {"corruption": {"kinds": ["occlusion"], "limit": "none"}},
    },
}
"""Rows of the sheet: headings in ASCII, which OpenCV can write, and settings; the variants of the papers' tables."""
_ALWAYS: dict[str, dict[str, Any]] = {
    "draem": {"anomalies": {"probability": 1.0}},
    "dsr": {"anomaly_probability": 1.0},
    "ssae": {},
}
"""Settings with which every image is damaged. In training, half of them stay clean (DRÆM, DSR)."""


@dataclass(frozen=True)
class DamageRow:
    """The same images with one kind of damage.

    Attributes
    ----------
    name : of the kind.
    pictures : the method's pictures by name, (B, H, W, 3) uint8 RGB each.
    masks : (B, H, W) float32 in [0, 1].
    """

    name: str
    pictures: dict[str, NDArray[np.uint8]]
    masks: NDArray[np.float32]

    def figures(self) -> dict[str, float | str]:
        """How much is damaged: shares of the image, and of the images that show no damage at all."""
        shares = (self.masks > 0).reshape(len(self.masks), -1).mean(1)
        return {
            "damage": self.name, "mean_share": float(shares.mean()), "largest_share": float(shares.max()),
            "images_without": float((shares == 0).mean()),
        }  # fmt: skip


def damaged_rows(
    method: str,
    recipe: str,
    images: Tensor,
    ingredients_of: Callable[[Method], Ingredients],
    seed: int,
    settings: dict[str, Any],
) -> Iterator[DamageRow]:
    """A row for the recipe and for each ablation, all from the same seed.

    Parameters
    ----------
    images : (B, 3, H, W) uint8 good images, of the size of the recipe.
    ingredients_of : what a method needs beside them.
    settings : replace those of the recipe, in all rows.

    Raises
    ------
    BlemishError
        If the method simulates no damage, or a recipe or setting is wrong.
    """
    if method not in _ABLATIONS:
        raise BlemishError(f"study damage: {method} trains on no damage; methods that do: {', '.join(_ABLATIONS)}")
    for name, changes in _ABLATIONS[method].items():
        network = build(method, recipe, seed, settings)
        changed: CheckedSettings = network.settings.replaced(_ALWAYS[method]).replaced(changes)
        network = type(network).build(changed)  # type: ignore[arg-type]
        generator = Generator().manual_seed(seed)
        pictures, masks = network.eval().damage(images.float() / 255.0, ingredients_of(network), generator)
        shown = {key: _as_arrays(picture) for key, picture in pictures.items()}
        yield DamageRow(name, shown, masks[:, 0].numpy())


def sheet(images: Tensor, rows: Sequence[DamageRow]) -> NDArray[np.uint8]:
    """One picture: the good images on top, then for each kind of damage its pictures, with the damage outlined.

    Parameters
    ----------
    images : (B, 3, H, W) uint8.

    Returns
    -------
    (height, width, 3) uint8 RGB.
    """
    strips = [_strip("good images", _as_arrays(images.float() / 255.0), None)]
    for number, row in enumerate(rows):
        share = f"{100 * float(row.figures()['mean_share']):.1f} % of the image"
        *others, last = row.pictures
        if number == 0:  # what is not damaged is the same in all rows
            strips += [_strip(f"{row.name}: {name}", row.pictures[name], None) for name in others]
        strips.append(_strip(f"{row.name}: {last}, {share}", row.pictures[last], row.masks))
    return np.vstack(strips)


def damage_page(data: str, method: str, recipe: str, textures: str, picture: NDArray[np.uint8]) -> str:
    """The sheet as a page, with how to read it; ``textures`` says what damage is made of, "" if of none."""
    intro = (
        f"<p>Good images of {html.escape(data)}, and what {html.escape(method)} (recipe {html.escape(recipe)}) makes "
        f"of them to train on; then the same with the damage of each ablation. Outlined: the mask of the damage."
        f"{html.escape(f' Textures: {textures}.' if textures else '')}</p>"
    )
    image = picture_html("damage", "Damaged images", picture)
    return study_page("What is trained on", intro, (), "", READING, f"<section class='all'>{image}</section>")


READING = (
    "<p>Damage should look just out of the ordinary: neither like good images nor like another product. A mask "
    "should cover what is changed, and nothing else. Here all images are damaged; in training, half of DRÆM's and "
    "DSR's stay as they are. All rows are drawn from the same seed.</p><style>section.all { display: block; } "
    "section.all img { max-height: none; }</style>"
)


def _strip(heading: str, pictures: NDArray[np.uint8], masks: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    shown = []
    for number, picture in enumerate(pictures):
        side_wh = (PICTURE_PX, PICTURE_PX)
        enlarged = np.asarray(cv2.resize(picture, side_wh, interpolation=cv2.INTER_AREA), np.uint8)
        if masks is not None:
            mask = cv2.resize(masks[number], side_wh, interpolation=cv2.INTER_LINEAR) > 0.02
            enlarged = draw_outlines(enlarged, mask)
        shown.append(np.pad(enlarged, ((0, GAP_PX), (0, GAP_PX), (0, 0)), constant_values=255))
    strip = np.hstack(shown)
    head = np.full((HEADING_PX, strip.shape[1], 3), 255, np.uint8)
    cv2.putText(head, heading, (2, HEADING_PX - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([head, strip])


@torch.no_grad()
def _as_arrays(pictures: Tensor) -> NDArray[np.uint8]:
    """(B, 3, H, W) float in [0, 1] to (B, H, W, 3) uint8."""
    return np.ascontiguousarray((pictures * 255.0).round().byte().permute(0, 2, 3, 1).cpu().numpy())
