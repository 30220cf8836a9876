"""Is the repair an orthogonal projection onto the good images (SSAE, section 3.4)? Measured as in figure 9.

A square patch of a good image X is replaced by the same area of another good image, which gives X^. If the repair F
is an orthogonal projection, F(X^) is the good image nearest to X^. This is X as long as patches are not too large.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from blemish.errors import BlemishError

Repair = Callable[[Tensor], Tensor]
"""F: maps float (B, 3, S, S) images in [0, 1] to images of the same shape."""
HALF_WIDTH = 0.5**0.5
"""Normalized width of a patch that covers half of the image, |S| / N = 0.5."""
NARROWEST, WIDEST = 0.05, 0.95
BATCH_SIZE = 8
CHUNK = 2**16
"""Number of values of each image that are converted to float64 at a time."""
TIE = 1e-6
"""Squared distances that differ by less count as equal. One grey level in one value is a difference of 1.5e-5."""


class Trials(NamedTuple):
    """The patches that are replaced, and their replacements: T trials of one width."""

    own: Tensor
    """(T,) int64, index of X."""
    donor: Tensor
    """(T,) int64, index of the image that the patch is taken from, never ``own``."""
    top_left: Tensor
    """(T, 2) int64, y and x of the patch's upper left corner, px."""

    def select(self, indices: Tensor) -> Trials:
        """The trials with the given (B,) int64 indices."""
        return Trials(*(values[indices] for values in self))


class Example(NamedTuple):
    """One trial for the page; images are (3, S, S) uint8."""

    image: Tensor
    modified: Tensor
    repaired: Tensor
    top_left: tuple[int, int]
    is_repaired_nearest: bool


@dataclass(frozen=True)
class AtWidth:
    """The results of the trials with patches of one width."""

    width_px: int
    side_px: int
    """Side of the image."""
    modified_nearest: Tensor
    """(T,) bool: no good image is nearer to X^ than X."""
    repaired_nearest: Tensor
    """(T,) bool: no good image is nearer to F(X^) than X."""
    modified_norm: Tensor
    """(T,) float64, |X^ - X| for values in [0, 1]: the distance if F did nothing."""
    repaired_norm: Tensor
    """(T,) float64, |F(X^) - X|."""
    n_values: int
    """N: number of values of an image, in all channels."""
    example: Example

    @property
    def width(self) -> float:
        """Normalized width of the patch: sqrt(|S| / N)."""
        return self.width_px / self.side_px

    @property
    def share(self) -> float:
        """Share of the image that the patch covers: |S| / N."""
        return self.width**2

    def row(self) -> dict[str, float | int]:
        """The row of this width in the table; see ``figures``."""
        return {"width_px": self.width_px, "width": self.width, "share": self.share, **figures([self])}


def figures(results: Sequence[AtWidth]) -> dict[str, float | int]:
    """Figures over the trials of at least one width.

    Returns
    -------
    ``trials`` : number of trials.
    ``modified_nearest``, ``repaired_nearest`` : share of trials in which X is the good image nearest to X^ and to
        F(X^), in [0, 1].
    ``rms_mean``, ``rms_std`` : mean and population standard deviation of the distance of F(X^) from X, as root mean
        square per value; ``modified_rms_mean`` is the mean for X^.
    ``norm_per_n_mean``, ``norm_per_n_std``, ``modified_norm_per_n_mean`` : the same for the norm divided by N, as in
        the paper's figure. Values are in [0, 1]; N counts all channels.
    """
    n = results[0].n_values
    modified, repaired = (
        torch.cat([getattr(result, name) for result in results]) for name in ("modified_norm", "repaired_norm")
    )
    summary: dict[str, float | int] = {"trials": len(repaired)}
    for name in ("modified_nearest", "repaired_nearest"):
        summary[name] = float(torch.cat([getattr(result, name) for result in results]).double().mean())
    for name, unit in (("rms", n**0.5), ("norm_per_n", n)):
        summary[f"{name}_mean"] = float(repaired.mean() / unit)
        summary[f"{name}_std"] = float(repaired.std(correction=0) / unit)
        summary[f"modified_{name}_mean"] = float(modified.mean() / unit)
    return summary


def widths_px(n: int, side_px: int) -> list[int]:
    """At most ``n`` patch widths, evenly from 0.05 to 0.95 of the image's side, without duplicates."""
    return sorted({max(1, round(float(share) * side_px)) for share in torch.linspace(NARROWEST, WIDEST, n).double()})


def draw_trials(n_images: int, side_px: int, width_px: int, repeats: int, generator: Generator) -> Trials:
    """For each of ``n_images`` >= 2 images, ``repeats`` trials with a random position and a random other image."""
    own = torch.arange(n_images).repeat(repeats)
    donor = (own + torch.randint(1, n_images, own.shape, generator=generator)) % n_images
    return Trials(own, donor, torch.randint(side_px - width_px + 1, (len(own), 2), generator=generator))


def swap_patches(images: Tensor, trials: Trials, width_px: int) -> Tensor:
    """X^ of each trial: (T, C, S, S), of the dtype of ``images`` (N, C, S, S), which are not changed."""
    modified = images[trials.own]  # (T, C, S, S), a copy
    for image, donor, (top, left) in zip(modified, trials.donor.tolist(), trials.top_left.tolist(), strict=True):
        patch = (slice(None), slice(top, top + width_px), slice(left, left + width_px))
        image[patch] = images[donor][patch]
    return modified


def is_nearest(candidates: Tensor, own: Tensor, images: Tensor) -> Tensor:
    """Whether the image nearest to each candidate is its own.

    Parameters
    ----------
    candidates : (B, C, S, S) float in [0, 1].
    own : (B,) int64, index of each candidate's own image.
    images : (N, C, S, S) uint8, all good images.

    Returns
    -------
    (B,) bool; a tie, as with a copy of the own image, counts as nearest.
    """
    flat, flat_images = candidates.flatten(1), images.flatten(1)  # (B, C S S), (N, C S S)
    distances = torch.zeros(len(candidates), len(images), dtype=torch.float64, device=candidates.device)  # (B, N)
    for start in range(0, flat.shape[1], CHUNK):  # |Y|^2 - 2 <A, Y>, because |A|^2 is the same for all Y
        a, y = flat[:, start : start + CHUNK].double(), flat_images[:, start : start + CHUNK].double() / 255.0
        distances += y.square().sum(1) - 2.0 * (a @ y.T)
    return distances.gather(1, own[:, None])[:, 0] <= distances.amin(1) + TIE


@torch.inference_mode()
def measure(images: Tensor, repair: Repair, widths: Sequence[int], repeats: int, seed: int) -> Iterator[AtWidth]:
    """Replace patches, repair them, and compare with all good images; yields one result per width.

    Parameters
    ----------
    images : (N, 3, S, S) uint8 good images, N >= 2, on the device of ``repair``.
    repair : F.
    widths : widths of the patches, px, from 1 to S.
    repeats : number of trials per image and width.
    seed : for positions and other images. Device and batch size do not change the trials.

    Raises
    ------
    BlemishError
        If there are fewer than 2 images, or a repaired image has values that are not finite.
    """
    if len(images) < 2:
        raise BlemishError("patches are taken from other images: give at least 2 good images")
    generator, side_px = Generator().manual_seed(seed), images.shape[-1]
    for number, width_px in enumerate(widths):
        trials = draw_trials(len(images), side_px, width_px, repeats, generator)
        parts = []
        for indices in torch.split(torch.arange(len(trials.own)), BATCH_SIZE):
            own = trials.own[indices].to(images.device)
            original, modified, repaired = _try(images, repair, trials.select(indices), width_px)
            differences = (changed.double() - original.double() for changed in (modified, repaired))
            norms = [difference.flatten(1).norm(dim=1) for difference in differences]  # (B,) each
            if not norms[1].isfinite().all():
                raise BlemishError("a repaired image has values that are not finite; train the detector again")
            parts.append((is_nearest(modified, own, images), is_nearest(repaired, own, images), *norms))
        nearest_before, nearest, norm_before, norm = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
        shown = number * len(trials.own) // len(widths)  # a different image for each width
        batches = _try(images, repair, trials.select(torch.tensor([shown])), width_px)
        image, modified, repaired = ((batch[0] * 255.0).round().clamp(0, 255).byte().cpu() for batch in batches)
        top, left = trials.top_left[shown].tolist()
        example = Example(image, modified, repaired, (top, left), bool(nearest[shown]))
        yield AtWidth(width_px, side_px, nearest_before, nearest, norm_before, norm, images[0].numel(), example)


def _try(images: Tensor, repair: Repair, trials: Trials, width_px: int) -> tuple[Tensor, Tensor, Tensor]:
    """X, X^ and F(X^), each (T, C, S, S) float32 in [0, 1]."""
    modified = swap_patches(images, trials, width_px).float() / 255.0
    return images[trials.own].float() / 255.0, modified, repair(modified).float()
