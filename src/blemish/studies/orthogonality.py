"""Is the repair an orthogonal projection onto the good images (SSAE, section 3.4)? Measured as in figure 9.

A square patch of a good image X is replaced by the same place of another good image, which gives X^. Were the repair
F orthogonal, F(X^) would be the good image nearest to X^; and that is X, as long as patches are not too large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from blemish.errors import BlemishError

Repair = Callable[[Tensor], Tensor]
"""F: float (B, 3, S, S) in [0, 1] to the same."""
HALF_WIDTH = 0.5**0.5
"""Normalized width of a patch that covers half of the image, |S| / N = 0.5."""
NARROWEST, WIDEST = 0.05, 0.95
BATCH_SIZE = 8
CHUNK = 2**16
"""Values of each image that are in float64 at a time."""
TIE = 1e-6
"""Squared distances that differ by less are equal; one grey level of one value makes 1.5e-5."""


class Trials(NamedTuple):
    """Which patches are replaced by which, T of one width."""

    own: Tensor
    """(T,) int64, the number of X."""
    donor: Tensor
    """(T,) int64, the number of the image that the patch is taken from, never ``own``."""
    top_left: Tensor
    """(T, 2) int64, y and x of the patch, px."""

    def some(self, numbers: Tensor) -> Trials:
        """Those of (B,) int64 numbers."""
        return Trials(*(part[numbers] for part in self))


class Example(NamedTuple):
    """One trial to look at; pictures are (3, S, S) uint8."""

    image: Tensor
    modified: Tensor
    repaired: Tensor
    top_left: tuple[int, int]
    is_repaired_nearest: bool


@dataclass(frozen=True)
class AtWidth:
    """What the trials with patches of one width gave."""

    width_px: int
    side_px: int
    """Of the image."""
    modified_nearest: Tensor
    """(T,) bool: no good image is nearer to X^ than X."""
    repaired_nearest: Tensor
    """(T,) bool: none is nearer to F(X^) than X."""
    modified_norm: Tensor
    """(T,) float64, |X^ - X|, values in [0, 1]: what F would leave if it did nothing."""
    repaired_norm: Tensor
    """(T,) float64, |F(X^) - X|."""
    n_values: int
    """N: of an image, all channels."""
    example: Example

    @property
    def width(self) -> float:
        """Normalized: sqrt(|S| / N)."""
        return self.width_px / self.side_px

    @property
    def share(self) -> float:
        """|S| / N."""
        return self.width**2

    def row(self) -> dict[str, float | int]:
        """The figures of one line of the table, as ``figures`` has them."""
        return {"width_px": self.width_px, "width": self.width, "share": self.share, **figures([self])}


def figures(found: Sequence[AtWidth]) -> dict[str, float | int]:
    """What the trials of some widths, at least one, give together.

    Returns
    -------
    Their number (``trials``); how often X is nearest to X^ (``modified_nearest``) and to F(X^)
    (``repaired_nearest``), in [0, 1]; mean and standard deviation (divided by the number of trials) of the distance
    of F(X^) from X and the mean of that of X^: ``rms``, the root mean square per value, and ``norm_per_n``, the norm
    divided by the number N of values as in the paper's figure. Values are in [0, 1], and N counts all channels.
    """
    n = found[0].n_values
    modified, repaired = (
        torch.cat([getattr(one, name) for one in found]) for name in ("modified_norm", "repaired_norm")
    )
    result: dict[str, float | int] = {"trials": len(repaired)}
    for name in ("modified_nearest", "repaired_nearest"):
        result[name] = float(torch.cat([getattr(one, name) for one in found]).double().mean())
    for name, unit in (("rms", n**0.5), ("norm_per_n", n)):
        result[f"{name}_mean"] = float(repaired.mean() / unit)
        result[f"{name}_std"] = float(repaired.std(correction=0) / unit)
        result[f"modified_{name}_mean"] = float(modified.mean() / unit)
    return result


def widths_px(n: int, side_px: int) -> list[int]:
    """At most ``n`` patch widths, evenly from 0.05 to 0.95 of the image's side; fewer where they fall together."""
    return sorted({max(1, round(float(share) * side_px)) for share in torch.linspace(NARROWEST, WIDEST, n).double()})


def draw_trials(n_images: int, side_px: int, width_px: int, repeats: int, generator: Generator) -> Trials:
    """For each of ``n_images`` >= 2, ``repeats`` random places and other images."""
    own = torch.arange(n_images).repeat(repeats)
    donor = (own + torch.randint(1, n_images, own.shape, generator=generator)) % n_images
    return Trials(own, donor, torch.randint(side_px - width_px + 1, (len(own), 2), generator=generator))


def swap_patches(images: Tensor, trials: Trials, width_px: int) -> Tensor:
    """X^ of each trial: (T, C, S, S), of the dtype of ``images`` (N, C, S, S), which are not changed."""
    modified = images[trials.own]
    for one, donor, (top, left) in zip(modified, trials.donor.tolist(), trials.top_left.tolist(), strict=True):
        place = (slice(None), slice(top, top + width_px), slice(left, left + width_px))
        one[place] = images[donor][place]
    return modified


def is_nearest(some: Tensor, own: Tensor, images: Tensor) -> Tensor:
    """Whether each of ``some`` has no nearer neighbour among ``images`` than the one called its own.

    Parameters
    ----------
    some : (B, C, S, S) float in [0, 1].
    own : (B,) int64, numbers of images.
    images : (N, C, S, S) uint8, all good images.

    Returns
    -------
    (B,) bool; a tie, as with a copy of the image, counts as nearest.
    """
    flat, others = some.flatten(1), images.flatten(1)
    distances = torch.zeros(len(some), len(images), dtype=torch.float64, device=some.device)
    for start in range(0, flat.shape[1], CHUNK):  # |Y|^2 - 2 <A, Y>: |A|^2 is the same for every Y
        a, y = flat[:, start : start + CHUNK].double(), others[:, start : start + CHUNK].double() / 255.0
        distances += y.square().sum(1) - 2.0 * (a @ y.T)
    return distances.gather(1, own[:, None])[:, 0] <= distances.amin(1) + TIE


@torch.inference_mode()
def measure(images: Tensor, repair: Repair, widths: Sequence[int], repeats: int, seed: int) -> Iterator[AtWidth]:
    """Replace patches, repair, and compare with all good images; a result for each width, as it is ready.

    Parameters
    ----------
    images : (N, 3, S, S) uint8 good images, N >= 2, on the device of ``repair``.
    repair : F.
    widths : of the patches, px, from 1 to S.
    repeats : trials of each image at each width.
    seed : of places and other images. The same for any device and batch size.

    Raises
    ------
    BlemishError
        If there is nothing to replace a patch by, or a repair holds what is no number.
    """
    if len(images) < 2:
        raise BlemishError("a patch is replaced by another image's: at least 2 good images are needed")
    generator, side_px = Generator().manual_seed(seed), images.shape[-1]
    for number, width_px in enumerate(widths):
        trials = draw_trials(len(images), side_px, width_px, repeats, generator)
        parts = []
        for batch in torch.split(torch.arange(len(trials.own)), BATCH_SIZE):
            own = trials.own[batch].to(images.device)
            original, modified, repaired = _try(images, repair, trials.some(batch), width_px)
            norms = [(one.double() - original.double()).flatten(1).norm(dim=1) for one in (modified, repaired)]
            if not norms[1].isfinite().all():
                raise BlemishError("a repaired image is no number; the detector is damaged, train it anew")
            parts.append((is_nearest(modified, own, images), is_nearest(repaired, own, images), *norms))
        nearest_before, nearest, norm_before, norm = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
        shown = number * len(trials.own) // len(widths)  # another image for each width
        tried = _try(images, repair, trials.some(torch.tensor([shown])), width_px)
        image, modified, repaired = ((one[0] * 255.0).round().clamp(0, 255).byte().cpu() for one in tried)
        top, left = trials.top_left[shown].tolist()
        example = Example(image, modified, repaired, (top, left), bool(nearest[shown]))
        yield AtWidth(width_px, side_px, nearest_before, nearest, norm_before, norm, images[0].numel(), example)


def _try(images: Tensor, repair: Repair, trials: Trials, width_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """X, X^ and F(X^), each (T, C, S, S) float32 in [0, 1]."""
    modified = swap_patches(images, trials, width_px).float() / 255.0
    return images[trials.own].float() / 255.0, modified, repair(modified).float()
