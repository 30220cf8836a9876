"""``blemish data`` on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from blemish.cli.options import USER_ERROR


def data(
    path: Path,
    /,
    *,
    layout: str = "auto",
    mask_values: str = "auto",
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Check a dataset before training: what it holds, and what is wrong with it. Reads every file once.

    Example: `blemish data parts/good`

    Exits with 2 if something would stop `fit` or `evaluate`.

    Layouts (where a dataset has categories, give the folder of one):

    - `folder`: images of good parts directly in the folder
    - `csv`: a manifest with the columns path,label,mask,split
    - `mvtec`: MVTec AD and MPDD: train/good, test/KIND, ground_truth/KIND
    - `mvtec-ad-2`: MVTec AD 2: train/good, validation/good, test_public
    - `mvtec-loco`: MVTec LOCO AD: test/logical_anomalies, defects_config.json
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
    mask_values
        Which pixels of masks are defective, as for `evaluate`.
    as_json
        Print JSON instead of the table.
    """
    from blemish.commands.data import survey_run

    if not survey_run(path, layout, as_json, mask_values):
        sys.exit(USER_ERROR)
