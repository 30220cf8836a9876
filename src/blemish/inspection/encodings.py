"""Maps, masks and regions of findings in the formats of other programs: TIFF, NPY, PNG, polygons, COCO. No files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from blemish.data.kinds import MAP_COMMENT, MASK_COMMENT
from blemish.regions import Region, region_masks

DARK_AT = 4.0
"""A 16-bit map of a photograph without defects is as dark as if its largest value were so many pixel thresholds."""


def map_tiff(anomaly_map: NDArray[np.float32]) -> bytes:
    """A map (H, W) float32 as a TIFF of 32-bit floats, losslessly compressed."""
    return _tiff(anomaly_map.astype(np.float32, copy=False), {}, predictor=True)


def map_tiff16(anomaly_map: NDArray[np.float32], pixel_threshold: float) -> bytes:
    """A map (H, W) as a TIFF of 16-bit whole numbers, times ``unit`` in the file's description (JSON) the values.

    65535 is the largest value of the map, or ``DARK_AT`` times the pixel threshold if that is more.
    """
    unit = max(float(anomaly_map.max()), DARK_AT * pixel_threshold, float(np.finfo(np.float32).tiny)) / 65535
    return _tiff(np.round(anomaly_map / unit).clip(0, 65535).astype(np.uint16), {"unit": unit}, predictor=True)


def _tiff(values: NDArray[Any], more: dict[str, float], predictor: bool) -> bytes:
    import tifffile  # takes a tenth of a second to import

    file = BytesIO()
    about = json.dumps({"kind": MAP_COMMENT.decode(), **more})
    tifffile.imwrite(
        file, values, description=about, metadata=None, software="blemish", compression="zlib",
        compressionargs={"level": 1}, predictor=predictor, rowsperstrip=64, photometric="minisblack",
    )  # fmt: skip
    return file.getvalue()


def map_npy(anomaly_map: NDArray[np.float32]) -> bytes:
    """A map (H, W) float32 as ``numpy.load`` reads it."""
    file = BytesIO()
    np.save(file, anomaly_map.astype(np.float32, copy=False))
    return file.getvalue()


def mask_png(mask: NDArray[np.bool_]) -> bytes:
    """A mask (H, W) as a PNG of 8-bit grey: 255 where the photograph is defective, 0 elsewhere."""
    _, encoded = cv2.imencode(".png", mask.astype(np.uint8) * np.uint8(255), [cv2.IMWRITE_PNG_COMPRESSION, 3])
    png = encoded.tobytes()
    end_of_header = 8 + 25  # the signature and IHDR
    return png[:end_of_header] + _text_chunk(MASK_COMMENT) + png[end_of_header:]


def _text_chunk(comment: bytes) -> bytes:
    import zlib

    content = b"tEXtComment\0" + comment
    return (len(content) - 4).to_bytes(4) + content + zlib.crc32(content).to_bytes(4)


def polygons(mask: NDArray[np.bool_], regions: Sequence[Region]) -> list[dict[str, Any]]:
    """The outlines of the regions of a mask (H, W), in their order.

    Returns
    -------
    For each region ``outline``, a list of points [x, y] in px of the photograph, through the centres of the region's
    outermost pixels; and ``holes``, a list of such outlines, through the region's pixels around each hole.
    """
    results = []
    for region, inside in zip(regions, region_masks(mask, regions), strict=True):
        corner = region.bbox_xyxy[:2]
        padded = cv2.copyMakeBorder(inside.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
        contours, hierarchy = cv2.findContours(
            padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(corner[0] - 1, corner[1] - 1)
        )
        outlines = [contour[:, 0].tolist() for contour in contours]
        is_hole = [parent >= 0 for parent in hierarchy[0, :, 3]]
        results.append(
            {
                "outline": next(points for points, hole in zip(outlines, is_hole, strict=True) if not hole),
                "holes": [points for points, hole in zip(outlines, is_hole, strict=True) if hole],
            }
        )
    return results


def rles(mask: NDArray[np.bool_], regions: Sequence[Region]) -> Iterator[dict[str, Any]]:
    """Each region of a mask (H, W) in COCO's run lengths: ``size`` [H, W] and ``counts``, compressed as text.

    Source: T.-Y. Lin et al., "Microsoft COCO", ECCV 2014, and the format that its API reads. The runs go down the
    columns, and the first one is of pixels outside.
    """
    height, width = mask.shape
    for region, inside in zip(regions, region_masks(mask, regions), strict=True):
        left, top, right, bottom = region.bbox_xyxy
        columns = np.zeros((right - left, height), np.bool_)
        columns[:, top:bottom] = inside.T
        yield {"size": [height, width], "counts": _runs(columns, left * height, height * width)}


def runs_of(mask: NDArray[np.bool_]) -> str:
    """A mask (H, W) in COCO's run lengths, as text."""
    return _runs(mask.T, 0, mask.size)


def mask_of_runs(text: str, size_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of ``runs_of``."""
    counts = list[int]()
    shift = rest = 0
    for sign in text.encode("ascii"):
        bits = sign - 48
        rest |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            rest -= (1 << shift) if bits & 0x10 else 0
            counts.append(rest + (counts[-2] if len(counts) > 2 else 0))
            shift = rest = 0
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    rows = np.zeros(size_hw[0] * size_hw[1], np.bool_)
    rows[: len(values)] = values
    return np.ascontiguousarray(rows.reshape(size_hw[1], size_hw[0]).T)


def _runs(columns: NDArray[np.bool_], n_before: int, n_px: int) -> str:
    """Run lengths of columns (w, H) that ``n_before`` pixels outside come before, of ``n_px`` pixels in all."""
    changes = np.flatnonzero(np.diff(columns.ravel(), prepend=False, append=False)) + n_before
    counts = [end - start for start, end in pairwise([0, *changes.tolist(), n_px])]
    return _as_text(counts[:-1] if counts[-1] == 0 else counts)


def _as_text(counts: Sequence[int]) -> str:
    """Run lengths as COCO's text: differences to the run before the last, in groups of 5 bits, lowest first."""
    signs = bytearray()
    for number, count in enumerate(counts):
        rest = count - counts[number - 2] if number > 2 else count
        while True:
            bits, rest = rest & 0x1F, rest >> 5
            is_last = rest == (-1 if bits & 0x10 else 0)
            signs.append(48 + (bits if is_last else bits | 0x20))
            if is_last:
                break
    return signs.decode("ascii")
