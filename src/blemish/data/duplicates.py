"""Photographs that are the same although their bytes differ: saved again, in another format, quality or size.

Two photographs are the same if their fine structure correlates, twice: as it is, after what all photographs have in
common is subtracted, so that parts which look alike do not count as one part; and with all spatial frequencies made
equally strong, so that two fabrics or boards do not count as one because their grids happen to coincide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE_PX = 64
"""Photographs are compared at this size, in grey."""
BLUR_PX = 2.0
"""Standard deviation of the blur that is subtracted, so that light and shade do not count."""
SURELY_SAME = 0.985
"""Correlation above which two photographs are the same in any case."""
RARELY_SAME = 0.9
"""Correlation below which they never are: what few references have in common is not what all have."""
MARGIN = 0.01
"""How much more alike than any two different references the same photograph must be."""
CLOSER = 0.25
"""How much closer to correlation 1 the same photograph is than the next that is not surely the same. Rigid parts that
are printed alike, on a fixture with a play of some pixels, may be as alike as copies, but then many are."""
EVENED_SAME = 0.6
"""Correlation below which two photographs are never the same, with all frequencies equally strong: coinciding grids
reach 0.05, and bottles, pills and tiles that were saved as JPEG of quality 50, 0.8."""
NOISE = 0.5
"""Grey levels of noise that evening the frequencies does not amplify."""
N_COMPARED = 500
"""References that are compared with all references, to learn how alike different photographs are."""
BLOCK = 1024
"""Photographs that are compared with all at a time, which bounds the memory."""


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a photograph to recognize it by."""

    digest: bytes
    """Of size and pixels: equal for equal pixels only."""
    thumbnail: NDArray[np.uint8]
    """(64, 64) grey."""

    @classmethod
    def of(cls, image: NDArray[np.uint8]) -> Fingerprint:
        """Take it from an image (H, W, 3) uint8 RGB."""
        pixels = np.ascontiguousarray(image)
        salt = f"{image.shape[1]}x{image.shape[0]}".encode()
        digest = hashlib.blake2b(pixels.data, digest_size=16, salt=salt).digest()
        grey = Image.fromarray(pixels).convert("L")
        return cls(digest, np.array(grey.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)))


def find_same(images: Sequence[Fingerprint], references: Sequence[Fingerprint]) -> NDArray[np.int64]:
    """For each image, which reference shows the same photograph.

    The correlation is compared with that of the most similar pair of different references.

    Returns
    -------
    (N,) int64 index into ``references``, -1 for an image that is none of them.
    """
    if not images or not references:
        return np.full(len(images), -1, np.int64)
    known = _Structure.of(references)
    rows = np.linspace(0, len(references) - 1, min(len(references), N_COMPARED)).astype(int)
    between = known.details[rows] @ known.details.T
    different = between[between < SURELY_SAME]
    limit = min(SURELY_SAME, max(RARELY_SAME, float(different.max(initial=-1.0)) + MARGIN))
    first = {reference.digest: number for number, reference in reversed([*enumerate(references)])}
    same = np.array([first.get(image.digest, -1) for image in images], np.int64)
    for start in range(0, len(images), BLOCK):
        block = images[start : start + BLOCK]
        differences = known.differences(block)
        correlations = _details(differences) @ known.details.T  # (n, M)
        stands_out = _stands_out(correlations)
        for number, nearest in enumerate(correlations.argmax(1)):
            if same[start + number] < 0 and correlations[number, nearest] >= limit and stands_out[number]:
                reference = known.differences([references[nearest]])[0]
                if known.are_same_evened(differences[number], reference):
                    same[start + number] = nearest
    return same


def first_shown(photographs: Sequence[Fingerprint]) -> NDArray[np.int64]:
    """For each photograph, the first one that is the same: its own index if there is none before.

    How alike different photographs are is not known here, so only those that are the same in any case count.

    Returns
    -------
    (N,) int64, never above the photograph's own index.
    """
    if not photographs:
        return np.empty(0, np.int64)
    known, first_by_digest = _Structure.of(photographs), dict[bytes, int]()
    first = np.arange(len(photographs))
    for start in range(0, len(photographs), BLOCK):
        block = known.details[start : start + BLOCK]
        correlations = block @ known.details.T  # (n, N)
        rows, own = np.arange(len(block)), start + np.arange(len(block))
        correlations[rows, own] = -1.0
        stands_out = _stands_out(correlations)
        correlations[np.arange(len(photographs)) > own[:, None]] = -1.0  # only earlier ones count
        nearest = correlations.argmax(1)
        is_near = (correlations[rows, nearest] >= SURELY_SAME) & stands_out
        for number in range(start, start + len(block)):
            earlier = first_by_digest.setdefault(photographs[number].digest, number)
            candidate = int(nearest[number - start])
            if earlier < number:
                first[number] = first[earlier]
            elif is_near[number - start]:
                pair = known.differences([photographs[number], photographs[candidate]])
                if known.are_same_evened(*pair):
                    first[number] = first[candidate]
    return first


def _stands_out(correlations: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether the nearest of (N, M) is much nearer than the nearest that is not surely the same: (N,) bool."""
    others = np.where(correlations < SURELY_SAME, correlations, -1.0)
    highest = correlations.max(1, initial=-1.0)
    is_sure = highest >= SURELY_SAME
    others[~is_sure, correlations[~is_sure].argmax(1)] = -1.0  # the nearest itself
    return np.asarray(1 - highest <= CLOSER * (1 - others.max(1, initial=-1.0)))


@dataclass(frozen=True)
class _Structure:
    """What photographs have in common, and in what each differs from it."""

    common: NDArray[np.float32]
    """(64, 64) mean thumbnail."""
    strength: NDArray[np.float32]
    """(64, 33) mean amplitude of each frequency, of what is not common."""
    details: NDArray[np.float32]
    """(N, 4096), see ``_details``."""

    @classmethod
    def of(cls, photographs: Sequence[Fingerprint]) -> _Structure:
        common = np.zeros((SIDE_PX, SIDE_PX))
        for photograph in photographs:
            common += photograph.thumbnail
        common /= len(photographs)
        details = np.empty((len(photographs), SIDE_PX**2), np.float32)
        power = np.full((SIDE_PX, SIDE_PX // 2 + 1), len(photographs) * NOISE**2 * SIDE_PX**2)
        for start in range(0, len(photographs), BLOCK):
            block = photographs[start : start + BLOCK]
            differences = (np.stack([photograph.thumbnail for photograph in block]) - common).astype(np.float32)
            details[start : start + BLOCK] = _details(differences)
            power += (np.abs(np.fft.rfft2(differences)) ** 2).sum(0)
        strength = np.sqrt(power / len(photographs))
        return cls(common.astype(np.float32), strength.astype(np.float32), details)

    def differences(self, photographs: Sequence[Fingerprint]) -> NDArray[np.float32]:
        """(N, 64, 64) thumbnails without what is common."""
        return np.stack([photograph.thumbnail for photograph in photographs]) - self.common

    def are_same_evened(self, *pair: NDArray[np.float32]) -> bool:
        """Whether two differences (64, 64) correlate with all frequencies equally strong."""
        evened = np.fft.irfft2(np.fft.rfft2(np.stack(pair)) / self.strength, s=(SIDE_PX, SIDE_PX))
        first, second = _normed(evened.reshape(2, -1))
        return float(first @ second) >= EVENED_SAME


def _details(differences: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fine structure of (N, 64, 64) images as vectors (N, 4096) of mean 0 and length 1; 0 for a flat image."""
    y, x = np.fft.fftfreq(SIDE_PX)[:, None], np.fft.rfftfreq(SIDE_PX)
    fine = 1 - np.exp(-2 * (np.pi * BLUR_PX) ** 2 * (y**2 + x**2))  # what the blur takes away
    return _normed(
        np.fft.irfft2(np.fft.rfft2(differences) * fine, s=(SIDE_PX, SIDE_PX)).reshape(len(differences), -1)
    )


def _normed(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    """Vectors (N, M) of mean 0 and length 1; 0 where they do not vary by more than rounding."""
    vectors = vectors - vectors.mean(1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 1e-3, lengths, np.inf), dtype=np.float32)
