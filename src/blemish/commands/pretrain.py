"""``blemish pretrain``: photographs to a codebook file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState

from blemish.commands.assignments import assigned
from blemish.commands.progress import TrainingProgress
from blemish.errors import BlemishError
from blemish.files import replace_file
from blemish.learning.interrupts import TrainingInterrupted
from blemish.learning.pretraining import pretrain
from blemish.report.overlay import as_jpeg
from blemish.report.reconstructions import draw_reconstructions


def pretrain_run(
    images: Sequence[Path], assignments: Sequence[str], out: Path, *, resume: bool, **options: Any
) -> None:
    """Train a codebook and tell how good it is."""
    if out.exists() and not resume:
        raise BlemishError(f"{out}: exists; take another --out, or remove it")
    folder = out.with_suffix("")
    if (folder / "checkpoint.pt").exists() and not resume:
        raise BlemishError(f"{folder}: holds a run that was stopped; give --resume to go on, or take another --out")
    try:
        with TrainingProgress() as progress:
            settings = assigned({}, assignments)
            made = pretrain(images, out, settings=settings, resume=resume, reporter=progress, **options)
    except TrainingInterrupted as stop:
        raise TrainingInterrupted(f"{stop}; the same with --resume goes on") from None
    if not PartialState().is_main_process:
        return
    sheet = folder / "reconstructions.jpg"
    with replace_file(sheet) as file:
        file.write(as_jpeg(draw_reconstructions(made.network, made.held_out)))
    held_out, used = made.card["held_out"], made.card["codes_in_use"]
    print(f"{len(made.held_out)} images that were held out: {held_out['psnr_db']} dB, SSIM {held_out['ssim']}")
    print(f"codes in use: {used['low']} low, {used['high']} high; look at {sheet}")
    print(out)
