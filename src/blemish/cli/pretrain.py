"""``blemish pretrain`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from blemish.settings import Device, Precision


def pretrain(
    images: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Path = Path("codebook.safetensors"),
    recipe: Literal["paper", "small"] = "small",
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    start: Path | None = None,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    resume: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Train the codebook that DSR builds on, on photographs of anything. Optional: one comes with blemish.

    Example: `blemish pretrain photographs/ --recipe paper --out codebook.safetensors`

    Writes the codebook, and in a folder of the same name its card (`card.json`: PSNR, SSIM, codes in use, and how far
    the training is from the paper's), `reconstructions.jpg` of images that were held out, `unreadable.txt` if there
    are such, `metrics.jsonl` and the checkpoint.

    The photographs are kept in memory while they fit half of what is free; of more, such as ImageNet, each is read
    when it is needed. One that cannot be read is named, counted and replaced by others; more than 1 in 100 stop the
    training. On several GPUs: `accelerate launch -m blemish pretrain ...`

    Parameters
    ----------
    images
        Folders of some hundred photographs or more, read with their subfolders.
    out
        File to write.
    recipe
        paper (200,000 steps of 32 images at 256 px, for a GPU), small (10,000 of 8 at 128 px; default).
    set_
        Replaces one setting of the recipe: `--set iterations=2000`.
    start
        A codebook file to start from.
    seed
        Of the weights, the order of images, the crops, and which images are held out.
    device
        Default: auto.
    precision
        Default: auto, bf16 where the hardware is fast at it.
    resume
        Continue from the last checkpoint beside --out.
    """
    from blemish.commands.pretrain import pretrain_run

    options = {"recipe": recipe, "start": start, "seed": seed, "device": device, "precision": precision}
    pretrain_run(images, set_ or [], out, resume=resume, **options)
