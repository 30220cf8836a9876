"""Good images for joining trained detectors: which of a folder's photographs none of them was trained on.

A detector's file holds the digest of its good images and the seed that divided them. Dividing a folder once more with
the same seed, and finding the same digest, tells exactly which photographs were held out. A folder that is none of
the parts' own is taken for one of further photographs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.duplicates import Fingerprint
from blemish.data.layouts import name_of, open_dataset
from blemish.data.loading import load_images, load_photographs
from blemish.data.looks import Looks
from blemish.errors import BlemishError, print_notices
from blemish.inspection.framing import Whole
from blemish.inspection.likeness import Likeness
from blemish.learning.alike import are_alike
from blemish.learning.calibration import TRAINED_ON
from blemish.learning.copies import to_divide
from blemish.learning.images import SplitImages, digests_of_files, fingerprints_of, notices_of, shuffled, split_images
from blemish.methods.base import Method
from blemish.thresholds import MIN_HELD_OUT, n_needed

MOST_TO_MEASURE = 60
"""Good images that centre, spread and weights are decided with, at most."""


@dataclass(frozen=True)
class Part:
    """A trained method that is to be joined with others.

    Attributes
    ----------
    source : its file, or what else errors call it.
    provenance : of its detector.
    bits, likeness : see ``Detector``.
    likeness_hw : height and width of the images that the likeness was measured on, px.
    """

    source: str
    method: Method
    provenance: Mapping[str, Any]
    bits: int | None
    likeness: Likeness | None
    likeness_hw: tuple[int, int]


@dataclass(frozen=True)
class GoodImages:
    """Good images for joining, (N, 3, H, W) uint8 each, none in both.

    Attributes
    ----------
    measure : for centre, spread and weights.
    calibration : for the threshold.
    doubt : why the threshold promises nothing; see ``thresholds.Threshold``.
    are_trained_on : whether the parts were trained on the images of ``measure``.
    """

    measure: Tensor
    calibration: Tensor
    doubt: str
    are_trained_on: bool


def good_images(
    parts: Sequence[Part],
    good: str | Path,
    layout: str,
    size_hw: tuple[int, int],
    bits: int | None,
    false_rejects: float,
    seed: int,
) -> GoodImages:
    """Read the good images of a folder or dataset, and divide them.

    In a folder that parts were trained on, the threshold is set from all images that no part has seen, and the rest
    is decided with images that all were trained on. Of a folder of further photographs, half or more set the
    threshold.

    Parameters
    ----------
    size_hw : what the images are resized to, px.
    bits : how many bits of 16-bit values are used; None if no image of the parts had 16.
    seed : divides a folder of further photographs.

    Raises
    ------
    BlemishError
        If there are too few good images, any cannot be read, or most show something else than a part has learned.
    """
    dataset = open_dataset(good, layout, only="train")
    print_notices(notices_of(dataset))
    paths = [sample.path for sample in dataset.train]
    if len(paths) < 2 * MIN_HELD_OUT:
        raise BlemishError(
            f"{good}: {_images(len(paths))}; at least {2 * MIN_HELD_OUT} are needed, 60 or more are better"
        )
    splits = {part.source: split for part in parts if (split := _split_of(part, good, layout, len(paths)))}
    if not splits:
        paths, doubt = _not_seen(parts, Path(good), paths)
        return _of_further_photographs(parts, good, paths, doubt, size_hw, bits, false_rejects, seed)
    measure, calibration, doubt = _held_out([*splits.values()])
    if unknown := [part.source for part in parts if part.source not in splits]:
        doubt = doubt or f"which of these images {_listed(unknown)} was trained on is not known"
    both = [*measure, *calibration]
    loaded = load_images(both, size_hw, bits or 16, parts[0].method.settings.resizing)
    kept = torch.tensor(_alike(parts, loaded, both, good))
    measure_images, calibration_images = loaded[kept[kept < len(measure)]], loaded[kept[kept >= len(measure)]]
    return GoodImages(measure_images, calibration_images, doubt, True)


def _alike(parts: Sequence[Part], images: Tensor, paths: Sequence[Path], good: str | Path) -> list[int]:
    """The numbers of the images that are like what each part has learned from; see ``are_alike``."""
    known = {id(part.likeness): part for part in parts if part.likeness is not None}
    numbers = [*range(len(images))]
    for part in known.values():
        assert part.likeness is not None
        left, whom = [paths[number] for number in numbers], f"those that {part.source} learned from"
        are_kept = are_alike(part.likeness, part.likeness_hw, images[torch.tensor(numbers)], left, good, whom)
        numbers = [number for number, is_kept in zip(numbers, are_kept, strict=True) if is_kept]
    return numbers


def _images(n: int) -> str:
    return f"{n} good image{'s' * (n != 1)}"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# --- the folder that the parts were trained on ---------------------------------------------------------------


def _split_of(part: Part, good: str | Path, layout: str, n_good: int) -> SplitImages | None:
    """How ``fit`` divided these images for a part; None if it was not trained on them."""
    about, settings = part.provenance, part.method.settings
    n_train, n_validation, n_calibration = (
        int(about.get(name) or 0) for name in ("n_train", "n_validation", "n_calibration")
    )
    if not about.get("data_sha256") or not 2 * MIN_HELD_OUT <= n_train + n_validation + n_calibration <= n_good:
        return None
    split = split_images(
        good, None if n_calibration else "none", layout, Whole(settings.size_hw, settings.resizing),
        int(about["seed"]), part.method.validation_share, part.bits, is_quiet=True,
    )  # fmt: skip
    return split if split.sha256 == about["data_sha256"] else None


def _held_out(splits: Sequence[SplitImages]) -> tuple[list[Path], list[Path], str]:
    """Images that all parts were trained on (at most ``MOST_TO_MEASURE``), images that none was, and the doubt."""
    seen = [{*split.paths[: len(split.train) + len(split.validation)]} for split in splits]
    held_out = [[*split.paths[len(split.train) + len(split.validation) :]] for split in splits]
    common = [path for path in held_out[0] if all(path in others for others in held_out[1:])]
    doubt = next((split.doubt for split in splits if split.doubt), "")
    if len(common) < MIN_HELD_OUT:
        common = [*dict.fromkeys(path for others in held_out for path in others)]
        nothing = any(not others for others in held_out)
        remedy = "without --calibration none" if nothing else "with the same --seed"
        doubt = f"not enough images were held out by all parts; fit them {remedy}"
    if len(common) < MIN_HELD_OUT:  # nothing was held out at all: --calibration none
        common, doubt = sorted(set[Path]().union(*seen)), TRAINED_ON
    in_all = [path for path in splits[0].paths if all(path in paths for paths in seen) and path not in {*common}]
    measure = in_all if len(in_all) >= MIN_HELD_OUT else [path for path in splits[0].paths if path not in {*common}]
    return _spread(measure or common), common, doubt


def _spread(paths: Sequence[Path]) -> list[Path]:
    """At most ``MOST_TO_MEASURE`` of the images, evenly spaced."""
    n = min(len(paths), MOST_TO_MEASURE)
    return [paths[number * len(paths) // n] for number in range(n)]


# --- what was trained on ---------------------------------------------------------------------------------------


def seen_of(provenances: Sequence[Mapping[str, Any]]) -> set[str]:
    """Digests of the files that detectors were trained on."""
    return {digest for provenance in provenances for digest in provenance.get("seen", ())}


def are_copies(provenances: Sequence[Mapping[str, Any]], photographs: Sequence[Fingerprint]) -> NDArray[np.bool_]:
    """Whether each photograph looks like one that detectors were trained on, (N,); see ``data.looks``."""
    found = np.zeros(len(photographs), np.bool_)
    for about in provenances:
        if about.get("looks"):
            found |= Looks.from_description(about["looks"]).are_copies(photographs)
    return found


# --- a folder of further photographs ---------------------------------------------------------------------------


def _not_seen(parts: Sequence[Part], good: Path, paths: list[Path]) -> tuple[list[Path], str]:
    """The photographs that no part was trained on, and the doubt; all, with a doubt, if there are too few of them."""
    seen = seen_of([part.provenance for part in parts])
    new = [path for path, digest in zip(paths, digests_of_files(paths), strict=True) if digest not in seen]
    if len(new) < 2 * MIN_HELD_OUT:
        return paths, f"parts were trained on {len(paths) - len(new)} of these {len(paths)} images"
    if len(new) < len(paths):
        print_notices([f"{good}: parts were trained on {len(paths) - len(new)} of these images; they are left out"])
    unknown = [part for part in parts if "seen" not in part.provenance]
    return new, _doubt_by_name(unknown, good, len(new))


def _doubt_by_name(parts: Sequence[Part], good: Path, n_good: int) -> str:
    """The doubt about a folder that is called as that of a part, and as large, although its images are others."""
    alike = [
        part.source
        for part in parts
        if part.provenance.get("data") == name_of(good) and n_good >= int(part.provenance.get("n_train") or 0)
    ]
    if not alike:
        return ""
    return f"{_listed(alike)} may have been trained on some of these images (of a folder called {name_of(good)}, too)"


def _of_further_photographs(
    parts: Sequence[Part],
    good: str | Path,
    paths: Sequence[Path],
    doubt: str,
    size_hw: tuple[int, int],
    bits: int | None,
    false_rejects: float,
    seed: int,
) -> GoodImages:
    resizing = parts[0].method.settings.resizing
    loaded, _ = load_photographs(paths, size_hw, bits or 16, resizing)
    alike = _alike(parts, loaded, paths, good)
    if len(alike) < 2 * MIN_HELD_OUT:
        raise BlemishError(f"{good}: {_images(len(alike))} are left; at least {2 * MIN_HELD_OUT} are needed")
    paths, loaded = [paths[number] for number in alike], loaded[torch.tensor(alike)]
    fingerprints = fingerprints_of(paths, loaded)
    copies = are_copies([part.provenance for part in parts], [fingerprints[path] for path in paths])
    new = [path for path, is_copy in zip(paths, copies, strict=True) if not is_copy]
    copied = f"{len(paths) - len(new)} of these {len(paths)} images look like photographs that parts were trained on"
    if len(new) < 2 * MIN_HELD_OUT:
        new, doubt = [*paths], doubt or copied
    elif len(new) < len(paths):
        print_notices([f"{good}: {copied}; they are left out"])
    apart = to_divide(good, new, fingerprints)
    print_notices([apart.notice] if apart.notice else [])
    number = {path: position for position, path in enumerate(paths)}
    order = [number[group[0]] for group in shuffled(apart.groups, seed)]
    n_measure = n_to_measure(len(order), false_rejects)
    measure, calibration = (loaded[torch.tensor(part)] for part in (order[:n_measure], order[n_measure:]))
    return GoodImages(measure, calibration, apart.doubt or doubt, False)


def n_to_measure(n_good: int, false_rejects: float) -> int:
    """How many of ``n_good`` further photographs decide scale and weights: never those that the promise needs.

    Half of them if that leaves enough for the threshold, and at most ``MOST_TO_MEASURE``. If the rate cannot be
    promised with any division, half of them.
    """
    half = min(n_good // 2, MOST_TO_MEASURE)
    spare = n_good - n_needed(false_rejects)
    return min(half, spare) if spare >= MIN_HELD_OUT else half
