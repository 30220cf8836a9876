"""DSR's pretrained VQ autoencoder on disk: safetensors, float16 or float32, with a model card as metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from blemish.artifact import in_order
from blemish.errors import BlemishError
from blemish.files import replace_file
from blemish.methods.dsr.vq import VQAutoencoder

KIND = "blemish codebook 1"
SHIPPED = "codebook.safetensors"
PAPER_ITERATIONS, PAPER_BATCH_SIZE, PAPER_PHOTOGRAPHS = 200_000, 32, "ImageNet"
"""How the paper trains its codebook (section 4.1)."""


def save_codebook(
    network: VQAutoencoder, path: str | Path, card: Mapping[str, Any], dtype: torch.dtype = torch.float16
) -> None:
    """Write a VQ autoencoder. The file is complete or not written at all.

    Parameters
    ----------
    dtype : of the numbers in the file. A detector that was trained with a codebook needs its codes to the last bit:
        rounded to float16, some codes of an image are others.

    Raises
    ------
    BlemishError
        If the file cannot be written or the disk is full.
    """
    tensors = {name: tensor.detach().cpu().to(dtype).contiguous() for name, tensor in network.state_dict().items()}
    content = in_order(safetensors.torch.save(tensors, {"kind": KIND, "card": json.dumps(card)}))
    with replace_file(Path(path)) as file:
        file.write(content)


def read_card(path: str | Path | None = None) -> dict[str, Any]:
    """The model card of a codebook file, with ``against_paper``; ``path`` None is the one that comes with blemish.

    Raises
    ------
    BlemishError
        If the file is missing, damaged or not a codebook.
    """
    if path is None:
        with _shipped() as shipped:
            return read_card(shipped)
    if Path(path).is_dir():
        raise BlemishError(f"{path}: is a folder; give a codebook file")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except FileNotFoundError as error:
        raise BlemishError(f"{path}: no such file; give a codebook that `blemish pretrain` wrote") from error
    except (OSError, SafetensorError) as error:
        raise BlemishError(f"{path}: cannot be read as safetensors ({error}); copy or train it again") from error
    if metadata.get("kind") != KIND:
        raise BlemishError(f"{path}: not a codebook of this blemish version; give one that `blemish pretrain` wrote")
    card: dict[str, Any] = json.loads(metadata["card"])
    return card | against_paper(card)


def against_paper(card: Mapping[str, Any]) -> dict[str, Any]:
    """How far the training of a codebook is from the paper's, for its card.

    Parameters
    ----------
    card : with the ``iterations`` of its training, and its ``settings``. If it started from another codebook
        (``start``), ``presentations_of_start`` are the images that this one has seen; None if that is not known.

    Returns
    -------
    ``paper``: iterations, batch size and photographs of section 4.1; ``presentations``: the images or crops that the
    network has seen; ``share_of_paper``: of the paper's presentations; ``in_words``: the same as a sentence. Empty
    for a codebook that blemish did not train.
    """
    if not {"iterations", "settings"} <= card.keys():
        return {}
    earlier = card.get("presentations_of_start")
    n_seen = card["iterations"] * card["settings"]["batch_size"] + (earlier or 0)
    n_of_paper = PAPER_ITERATIONS * PAPER_BATCH_SIZE
    sentence = (
        f"{n_seen:,} image presentations, {100 * n_seen / n_of_paper:.3g} % of the paper's {n_of_paper:,} "
        f"({PAPER_ITERATIONS:,} iterations of {PAPER_BATCH_SIZE} images of {PAPER_PHOTOGRAPHS})"
    )
    if card.get("start") is not None:
        name = card["start"]
        sentence += f", those of {name} included" if earlier is not None else f", besides the unknown ones of {name}"
    return {
        "paper": {
            "iterations": PAPER_ITERATIONS,
            "batch_size": PAPER_BATCH_SIZE,
            "photographs": PAPER_PHOTOGRAPHS,
        },
        "presentations": n_seen,
        "share_of_paper": float(f"{n_seen / n_of_paper:.4g}"),
        "in_words": sentence,
    }


def load_codebook(path: str | Path | None = None) -> VQAutoencoder:
    """Read a VQ autoencoder as float32 on the CPU; ``path`` None is the one that comes with blemish.

    Raises
    ------
    BlemishError
        If the file is missing, damaged or not a codebook.
    """
    if path is None:
        with _shipped() as shipped:
            return load_codebook(shipped)
    read_card(path)
    tensors = {name: tensor.float() for name, tensor in safetensors.torch.load_file(str(path)).items()}
    try:
        network = empty_autoencoder(tensors)
        network.load_state_dict(tensors)
    except (KeyError, RuntimeError) as error:
        raise BlemishError(f"{path}: its tensors are not those of a VQ autoencoder; train it again") from error
    if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise BlemishError(f"{path}: damaged, it contains NaN or infinity; copy or train it again")
    return network


def _shipped() -> AbstractContextManager[Path]:
    return as_file(files("blemish").joinpath("weights", SHIPPED))


def empty_autoencoder(tensors: Mapping[str, torch.Tensor]) -> VQAutoencoder:
    """A VQ autoencoder with the shapes of ``tensors``, a ``state_dict``; its own weights are random.

    Raises
    ------
    KeyError
        If ``tensors`` contain no codebook.
    """
    n_codes, n_features = tensors["codebook_low.codes"].shape
    wide = [  # a residual layer each: (n_hidden, n_features, 3, 3)
        tensor for name, tensor in tensors.items() if name.startswith("decoder.1.") and name.endswith("wide.weight")
    ]
    with torch.random.fork_rng(devices=[]):
        return VQAutoencoder(n_codes, n_features, wide[0].shape[0] if wide else 1, len(wide))
