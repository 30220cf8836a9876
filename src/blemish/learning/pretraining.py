"""Natural images -> the codebook file that DSR builds on (``blemish pretrain``)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.layouts import name_of
from blemish.data.loading import resize
from blemish.data.reading import list_images, read_image
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
"""Squares that are cut from one image, at most."""
MAX_COUNTED = 1000
"""Squares of the training images, evenly spaced, in which codes in use are counted."""
BATCH_SIZE = 8


class Pretrained(NamedTuple):
    """What pretraining gives."""

    network: VQAutoencoder
    """As it is saved."""
    held_out: Tensor
    """(N, 3, S, S) uint8 images that training has not seen."""
    card: dict[str, Any]
    """Data, steps, PSNR, SSIM and codes in use; of several processes only the first measures the last three."""


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
    """Train DSR's VQ autoencoder on natural images, measure it on some that were held out, and save it.

    Parameters
    ----------
    images : folders of photographs of anything, read with their subfolders; kept in memory, 0.2 MB for each square
        of 256 px.
    out : codebook file to write, .safetensors; in a folder of the same name, ``metrics.jsonl``, ``card.json``
        and the checkpoint.
    recipe, settings : ``paper`` or ``small``, and single settings in place of the recipe's.
    start : a codebook file to go on from.
    resume : go on from the checkpoint.

    Raises
    ------
    BlemishError
        If something given is wrong: names it and the remedy.
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
        fingerprint=_fingerprint(train, s, start),         reporter=reporter, resume=resume,
    )  # fmt: skip
    record, network = trainer.run(), learner.autoencoder
    network.normalize()
    card = {
        "images": [name_of(Path(one)) for one in images], "n_images": n_images, "n_squares": len(train),
        "n_held_out": len(held_out), "recipe": recipe, "settings": asdict(s),
        "start": None if start is None else Path(start).name, "iterations": record.iterations,
        "training_s": round(record.training_s, 1), "images_per_s": round(record.images_per_s, 2),
        "precision": record.precision, "device": record.device, "torch": torch.__version__,
    }  # fmt: skip
    if trainer.accelerator.is_main_process:
        save_codebook(network, out, card)
        network.load_state_dict(load_codebook(out).state_dict())  # measured as it is saved: in half precision
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
    digest = hashlib.sha256(train.numpy().tobytes() + json.dumps(settings.of_the_result(), sort_keys=True).encode())
    digest.update(Path(start).read_bytes() if start is not None else b"")
    return digest.hexdigest()


def _start(path: str | Path, settings: VQSettings) -> VQAutoencoder:
    """A codebook to go on from, of the shape that the settings describe."""
    network = load_codebook(path)
    wanted, found = (
        {name: tuple(tensor.shape) for name, tensor in one.state_dict().items()}
        for one in (settings.network(), network)
    )
    if wanted != found:
        n_codes, n_features = found["codebook_low.codes"]
        raise BlemishError(
            f"{path}: holds {n_codes} codes of {n_features} features, or other layers, than the settings n_codes, "
            f"n_features, n_hidden, n_layers say; set those it was trained with"
        )
    return network


# --- images --------------------------------------------------------------------------------------------------


def squares(image: NDArray[np.uint8], side_px: int) -> list[NDArray[np.uint8]]:
    """Resize the short side to ``side_px`` and cut the least number of evenly spaced squares that show all.

    Parameters
    ----------
    image : (H, W, 3) uint8.

    Returns
    -------
    (side_px, side_px, 3) uint8 each; 8 at most.
    """
    height, width = image.shape[:2]
    scale = side_px / min(height, width)
    resized = resize(image, (max(side_px, round(height * scale)), max(side_px, round(width * scale))))
    room_hw = resized.shape[0] - side_px, resized.shape[1] - side_px
    n = min(MAX_SQUARES, math.ceil(max(room_hw) / side_px) + 1)
    corners = [tuple(round(room * number / max(1, n - 1)) for room in room_hw) for number in range(n)]
    return [resized[y : y + side_px, x : x + side_px] for y, x in corners]


def _split(folders: Sequence[str | Path], settings: VQSettings) -> tuple[Tensor, Tensor, int]:
    """Squares to train on and one square of each image that is held out, (N, 3, S, S) uint8; how many images."""
    found = [path for folder in folders for path in list_images(folder, recursive=True)]
    paths = list({path.resolve(): path for path in found}.values())  # folders may hold each other
    n_held_out = min(MAX_HELD_OUT, max(MIN_HELD_OUT, round(HELD_OUT_SHARE * len(paths))))
    if len(paths) <= n_held_out:
        named = ", ".join(map(str, folders)) or "no folder"
        raise BlemishError(f"{named}: {len(paths)} images; give folders of some hundred photographs or more")

    def load(path: Path) -> list[NDArray[np.uint8]] | BlemishError:
        try:
            return squares(read_image(path), settings.image_size_px)
        except BlemishError as error:
            return error

    with ThreadPoolExecutor() as pool:
        loaded = list(pool.map(load, paths))
    errors = [str(one) for one in loaded if isinstance(one, BlemishError)]
    if errors:
        raise BlemishError("\n".join([f"{len(errors)} of {len(paths)} images cannot be read:", *errors]))
    cut = [one for one in loaded if not isinstance(one, BlemishError)]
    order = torch.randperm(len(cut), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    held_out = [cut[number][0] for number in order[:n_held_out]]
    train = [square for number in order[n_held_out:] for square in cut[number]]
    return _stacked(train), _stacked(held_out), len(paths)


def _stacked(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


# --- measuring -----------------------------------------------------------------------------------------------


@torch.inference_mode()
def quality(network: VQAutoencoder, images: Tensor) -> dict[str, float]:
    """Mean over (N, 3, H, W) uint8 images of PSNR (-10 log10 of an image's mean squared error) and of SSIM."""
    errors, similarities = [], []
    for made, image in reconstructions(network, images):
        errors.append((made - image).square().mean((1, 2, 3)).clamp_min(1e-10))
        similarities.append(ssim_map(made, image).mean((1, 2, 3)))
    psnr_db = -10.0 * torch.cat(errors).log10()
    return {"psnr_db": round(float(psnr_db.mean()), 2), "ssim": round(float(torch.cat(similarities).mean()), 4)}


def reconstructions(network: VQAutoencoder, images: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of reconstructions and of the (N, 3, H, W) uint8 images they are of: (B, 3, H, W) float in [0, 1]."""
    network.eval()
    where = network.codebook_low.codes.device
    for batch in torch.split(images, BATCH_SIZE):
        image = batch.to(where).float() / 255.0
        yield network(image).clamp(0.0, 1.0), image


@torch.inference_mode()
def codes_in_use(network: VQAutoencoder, images: Tensor) -> dict[str, int]:
    """How many codes of either level stand for something in (N, 3, H, W) uint8 images."""
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
    return {name: int(one.sum()) for name, one in used.items()}
