"""The detector: a trained method with its framing and its thresholds. Independent of the training code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch
from torch import Tensor

from blemish.artifact import artifact_at, read_artifact, write_artifact
from blemish.devices import Precision
from blemish.errors import BlemishError
from blemish.inspection.findings import Finding as Finding
from blemish.inspection.framing import Framing, Whole
from blemish.inspection.framings import describe, from_description
from blemish.inspection.likeness import Likeness
from blemish.inspection.sources import photographs
from blemish.inspection.stream import judge
from blemish.methods.base import Method, Settings
from blemish.methods.combined import restored_type
from blemish.runtimes.base import Runtime, needed
from blemish.runtimes.export import to_openvino
from blemish.runtimes.openvino import OpenVINORuntime
from blemish.runtimes.torch import TorchRuntime
from blemish.thresholds import Threshold, n_needed

if TYPE_CHECKING:
    from blemish.inspection.sources import ImageLike


class Detector:
    """Inspects photographs.

    Parameters
    ----------
    runtime : runs the trained method.
    threshold : threshold of the image score.
    pixel_threshold : value of the anomaly map that few pixels of good images reach; the middle of the colour scale.
    calibration_scores : image scores of the held-out good images that the threshold was computed from.
    provenance : origin of the detector: recipe, seed, data, versions.
    framing : converts photographs to the network's input tiles; None resizes them to the method's image size.
    bits : how many bits of a photograph's 16-bit values are used, 8 to 16, or None; see ``reading.read_image``.
    likeness : what good photographs are like at large; None calls no photograph unlike them.
    min_area_px : least area of a region that is outlined; a photograph with none so large is good.
    """

    def __init__(
        self,
        runtime: Runtime,
        threshold: Threshold,
        pixel_threshold: float,
        calibration_scores: Sequence[float] = (),
        provenance: dict[str, Any] | None = None,
        framing: Framing | None = None,
        bits: int | None = 16,
        likeness: Likeness | None = None,
        min_area_px: int = 0,
    ) -> None:
        self.runtime = runtime
        self.threshold = threshold
        self.pixel_threshold = pixel_threshold
        self.calibration_scores = tuple(calibration_scores)
        self.provenance = provenance or {}
        settings = runtime.settings
        self.framing: Framing = framing if framing is not None else Whole(settings.size_hw, settings.resizing)
        self.bits = bits
        self.likeness = likeness
        self.min_area_px = min_area_px

    @classmethod
    def uncalibrated(
        cls,
        method: Method,
        threshold: float,
        false_reject_rate: float,
        provenance: dict[str, Any] | None = None,
    ) -> Detector:
        """Return a detector with both thresholds set to ``threshold``; no false-reject rate is guaranteed."""
        value = Threshold(threshold, false_reject_rate, n_calibration=0, n_needed=n_needed(false_reject_rate))
        return cls(TorchRuntime(method), value, threshold, (), provenance)

    @property
    def method(self) -> Method:
        """The trained network; see ``Runtime.method``."""
        return self.runtime.method

    @property
    def method_name(self) -> str:
        """Name of the method, such as ``draem``."""
        return self.runtime.method_name

    @property
    def settings(self) -> Settings:
        """Settings of the method."""
        return self.runtime.settings

    @property
    def device(self) -> torch.device:
        """Device that the network is on."""
        return self.runtime.device

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of the network's input, px."""
        return self.framing.tile_hw

    def to(self, device: str | torch.device) -> Detector:
        """Move the network to ``device``, if the runtime supports it, and return the detector."""
        self.runtime = self.runtime.to(torch.device(device))
        return self

    # --- inspection -------------------------------------------------------------------------------------------

    @overload
    def inspect(self, images: list[ImageLike], *, explain: bool = False) -> list[Finding]: ...

    @overload
    def inspect(self, images: ImageLike, *, explain: bool = False) -> Finding: ...

    def inspect(self, images: ImageLike | list[ImageLike], *, explain: bool = False) -> Finding | list[Finding]:
        """Inspect one photograph or a list of them.

        Parameters
        ----------
        images : a path, PIL image, or array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or uint16; or a list
            of these, of any sizes. Full range of uint16 values is 2**bits - 1 (``Detector.bits``).
        explain : also return the method's explanation images.

        Raises
        ------
        BlemishError
            If an image cannot be read; the message names it.
        """
        if not isinstance(images, list):
            return self.inspect([images], explain=explain)[0]
        return list(judge(self, photographs(images), lambda judgement: judgement.finding, explain=explain))

    def maps_and_scores(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return anomaly maps (N, 1, h, w) and scores (N,), float32 on the CPU, of images (N, 3, H, W) uint8."""
        arrays = (image.permute(1, 2, 0).contiguous().numpy() for image in images)
        results = judge(self, photographs(arrays), lambda judgement: (judgement.checked().map, judgement.score))
        maps, scores = zip(*results, strict=True)
        return torch.from_numpy(np.stack(maps))[:, None], torch.tensor(scores)

    # --- on disk ----------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the detector to one ``.blemish`` file."""
        write_artifact(Path(path), self.runtime.tensors(), self.description)

    @property
    def description(self) -> dict[str, Any]:
        """Everything except the weights, for JSON."""
        return {
            "method": self.method_name,
            "settings": asdict(self.settings),
            "runtime": self.runtime.name,
            "framing": describe(self.framing),
            "bits": self.bits,
            "likeness": self.likeness.description() if self.likeness is not None else None,
            "threshold": asdict(self.threshold),
            "min_area_px": self.min_area_px,
            "pixel_threshold": self.pixel_threshold,
            "calibration_scores": self.calibration_scores,
            "provenance": self.provenance,
        }

    def compiled(self, good: Tensor | None = None) -> Detector:
        """Return the detector compiled for OpenVINO, in float32, or in 8 bits if ``good`` is passed. Same threshold.

        Parameters
        ----------
        good : (N, 3, H, W) uint8 good images of the detector's size, from which the value ranges of the 8-bit
            numbers are computed.

        Raises
        ------
        BlemishError
            If the detector is already compiled, or a required package is not installed.
        """
        exported = {"runtime": OpenVINORuntime.name, "precision": "float32" if good is None else "int8"}
        provenance = {**self.provenance, "exported": exported}
        description = {**self.description, "runtime": OpenVINORuntime.name, "provenance": provenance}
        tensors = to_openvino(self.method, description, good)
        runtime = OpenVINORuntime(self.method_name, self.settings, tensors)
        return Detector(
            runtime,
            self.threshold,
            self.pixel_threshold,
            self.calibration_scores,
            provenance,
            self.framing,
            self.bits,
            self.likeness,
            self.min_area_px,
        )

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu", precision: Precision = "auto") -> Detector:
        """Read a ``.blemish`` file.

        Parameters
        ----------
        path : the file, or a run folder that holds ``detector.blemish``.
        precision : numeric precision of the inspection: ``auto`` is bf16 for a large network if the hardware has fast
            bf16 arithmetic, else float32.

        Raises
        ------
        BlemishError
            If the file is missing, is not a .blemish file, is cut short or altered, or comes from a newer version.
        """
        path = artifact_at(Path(path))
        tensors, description = read_artifact(path)
        is_compiled = description.get("runtime") == OpenVINORuntime.name
        if is_compiled:
            needed("openvino")
        try:
            method_class = restored_type(description["method"])
            settings = method_class.settings_type.from_dict(description["settings"])
            runtime_or_method: Runtime | Method
            if is_compiled:
                runtime_or_method = OpenVINORuntime(method_class.name, settings, tensors, precision)
            else:
                runtime_or_method = method_class.restored(settings, tensors)
            remaining_arguments = (
                Threshold(**description["threshold"]),
                description["pixel_threshold"],
                description["calibration_scores"],
                description["provenance"],
                _framing(description),
                description.get("bits", 16),  # files of version 0.1.0 have none
                _likeness(description),
                description.get("min_area_px", 0),
            )
        except (BlemishError, KeyError, TypeError, RuntimeError) as error:
            raise BlemishError(
                f"{path}: does not fit this version of blemish ({str(error).splitlines()[0]})"
            ) from error
        if isinstance(runtime_or_method, Method):
            runtime: Runtime = TorchRuntime(runtime_or_method.to(device), precision)
        else:
            runtime = runtime_or_method
        return cls(runtime, *remaining_arguments)


def _framing(description: Mapping[str, Any]) -> Framing | None:
    """Return the framing from a detector's description; files of version 0.1.0 have none."""
    return from_description(description["framing"]) if "framing" in description else None


def _likeness(description: Mapping[str, Any]) -> Likeness | None:
    """Return the likeness from a detector's description; earlier files have none."""
    likeness = description.get("likeness")
    return Likeness.from_description(likeness) if likeness is not None else None
