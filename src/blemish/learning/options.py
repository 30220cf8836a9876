"""The options of a training run, defined in one place.

The command line and its help, ``blemish.fit``, ``config.yaml`` and ``--config`` are derived from it: a new option is
one field with its docstring. Heavy modules are imported only when needed, since the command line reads this module to
parse its arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from blemish.errors import BlemishError
from blemish.settings import CheckedSettings, Device, Precision

Bits = Literal["auto", 8, 10, 12, 14, 16]


@dataclass(frozen=True)
class FitOptions(CheckedSettings):
    """Options of ``fit``; together with ``settings`` they define a run completely."""

    noun: ClassVar[str] = "option"

    data: Path
    """Folder of good images, dataset of a known layout, or .csv manifest (path,label,mask,split)."""
    method: str = "draem"
    """Which paper: draem (default), dsr, ssae, patchcore."""
    recipe: str = "small"
    """paper (the authors' schedule), fast (today's GPU), small (a laptop's CPU; default). For ssae
    also paper-object, and paper-CATEGORY for each category of MVTec AD. For patchcore, paper needs a file of the
    paper's network: --set backbone=FILE."""
    textures: Path | None = None
    """Folder of photographs whose textures simulated damage is made of (draem, ssae; dsr only with
    `--set anomalies=image`). Default: generated textures."""
    codebook: Path | None = None
    """Codebook file from `blemish pretrain` (dsr). Default: the codebook that comes with blemish."""
    defects: Path | None = None
    """Folder of photographs of real defects to learn from in addition to simulated ones (draem, dsr); one photograph
    is enough. Without --defect-masks: a dataset whose training images include defective ones."""
    defect_masks: Path | None = None
    """Folder of the masks of --defects: named like the photograph, white where it is defective."""
    n_defects: int | None = None
    """Learn from only so many of --defects, evenly spaced. Default: all."""
    mask_values: str = "auto"
    """Which pixels of these masks are defective: auto (default), white, nonzero, inverted, alpha, or values, as in
    1,2; as for `evaluate`."""
    calibration: Literal["none"] | Path | None = None
    """Folder of good images to set the threshold from. Default: 10 % of DATA are held out. none: all are trained on,
    as in the papers; the threshold then comes from images that were trained on, and promises nothing."""
    false_rejects: float = 0.01
    """Share of good parts that may be rejected. Default: 0.01."""
    seed: int = 0
    """Random seed. The same seed on the same machine gives the same weights (on a CPU). Default: 0."""
    device: Device = "auto"
    """Default: auto."""
    precision: Precision = "auto"
    """Default: auto, which is bf16 if the hardware is fast at it, else float32."""
    bits: Bits = "auto"
    """How many bits of 16-bit values the camera uses: 8, 10, 12, 14 or 16. Default: auto, which decides by the
    largest value of all training images. Images of 8 bits are unaffected."""
    image_size: int | str | None = None
    """What the network sees, px: WIDTHxHEIGHT such as 512x256, the side of a square, or auto, which takes as many
    pixels as the recipe in the shape of the good images. Default: a square, as the recipe says. More pixels show
    smaller defects, and take longer."""
    tile: int | str | None = None
    """Look at the photographs' own pixels, in tiles of this side or of WIDTHxHEIGHT, px, instead of shrinking each to
    one image: for small defects in large photographs. Takes as many times longer to inspect as there are tiles."""
    overlap: int | None = None
    """How much neighbouring tiles overlap at least, px. Default: a quarter of a tile's shorter side."""
    roi: Path | None = None
    """Region of interest: an image as large as the photographs, white where they are to be looked at, or a .json file
    of polygons in px. What lies outside is neither trained on nor judged; all photographs have one size. Not used by
    default."""
    layout: str = "auto"
    """Layout of the dataset: auto (default), or a layout that `blemish data --help` lists."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the method that replace those of the recipe."""

    def __post_init__(self) -> None:
        super().__post_init__()
        from blemish.data.masks import checked_mask_values
        from blemish.thresholds import n_needed

        checked_mask_values(self.mask_values)
        n_needed(self.false_rejects)  # raises if it is not a rate
        framed = [name for name in ("tile", "roi") if getattr(self, name) is not None]
        if self.defects is not None and framed:
            raise BlemishError(f"options defects, {framed[0]}: real defects are learned from whole photographs only")
        if self.n_defects is not None:
            self.check_range("n_defects", least=1)
            if self.defects is None:
                raise BlemishError(f"option n_defects: {self.n_defects}, but there are no defects; give defects, too")

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the options that have a default, by name, as ``config.yaml`` holds them."""
        return {option.name: option.default for option in fields(cls) if option.default is not MISSING}

    def config(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of ``config.yaml``: these options, and all settings of the method."""
        values = {name: _text(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        return plain({**values, "settings": settings})  # type: ignore[no-any-return]


def read_config(path: Path) -> dict[str, Any]:
    """Read options from a YAML file such as the ``config.yaml`` of a run; their values are not checked.

    Raises
    ------
    BlemishError
        If the file cannot be read, or has an unknown option.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BlemishError(f"{path}: cannot be read as YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict) or not isinstance(content.get("settings") or {}, dict):
        raise BlemishError(f"{path}: should hold options like `recipe: small`, one a line")
    known = {option.name for option in fields(FitOptions)}
    if unknown := sorted(map(str, set(content) - known)):
        raise BlemishError(f"{path}: unknown option {', '.join(unknown)}; there are: {', '.join(sorted(known))}")
    return content


def _text(path: Path) -> str:
    """A path as text; a folder called "none" is not the option ``none``."""
    return "./none" if path == Path("none") else str(path)


def plain(value: Any) -> Any:
    """Convert tuples to lists, also in nested values, so that any YAML reader understands them."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, tuple | list) else value
