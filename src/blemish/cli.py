"""The command line: parse, call, print. No logic, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from cyclopts import App, CycloptsError, Parameter

from blemish.cli_study import DeviceName, study
from blemish.errors import BlemishError

app = App(
    name="blemish",
    help="Learn from photographs of good parts only; find and outline the defects.",
    help_epilogue="First result: `blemish demo`. On your own parts: `blemish fit parts/good`.",
    help_format="markdown",
    suppress_keyboard_interrupt=False,  # told by main, with how to go on
)
app.command(study)
convert = App(name="convert", help="Weights that the papers' authors released, as files of blemish.")
app.command(convert)
PrecisionName = Literal["auto", "float32", "bf16"]
MetricName = Literal["image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "pixel_aupro"]
DEFECT_FOUND, USER_ERROR, INTERNAL_ERROR, INTERRUPTED = 1, 2, 70, 130


@app.command
def data(
    path: Path,
    /,
    *,
    layout: str = "auto",
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Look at a dataset before training: what is there, and what is wrong with it. Reads every file once.

    Example: `blemish data parts/good`

    Exits with 2 if something would stop `fit` or `evaluate`.

    Layouts (where a dataset has categories, give the folder of one):

    - `folder`: images of good parts directly in the folder
    - `csv`: a manifest with the columns path,label,mask,split
    - `mvtec`: MVTec AD and MPDD: train/good, test/KIND, ground_truth/KIND
    - `mvtec-ad-2`: MVTec AD 2: train/good, validation/good, test_public
    - `btad`: BTAD: train/ok, test/ok, test/ko, ground_truth/ko
    - `visa`: VisA: Data/Images, Data/Masks, and split_csv beside the folder
    - `ksdd`: KolektorSDD: kos01/Part0.jpg, kos01/Part0_label.bmp
    - `ksdd2`: KolektorSDD2: train/10000.png, train/10000_GT.png
    - `dagm`: DAGM 2007: Train/Label, Test/Label; or Class1 with Class1_def beside it
    - `aitex`: AITEX: NODefect_images, Defect_images, Mask_images
    - `magnetic-tile`: MT_Free, MT_Blowhole and so on

    Parameters
    ----------
    path
        Folder of good images, dataset of a known layout, or .csv manifest (path,label,mask,split).
    layout
        auto (default), or one of those above.
    as_json
        Print JSON in place of the table.
    """
    from blemish.report.survey import survey_run

    if not survey_run(path, layout, as_json):
        sys.exit(USER_ERROR)


@app.command
def fit(
    data: Path | None = None,
    /,
    *,
    method: str | None = None,
    recipe: str | None = None,
    textures: Path | None = None,
    codebook: Path | None = None,
    defects: Path | None = None,
    defect_masks: Path | None = None,
    calibration: Path | None = None,
    false_rejects: float | None = None,
    seed: int | None = None,
    device: DeviceName | None = None,
    precision: PrecisionName | None = None,
    layout: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    out: Path | None = None,
    resume: Annotated[bool, Parameter(negative="")] = False,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    tensorboard: Annotated[bool, Parameter(negative="")] = False,
    config: Path | None = None,
) -> None:
    """Learn from good images; writes a run folder with `detector.blemish` in it.

    Example: `blemish fit parts/good --recipe small --out runs/gasket`

    Parameters
    ----------
    data
        Folder of good images, dataset of a known layout, or .csv manifest (path,label,mask,split).
    method
        Which paper: draem (default), dsr, ssae.
    recipe
        paper (the authors' schedule), fast (today's GPU), small (a laptop's CPU; default). Of ssae also
        paper-object, and paper-CATEGORY for each category of MVTec AD.
    textures
        Folder of photographs that simulated damage is made of (draem, ssae; dsr only with
        `--set anomalies=image`). Default: textures made on the spot.
    codebook
        File of `blemish pretrain` (dsr). Default: the one that comes with blemish.
    defects
        Folder of photographs of real defects that join the simulated ones (draem, dsr); one is enough. Without
        --defect-masks a dataset whose training images include defective ones.
    defect_masks
        Folder of their masks: a name like the photograph's, white where it is defective.
    calibration
        Folder of good images to set the threshold from. Default: 10 % of DATA are held out.
    false_rejects
        Share of good parts that may be rejected. Default: 0.01.
    seed
        Same seed, same machine: same weights (on a CPU). Default: 0.
    device
        Default: auto.
    precision
        Default: auto, bf16 where the hardware is fast at it.
    layout
        auto (default), or a layout that `blemish data --help` lists.
    set_
        A single setting in place of the recipe's: `--set iterations=500`, `--set anomalies.probability=0.7`.
    out
        Run folder. Default: runs/<data>-<method>-<recipe>-<seed>.
    resume
        Go on from the last checkpoint in --out.
    overwrite
        Start anew although --out holds a run.
    tensorboard
        Also log to TensorBoard, in --out (needs `pip install "blemish[tracking]"`).
    config
        YAML file with these options, as each run writes it; what is given beside it wins.
    """
    from blemish.commands import fit_run

    given = {
        "data": data, "method": method, "recipe": recipe, "textures": textures, "codebook": codebook,
        "defects": defects, "defect_masks": defect_masks, "calibration": calibration,
        "false_rejects": false_rejects, "seed": seed, "device": device, "precision": precision, "layout": layout,
    }  # fmt: skip
    fit_run(given, set_ or [], config, out, resume=resume, overwrite=overwrite, tensorboard=tensorboard)


@app.command
def tune(
    data: Path,
    /,
    *,
    method: str = "ssae",
    recipe: str = "small",
    try_: Annotated[list[str] | None, Parameter(name="--try", negative="")] = None,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    textures: Path | None = None,
    calibration: Path | None = None,
    false_rejects: float = 0.01,
    seed: int = 0,
    device: DeviceName = "auto",
    layout: str = "auto",
    out: Path = Path("tuned"),
) -> None:
    """Choose settings on good images alone: fit with each, and keep what finds simulated damage best.

    Example: `blemish tune parts/good --try batch_size=4,8 --try difference=squared,ssim --out tuned`

    Writes a run folder for each combination, `trials.csv`, and the best one's `detector.blemish` and `config.yaml`,
    which `blemish fit --config` takes. The same command goes on where it was stopped.

    Parameters
    ----------
    data
        Folder of good images, dataset of a known layout, or .csv manifest (path,label,mask,split).
    method
        One that can be validated without defects: ssae.
    recipe
        Where the other settings come from.
    try_
        A setting and its values. Several times: all combinations. Default: half, the same and twice the recipe's
        batch_size, half and all of its iterations.
    set_
        A single setting in place of the recipe's, for all of them.
    textures
        As of `fit`.
    calibration
        As of `fit`.
    false_rejects
        As of `fit`.
    seed
        As of `fit`.
    device
        Default: auto.
    layout
        auto (default), or a layout that `blemish data --help` lists.
    out
        Folder for the results.
    """
    from blemish.commands import tune_run

    options = {
        "textures": textures, "calibration": calibration, "false_rejects": false_rejects, "seed": seed,
        "device": device, "layout": layout,
    }  # fmt: skip
    tune_run(data, try_ or [], set_ or [], out, {"method": method, "recipe": recipe, **options})


@app.command
def inspect(
    detector: Path,
    paths: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Path = Path("findings"),
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    fail_on_defect: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Inspect images; writes `findings.jsonl`, `findings.csv` and an overlay for each image.

    Example: `blemish inspect runs/gasket/detector.blemish photos/ --out findings`

    A file that cannot be read is reported in its row, and the rest goes on.

    Parameters
    ----------
    detector
        A .blemish file.
    paths
        Images, or folders of images (read with their subfolders).
    out
        Folder for the results.
    device
        auto takes CUDA if there is one.
    precision
        auto takes bf16 for a large network where the hardware is fast at it, else float32.
    fail_on_defect
        Exit with 1 if an image is defective, with 2 if none is but one cannot be read.
    """
    from blemish.inspection import inspect_run

    n_defective, n_unreadable = inspect_run(detector, paths, out, device, precision)
    if fail_on_defect and (n_defective or n_unreadable):
        sys.exit(DEFECT_FOUND if n_defective else USER_ERROR)


@app.command
def evaluate(
    detector: Path,
    data: Path,
    /,
    *,
    out: Path = Path("evaluation"),
    device: DeviceName = "auto",
    layout: str = "auto",
    protocol: str = "256/1",
    precision: PrecisionName = "auto",
) -> None:
    """Hold a detector against labelled test images; writes `metrics.json`, `scores.csv` and `report.html`.

    Example: `blemish evaluate runs/bottle-draem-small-0/detector.blemish mvtec/bottle --out evaluation`

    Parameters
    ----------
    detector
        A .blemish file.
    data
        A dataset with test images: of a known layout, or a .csv manifest.
    out
        Folder for the results.
    device
        auto takes CUDA if there is one.
    layout
        auto (default), or a layout that `blemish data --help` lists.
    protocol
        At which size maps and masks are compared: 256/1 (as in DRÆM's paper), 256-crop224/1 (as in DSR's),
        network/1 or original/1.
    precision
        As of `inspect`.
    """
    from blemish.commands import evaluate_run

    evaluate_run(detector, data, out, device, layout, protocol, precision)


@app.command
def export(
    detector: Path,
    /,
    *,
    out: Path,
    precision: Literal["float32", "int8"] = "float32",
    good: Path | None = None,
    layout: str = "auto",
) -> None:
    """Write a detector for another runtime: OpenVINO or ONNX. Needs `pip install "blemish[export]"`.

    Example: `blemish export runs/gasket/detector.blemish --precision int8 --good parts/good --out gasket-8.blemish`

    The threshold stays as it is. With --good it is told how far the scores of these images change, and which of them
    are judged differently.

    Parameters
    ----------
    detector
        A .blemish file.
    out
        NAME.blemish: one file, which `inspect` and `evaluate` run by OpenVINO. NAME.xml: OpenVINO's own two files.
        NAME.onnx: ONNX. Images in: (B, 3, H, W) float RGB in [0, 1] of the detector's size.
    precision
        int8 (OpenVINO): about twice as fast as bf16 where the machine multiplies 8-bit numbers; scores change a bit.
    good
        Good images, some hundred are best, from which int8 learns how large numbers become: a folder or dataset.
    layout
        Of --good: auto (default), or a layout that `blemish data --help` lists.
    """
    from blemish.commands import export_run

    export_run(detector, out, precision, good, layout)


@app.command
def compare(
    runs: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    metric: Annotated[list[MetricName] | None, Parameter(negative="")] = None,
    out: Path | None = None,
) -> None:
    """Put runs beside each other and beside the papers: mean and spread over seeds, for each test set.

    Example: `blemish compare runs/bottle-draem-small-0 runs/bottle-draem-small-1 --out comparison`

    All figures are in percent. Runs of one method and recipe are one column, unless another setting differs; runs
    measured under different protocols are never in one table.

    Parameters
    ----------
    runs
        Run folders, evaluation folders or `metrics.json` files, or folders with any of these below.
    metric
        Only this metric; can be given several times. Default: all of them.
    out
        Also write `compare.html`, `compare.md` and `compare.csv` into this folder.
    """
    from blemish.report.compare import compare_run

    compare_run(runs, metric or (), out)


@app.command
def demo(*, out: Path = Path("demo"), seed: int = 0, open_page: bool = True) -> None:
    """Train on good cut-outs of a photograph of bricks, inspect spoiled ones, and show the result as a page.

    Example: `blemish demo`

    Parameters
    ----------
    out
        Folder for images, detector and page.
    seed
        Of the training.
    open_page
        Open the page in a browser when done, if there is a display.
    """
    from blemish.demo import run_demo

    run_demo(out, seed=seed, open_page=open_page)


@app.command
def pretrain(
    images: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    out: Path = Path("codebook.safetensors"),
    recipe: Literal["paper", "small"] = "small",
    set_: Annotated[list[str] | None, Parameter(name="--set", negative="")] = None,
    start: Path | None = None,
    seed: int = 0,
    device: DeviceName = "auto",
    precision: PrecisionName = "auto",
    resume: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Train the codebook that DSR builds on, on photographs of anything. Nobody has to: one comes with blemish.

    Example: `blemish pretrain photographs/ --recipe paper --out codebook.safetensors`

    Writes the codebook, and in a folder of the same name its card (`card.json`: PSNR, SSIM and codes in use),
    `reconstructions.jpg` of images that were held out, `metrics.jsonl` and the checkpoint. On several GPUs:
    `accelerate launch -m blemish pretrain ...`

    Parameters
    ----------
    images
        Folders of some hundred photographs or more, read with their subfolders.
    out
        File to write.
    recipe
        paper (200,000 steps of 32 images at 256 px, for a GPU), small (10,000 of 8 at 128 px; default).
    set_
        A single setting in place of the recipe's: `--set iterations=2000`.
    start
        A codebook file to go on from.
    seed
        Of weights, order, squares, and what is held out.
    device
        Default: auto.
    precision
        Default: auto, bf16 where the hardware is fast at it.
    resume
        Go on from the last checkpoint beside --out.
    """
    from blemish.commands import pretrain_run

    options = {"recipe": recipe, "start": start, "seed": seed, "device": device, "precision": precision}
    pretrain_run(images, set_ or [], out, resume=resume, **options)


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
    from blemish.commands import convert_files

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
    from blemish.commands import convert_codebook_file

    convert_codebook_file(weights, out)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 a defect was found (if asked for), 2 a user's mistake."""
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except BlemishError as error:
        print(f"blemish: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except CycloptsError as error:
        print(f"blemish: {' '.join(str(error).split())} See blemish --help.", file=sys.stderr)
        sys.exit(USER_ERROR)
    except KeyboardInterrupt as stop:
        print(f"blemish: {stop or 'stopped'}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except OSError as error:  # a full disk, say, in the middle of something
        print(f"blemish: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    except Exception:  # a fault of ours: not to be taken for a defect
        traceback.print_exc()
        sys.exit(INTERNAL_ERROR)
    sys.exit(0)
