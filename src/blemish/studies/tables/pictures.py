"""Pictures below a table: what the trained variants make of the same defective images (DSR's and SSAE's figures)."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.data.layouts import open_dataset
from blemish.data.reading import read_image
from blemish.detector import Detector
from blemish.devices import resolve_device
from blemish.fleet.cells import DETECTOR
from blemish.report.overlay import draw_map
from blemish.report.page import fitted, picture_html
from blemish.studies.objectives import shown_samples
from blemish.studies.tables.plan import Category, Request, cell_name

SHOWN = {
    "dsr-figure-9": ("reconstruction", "object-specific"),
    "ssae-figure-11": ("map",),
    "ssae-section-4.4": ("reconstruction", "map"),
    "draem-3": ("reconstruction", "map"),
    "dsr-6": ("object-specific", "map"),
}
"""What is drawn for each variant of a table: explanations of the method by name, or its map."""
PICTURE_PX = 160
MAP = "map"


def pictures_html(request: Request, out: Path) -> str:
    """Rows of pictures for each category that detectors of the first seed are trained on; "" for most tables."""
    if request.table.name not in SHOWN:
        return ""
    return "\n".join(row for category in request.categories for row in _rows(request, out, category))


def _rows(request: Request, out: Path, category: Category) -> Iterator[str]:
    detectors = _detectors(request, out, category)
    if not detectors:
        return
    for sample in shown_samples(open_dataset(category.path).test):
        image = read_image(sample.path, next(iter(detectors.values())).bits)
        size_hw = image.shape[0], image.shape[1]
        mask = sample.mask.read(size_hw) if sample.mask else np.zeros(size_hw, np.bool_)
        photograph = fitted(image, PICTURE_PX)
        pictures: list[tuple[str, NDArray[np.uint8]]] = [("Photograph", photograph)]
        for label, detector in detectors.items():
            finding = detector.inspect(image, explain=True)
            for name in SHOWN[request.table.name]:
                if name == MAP:
                    heat = fitted(finding.map, PICTURE_PX)
                    pictures.append((f"{label}: map", draw_map(photograph, heat, detector.pixel_threshold)))
                elif name in finding.explanation:
                    pictures.append((f"{label}: repair", fitted(finding.explanation[name], PICTURE_PX)))
        true = fitted(np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2), PICTURE_PX)
        name = f"{category.name}/{sample.path.parent.name}/{sample.path.name}"
        figures = "".join(picture_html(name, *picture) for picture in [*pictures, ("True mask", true)])
        yield f'<section class="pictures"><h2>{html.escape(name)}</h2>{figures}</section>'


def _detectors(request: Request, out: Path, category: Category) -> Mapping[str, Detector]:
    """The detectors of the first seed that are trained, by the label of the variant."""
    detectors = {}
    for variant in request.table.variants:
        path = out / cell_name(category, variant, request.seeds[0]) / DETECTOR
        if path.exists() and not variant.of:
            detectors[variant.label] = Detector.load(path, resolve_device("cpu"))
    return detectors
