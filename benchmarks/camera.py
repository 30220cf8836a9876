"""A GigE Vision camera of 10 frames a second for ten minutes: each frame judged or told, memory flat, lost packets.

    .venv/bin/python benchmarks/camera.py DETECTOR --minutes 10

The camera is Aravis' own (``arv-fake-gv-camera-0.8``, Debian's aravis-tools) over the loopback device. It runs three
times: whole frames for the minutes; for one minute with 20 % of the packets lost; and for one minute in which it is
killed and started again. Writes ``results/camera.json``.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from machine import RESULTS, describe

CAMERA = "arv-fake-gv-camera-0.8"


SET_RATE = """
import gi
gi.require_version("Aravis", "0.8")
from gi.repository import Aravis
Aravis.Camera.new(None).set_frame_rate(10.0)
"""


def camera(*words: str) -> subprocess.Popen[bytes]:
    """Start the camera, at 10 frames a second."""
    process = subprocess.Popen([CAMERA, "-i", "127.0.0.1", "-s", "LINE3", *words], stdout=subprocess.DEVNULL)
    time.sleep(1.0)
    subprocess.run(["/usr/bin/python3", "-c", SET_RATE], check=True)  # Debian's, which has Aravis
    return process


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 1e6


def watched(detector: Path, seconds: float, *words: str, is_killed: bool = False) -> dict[str, Any]:
    """Watch the camera for so long; what its frames became."""
    fake = camera(*words)
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        command = [sys.executable, "-m", "blemish", "watch", "aravis", "--detector", str(detector), "--out", str(out),
                   "--save", "none"]  # fmt: skip
        with (Path(name) / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            while not (out / "heartbeat.json").exists():
                time.sleep(0.1)
            began_s, sizes = time.monotonic(), []
            while time.monotonic() - began_s < seconds:
                time.sleep(min(5.0, seconds / 4))
                sizes.append(resident_mb(process.pid))
                if is_killed and fake.poll() is None and time.monotonic() - began_s > seconds / 3:
                    fake.kill()
                    fake.wait()
                    time.sleep(5.0)
                    fake, is_killed = camera(*words), False
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
        fake.kill()
        rows = [json.loads(line) for line in (out / "findings.jsonl").read_text().splitlines()]
        lines = Path(name, "log").read_text().splitlines()
    ids = [int(row["path"].rpartition("#")[2]) for row in rows]
    gaps = sum(later - earlier - 1 for earlier, later in pairwise(ids) if later > earlier)
    return {
        "seconds": round(seconds), "rows": len(rows), "verdicts": dict(Counter(row["verdict"] for row in rows)),
        "frames_without_a_row": gaps, "exit_code": code,
        "memory_mb": [round(size) for size in sizes[:: max(1, len(sizes) // 8)]],
        "told": [line for line in lines if line.startswith("blemish:") and "#" not in line][:6],
        "first_error": next((row["error"] for row in rows if row["error"]), None),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detector", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    runs = {
        "whole": watched(arguments.detector, 60 * arguments.minutes),
        "lost": watched(arguments.detector, 60.0, "-r", "200"),
        "killed": watched(arguments.detector, 60.0, is_killed=True),
    }
    content = {**describe(), "runs": runs}
    (RESULTS / "camera.json").write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(runs, indent=1))


if __name__ == "__main__":
    main()
