"""``blemish convert`` on the command line."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

convert = App(name="convert", help="Convert weights that the papers' authors released into blemish's files.")


@convert.command
def draem(
    reconstructive: Path,
    discriminative: Path,
    /,
    *,
    out: Path,
    calibration: Path | None = None,
    false_rejects: float = 0.01,
) -> None:
    """Make a detector from the weights that the authors of DRÆM released.

    Example: `blemish convert draem bottle.pckl bottle_seg.pckl --calibration photos/good --out bottle.blemish`

    Parameters
    ----------
    reconstructive
        State dict of the reconstructive network.
    discriminative
        State dict of the discriminative network (the authors' file with `_seg` in its name).
    out
        The .blemish file to write.
    calibration
        Good images, not trained on, to set the threshold from. Without them it is 0.5 and promises nothing.
    false_rejects
        Share of good parts that may be rejected.
    """
    from blemish.commands.convert import convert_files

    convert_files(reconstructive, discriminative, out, calibration, false_rejects)


@convert.command
def codebook(weights: Path, /, *, out: Path = Path("codebook.safetensors")) -> None:
    """Make a codebook for DSR from the VQ autoencoder that its authors released.

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
