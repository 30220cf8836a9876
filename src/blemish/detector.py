"""A trained method with its preprocessing and its threshold. Knows nothing of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.artifact import read_artifact, write_artifact
from blemish.data.loading import resize, to_tensor
from blemish.data.reading import as_rgb
from blemish.devices import Precision, resolve_precision
from blemish.errors import BlemishError
from blemish.exporting import Compiled, needed, to_openvino
from blemish.inference import Prepared
from blemish.methods import method_type
from blemish.methods.base import Method
from blemish.scoring import Region, Threshold, conformal_threshold, n_needed, outline, regions

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageLike: TypeAlias = str | Path | Image | NDArray[Any]

BATCH_SIZE = 8
LARGE = 10_000_000
"""Parameters from which on a network gains by bf16."""


@dataclass(frozen=True)
class Finding:
    """What a detector says of one image."""

    path: str | None
    """Where the image came from, if it was a file."""
    score: float
    """Image score, >= 0, higher is worse."""
    threshold: float
    is_defective: bool
    """Whether the score is above the threshold."""
    map: NDArray[np.float32]
    """(H, W) float32 anomaly map at the image's own size, >= 0."""
    mask: NDArray[np.bool_]
    """(H, W) bool, what is outlined; all False in an image that passes."""
    regions: list[Region]
    """The blemishes, worst first."""
    explanation: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    """(H, W, 3) uint8 images of the method's own, such as ``reconstruction``; only if asked for."""


class Detector:
    """Inspects images.

    Parameters
    ----------
    method : trained; put into inference mode.
    threshold : of the image score.
    pixel_threshold : of the anomaly map: what few pixels of good images reach; the middle of the colour scale.
    calibration_scores : image scores of the held-out good images that the threshold comes from.
    provenance : how it came to be: recipe, seed, data, versions.
    precision : of inspection: ``auto`` is bf16 for a large network where the hardware multiplies in it, else float32.
    """

    def __init__(
        self,
        method: Method,
        threshold: Threshold,
        pixel_threshold: float,
        calibration_scores: Sequence[float] = (),
        provenance: dict[str, Any] | None = None,
        precision: Precision = "auto",
    ) -> None:
        self.method = method.eval().requires_grad_(False)
        self.precision: Precision = precision
        self._prepared: Prepared | None = None
        self.threshold = threshold
        self.pixel_threshold = pixel_threshold
        self.calibration_scores = tuple(calibration_scores)
        self.provenance = provenance or {}

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        first = next(self.method.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width that images are resized to, px."""
        return (self.method.settings.image_size_px,) * 2

    def to(self, device: str | torch.device) -> Detector:
        """Move the network to ``device``."""
        self.method.to(device)
        self._prepared = None
        return self

    @property
    def prepared(self) -> Prepared:
        """The method as it inspects; made when first asked for."""
        if self._prepared is None:
            is_large = sum(one.numel() for one in self.method.parameters()) >= LARGE
            precision = "float32" if self.precision == "auto" and not is_large else self.precision
            self._prepared = Prepared(self.method, resolve_precision(precision, self.device))
        return self._prepared

    # --- inspection -------------------------------------------------------------------------------------------

    @overload
    def inspect(self, images: list[ImageLike], *, explain: bool = False) -> list[Finding]: ...

    @overload
    def inspect(self, images: ImageLike, *, explain: bool = False) -> Finding: ...

    def inspect(self, images: ImageLike | list[ImageLike], *, explain: bool = False) -> Finding | list[Finding]:
        """Inspect one image or a list of them.

        Parameters
        ----------
        images : a path, PIL image, or array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8 or uint16; or a list
            of these, of any sizes.
        explain : also return the method's own pictures.

        Raises
        ------
        BlemishError
            If an image cannot be read; names it.
        """
        if not isinstance(images, list):
            return self.inspect([images], explain=explain)[0]
        findings = []
        for start in range(0, len(images), BATCH_SIZE):
            findings += self._inspect_batch(images[start : start + BATCH_SIZE], explain)
        return findings

    @torch.inference_mode()
    def _inspect_batch(self, images: list[ImageLike], explain: bool) -> list[Finding]:
        photographs = [as_rgb(image) for image in images]
        batch = self._prepare(to_tensor(photographs, self.size_hw))
        maps, scores = (result.cpu() for result in self.prepared(batch))
        pictures = self.prepared.explain(batch) if explain else {}
        findings = []
        for number, (image, photograph) in enumerate(zip(images, photographs, strict=True)):
            size_hw = photograph.shape[0], photograph.shape[1]
            explanation = {name: resize(_to_uint8(picture[number]), size_hw) for name, picture in pictures.items()}
            path = str(image) if isinstance(image, str | Path) else None
            anomaly_map = maps[number, 0].numpy()
            findings.append(self.finding(float(scores[number]), anomaly_map, size_hw, path, explanation))
        return findings

    def finding(
        self,
        score: float,
        anomaly_map: NDArray[Any],
        size_hw: tuple[int, ...],
        path: str | None = None,
        explanation: dict[str, NDArray[np.uint8]] | None = None,
    ) -> Finding:
        """What map and score, as ``maps_and_scores`` gives them, say of a photograph.

        Parameters
        ----------
        anomaly_map : (h, w) float32 of the detector's size.
        size_hw : height and width of the photograph, px.

        Raises
        ------
        BlemishError
            If the score is no number.
        """
        if not math.isfinite(score):  # which is not above any threshold, and must not pass for that
            raise BlemishError(
                f"{path or 'an image'}: its score is no number; the detector is damaged, train it anew"
            )
        height, width = size_hw
        anomaly_map = resize(anomaly_map, (height, width))
        is_defective = score > self.threshold.value
        mask = outline(anomaly_map) if is_defective else np.zeros(anomaly_map.shape, dtype=np.bool_)
        found = regions(anomaly_map, mask)
        return Finding(path, score, self.threshold.value, is_defective, anomaly_map, mask, found, explanation or {})

    @torch.inference_mode()
    def maps_and_scores(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Anomaly maps and image scores of (N, 3, H, W) uint8 images already of the detector's size.

        Returns
        -------
        (N, 1, H, W) and (N,) float32 on the host.
        """
        results = [self.prepared(self._prepare(batch)) for batch in torch.split(images, BATCH_SIZE)]
        maps, scores = zip(*results, strict=True)
        return torch.cat(maps).cpu(), torch.cat(scores).cpu()

    def maps_and_scores_of(self, photographs: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, Tensor]:
        """The same for (H, W, 3) uint8 photographs of any sizes, resized here."""
        return self.maps_and_scores(to_tensor(photographs, self.size_hw))

    def _prepare(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 to float in [0, 1] on the device."""
        return (images.to(self.device).float() / 255.0).contiguous(memory_format=torch.channels_last)

    # --- calibration ------------------------------------------------------------------------------------------

    @classmethod
    def calibrate(
        cls,
        method: Method,
        images: Tensor,
        false_reject_rate: float,
        provenance: dict[str, Any] | None = None,
    ) -> Detector:
        """Set the thresholds of a trained method from good images that it has not seen.

        Parameters
        ----------
        images : (N, 3, H, W) uint8 good images of the method's size.
        false_reject_rate : in (0, 1); see ``scoring.conformal_threshold``.
        """
        detector = cls.uncalibrated(method, 0.0, false_reject_rate, provenance)
        maps, scores = detector.maps_and_scores(images)
        detector.threshold = conformal_threshold(scores, false_reject_rate)
        detector.calibration_scores = tuple(scores.tolist())
        detector.pixel_threshold = pixel_threshold(maps)
        return detector

    @classmethod
    def uncalibrated(
        cls,
        method: Method,
        threshold: float,
        false_reject_rate: float,
        provenance: dict[str, Any] | None = None,
    ) -> Detector:
        """A detector whose thresholds are simply ``threshold``, and promise nothing."""
        value = Threshold(threshold, false_reject_rate, n_calibration=0, n_needed=n_needed(false_reject_rate))
        return cls(method, value, threshold, (), provenance)

    # --- on disk ----------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the detector to one ``.blemish`` file."""
        write_artifact(Path(path), self.method.state_dict(), self.description)

    @property
    def description(self) -> dict[str, Any]:
        """All but its weights, for JSON."""
        return {
            "method": self.method.name,
            "settings": asdict(self.method.settings),
            "runtime": "openvino" if isinstance(self.method, Compiled) else "torch",
            "threshold": asdict(self.threshold),
            "pixel_threshold": self.pixel_threshold,
            "calibration_scores": self.calibration_scores,
            "provenance": self.provenance,
        }

    def compiled(self, good: Tensor | None = None) -> Detector:
        """The same detector as OpenVINO runs it, in float32; with ``good`` in 8 bits. The threshold stays.

        Parameters
        ----------
        good : (N, 3, H, W) uint8 good images of the detector's size, from which the ranges of numbers are taken.

        Raises
        ------
        BlemishError
            If it is one already, or what it takes is not installed.
        """
        if isinstance(self.method, Compiled):
            raise BlemishError("this detector was exported already; take the one it was made from")
        exported = {"runtime": "openvino", "precision": "float32" if good is None else "int8"}
        provenance = {**self.provenance, "exported": exported}
        description = {**self.description, "runtime": "openvino", "provenance": provenance}
        tensors = to_openvino(self.method, description, good)
        method = Compiled(self.method.name, self.method.settings, tensors, self.precision)
        return Detector(
            method, self.threshold, self.pixel_threshold, self.calibration_scores, provenance, self.precision
        )

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu", precision: Precision = "auto") -> Detector:
        """Read a ``.blemish`` file.

        Raises
        ------
        BlemishError
            If it is missing, none, cut short, altered, or from a newer version.
        """
        path = Path(path)
        tensors, description = read_artifact(path)
        is_compiled = description.get("runtime") == "openvino"
        if is_compiled:
            needed("openvino")
        try:
            kind = method_type(description["method"])
            settings = kind.settings_type.from_dict(description["settings"])
            method: Method
            if is_compiled:
                method = Compiled(kind.name, settings, tensors, precision)
            else:
                method = kind.restored(settings, tensors)
            detector = cls(
                method,
                Threshold(**description["threshold"]),
                description["pixel_threshold"],
                description["calibration_scores"],
                description["provenance"],
                precision,
            )
        except (BlemishError, KeyError, TypeError, RuntimeError) as error:
            raise BlemishError(
                f"{path}: does not fit this version of blemish ({str(error).splitlines()[0]})"
            ) from error
        return detector.to(device)


def pixel_threshold(maps: Tensor) -> float:
    """What few pixels of good images reach: the 99.5 % quantile of their maps (N, 1, H, W)."""
    values = maps.flatten()
    rank = int(0.995 * (len(values) - 1))
    return float(values.kthvalue(rank + 1).values)


def _to_uint8(picture: Tensor) -> NDArray[Any]:
    pixels: NDArray[Any] = (picture.permute(1, 2, 0) * 255.0).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return pixels
