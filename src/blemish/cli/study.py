"""``blemish study`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

from blemish.cli.options import GridOptions, numbers, set_values, unset_options
from blemish.learning import options as learning
from blemish.settings import Device

if TYPE_CHECKING:
    from blemish.learning.options import FitOptions as Options
else:
    Options = unset_options(learning.FitOptions, only=("recipe", "textures", "seed", "device", "layout"))

study = App(name="study", help="What the papers claim, measured on your own images, with figures and a page.")


@study.command
def orthogonality(
    detector: Path,
    data: Path,
    /,
    *,
    out: Path = Path("study"),
    images: int = 100,
    widths: int = 12,
    repeats: int = 3,
    seed: int = 0,
    device: Device = "auto",
    layout: str = "auto",
) -> None:
    """Is the repair an orthogonal projection onto the good images? Writes `orthogonality.csv`, `.json` and `.html`.

    Example: `blemish study orthogonality runs/carpet/detector.blemish mvtec/carpet --out study`

    SSAE's figure 9: square patches of good images are replaced by other images' and repaired. How often is the
    original the nearest good image, before and after the repair, and how far is the repair from it?

    Parameters
    ----------
    detector
        A .blemish file, or a run folder with one, of a method that repairs images: ssae (objective filter or
        ensemble), draem.
    data
        Folder of good images, dataset of a known layout (its good training images), or .csv manifest.
    out
        Folder for the results.
    images
        Largest number of images to use, evenly spaced among those of DATA.
    widths
        How many patch widths, from 0.05 to 0.95 of the image's side.
    repeats
        Trials of each image at each width.
    seed
        Of places and of the other images.
    device
        auto takes CUDA if there is one.
    layout
        auto (default), or a layout that `blemish data --help` lists.
    """
    from blemish.commands.study import orthogonality_run

    orthogonality_run(
        detector, data, out,
        n_images=images, n_widths=widths, repeats=repeats, seed=seed, device=device, layout=layout,
    )  # fmt: skip


@study.command
def moments(
    data: Path,
    /,
    *,
    out: Path = Path("study"),
    kind: Literal["both", "texture", "object"] = "both",
    size: int = 512,
    window: int = 256,
    layout: str = "auto",
) -> None:
    """Do all pixels have the same distribution? Writes `moments.csv`, `moments.json` and `moments.html`.

    Example: `blemish study moments mvtec/carpet --out study`

    SSAE's figure 8: mean and standard deviation of each pixel over good images. If they are the same everywhere, the
    paper's proposition 2 and theorem 2 apply, and tell how large simulated damage may be.

    Parameters
    ----------
    data
        Folder of good images, dataset of a known layout (its good training images), or .csv manifest.
    out
        Folder for the results.
    kind
        texture (all windows of all images), object (the horizontal line through the middle), or both.
    size
        Images are resized to this square, px.
    window
        Side of the windows, px.
    layout
        auto (default), or a layout that `blemish data --help` lists.
    """
    from blemish.commands.study import moments_run

    moments_run(data, out, kind=kind, size_px=size, window_px=window, layout=layout)


@study.command
def table(
    name: str,
    data: Annotated[list[Path] | None, Parameter(negative="")] = None,
    /,
    *,
    out: Path = Path("study"),
    recipe: str = "small",
    seeds: str = "0",
    textures: Path | None = None,
    other_textures: Path | None = None,
    n_defects: Annotated[list[int] | None, Parameter(negative="", consume_multiple=True)] = None,
    device: Device = "auto",
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    grid: GridOptions | None = None,
) -> None:
    """A table or figure of a paper, shown beside the paper's own. Writes NAME`.html`, `.md`, `.csv`, `.json`.

    Example: `blemish study table draem-3 mvtec/bottle mvtec/pill --recipe small --textures dtd --out tables`

    Trains what the table needs, evaluates it under the authors' protocol, and goes on where it was stopped: the same
    command never trains a finished cell twice, and several tables may share --out. `blemish study tables` lists them,
    with the variants that --only takes. dsr-speed, ssae-figure-8 and ssae-footnote-7 train nothing, take neither
    --recipe nor --only, and write no `.md`.

    Parameters
    ----------
    name
        draem-1 to draem-4, draem-figure-9; dsr-1 to dsr-6, dsr-figure-9, dsr-speed; ssae-2 to ssae-4,
        ssae-figure-8, -9, -11, ssae-footnote-7, ssae-section-4.4.
    data
        The datasets, named as they are published, or a folder of them, such as mvtec.
    out
        Folder for the results, with a run folder for each training.
    recipe
        paper, paper-text, fast or small (default).
    seeds
        One training for each seed: 0,1,2.
    textures
        Folder of the photographs that damage is made of. Default: generated textures.
    other_textures
        Folder of other photographs (draem-3: ImageNet in place of the Describable Textures).
    n_defects
        Numbers of real defects to learn from (dsr-2). Default: 16 53 246.
    device
        auto takes CUDA if there is one.
    set_
        Replaces one setting of the recipe in all trainings, as in `fit`.
    """
    from blemish.commands.tables import table_run

    table_run(
        name, data or [], out,
        recipe=recipe, seeds=numbers("seeds", seeds), textures=textures, other_textures=other_textures,
        n_defects=n_defects or [], device=device, assignments=set_ or [], **vars(grid or GridOptions()),
    )  # fmt: skip


@study.command
def tables() -> None:
    """List the tables and figures of the papers that `study table` makes.

    Example: `blemish study tables`
    """
    from blemish.commands.tables import list_tables

    list_tables()


@study.command
def damage(
    data: Path,
    /,
    *,
    method: str = "draem",
    recipe: str = "small",
    textures: Path | None = None,
    images: int = 6,
    seed: int = 0,
    out: Path = Path("study"),
    layout: str = "auto",
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
) -> None:
    """What does a method train on? Writes `damage.png`, `.csv`, `.json` and `.html`.

    Example: `blemish study damage mvtec/bottle --method ssae --out study`

    Draws good images with the damage that the method simulates, and with that of each ablation of its paper.

    Parameters
    ----------
    data
        Folder of good images, dataset of a known layout (its good training images), or .csv manifest.
    method
        draem (default), dsr or ssae.
    recipe
        A recipe of the method.
    textures
        Folder of photographs whose textures damage is made of. Default: generated textures.
    images
        How many good images to show, evenly spaced.
    seed
        Of the damage.
    out
        Folder for the results.
    layout
        auto (default), or a layout that `blemish data --help` lists.
    set_
        Replaces one setting of the recipe, as in `fit`.
    """
    from blemish.commands.study import damage_run

    damage_run(
        data, out,
        method=method, recipe=recipe, textures=textures, n_images=images, seed=seed, layout=layout,
        assignments=set_ or [],
    )  # fmt: skip


@study.command
def objectives(
    data: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Path = Path("study"),
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    options: Options | None = None,
) -> None:
    """Which objective of SSAE finds your defects? Writes `objectives.csv`, `.json` and `.html` (table 4).

    Example: `blemish study objectives mvtec/bottle mvtec/pill --out study`

    Trains a network for objective (1) and one for (4) on each dataset, and measures both and their ensemble.
    A dataset whose run folder is in --out is not trained on again.

    Parameters
    ----------
    data
        Datasets with labelled test images.
    out
        Folder for the results, and a run folder for each dataset.
    set_
        Replaces one setting of the recipe, as in `fit`.
    """
    from blemish.commands.study import objectives_run

    objectives_run(data, out, set_ or [], **set_values(options))
