"""All that is to be measured on a GPU, in under 8 minutes: training steps and inference, beside anomalib.

    .venv/bin/python benchmarks/gpu.py --peer PEER_VENV --textures TEXTURES --out $OUT

The step of DRÆM, DSR and SSAE (recipe ``paper``) at batch 8 and 32, with its parts, in bf16 and float32, as
milliseconds and as a share of what the card reaches in one large convolution; inference of the same at batch 1 and 32
as it stands, in bf16, by torch.compile, and prepared. Each part stops after its share of the time, and what was
measured until then is kept. Writes ``training-step-cuda.json`` and ``inference-cuda.json`` into --out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from machine import RESULTS

HERE = Path(__file__).parent
PARTS = {"training_step": ["--batches", 8, 32, "--repeats", 10], "inference": ["--batches", 1, 32, "--repeats", 20]}
LIMIT_S = 230.0


def main() -> None:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", type=Path, help="virtual environment with anomalib")
    parser.add_argument("--textures", type=Path, help="folder of photographs; the peer needs one")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for name, options in PARTS.items():
        words: list[object] = [*options, "--device", arguments.device]
        words += ["--out", arguments.out / f"{name.replace('_', '-')}-{arguments.device}.json"]
        words += ["--peer", arguments.peer] if arguments.peer else []
        words += ["--textures", arguments.textures] if arguments.textures and name == "training_step" else []
        start_s = time.perf_counter()
        try:
            subprocess.run(
                list(map(str, [sys.executable, "-W", "ignore", HERE / f"{name}.py", *words])),
                check=True,
                timeout=LIMIT_S,
            )
        except subprocess.TimeoutExpired:
            print(f"{name}: stopped after {LIMIT_S:.0f} s")
        print(f"{name}: {time.perf_counter() - start_s:.0f} s", flush=True)


if __name__ == "__main__":
    main()
