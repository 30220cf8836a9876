"""What a training run is made of, said once.

The command line and its help, ``blemish.fit``, ``config.yaml`` and ``--config`` are made from it: a new option is one
field with its docstring. Nothing heavy is imported before it is needed, since the command line reads this to parse.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from blemish.errors import BlemishError
from blemish.settings import CheckedSettings, Device, Precision


@dataclass(frozen=True)
class FitOptions(CheckedSettings):
    """Options of ``fit``, and with ``settings`` all that a run is made of."""

    noun: ClassVar[str] = "option"

    data: Path
    """Folder of good images, dataset of a known layout, or .csv manifest (path,label,mask,split)."""
    method: str = "draem"
    """Which paper: draem (default), dsr, ssae."""
    recipe: str = "small"
    """paper (the authors' schedule), fast (today's GPU), small (a laptop's CPU; default). Of ssae also paper-object,
    and paper-CATEGORY for each category of MVTec AD."""
    textures: Path | None = None
    """Folder of photographs that simulated damage is made of (draem, ssae; dsr only with `--set anomalies=image`).
    Default: textures made on the spot."""
    codebook: Path | None = None
    """File of `blemish pretrain` (dsr). Default: the one that comes with blemish."""
    defects: Path | None = None
    """Folder of photographs of real defects that join the simulated ones (draem, dsr); one is enough. Without
    --defect-masks a dataset whose training images include defective ones."""
    defect_masks: Path | None = None
    """Folder of their masks: a name like the photograph's, white where it is defective."""
    calibration: Path | None = None
    """Folder of good images to set the threshold from. Default: 10 % of DATA are held out."""
    false_rejects: float = 0.01
    """Share of good parts that may be rejected. Default: 0.01."""
    seed: int = 0
    """Same seed, same machine: same weights (on a CPU). Default: 0."""
    device: Device = "auto"
    """Default: auto."""
    precision: Precision = "auto"
    """Default: auto, bf16 where the hardware is fast at it."""
    layout: str = "auto"
    """auto (default), or a layout that `blemish data --help` lists."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Single settings of the method in place of the recipe's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        from blemish.thresholds import n_needed

        n_needed(self.false_rejects)  # refuses what is no rate

    def config(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """What ``config.yaml`` holds: these options, and all settings of the method."""
        values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        return plain({**values, "settings": settings})  # type: ignore[no-any-return]


def read_config(path: Path) -> dict[str, Any]:
    """Options from a YAML file, as ``config.yaml`` of a run is one; not yet checked.

    Raises
    ------
    BlemishError
        If it cannot be read, or names what is no option.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BlemishError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict) or not isinstance(content.get("settings") or {}, dict):
        raise BlemishError(f"{path}: should hold options like `recipe: small`, one a line")
    known = {option.name for option in fields(FitOptions)}
    if unknown := sorted(map(str, set(content) - known)):
        raise BlemishError(f"{path}: unknown option {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    return content


def plain(value: Any) -> Any:
    """Tuples to lists, all the way down: YAML that any reader understands."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value
