"""Ingredients of simulated damage: textures and real defects, read from the folders in the options."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from blemish.data.defects import load_defects
from blemish.errors import BlemishError, print_notices
from blemish.methods.base import Ingredients, Method
from blemish.synthesis.modified_patches import largest_share
from blemish.synthesis.real_defects import DefectBank
from blemish.synthesis.textures import TextureBank


def ingredients_of(
    method: Method,
    textures: Path | None = None,
    defects: Path | None = None,
    defect_masks: Path | None = None,
    bits: int = 16,
    mask_values: str = "auto",
    n_defects: int | None = None,
    good_images: Tensor | None = None,
) -> Ingredients:
    """Return the ingredients of a method: textures from a folder or generated, real defects if a folder is given.

    ``good_images`` (N, 3, H, W) uint8 are all images of the training, for a method with ``limits_damage``.

    Raises
    ------
    BlemishError
        If a folder cannot be read, or its content is not used by the method.
    """
    real_defects = _defects(method, defects, defect_masks, bits, mask_values, n_defects)
    share = largest_share(good_images) if method.limits_damage and good_images is not None else None
    return Ingredients(_textures(method, textures), real_defects, share)


def _textures(method: Method, folder: Path | None) -> TextureBank | None:
    """Return textures for a method that pastes them: those of a folder, or generated ones."""
    if not method.uses_textures:
        if folder is not None:
            print_notices([f"{folder}: textures are not used, as {method.name} with these settings pastes none"])
        return None
    size_hw = method.settings.size_hw
    if folder is None:
        return TextureBank.procedural(size_hw)
    return TextureBank.from_folder(folder, size_hw, method.settings.resizing)


def _defects(
    method: Method, folder: Path | None, masks: Path | None, bits: int, mask_values: str, n: int | None
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
    size_hw = method.settings.size_hw
    return DefectBank(*load_defects(folder, masks, size_hw, bits, mask_values, method.settings.resizing, n))
