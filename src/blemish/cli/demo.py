"""``blemish demo`` on the command line."""

from __future__ import annotations

from pathlib import Path


def demo(*, out: Path = Path("demo"), seed: int = 0, open_page: bool = True) -> None:
    """Train on good cut-outs of a photograph of bricks, inspect damaged ones, and show the result as a page.

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
    from blemish.commands.demo import run_demo

    run_demo(out, seed=seed, open_page=open_page)
