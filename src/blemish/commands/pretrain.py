"""``blemish pretrain``: train a codebook on photographs, and write it as a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState

from blemish.commands.assignments import assigned
from blemish.commands.progress import TrainingProgress
from blemish.data.unreadable import UnreadablePhotographs
from blemish.errors import BlemishError
from blemish.files import replace_file
from blemish.learning.interrupts import TrainingInterrupted
from blemish.learning.pretraining import UNREADABLE, pretrain
from blemish.report.overlay import as_jpeg
from blemish.report.reconstructions import draw_reconstructions


def pretrain_run(
    images: Sequence[Path], assignments: Sequence[str], out: Path, *, resume: bool, **options: Any
) -> None:
    """Train a codebook, and print how well it reconstructs held-out photographs, and how long the paper's trained."""
    if out.exists() and not resume:
        raise BlemishError(f"{out}: exists; choose another --out, or remove it")
    folder = out.with_suffix("")
    if (folder / "checkpoint.pt").exists() and not resume:
        raise BlemishError(f"{folder}: holds a stopped run; give --resume to continue, or choose another --out")
    try:
        with TrainingProgress() as progress:
            settings = assigned({}, assignments)
            made = pretrain(images, out, settings=settings, resume=resume, reporter=progress, **options)
    except TrainingInterrupted as stop:
        raise TrainingInterrupted(f"{stop}; the same command with --resume continues") from None
    except UnreadablePhotographs as error:
        if not (folder / "checkpoint.pt").exists():
            raise
        raise BlemishError(f"{error} (the training is kept: once they are mended, --resume continues)") from error
    if not PartialState().is_main_process:
        return
    sheet = folder / "reconstructions.jpg"
    with replace_file(sheet) as file:
        file.write(as_jpeg(draw_reconstructions(made.network, made.held_out)))
    quality, n_used = made.card["held_out"], made.card["codes_in_use"]
    print(f"{len(made.held_out)} images that were held out: {quality['psnr_db']} dB, SSIM {quality['ssim']}")
    print(f"codes in use: {n_used['low']} low, {n_used['high']} high; reconstructions in {sheet}")
    if n_unreadable := made.card["n_unreadable"]:
        print(f"{n_unreadable} of {made.card['n_images']} photographs could not be read: {folder / UNREADABLE}")
    print(f"seen in training: {made.card['in_words']}")
    print(out)
