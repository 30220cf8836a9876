"""Evaluate a detector on labelled test images. Reads labels; never changes the detector."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.layouts import Dataset, Defect, DefectMasks, Sample, name_of, open_dataset
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.evaluation.protocols import DEFAULT_PROTOCOL, Protocol, protocol_named
from blemish.inspection.findings import unlike_text
from blemish.inspection.framing import Whole
from blemish.inspection.region import RegionOfInterest
from blemish.inspection.sources import photographs
from blemish.inspection.stream import Judgement, judge
from blemish.methods import changed_settings
from blemish.metrics import Rankings, Region, Regions, StreamingMetrics, rank_maps
from blemish.metrics.streaming import error_bounds
from blemish.metrics.summary import rates_at

MAX_EXACT_PX = 2**26
"""Largest number of pixels for exact metrics: 1024 maps of 256x256, which take 1 GiB. For more pixels the metrics
come from histograms, with a bound on their error."""
ALL = ""  # never the name of a defect


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation."""

    metrics: dict[str, Any]
    """The content of ``metrics.json``."""
    samples: tuple[Sample, ...]
    scores: NDArray[np.float64]
    """(N,) image scores, in the order of ``samples``."""
    rankings: Rankings
    """Rankings of all samples, for the curves."""
    unlike: tuple[tuple[str, ...], ...] = ()
    """Why each sample is unlike the good images that the detector has learned from; mostly empty."""
    notices: tuple[str, ...] = ()
    """Lines about what was left out, about masks that may be wrong, and about photographs unlike the good images."""
    rejected: Collection[Path] | None = None
    """The samples that are judged defective; None if the score alone decides."""

    @property
    def is_rejected(self) -> NDArray[np.bool_]:
        """(N,) bool, which samples are judged defective."""
        if self.rejected is None:
            return np.asarray(self.scores > self.metrics["threshold"])
        return np.array([sample.path in self.rejected for sample in self.samples])


def evaluate(
    detector: Detector,
    data: str | Path,
    layout: str = "auto",
    protocol: str = DEFAULT_PROTOCOL,
    mask_values: str = "auto",
) -> Evaluation:
    """Inspect the test images of a dataset and compare the results with their labels and masks.

    The pixels of a defective image without a known mask are not counted; `Evaluation.notices` names the image.

    Parameters
    ----------
    mask_values : which pixels of masks are defective; see ``data.masks.checked_mask_values``.
    protocol : a name in ``evaluation.protocols.PROTOCOLS``; the default compares at 256x256.

    Raises
    ------
    BlemishError
        If the data have no labelled test images, an image cannot be read, or the protocol is unknown.
    """
    rules = protocol_named(protocol)
    judging = _resizing_as(detector, rules)
    dataset = open_dataset(data, layout, only=rules.split, mask_values=mask_values)
    samples = _samples_of(dataset, rules)
    noted = _Noted()
    results = _results(detector, judging, samples, rules, noted)
    n_px = (rules.resolution**2 if isinstance(rules.resolution, int) else math.prod(detector.size_hw)) * len(samples)
    maps_are_photographs = rules.resolution == "original" or not isinstance(detector.framing, Whole)
    has_one_size = isinstance(rules.resolution, int) or not maps_are_photographs
    is_exact = has_one_size and n_px <= MAX_EXACT_PX
    rankings = (_rank_exactly if is_exact else _rank_in_bins)(samples, results)

    threshold, groups = detector.threshold.value, _groups(samples)
    metrics = _row(rankings[ALL], threshold, samples, groups[ALL])
    metrics |= {
        "threshold": threshold,
        "false_rejects": None if metrics["tnr"] is None else 1.0 - metrics["tnr"],
        "found": metrics["tpr"],
        "protocol": rules.name,
        "protocol_description": rules.description,
    }
    if not is_exact:
        metrics["error_bounds"] = _without_nan(error_bounds(rankings[ALL]))
    rows = {name: _row(rankings[name], threshold, samples, groups[name]) for name in sorted(set(rankings) - {ALL})}
    metrics["by_defect"] = {name: {**row, "found": row["tpr"]} for name, row in rows.items()}
    metrics |= _origin(detector, Path(data), dataset)
    metrics |= _rates_of_verdicts(metrics, noted.rejected, samples, groups) if detector.min_area_px else {}
    unlike = tuple(noted.reasons[sample.path] for sample in samples)
    metrics |= _n_unlike(samples, unlike) | {"n_outside_region": len(noted.outside)}
    lines = [line for sample in samples for line in noted.doubts.get(sample.path, [])]
    lines += [unlike_text(str(path), texts) for path, texts in noted.reasons.items() if texts]
    notices = (*_left_out(dataset, samples), *lines, *_about_framing(detector, judging, rules, metrics))
    scores = rankings[ALL].image_scores.astype(np.float64)
    by_area = noted.rejected if detector.min_area_px else None
    return Evaluation(metrics, samples, scores, rankings[ALL], unlike, notices, by_area)


def _samples_of(dataset: Dataset, protocol: Protocol) -> tuple[Sample, ...]:
    samples = tuple(sample for sample in dataset.samples if sample.split == protocol.split)
    if not samples:
        raise BlemishError(
            f"{dataset.root}: no test images with labels; evaluate needs test/good and test/<defect>, or a .csv "
            f"manifest"
        )
    return samples


def _n_unlike(samples: tuple[Sample, ...], unlike: tuple[tuple[str, ...], ...]) -> dict[str, int]:
    """How many good and how many defective samples are unlike the good images that the detector has learned from."""
    counts = {"n_good_unlike": 0, "n_defective_unlike": 0}
    for sample, texts in zip(samples, unlike, strict=True):
        counts["n_defective_unlike" if sample.is_defective else "n_good_unlike"] += bool(texts)
    return counts


def _resizing_as(detector: Detector, protocol: Protocol) -> Detector:
    """The detector, or a copy that resizes photographs as the protocol says, and does not look for unlike ones."""
    framing = detector.framing
    if protocol.images is None or not isinstance(framing, Whole) or framing.resizing == protocol.images:
        return detector
    judging = copy(detector)
    judging.framing, judging.likeness = replace(framing, resizing=protocol.images), None
    return judging


def _about_framing(
    detector: Detector, judging: Detector, protocol: Protocol, metrics: Mapping[str, Any]
) -> list[str]:
    """Lines about photographs that are resized otherwise, or not looked at everywhere."""
    if isinstance(detector.framing, RegionOfInterest):
        lines = ["figures of pixels are those of the detector's region of interest; no pixel outside of it counts"]
        if n_outside := metrics["n_outside_region"]:
            lines.append(
                f"{n_outside} of {metrics['n_defective']} defective images have no labelled pixel in the region of "
                f"interest, but figures of images count them; leave them out of the data if they do not matter"
            )
        return lines
    if judging is detector:
        return []
    return [
        f"protocol {protocol.name} resizes photographs otherwise ({protocol.images}) than this detector, which has "
        f"learned from others ({detector.settings.resizing}): its scores, and figures at its threshold, suffer"
    ]


@dataclass(frozen=True)
class _Result:
    """Image score, anomaly map and mask of one sample; map and mask are (H, W), converted by the protocol."""

    score: float
    map: NDArray[Any]
    mask: NDArray[np.bool_] | None
    """None if the mask is not known."""
    regions: Regions
    """The annotated defects within the mask; None if their saturation areas are not known."""
    counted: NDArray[np.bool_] | None = None
    """(H, W) bool, which pixels are in the region of interest, the same for all samples; None if all count."""


@dataclass
class _Noted:
    """What is found out about the samples, by path: what is doubtful about masks; why an image, resized as by the
    detector itself, is unlike the good ones; which images are rejected, if that depends on the area of regions; and
    which defective ones have no labelled pixel in the region of interest."""

    doubts: dict[Path, list[str]] = field(default_factory=dict)
    reasons: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    rejected: set[Path] = field(default_factory=set)
    outside: set[Path] = field(default_factory=set)


def _results(
    detector: Detector,
    judging: Detector,
    samples: tuple[Sample, ...],
    protocol: Protocol,
    noted: _Noted,
) -> Iterator[_Result]:
    """Inspect the samples with ``judging`` and yield their results in order; adds to what is noted."""
    sources = list(photographs(sample.path for sample in samples))
    by_name = {source.name: sample for source, sample in zip(sources, samples, strict=True)}

    def result_of(judgement: Judgement) -> _Result:
        sample = by_name[judgement.checked().photograph.name]
        if detector.min_area_px and judgement.finding.is_defective:
            noted.rejected.add(sample.path)
        noted.reasons[sample.path] = tuple(judgement.unlike)
        if detector.likeness is not None and judging.likeness is None and judgement.image is not None:
            overview = detector.framing.overview(judgement.image)
            noted.reasons[sample.path] = tuple(detector.likeness.reasons(overview, judgement.size_hw))
        region = judging.framing if isinstance(judging.framing, RegionOfInterest) else None
        crop: Callable[[NDArray[Any]], NDArray[Any]] = (lambda pixels: pixels) if region is None else region.crop
        own_map = crop(judgement.map)
        anomaly_map = protocol.of_map(own_map, crop(judgement.pixels).shape[:2])
        mask: NDArray[np.bool_] | None = None
        counted = None if region is None else protocol.of_mask(crop(region.mask), own_map.shape)
        regions: Regions = None if sample.is_defective else ()
        if sample.mask is not None:
            defects: list[Defect] = []
            if isinstance(sample.mask, DefectMasks):
                defects = sample.mask.defects(judgement.size_hw)
                drawn = np.logical_or.reduce([defect.mask for defect in defects])
            else:
                drawn = sample.mask.read(judgement.size_hw)  # (H, W) bool, of the image's own size
            noted.doubts[sample.path] = sample.mask.doubts(sample.path, drawn)
            if region is not None:
                drawn, defects, regions = crop(drawn & region.mask), [], None
                if sample.is_defective and not drawn.any():
                    noted.outside.add(sample.path)
            network_hw = own_map.shape[0], own_map.shape[1]
            mask = protocol.of_mask(drawn, network_hw)
            mask = mask if counted is None else mask & counted
            if defects:
                regions, lines = _regions(sample, defects, protocol, mask, network_hw)
                noted.doubts[sample.path] += lines
        elif not sample.is_defective:
            mask = np.zeros(anomaly_map.shape, np.bool_)
        return _Result(judgement.score, anomaly_map, mask, regions, counted)

    return judge(judging, sources, result_of)


def _regions(
    sample: Sample,
    defects: Sequence[Defect],
    protocol: Protocol,
    mask: NDArray[np.bool_],
    network_hw: tuple[int, int],
) -> tuple[Regions, list[str]]:
    """The annotated defects of a sample within its converted mask, or None, and lines about what is wrong."""
    lines = [defect.doubt for defect in defects if defect.doubt]
    regions: list[Region] = []
    for defect in defects:
        if not defect.mask.any():
            continue
        if defect.saturation_px is None:
            return None, lines
        regions.append(protocol.of_region(Region(defect.mask, defect.saturation_px), mask, network_hw))
    kept = [region for region in regions if region.mask.any()]
    if n_lost := len(regions) - len(kept):
        are = "is" if n_lost == 1 else "are"
        lines.append(
            f"{sample.path}: {n_lost} of its {len(regions)} annotated defects {are} too small for protocol "
            f"{protocol.name}, or outside of its crop, and not counted in AUsPRO; protocol original/1 counts all"
        )
    return kept, lines


def _have_regions(samples: tuple[Sample, ...]) -> bool:
    """Whether the defects of these samples are annotated one by one, so that there is AUsPRO."""
    return any(isinstance(sample.mask, DefectMasks) for sample in samples)


def _groups(samples: tuple[Sample, ...]) -> dict[str, NDArray[np.bool_]]:
    """Return the groups of samples to evaluate: all, and each kind of defect with all good samples; (N,) bool."""
    kinds = np.array([sample.defect if sample.is_defective else "" for sample in samples])
    groups = {str(kind): (kinds == kind) | (kinds == "") for kind in np.unique(kinds) if kind}
    return groups | {ALL: np.ones(len(samples), np.bool_)}


def _rank_exactly(samples: tuple[Sample, ...], results: Iterator[_Result]) -> dict[str, Rankings]:
    """Return the rankings of all groups, computed from all maps in memory."""
    all_results = list(results)
    scores = np.array([result.score for result in all_results])
    labels = np.array([sample.is_defective for sample in samples])
    has_mask = np.array([result.mask is not None for result in all_results])
    rankings = {}
    for group, is_member in _groups(samples).items():
        is_used = is_member & has_mask  # (N,) bool, samples whose pixels are ranked
        used = [result for result, use in zip(all_results, is_used, strict=True) if use]
        maps = np.stack([result.map for result in used]) if used else np.empty((0, 1, 1), np.float32)
        masks = [result.mask for result in used if result.mask is not None]
        all_masks = np.stack(masks) if masks else np.empty((0, 1, 1), bool)
        regions = [result.regions for result in used] if _have_regions(samples) else None
        pixels = rank_maps(maps, all_masks, scores[is_used], labels[is_used], regions, all_results[0].counted)
        rankings[group] = replace(pixels, image_scores=scores[is_member], is_defective=labels[is_member])
    return rankings


def _rank_in_bins(samples: tuple[Sample, ...], results: Iterator[_Result]) -> dict[str, Rankings]:
    """Return the same rankings from histograms, with few maps in memory at a time."""
    groups = _groups(samples)
    metrics, has_regions = {group: StreamingMetrics() for group in groups}, _have_regions(samples)
    for number, (sample, result) in enumerate(zip(samples, results, strict=True)):
        score, label = [result.score], [sample.is_defective]
        for group, is_member in groups.items():
            if not is_member[number]:
                continue
            if result.mask is None:
                metrics[group].update_images(score, label)
            else:
                regions = [result.regions] if has_regions else None
                metrics[group].update(result.map[None], result.mask[None], score, label, regions, result.counted)
    return {group: streaming.rankings() for group, streaming in metrics.items()}


def _row(
    rankings: Rankings, threshold: float, samples: tuple[Sample, ...], is_member: NDArray[np.bool_]
) -> dict[str, Any]:
    """The metrics of a group of samples, and of how many defective ones the pixels are known."""
    metrics = rankings.metrics(threshold)
    members = [sample for sample, is_in in zip(samples, is_member, strict=True) if is_in]
    n_masks = sum(sample.mask is not None for sample in members if sample.is_defective)
    if metrics["n_defective"] and not n_masks:
        metrics["reasons"] |= {name: "no masks" for name in metrics["reasons"] if name.startswith("pixel")}
    return _without_nan({**metrics, "n_masks": n_masks})


def _rates_of_verdicts(
    metrics: Mapping[str, Any],
    rejected: Collection[Path],
    samples: tuple[Sample, ...],
    groups: Mapping[str, NDArray[np.bool_]],
) -> dict[str, Any]:
    """The rates of right verdicts anew, where a verdict depends on more than the score."""
    labels = np.array([sample.is_defective for sample in samples])
    verdicts = np.array([sample.path in rejected for sample in samples])
    rates = {
        name: _without_nan(rates_at(verdicts[is_member], labels[is_member], 0.5)._asdict())
        for name, is_member in groups.items()
    }
    rows = {name: {**row, **rates[name], "found": rates[name]["tpr"]} for name, row in metrics["by_defect"].items()}
    tnr, tpr = rates[ALL]["tnr"], rates[ALL]["tpr"]
    return {**rates[ALL], "found": tpr, "false_rejects": None if tnr is None else 1.0 - tnr, "by_defect": rows}


def _left_out(dataset: Dataset, samples: tuple[Sample, ...]) -> list[str]:
    """Lines about test images and masks that do not count, or not everywhere."""
    lines = [fault.text for fault in dataset.faults if fault.is_notice and fault.split != "train"]
    faults = {fault.path: fault.text for fault in dataset.faults if fault.about == "mask"}
    defective = [sample for sample in samples if sample.is_defective]
    without = [sample for sample in defective if sample.mask is None]
    if without and len(without) == len(defective):
        example = f" (such as {faults[without[0].path]})" if without[0].path in faults else ""
        lines.append(
            f"{dataset.root}: no mask for any of the {len(defective)} defective test images, so there are no figures "
            f"of pixels{example}"
        )
        return lines
    if without:
        lines.append(
            f"{dataset.root}: {len(without)} of {len(defective)} defective test images have no mask; figures of "
            f"pixels are without them:"
        )
    return lines + [faults.get(sample.path, f"{sample.path}: no mask; add one") for sample in without]


def _origin(detector: Detector, path: Path, dataset: Dataset) -> dict[str, Any]:
    """Return which detector was evaluated on which data, so that `metrics.json` is self-contained.

    `blemish compare` sorts by these values.
    """
    settings, chosen = detector.settings.result_settings(), detector.provenance.get("chosen", {})
    changed = changed_settings(detector.method_name, detector.provenance.get("recipe", ""), detector.settings, chosen)
    description = {
        "method": detector.method_name,
        **_without_photographs(detector.provenance),
        # Settings chosen on good images are results: runs that differ only in them have the same settings.
        "settings": settings | dict.fromkeys(chosen, "chosen"),
        "changed_settings": sorted(changed),
    }
    return {"data": name_of(path), "layout": dataset.layout, "detector": description}


def _without_photographs(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance, also of parts, without what tells training photographs: hundreds of lines that nobody reads."""
    return {
        name: _without_photographs(value) if isinstance(value, Mapping) else value
        for name, value in provenance.items()
        if name not in ("seen", "looks")
    }


def _without_nan(metrics: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN (a metric that is undefined because a class is missing) by None, because JSON has no NaN."""
    return {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in metrics.items()}
