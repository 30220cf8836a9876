"""Hold a detector against labelled test images. Reads labels; never changes the detector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.layouts import Dataset, Sample, name_of, open_dataset
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.evaluation.protocols import DEFAULT_PROTOCOL, Protocol, protocol_named
from blemish.inspection.sources import photographs
from blemish.inspection.stream import Judgement, judge
from blemish.metrics import Rankings, StreamingMetrics, rank_maps
from blemish.metrics.streaming import error_bounds

MAX_EXACT_PX = 2**26
"""Of more pixels than these (1024 maps of 256x256; exact metrics take a GiB for them) the metrics come from
histograms, with a bound on their error."""
ALL = ""  # no kind of defect is called that


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    metrics: dict[str, Any]
    """The content of ``metrics.json``."""
    samples: tuple[Sample, ...]
    scores: NDArray[np.float64]
    """(N,) image scores, in the order of ``samples``."""
    rankings: Rankings
    """Of all samples, for the curves."""


def evaluate(
    detector: Detector, data: str | Path, layout: str = "auto", protocol: str = DEFAULT_PROTOCOL
) -> Evaluation:
    """Inspect a dataset's test images and compare with their labels and masks.

    The pixels of a defective image whose mask is not known count nowhere.

    Parameters
    ----------
    protocol : name of one of ``evaluation.protocols.PROTOCOLS``; the default compares at 256x256, like the papers.

    Raises
    ------
    BlemishError
        If the data hold no labelled test images, or one of them cannot be read; or the protocol is unknown.
    """
    rules = protocol_named(protocol)
    dataset = open_dataset(data, layout)
    samples = tuple(one for one in dataset.samples if one.split == rules.split)
    if not samples:
        raise BlemishError(
            f"{data}: no test images with labels; evaluate needs test/good and test/<defect>, or a .csv manifest"
        )
    results = _results(detector, samples, rules)
    n_px = (rules.resolution if isinstance(rules.resolution, int) else detector.size_hw[0]) ** 2 * len(samples)
    is_exact = rules.resolution != "original" and n_px <= MAX_EXACT_PX
    ranked = (_rank_exactly if is_exact else _rank_in_bins)(samples, results)

    threshold = detector.threshold.value
    metrics = _row(ranked[ALL], threshold)
    metrics |= {
        "threshold": threshold,
        "false_rejects": None if metrics["tnr"] is None else 1.0 - metrics["tnr"],
        "found": metrics["tpr"],
        "protocol": rules.name,
        "protocol_description": rules.description,
    }
    if not is_exact:
        metrics["error_bounds"] = _comparable(error_bounds(ranked[ALL]))
    metrics["by_defect"] = {}
    for defect in sorted(set(ranked) - {ALL}):
        row = _row(ranked[defect], threshold)
        metrics["by_defect"][defect] = {**row, "found": row["tpr"]}
    metrics |= _origin(detector, Path(data), dataset)
    return Evaluation(metrics, samples, ranked[ALL].image_scores.astype(np.float64), ranked[ALL])


@dataclass(frozen=True)
class _Result:
    """Score, anomaly map and mask of one sample, both (H, W) as the protocol has them."""

    score: float
    map: NDArray[Any]
    mask: NDArray[np.bool_] | None
    """None if it is not known."""


def _results(detector: Detector, samples: tuple[Sample, ...], protocol: Protocol) -> Iterator[_Result]:
    """One for each sample, in their order."""
    sources = list(photographs(sample.path for sample in samples))
    by_name = {source.name: sample for source, sample in zip(sources, samples, strict=True)}

    def compared(judgement: Judgement) -> _Result:
        sample = by_name[judgement.checked().photograph.name]
        anomaly_map = protocol.of_map(judgement.map, judgement.size_hw)
        mask: NDArray[np.bool_] | None = None
        if sample.mask is not None:
            mask = protocol.of_mask(sample.mask.read(judgement.size_hw), detector.size_hw)
        elif not sample.is_defective:
            mask = np.zeros(anomaly_map.shape, np.bool_)
        return _Result(judgement.score, anomaly_map, mask)

    return judge(detector, sources, compared)


def _groups(samples: tuple[Sample, ...]) -> dict[str, NDArray[np.bool_]]:
    """Which samples are looked at together: all, and each kind of defect with all good ones; (N,) bool."""
    kinds = np.array([sample.defect if sample.is_defective else "" for sample in samples])
    groups = {str(kind): (kinds == kind) | (kinds == "") for kind in np.unique(kinds) if kind}
    return groups | {ALL: np.ones(len(samples), np.bool_)}


def _rank_exactly(samples: tuple[Sample, ...], results: Iterator[_Result]) -> dict[str, Rankings]:
    """The rankings of all groups, from all maps in memory."""
    found = list(results)
    scores = np.array([one.score for one in found])
    labels = np.array([sample.is_defective for sample in samples])
    known = np.array([one.mask is not None for one in found])
    ranked = {}
    for group, chosen in _groups(samples).items():
        drawn = [one for one, is_in in zip(found, chosen & known, strict=True) if is_in]
        maps = np.stack([one.map for one in drawn]) if drawn else np.empty((0, 1, 1), np.float32)
        masks = np.stack([one.mask for one in drawn if one.mask is not None]) if drawn else np.empty((0, 1, 1), bool)
        pixels = rank_maps(maps, masks, scores[chosen & known], labels[chosen & known])
        ranked[group] = replace(pixels, image_scores=scores[chosen], is_defective=labels[chosen])
    return ranked


def _rank_in_bins(samples: tuple[Sample, ...], results: Iterator[_Result]) -> dict[str, Rankings]:
    """The same from histograms: one map in memory at a time."""
    groups = _groups(samples)
    metrics = {group: StreamingMetrics() for group in groups}
    for number, (sample, result) in enumerate(zip(samples, results, strict=True)):
        score, label = [result.score], [sample.is_defective]
        for group, chosen in groups.items():
            if not chosen[number]:
                continue
            if result.mask is None:
                metrics[group].update_images(score, label)
            else:
                metrics[group].update(result.map[None], result.mask[None], score, label)
    return {group: one.rankings() for group, one in metrics.items()}


def _row(rankings: Rankings, threshold: float) -> dict[str, Any]:
    return _comparable(rankings.metrics(threshold))


def _origin(detector: Detector, path: Path, dataset: Dataset) -> dict[str, Any]:
    """What was tested on what: the file is understood wherever it lies, and `blemish compare` sorts by it."""
    settings = detector.settings.of_the_result()
    description = {
        "method": detector.method_name,
        **detector.provenance,
        # What was chosen on good images is a result, not a setting: runs that differ in it are alike.
        "settings": settings | dict.fromkeys(detector.provenance.get("chosen", {}), "chosen"),
    }
    return {"data": name_of(path), "layout": dataset.layout, "detector": description}


def _comparable(metrics: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: what is not defined (a class is missing) becomes null."""
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in metrics.items()}
