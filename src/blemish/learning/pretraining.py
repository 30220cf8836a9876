"""Pretraining: from natural images to the codebook file that DSR builds on (``blemish pretrain``)."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.bits import bits_in_use
from blemish.data.layouts import name_of
from blemish.data.listing import list_images
from blemish.data.loading import resize
from blemish.data.reading import read_image
from blemish.devices import Device, Precision
from blemish.errors import BlemishError
from blemish.files import make_folder, write_text
from blemish.learning.record import Reporter
from blemish.learning.training import Trainer
from blemish.losses import ssim_map
from blemish.methods.dsr.codebook import load_codebook, save_codebook
from blemish.methods.dsr.vq import VQAutoencoder
from blemish.methods.dsr.vq_training import VQSettings, VQTraining

HELD_OUT_SHARE, MIN_HELD_OUT, MAX_HELD_OUT = 0.02, 2, 200
MAX_SQUARES = 8
"""Largest number of squares cut from one image."""
MAX_COUNTED = 1000
"""Largest number of training squares, evenly spaced, in which the codes in use are counted."""
BATCH_SIZE = 8


class Pretrained(NamedTuple):
    """The result of pretraining."""

    network: VQAutoencoder
    """The network with the saved weights, which are rounded to half precision."""
    held_out: Tensor
    """(N, 3, S, S) uint8 images that were not used for training."""
    card: dict[str, Any]
    """Data, steps, PSNR, SSIM and codes in use; with several processes only the first measures the last three."""


def pretrain(
    images: Sequence[str | Path],
    out: str | Path,
    *,
    recipe: str = "small",
    settings: Mapping[str, Any] | None = None,
    start: str | Path | None = None,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    resume: bool = False,
    reporter: Reporter | None = None,
) -> Pretrained:
    """Train DSR's VQ autoencoder on natural images, measure it on held-out images, and save it.

    Parameters
    ----------
    images : folders of photographs of any subject, read with their subfolders and kept in memory: 0.2 MB for each
        square of 256 px.
    out : codebook file to write, .safetensors; ``metrics.jsonl``, ``card.json`` and the checkpoint are written to a
        folder of the same name.
    recipe, settings : ``paper`` or ``small``, and settings that replace those of the recipe.
    start : a codebook file to start training from.
    resume : continue from the checkpoint.

    Raises
    ------
    BlemishError
        If an argument is wrong; the message names it and the remedy.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise BlemishError(f"{out}: --out should end in .safetensors")
    s = _settings(recipe, {**(settings or {}), "seed": seed})
    learner = VQTraining(s, _start(start, s) if start is not None else None)
    train, held_out, n_images = _split(images, s)
    folder = make_folder(out.with_suffix(""))
    trainer = Trainer(
        learner, train, seed=seed, device=device, precision=precision, folder=folder,
        fingerprint=_fingerprint(train, s, start), reporter=reporter, resume=resume,
    )  # fmt: skip
    record, network = trainer.run(), learner.autoencoder
    network.normalize()
    card = {
        "images": [name_of(Path(folder)) for folder in images], "n_images": n_images, "n_squares": len(train),
        "n_held_out": len(held_out), "recipe": recipe, "settings": asdict(s),
        "start": None if start is None else Path(start).name, "iterations": record.iterations,
        "training_s": round(record.training_s, 1), "images_per_s": round(record.images_per_s, 2),
        "precision": record.precision, "device": record.device, "torch": torch.__version__,
    }  # fmt: skip
    if trainer.accelerator.is_main_process:
        save_codebook(network, out, card)
        network.load_state_dict(load_codebook(out).state_dict())  # measure the saved weights: half precision
        card |= {
            "held_out": quality(network, held_out),
            "codes_in_use": codes_in_use(network, train[:: -(-len(train) // MAX_COUNTED)]),
        }
        save_codebook(network, out, card)
        write_text(folder / "card.json", json.dumps(card, indent=2) + "\n")
    return Pretrained(network, held_out, card)


def _settings(recipe: str, values: Mapping[str, Any]) -> VQSettings:
    if recipe not in VQTraining.recipes:
        raise BlemishError(f"unknown recipe {recipe!r} of pretrain; there are: {', '.join(VQTraining.recipes)}")
    return VQTraining.recipes[recipe].replaced(values)


def _fingerprint(train: Tensor, settings: VQSettings, start: str | Path | None) -> str:
    digest = hashlib.sha256(train.numpy().tobytes() + json.dumps(settings.result_settings(), sort_keys=True).encode())
    digest.update(Path(start).read_bytes() if start is not None else b"")
    return digest.hexdigest()


def _start(path: str | Path, settings: VQSettings) -> VQAutoencoder:
    """Load a codebook to start from, and check that its shapes match the settings."""
    network = load_codebook(path)
    expected_shapes, shapes = (
        {name: tuple(tensor.shape) for name, tensor in autoencoder.state_dict().items()}
        for autoencoder in (settings.network(), network)
    )
    if expected_shapes != shapes:
        n_codes, n_features = shapes["codebook_low.codes"]
        raise BlemishError(
            f"{path}: holds {n_codes} codes of {n_features} features, or other layers, than the settings n_codes, "
            f"n_features, n_hidden, n_layers say; set those it was trained with"
        )
    return network


# --- images --------------------------------------------------------------------------------------------------


def squares(image: NDArray[np.uint8], side_px: int) -> list[NDArray[np.uint8]]:
    """Resize the short side to ``side_px`` and cut the fewest evenly spaced squares that cover the image.

    Parameters
    ----------
    image : (H, W, 3) uint8.

    Returns
    -------
    (side_px, side_px, 3) uint8 each; at most 8, which do not cover a very long image.
    """
    height, width = image.shape[:2]
    scale = side_px / min(height, width)
    resized = resize(image, (max(side_px, round(height * scale)), max(side_px, round(width * scale))))
    room_hw = resized.shape[0] - side_px, resized.shape[1] - side_px
    n = min(MAX_SQUARES, math.ceil(max(room_hw) / side_px) + 1)
    corners = [tuple(round(room * number / max(1, n - 1)) for room in room_hw) for number in range(n)]
    return [resized[y : y + side_px, x : x + side_px] for y, x in corners]


def _split(folders: Sequence[str | Path], settings: VQSettings) -> tuple[Tensor, Tensor, int]:
    """Return squares to train on, one square of each held-out image, both (N, 3, S, S) uint8, and the image count."""
    listed = [path for folder in folders for path in list_images(folder, recursive=True)]
    paths = list({os.path.realpath(path): path for path in listed}.values())  # a folder may contain another one
    n_held_out = min(MAX_HELD_OUT, max(MIN_HELD_OUT, round(HELD_OUT_SHARE * len(paths))))
    if len(paths) <= n_held_out:
        names = ", ".join(map(str, folders)) or "no folder"
        raise BlemishError(f"{names}: {len(paths)} images; give folders of some hundred photographs or more")

    bits = bits_in_use(paths) or 16

    def load(path: Path) -> list[NDArray[np.uint8]] | BlemishError:
        try:
            return squares(read_image(path, bits), settings.image_size_px)
        except BlemishError as error:
            return error

    with ThreadPoolExecutor() as pool:
        loaded = list(pool.map(load, paths))
    errors = [str(result) for result in loaded if isinstance(result, BlemishError)]
    if errors:
        raise BlemishError("\n".join([f"{len(errors)} of {len(paths)} images cannot be read:", *errors]))
    squares_of_images = [result for result in loaded if not isinstance(result, BlemishError)]
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(squares_of_images), generator=generator).tolist()
    held_out = [squares_of_images[number][0] for number in order[:n_held_out]]
    train = [square for number in order[n_held_out:] for square in squares_of_images[number]]
    return _stacked(train), _stacked(held_out), len(paths)


def _stacked(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


# --- measuring -----------------------------------------------------------------------------------------------


@torch.inference_mode()
def quality(network: VQAutoencoder, images: Tensor) -> dict[str, float]:
    """Return the means over (N, 3, H, W) uint8 images of PSNR (-10 log10 of the mean squared error, dB) and SSIM."""
    errors, similarities = [], []
    for reconstruction, image in reconstructions(network, images):
        errors.append((reconstruction - image).square().mean((1, 2, 3)).clamp_min(1e-10))  # (B,)
        similarities.append(ssim_map(reconstruction, image).mean((1, 2, 3)))  # (B,)
    psnr_db = -10.0 * torch.cat(errors).log10()
    return {"psnr_db": round(float(psnr_db.mean()), 2), "ssim": round(float(torch.cat(similarities).mean()), 4)}


def reconstructions(network: VQAutoencoder, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield reconstructions and images in batches (B, 3, H, W) float in [0, 1], from (N, 3, H, W) uint8 images."""
    network.eval()
    device = network.codebook_low.codes.device
    for batch in torch.split(images, BATCH_SIZE):
        image = batch.to(device).float() / 255.0
        yield network(image).clamp(0.0, 1.0), image


@torch.inference_mode()
def codes_in_use(network: VQAutoencoder, images: Tensor) -> dict[str, int]:
    """Return how many codes of each level (low, high) are used by (N, 3, H, W) uint8 images."""
    network.eval()
    used = {
        name: torch.zeros(len(codebook.codes), dtype=torch.bool, device=codebook.codes.device)
        for name, codebook in (("low", network.codebook_low), ("high", network.codebook_high))
    }
    for batch in torch.split(images, BATCH_SIZE):
        early = network.encoder_high(batch.to(network.codebook_low.codes.device).float() / 255.0)
        low = network.codebook_low(network.features_low(early))
        high = network.codebook_high(network.features_high(early, network.codebook_low.look_up(low)))
        used["low"][low.flatten()] = True
        used["high"][high.flatten()] = True
    return {name: int(is_used.sum()) for name, is_used in used.items()}
