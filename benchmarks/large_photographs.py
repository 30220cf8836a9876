"""Photographs of 20 megapixels with a spot of 12 px, by tiles and shrunk to one image: found or not, seconds, memory.

    .venv/bin/python benchmarks/large_photographs.py --texture PHOTOGRAPH --method draem

Good photographs are cut-outs of one enlarged photograph of a texture, each in another light and with the noise of a
camera; the defective ones have a dark spot at a random place. Each command runs in a new process. Writes
``results/large-photographs.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from machine import RESULTS, describe

SIZE_HW = (3648, 5472)
"""Height and width of a photograph, px: 20 megapixels."""
SPOT_PX, DARKER = 12, 50.0
"""Diameter of the spot, and how many grey levels it is darker in its middle."""
NOISE = 2.0
"""Standard deviation of the noise, grey levels."""


def photograph(texture: NDArray[np.uint8], number: int) -> NDArray[np.float32]:
    """A good photograph (H, W) in grey levels."""
    random = np.random.default_rng(number)
    height, width = SIZE_HW
    enlarged = cv2.resize(texture, (width + 400, height + 400), interpolation=cv2.INTER_CUBIC)
    y, x = random.integers(0, 400, 2)
    light = random.uniform(0.97, 1.03)
    pixels = enlarged[y : y + height, x : x + width].astype(np.float32) * light
    return np.asarray(pixels + random.normal(0.0, NOISE, SIZE_HW).astype(np.float32))


def with_spot(pixels: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """The photograph with a round dark spot, soft at its edge."""
    random = np.random.default_rng(1000 + number)
    y, x = (int(random.integers(200, length - 200)) for length in SIZE_HW)
    rows, columns = np.ogrid[: SIZE_HW[0], : SIZE_HW[1]]
    distance = np.hypot(rows - y, columns - x)
    return np.asarray(pixels - DARKER * np.clip(SPOT_PX / 2 + 0.5 - distance, 0.0, 1.0).astype(np.float32))


def save(pixels: NDArray[np.float32], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), pixels.round().clip(0, 255).astype(np.uint8))


def command(*words: object) -> tuple[float, float, str]:
    """Seconds, peak memory in MB and standard output of `blemish` with these arguments."""
    start_s = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, "-m", "blemish", *map(str, words)], stdout=out)
        _, status, usage = os.wait4(process.pid, 0)
        out.seek(0)
        text = out.read()
    assert status == 0, words
    return time.perf_counter() - start_s, usage.ru_maxrss / 1024, text


def measured(folder: Path, options: list[str], n_defective: int) -> dict[str, object]:
    """Fit and inspect: what was found, in which time, with which memory."""
    fit_s, fit_mb, said = command("fit", folder / "good", "--out", folder / "run", "--overwrite", *options)
    one = next((folder / "bad").iterdir())
    one_s, one_mb, _ = command("inspect", folder / "run", one, "--out", folder / "one")
    all_s, all_mb, _ = command("inspect", folder / "run", folder / "bad", folder / "fresh", "--out", folder / "all")
    rows = [json.loads(line) for line in (folder / "all" / "findings.jsonl").read_text().splitlines()]
    bad = [row["is_defective"] for row in rows if "/bad/" in row["path"]]
    fresh = [row["is_defective"] for row in rows if "/fresh/" in row["path"]]
    return {
        "options": options, "found": sum(bad), "defective": n_defective, "rejected": sum(fresh), "good": len(fresh),
        "fit_s": round(fit_s, 1), "fit_mb": round(fit_mb), "inspect_one_s": round(one_s, 1),
        "inspect_one_mb": round(one_mb), "s_per_photograph": round((all_s - one_s) / (len(rows) - 1), 2),
        "inspect_mb": round(all_mb), "fit_said": [line for line in said.splitlines() if "px" in line],
    }  # fmt: skip


def main() -> None:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--texture", type=Path, required=True, help="a photograph of a texture")
    parser.add_argument("--method", default="draem")
    parser.add_argument(
        "--n", type=int, default=12, help="good photographs to learn from; half as many are inspected"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "large-photographs.json")
    arguments = parser.parse_args()
    texture = np.asarray(cv2.imread(str(arguments.texture), cv2.IMREAD_GRAYSCALE))
    n_inspected, rows = arguments.n // 2, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(arguments.n):
            save(photograph(texture, number), folder / "good" / f"{number:02}.png")
        for number in range(n_inspected):
            save(photograph(texture, 100 + number), folder / "fresh" / f"{number:02}.png")
            save(with_spot(photograph(texture, 200 + number), number), folder / "bad" / f"{number:02}.png")
        for how in ([], ["--tile", "256", "--overlap", "64"]):
            options = ["--method", arguments.method, "--false-rejects", "0.2", *how]
            rows.append(measured(folder, options, n_inspected))
            print(json.dumps(rows[-1], indent=2), flush=True)
    settings = {"texture": arguments.texture.name, "size_hw": SIZE_HW, "spot_px": SPOT_PX, "darker": DARKER}
    arguments.out.write_text(json.dumps({"machine": describe(), **settings, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
