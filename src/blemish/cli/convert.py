"""``blemish convert`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

convert = App(name="convert", help="Convert weights that the papers' authors released into blemish's files.")

Categories = Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)]


@convert.command
def draem(
    weights: Path,
    discriminative: Path | None = None,
    /,
    *,
    out: Path,
    category: Categories = None,
    run: str | None = None,
    calibration: Path | None = None,
    false_rejects: float = 0.01,
) -> None:
    """Make detectors from the weights that the authors of DRÆM released.

    Example: `blemish convert draem checkpoints --category bottle --out bottle.blemish`

    All files of a folder are checked before a detector is written. Two files of any names, those of one category,
    are taken as well: `blemish convert draem bottle.pckl bottle_seg.pckl --out bottle.blemish`

    Parameters
    ----------
    weights
        Folder with the files RUN_CATEGORY_.pckl and RUN_CATEGORY__seg.pckl of each category, or that holds it as
        `checkpoints`; or the state dict of one reconstructive network.
    discriminative
        With the state dict of one reconstructive network, that of its discriminative network.
    out
        Folder for a detector of each category, CATEGORY.blemish; or the .blemish file of a single one.
    category
        Categories to convert, such as bottle pill. Default: all.
    run
        What the files' names begin with, before the category; needed if there are files of several runs, or of
        categories other than those of MVTec AD.
    calibration
        Good images, not trained on, to set the threshold from; of several categories a folder with one for each.
        Without them it is 0.5 and promises nothing.
    false_rejects
        Share of good parts that may be rejected.
    """
    from blemish.commands.convert import convert_draem_run

    convert_draem_run(weights, discriminative, out, category or [], run, calibration, false_rejects)


@convert.command
def dsr(
    folder: Path,
    /,
    *,
    out: Path,
    category: Categories = None,
    run: str | None = None,
    calibration: Path | None = None,
    false_rejects: float = 0.01,
) -> None:
    """Make detectors from the weights that the authors of DSR released.

    Example: `blemish convert dsr checkpoints --category bottle --out bottle.blemish`

    All files are checked before a detector is written.

    Parameters
    ----------
    folder
        Folder with vq_model_pretrained_128_4096.pckl and the five files of each category, such as
        DSR_anomaly_det_module_bottle.pckl; or that holds it as `checkpoints`.
    out
        Folder for a detector of each category, CATEGORY.blemish; or the .blemish file of a single one.
    category
        Categories to convert, such as bottle pill. Default: all.
    run
        What the files' names begin with, if there are files of several runs. That of the released ones is DSR.
    calibration
        Good images, not trained on, to set the threshold from; of several categories a folder with one for each.
        Without them it is 0.5 and promises nothing.
    false_rejects
        Share of good parts that may be rejected.
    """
    from blemish.commands.convert import convert_dsr_run

    convert_dsr_run(folder, out, category or [], run, calibration, false_rejects)


@convert.command
def codebook(weights: Path, /, *, out: Path = Path("codebook.safetensors")) -> None:
    """Make a codebook for DSR from the VQ autoencoder that its authors released: its codes, at their scale.

    Example: `blemish convert codebook vq_model_pretrained_128_4096.pckl --out codebook.safetensors`

    Parameters
    ----------
    weights
        State dict of the authors' discrete latent model.
    out
        The codebook file to write.
    """
    from blemish.commands.convert import convert_codebook_file

    convert_codebook_file(weights, out)
