"""Pretraining: from natural images to the codebook file that DSR builds on (``blemish pretrain``)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from blemish.data.layouts import name_of
from blemish.data.listing import list_images
from blemish.data.streaming import PhotographStream, look_at
from blemish.data.unreadable import Unreadable
from blemish.devices import Device, Precision
from blemish.errors import BlemishError
from blemish.files import make_folder, write_text
from blemish.learning.record import Reporter, TrainingRecord
from blemish.learning.training import Trainer
from blemish.losses import ssim_map
from blemish.methods.dsr.codebook import against_paper, load_codebook, read_card, save_codebook
from blemish.methods.dsr.vq import VQAutoencoder
from blemish.methods.dsr.vq_training import VQSettings, VQTraining

HELD_OUT_SHARE, MIN_HELD_OUT, MAX_HELD_OUT = 0.02, 2, 200
MAX_COUNTED = 1000
"""Largest number of training photographs, evenly spaced, in which the codes in use are counted."""
BATCH_SIZE = 8
UNREADABLE = "unreadable.txt"
"""The file, beside the card, with a line for each photograph that could not be read."""


class Pretrained(NamedTuple):
    """The result of pretraining."""

    network: VQAutoencoder
    """The network with the saved weights, which are rounded to half precision."""
    held_out: Tensor
    """(N, 3, S, S) uint8 images that were not used for training."""
    card: dict[str, Any]
    """Data, steps, how far they are from the paper's, PSNR, SSIM and codes in use; with several processes only the
    first measures the last three."""


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
    images : folders of photographs of any subject, read with their subfolders. They are kept in memory while they
        fit half of the free memory (0.3 MB for a photograph of 256x384 px), and else read when needed
        (``data/streaming.py``). One that cannot be read is told, counted in the card and replaced by others; more
        than 1 in 100 stop the training.
    out : codebook file to write, .safetensors; ``metrics.jsonl``, ``card.json``, ``unreadable.txt`` and the
        checkpoint are written to a folder of the same name.
    recipe, settings : ``paper`` or ``small``, and settings that replace those of the recipe.
    start : a codebook file to start training from.
    resume : continue from the checkpoint.

    Raises
    ------
    BlemishError
        If an argument is wrong; the message names it and the remedy.
    UnreadablePhotographs
        If more than 1 in 100 photographs cannot be read: before training, or once a checkpoint is written.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise BlemishError(f"{out}: --out should end in .safetensors")
    s = _settings(recipe, {**(settings or {}), "seed": seed})
    learner = VQTraining(s, _start(start, s) if start is not None else None)
    photographs, held_out = _split(images, s)
    folder = make_folder(out.with_suffix(""))
    with photographs:
        try:
            trainer = Trainer(
                learner, photographs, seed=seed, device=device, precision=precision, folder=folder,
                fingerprint=_fingerprint(photographs, held_out, s, start), reporter=reporter, resume=resume,
            )  # fmt: skip
            record, network = trainer.run(), learner.autoencoder
        finally:
            _write_unreadable(folder / UNREADABLE, photographs.unreadable)
        network.normalize()
        card = {
            "images": [name_of(Path(folder)) for folder in images], "n_held_out": len(held_out), "recipe": recipe,
            **_numbers_of(photographs), "settings": asdict(s), **_start_in_card(start), **_record_in_card(record),
        }  # fmt: skip
        card |= against_paper(card)
        if trainer.accelerator.is_main_process:
            card |= _measured(network, out, card, photographs, held_out)
            write_text(folder / "card.json", json.dumps(card, indent=2) + "\n")
    return Pretrained(network, held_out, card)


def _measured(
    network: VQAutoencoder, out: Path, card: dict[str, Any], photographs: PhotographStream, held_out: Tensor
) -> dict[str, Any]:
    """Save the network, measure it as it is saved, in half precision, and save it with what was measured."""
    save_codebook(network, out, card)
    network.load_state_dict(load_codebook(out).state_dict())
    measured = {
        "held_out": quality(network, held_out),
        "codes_in_use": codes_in_use(network, photographs.squares(MAX_COUNTED)),
    }
    save_codebook(network, out, card | measured)
    return measured


def _settings(recipe: str, values: Mapping[str, Any]) -> VQSettings:
    if recipe not in VQTraining.recipes:
        raise BlemishError(f"unknown recipe {recipe!r} of pretrain; there are: {', '.join(VQTraining.recipes)}")
    return VQTraining.recipes[recipe].replaced(values)


def _fingerprint(
    photographs: PhotographStream, held_out: Tensor, settings: VQSettings, start: str | Path | None
) -> str:
    """Digest of the names of the photographs, the held-out pixels, and all else that the result depends on.

    The training pixels are not in it: a photograph that was damaged may be mended before the training goes on.
    """
    names = [f"{Path(path).parent.name}/{Path(path).name}" for path in photographs.paths]
    digest = hashlib.sha256(json.dumps([names, settings.result_settings()], sort_keys=True).encode())
    digest.update(held_out.numpy().tobytes())
    digest.update(Path(start).read_bytes() if start is not None else b"")
    return digest.hexdigest()


def _numbers_of(photographs: PhotographStream) -> dict[str, int]:
    unreadable = photographs.unreadable
    return {
        "n_images": unreadable.n_photographs, "n_train": len(photographs), "n_unreadable": len(unreadable.reasons)
    }  # fmt: skip


def _start_in_card(start: str | Path | None) -> dict[str, Any]:
    if start is None:
        return {"start": None}
    return {"start": Path(start).name, "presentations_of_start": read_card(start).get("presentations")}


def _record_in_card(record: TrainingRecord) -> dict[str, Any]:
    return {
        "iterations": record.iterations, "training_s": round(record.training_s, 1),
        "images_per_s": round(record.images_per_s, 2), "precision": record.precision, "device": record.device,
        "torch": torch.__version__,
    }  # fmt: skip


def _write_unreadable(path: Path, unreadable: Unreadable) -> None:
    """Write why photographs cannot be read, a line each; no file if all can be."""
    if os.environ.get("RANK", "0") != "0":
        return
    if unreadable.reasons:
        write_text(path, "".join(f"{reason}\n" for reason in unreadable.reasons.values()))
    else:
        path.unlink(missing_ok=True)  # that of a stopped run, whose photographs were mended


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


def _split(folders: Sequence[str | Path], settings: VQSettings) -> tuple[PhotographStream, Tensor]:
    """Return the photographs to train on, and a square of each held-out one: (N, 3, S, S) uint8."""
    listed = [path for folder in folders for path in list_images(folder, recursive=True)]
    paths = list({os.path.realpath(path): str(path) for path in listed}.values())  # a folder may contain another one
    n_held_out = min(MAX_HELD_OUT, max(MIN_HELD_OUT, round(HELD_OUT_SHARE * len(paths))))
    names = ", ".join(map(str, folders)) or "no folder"
    if len(paths) <= n_held_out:
        kind = "photograph" if len(paths) == 1 else "photographs"
        raise BlemishError(f"{names}: {len(paths)} {kind}; give folders of some hundred or more")
    unreadable = Unreadable(len(paths), names)
    bits, reasons = look_at(paths)
    unreadable.add(reasons)
    unreadable.check()
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    shuffled = [paths[number] for number in order]
    with PhotographStream(shuffled[:n_held_out], settings.image_size_px, bits=bits, unreadable=unreadable) as stream:
        held_out = stream.squares(n_held_out)
    photographs = PhotographStream(
        shuffled[n_held_out:], settings.image_size_px, bits=bits, seed=settings.seed, unreadable=unreadable
    )
    photographs.fill()
    return photographs, held_out


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
