"""Latent anomalies per second: one table of neighbours and a gather, beside sorting all distances at every position.

    .venv/bin/python benchmarks/dsr_sampling.py

Both damage the low (32x32) and the high (64x64) codes of 8 images of 256x256 with 4096 codes of 128 numbers, by the
rule of DSR's section 3.6; masks are given. The sorting way does what the rule says, image by image: distances of all
features to all codes, the nearest of them in order, one drawn at each position. Medians of 5 repeats and more; the
table is made once for a codebook, and its time is told.
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
    """What ``replace_codes`` gives, the long way."""
    result = indices.clone()
    nearest = int(settings.similarity_bound * len(codes))
    reaches = uniform(settings.min_reach, 1.0, (len(indices),), generator)
    for number, one in enumerate(indices):
        n = max(nearest + 1, min(int(reaches[number] * len(codes)) + 1, len(codes) - 1))
        order = torch.cdist(codes[one.flatten()], codes).topk(n, dim=1, largest=False).indices[:, nearest:]
        drawn = torch.randint(order.shape[1], (len(order), 1), generator=generator)
        result[number] = torch.where(mask[number, 0] > 0, order.gather(1, drawn).view_as(one), one)
    return result


def seconds(repeats: int, work: Callable[[], object]) -> float:
    """Median time of ``work``, after one run to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start_s = time.perf_counter()
        work()
        times.append(time.perf_counter() - start_s)
    return statistics.median(times)


def main() -> None:
    """Measure both, print, write the JSON."""
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
        lambda: [replace_codes(one, mask, table, generator, settings) for one, mask in zip(maps, masks, strict=True)],
    )
    sorting_s = seconds(
        REPEATS,
        lambda: [by_sorting(one, mask, codes, generator, settings) for one, mask in zip(maps, masks, strict=True)],
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
