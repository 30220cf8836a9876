"""Time of a training step of each method at full size (recipe ``paper``), and of its parts.

    .venv/bin/python benchmarks/training_step.py --peer PEER_VENV --textures TEXTURES

A step is that of the training loop: draw a batch, simulate damage, forward with the losses, backward, optimizer. It
is measured in the precision that `blemish fit` chooses on this device, and in float32. On a GPU, ``graph`` is the
same step as one CUDA graph, as `blemish fit` runs it there. The peer is anomalib's model of the same name in the same
run (``peers/setup_anomalib.sh`` makes PEER_VENV). Operations are those of convolutions and matrix products, forward
and backward; ``share_of_peak`` relates their rate to what the machine reaches in one large convolution. Times are
medians in seconds. Writes ``results/training-step-<device>.json``.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from blemish.devices import resolve_device, resolve_precision
from blemish.learning.graphed import N_WARM_UP
from blemish.learning.training import Trainer
from blemish.methods import build, draem, ssae
from blemish.methods.base import Ingredients, Method
from blemish.methods.dsr import DSR
from blemish.synthesis.modified_patches import largest_share
from blemish.synthesis.textures import TextureBank
from machine import RESULTS, of_peer, peak_gflops, peak_memory_mb, seconds, table, write

SPOILING: dict[str, tuple[Any, str]] = {"draem": (draem, "spoil"), "dsr": (DSR, "_damage"), "ssae": (ssae, "corrupt")}
"""The function that simulates damage, at the beginning of each method's losses: where it is defined, and its name."""
N_IN_A_ROW = 5
"""Steps of a graph between synchronizations; the training loop does not wait after each step."""
PARTS = ("spoil", "forward", "backward", "optimizer", "step")


class Clock:
    """Takes the times of the parts of steps, in seconds."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds = device, dict.fromkeys(PARTS, 0.0)
        self.rows: list[dict[str, float]] = []

    def now(self) -> float:
        """The time after all pending work on the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the damage function, so that its time is taken."""

        def run(*arguments: Any, **options: Any) -> Any:
            start_s = self.now()
            result = function(*arguments, **options)
            self.seconds["spoil"] += self.now() - start_s
            return result

        return run

    def medians(self) -> dict[str, float]:
        """Median of each part over all steps except the first."""
        return {name: round(statistics.median(row[name] for row in self.rows[1:]), 5) for name in PARTS}


@functools.cache
def textures(folder: Path | None, side_px: int) -> TextureBank:
    """The textures for damage, read or generated once for all rows."""
    size_hw = side_px, side_px
    return TextureBank.from_folder(folder, size_hw) if folder else TextureBank.procedural(size_hw)


def measured(method: Method, arguments: argparse.Namespace, precision: Any, batch: int) -> dict[str, Any]:
    """The row of a method: medians of its step and of the parts of the step."""
    side_px = method.settings.image_size_px
    images = torch.randint(0, 256, (4 * batch, 3, side_px, side_px), dtype=torch.uint8)
    bank = textures(arguments.textures, side_px) if method.uses_textures else None
    ingredients = Ingredients(bank, largest_share=largest_share(images))
    trainer = Trainer(method, images, ingredients, device=arguments.device, precision=precision)
    stage = method.stages()[0]
    objective, optimizer = trainer._begin(stage)
    clock = Clock(trainer.device)
    place, name = SPOILING[method.name]
    original = getattr(place, name)
    setattr(place, name, clock.timed(original))

    def step() -> None:
        clock.seconds = dict.fromkeys(PARTS, 0.0)
        times = [clock.now()]
        losses = objective(stage, trainer._draw(batch, None), trainer.generator)
        total = torch.stack(list(losses.values())).sum()
        times.append(clock.now())
        trainer.accelerator.backward(total)
        times.append(clock.now())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(clock.now())
        for part, start_s, end_s in zip(PARTS[1:4], times, times[1:], strict=False):
            clock.seconds[part] = end_s - start_s
        clock.seconds["forward"] -= clock.seconds["spoil"]
        clock.seconds["step"] = times[-1] - times[0]
        clock.rows.append(clock.seconds)

    for _ in range(arguments.repeats + 1):
        step()
    with FlopCounterMode(display=False) as counter:
        step()
    setattr(place, name, original)
    row = {"method": method.name, "precision": trainer.precision, "batch": batch, "side_px": side_px}
    clock.rows.pop()
    row |= clock.medians() | {"gflop": round(counter.get_total_flops() / 1e9)}
    if trainer.uses_graphs:
        take_step = trainer.step(stage, objective, optimizer, batch, None)
        for _ in range(N_WARM_UP + 1):
            take_step()

        def take_steps() -> None:
            for _ in range(N_IN_A_ROW):
                take_step()

        row["graph"] = round(seconds(take_steps, arguments.repeats, trainer.device) / N_IN_A_ROW, 5)
    return row


def main() -> None:
    """Measure, print a Markdown table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=["draem", "dsr", "ssae"])
    parser.add_argument("--recipe", default="paper", help="a smaller recipe serves to try this script")
    parser.add_argument("--textures", type=Path, help="folder of texture photographs; required with --peer")
    parser.add_argument("--batches", type=int, nargs="+", default=[8])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--peer", type=Path, help="virtual environment with anomalib")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    precisions = dict.fromkeys((resolve_precision("auto", device), "float32"))
    peaks = {name: peak_gflops(name, device, min(5, arguments.repeats)) for name in precisions}
    out = arguments.out or RESULTS / f"training-step-{device.type}.json"
    rows: list[dict[str, Any]] = []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        write(out, {"peak_gflops": peaks, "peak_memory_mb": peak_memory_mb(device), "rows": rows})

    for batch in arguments.batches:
        for name in arguments.methods:
            for precision in precisions:
                side = {"image_size_px": 256} if (name, arguments.recipe) == ("ssae", "paper") else {}
                row = measured(build(name, arguments.recipe, settings=side), arguments, precision, batch)
                add(row | {"share_of_peak": round(row["gflop"] / row["step"] / peaks[precision]["convolution"], 3)})
        peer_methods = [name for name in arguments.methods if name != "ssae"]
        if arguments.peer and peer_methods:
            words = ["--textures", arguments.textures, "--models", *peer_methods, "--batch", batch]
            words += ["--repeats", arguments.repeats, "--device", device.type]
            peer = of_peer(arguments.peer, "anomalib_training.py", *words)
            for name in peer_methods:
                row = {"method": f"{name} (anomalib {peer['version']})", "precision": "float32", "batch": batch}
                add(row | {"side_px": 256} | peer[name])
    print(table(rows))


if __name__ == "__main__":
    main()
