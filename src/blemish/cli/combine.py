"""``blemish combine`` on the command line."""

from __future__ import annotations

from pathlib import Path

from blemish.settings import Device


def combine(
    *detectors: Path,
    good: Path,
    out: Path,
    false_rejects: float = 0.01,
    seed: int = 0,
    layout: str = "auto",
    device: Device = "auto",
) -> None:
    """Join trained detectors of different methods to one that finds more than each.

    Example: `blemish combine runs/gasket runs/gasket-ssae --good parts/good --out gasket.blemish`

    All parts look at each photograph; their maps are brought to one scale by what good images show, and joined;
    a part weighs the more, the more rarely it is wrong by far on good images. It takes as long as all parts together.

    Parameters
    ----------
    detectors
        Two .blemish files or more, or run folders of `fit` with one; of one product, of different methods.
    good
        The good images that the parts were trained on: those that all parts held out (with the same --seed of `fit`)
        set the threshold. Or a folder of further good photographs: half of them set it, or more.
    out
        The .blemish file to write. It inspects, evaluates and exports like any other.
    false_rejects
        Share of good parts that may be rejected.
    seed
        Of the simulated damage, and of the division of further photographs.
    layout
        Of --good: auto (default), or a layout that `blemish data --help` lists.
    device
        auto takes CUDA if there is one.
    """
    from blemish.commands.combine import combine_run

    combine_run(detectors, good, out, false_rejects, seed, layout, device)
