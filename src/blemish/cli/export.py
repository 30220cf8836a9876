"""``blemish export`` on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def export(
    detector: Path,
    /,
    *,
    out: Path,
    precision: Literal["float32", "int8"] = "float32",
    good: Path | None = None,
    layout: str = "auto",
    input: Literal["photographs", "network"] = "photographs",
) -> None:
    """Write a detector for another runtime: OpenVINO or ONNX. Needs `pip install "blemish[export]"`.

    Example: `blemish export runs/gasket/detector.blemish --precision int8 --good parts/good --out gasket-8.blemish`

    The threshold stays as it is. With --good, it runs what it wrote on these images, and reports how far their scores
    change and which of them get another verdict.

    Parameters
    ----------
    detector
        A .blemish file, or the run folder of `fit` with one.
    out
        NAME.blemish: one file, which `inspect` and `evaluate` run by OpenVINO. NAME.xml: OpenVINO's own two files.
        NAME.onnx: ONNX. The last two take photographs of any height and width, say in their metadata all that another
        program has to know, and give map and score; the verdict is score > threshold.
    precision
        int8 (OpenVINO): about twice as fast as bf16 where the machine multiplies 8-bit numbers. Scores change
        slightly.
    good
        Good images from which int8 learns the range of the numbers, best some hundred: a folder or dataset.
    layout
        Of --good: auto (default), or a layout that `blemish data --help` lists.
    input
        Of .onnx and .xml. photographs: (B, H, W, 3) uint8 RGB of any size; the file resizes as blemish does, or cuts
        into tiles. network: (B, 3, S, S) float RGB in [0, 1] of the detector's size S; you resize, or cut and join.
    """
    from blemish.commands.export import export_run

    export_run(detector, out, precision, good, layout, input)
