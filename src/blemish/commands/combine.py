"""``blemish combine``: join trained detectors to one file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from blemish.artifact import artifact_at
from blemish.devices import Device
from blemish.errors import BlemishError
from blemish.files import check_new, folder_for_files
from blemish.learning.combining import combine


def combine_run(
    paths: Sequence[Path], good: Path, out: Path, false_rejects: float, seed: int, layout: str, device: Device
) -> None:
    """Write the joined detector, and print what was chosen and what the threshold promises."""
    detectors = [artifact_at(path) for path in paths]
    if out.suffix != ".blemish":
        raise BlemishError(f"--out {out}: should end in .blemish")
    if out.resolve() in [path.resolve() for path in detectors]:
        raise BlemishError(f"--out {out}: is one of the detectors; choose another name")
    check_new(out)
    resolved = [path.resolve() for path in detectors]
    if twice := [path for number, path in enumerate(detectors) if resolved[number] in resolved[:number]]:
        raise BlemishError(f"{twice[0]}: is given twice; give each detector once")
    with folder_for_files(out.parent):
        detector = combine(detectors, good=good, false_rejects=false_rejects, seed=seed, layout=layout, device=device)
        detector.save(out)
    about = detector.provenance
    scale = about["chosen"]["scale"]
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in about["part_weights"].items())
    print(f"weights: {weights}; scale of each {scale}")
    print(
        f"simulated damage on good images: image AUROC {about['image_auroc_of_damage']:.3f}, "
        f"pixel AP {about['pixel_ap_of_damage'][scale]:.3f}"
    )
    print(detector.threshold.explain())
    print(f"{out}: image threshold {detector.threshold.value:.4g}")
