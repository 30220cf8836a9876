"""Latent anomalies per second: a table of neighbours and a gather, compared with sorting distances at every position.

    .venv/bin/python benchmarks/dsr_sampling.py

Both replace the low (32x32) and the high (64x64) codes of 8 images of 256x256, with 4096 codes of 128 numbers, by the
rule of DSR's section 3.6; masks are made beforehand. Sorting follows the rule literally, image by image: it computes
the distances of all features to all codes, sorts the nearest codes, and draws one of them at each position. Figures
are medians of at least 5 repeats. The table is made once per codebook; its time is reported separately.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator, Tensor

from blemish.synthesis.draw import uniform
from blemish.synthesis.replaced_codes import LatentSettings, neighbour_table, replace_codes
from machine import describe

N_CODES, N_FEATURES, BATCH, SIDES, REPEATS = 4096, 128, 8, (32, 64), 5


def by_sorting(
    indices: Tensor, mask: Tensor, codes: Tensor, generator: Generator, settings: LatentSettings
) -> Tensor:
    """The same replacement as ``replace_codes``, by sorting distances; (B, H, W) int64 codes."""
    result = indices.clone()
    nearest = int(settings.similarity_bound * len(codes))
    reaches = uniform(settings.min_reach, 1.0, (len(indices),), generator)
    for number, image_codes in enumerate(indices):  # (H, W)
        n = max(nearest + 1, min(int(reaches[number] * len(codes)) + 1, len(codes) - 1))
        order = torch.cdist(codes[image_codes.flatten()], codes).topk(n, dim=1, largest=False).indices[:, nearest:]
        drawn = torch.randint(order.shape[1], (len(order), 1), generator=generator)
        replacement = order.gather(1, drawn).view_as(image_codes)
        result[number] = torch.where(mask[number, 0] > 0, replacement, image_codes)
    return result


def seconds(repeats: int, work: Callable[[], object]) -> float:
    """Median time of ``work`` in seconds, after one warm-up run."""
    work()
    times = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - start_s)
    return statistics.median(times)


def main() -> None:
    """Measure both ways, print the result, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "dsr-sampling.json")
    out = parser.parse_args().out
    generator, settings = torch.Generator().manual_seed(0), LatentSettings()
    codes = torch.randn(N_CODES, N_FEATURES, generator=generator)
    maps = [torch.randint(N_CODES, (BATCH, side, side), generator=generator) for side in SIDES]
    masks = [(torch.rand(BATCH, 1, side, side, generator=generator) > 0.5).float() for side in SIDES]
    table = neighbour_table(codes)
    ours_s = seconds(
        REPEATS * 4,
        lambda: [
            replace_codes(code_map, mask, table, generator, settings)
            for code_map, mask in zip(maps, masks, strict=True)
        ],
    )
    sorting_s = seconds(
        REPEATS,
        lambda: [
            by_sorting(code_map, mask, codes, generator, settings) for code_map, mask in zip(maps, masks, strict=True)
        ],
    )
    row = {
        "gather_images_per_s": round(BATCH / ours_s, 1),
        "sorting_images_per_s": round(BATCH / sorting_s, 2),
        "times": round(sorting_s / ours_s, 1),
        "table_s": round(seconds(REPEATS, lambda: neighbour_table(codes)), 2),
    }
    print(row)
    out.write_text(json.dumps({"machine": describe(), **row}, indent=2) + "\n")


if __name__ == "__main__":
    main()
