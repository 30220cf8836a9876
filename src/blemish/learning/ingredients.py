"""Ingredients of simulated damage: textures and real defects, read from the folders in the options."""

from __future__ import annotations

from pathlib import Path

from blemish.data.defects import load_defects
from blemish.errors import BlemishError
from blemish.methods.base import Ingredients, Method
from blemish.synthesis.real_defects import DefectBank
from blemish.synthesis.textures import TextureBank


def ingredients_of(
    method: Method,
    textures: Path | None = None,
    defects: Path | None = None,
    defect_masks: Path | None = None,
    bits: int = 16,
    mask_values: str = "auto",
) -> Ingredients:
    """Return the ingredients of a method: textures from a folder or generated, real defects if a folder is given.

    Raises
    ------
    BlemishError
        If a folder cannot be read, or its content is not used by the method.
    """
    size_hw = (method.settings.image_size_px,) * 2
    real_defects = _defects(method, defects, defect_masks, size_hw, bits, mask_values)
    return Ingredients(_textures(method, textures, size_hw), real_defects)


def _textures(method: Method, folder: Path | None, size_hw: tuple[int, int]) -> TextureBank | None:
    """Return textures for a method that pastes them: those of a folder, or generated ones."""
    if not method.uses_textures:
        return None
    return TextureBank.from_folder(folder, size_hw) if folder else TextureBank.procedural(size_hw)


def _defects(
    method: Method, folder: Path | None, masks: Path | None, size_hw: tuple[int, int], bits: int, mask_values: str
) -> DefectBank | None:
    """Return real defects to learn from in addition to the simulated ones, if a folder is given."""
    if folder is None:
        if masks is not None:
            raise BlemishError(f"defect_masks {masks}: no defects to go with them; give defects, too")
        return None
    if not method.uses_defects:
        raise BlemishError(
            f"defects {folder}: {method.name} with these settings learns from good images only; leave them out, or "
            f"take draem or dsr"
        )
    return DefectBank(*load_defects(folder, masks, size_hw, bits, mask_values))
