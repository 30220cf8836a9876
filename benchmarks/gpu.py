"""All GPU checks and measurements in one command: tests, then speed, then trainings; under 12 minutes.

    .venv/bin/python benchmarks/gpu.py --data mvtec/bottle --textures TEXTURES --out $OUT
    .venv/bin/python benchmarks/gpu.py --device cpu --quick --out /tmp/gpu        # first, to see that all of it runs

--check runs ``tests/gpu`` and the tests of the kernels on the GPU. --speed measures the training step of DRÆM, DSR
and SSAE (recipe ``paper``) at batch 8 and its parts, measures inference of the same networks at batch 1 and 32, and
counts the operations of the step; with --peer, anomalib is measured, too. --proof fits recipe ``fast`` of all three
methods on --data and evaluates it. Without any of these options, all three run in this order. Each part has a time
limit. Results from before the limit are kept, and the next part runs even if one fails: ``gpu.json`` has the status
of each part, and the exit code is 1 if a part failed or reached its limit.

Writes into --out: ``check.json``, ``training-step-DEVICE.json``, ``inference-DEVICE.json``, ``operations.json``,
``proof-DEVICE.json``, ``report.html`` of the first evaluation, and ``gpu.json``. Runs from the checkout, without
installation; --wheels installs missing packages (cyclopts, docstring-parser, rich-rst, docutils).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from machine import RESULTS, table, write

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LIMITS_S = {"check": 90.0, "speed": 130.0, "proof": 500.0}
"""Time limits on a GPU; on a CPU, which only serves to see that all parts run, they are ten times as long."""
SPEED = {"training_step": 4.0, "inference": 3.0, "operations": 1.0}
"""Scripts, and their weights in sharing the limit."""
WAYS = {"cuda": ("torch", "prepared bf16"), "cpu": ("torch", "prepared")}
"""Ways of inference without compilation, which would take longer than everything else."""
PROOF = {"draem": 5.0, "dsr": 4.0, "ssae": 2.0}
"""Methods, and their weights in sharing the limit."""
SUMMARY = ("training_s", "iterations", "images_per_s", "n_train", "n_calibration", "precision", "device", "textures")
METRICS = ("image_auroc", "pixel_ap", "pixel_auroc", "pixel_aupro", "false_rejects", "found", "protocol")


class Session:
    """Runs commands with blemish from this checkout, and records the status of each part."""

    def __init__(self, arguments: argparse.Namespace, scratch: Path) -> None:
        self.arguments, self.scratch, self.out = arguments, scratch, arguments.out.resolve()
        self.parts: dict[str, dict[str, Any]] = {}
        paths = [str(ROOT / "src"), str(scratch / "wheels"), os.environ.get("PYTHONPATH", "")]
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def python(self, *words: object, limit_s: float = 60.0) -> None:
        """Run Python with these arguments; at the time limit, kill it and all processes that it started.

        Raises
        ------
        TimeoutExpired
            If it reaches the time limit.
        RuntimeError
            If it fails; its own output says why.
        """
        command = [sys.executable, "-W", "ignore", *map(str, words)]
        process = subprocess.Popen(command, cwd=ROOT, env=self.environment, start_new_session=True)
        try:
            code = process.wait(max(limit_s, 1.0))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code:
            raise RuntimeError(f"exit code {code}")

    def prepare(self) -> None:
        """Install the wheels, and write the package metadata that blemish reads if it is not installed."""
        if self.arguments.wheels:
            wheels = sorted(self.arguments.wheels.resolve().glob("*.whl"))
            options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--target", self.scratch / "wheels"]
            self.python("-m", "pip", "install", *options, *wheels)
        try:
            self.python("-c", "import sys, importlib.metadata as m; sys.exit(not [*m.distributions(name='blemish')])")
        except RuntimeError:
            self.python("-c", "import setuptools; setuptools.setup()", "--quiet", "egg_info")

    def limit_s(self, name: str) -> float:
        """Time limit of check, speed or proof on this device, in seconds."""
        return LIMITS_S[name] * (1 if self.arguments.device == "cuda" else 10)

    def part(self, name: str, limit_s: float, work: Callable[[float], None]) -> None:
        """Run one part within its time limit, then record and print its status."""
        print(f"--- {name}, up to {limit_s:.0f} s", flush=True)
        start_s, status, reason = time.perf_counter(), "passed", ""
        try:
            work(limit_s)
        except subprocess.TimeoutExpired:
            status = "late"
        except Exception as error:
            status, reason = "failed", f" ({error})"
        taken_s = time.perf_counter() - start_s
        self.parts[name] = {"seconds": round(taken_s, 1), "status": status}
        write(self.out / "gpu.json", self.parts)
        print(f"--- {name}: {status} after {taken_s:.0f} s{reason}", flush=True)


def shared(limit_s: float, weights: dict[str, float]) -> Iterator[tuple[str, float]]:
    """Yield each name with its share of the time that is left when its turn comes."""
    end_s = time.perf_counter() + limit_s
    for number, name in enumerate(weights):
        yield name, (end_s - time.perf_counter()) * weights[name] / sum([*weights.values()][number:])


# --- the parts -----------------------------------------------------------------------------------------------


def check(session: Session) -> None:
    """Run the tests that need a GPU."""
    quick, device = session.arguments.quick, session.arguments.device

    def work(limit_s: float) -> None:
        session.environment["BLEMISH_GPU_TESTS_ON"] = device
        results = session.scratch / "check.xml"
        words: list[object] = ["-p", "no:cacheprovider", "-rs", f"--junitxml={results}"]
        words += ["-k", "draem and not bf16"] if quick else []
        rows: list[dict[str, Any]] = []
        try:
            session.python("-m", "pytest", "tests/gpu", "tests/test_kernels.py", *words, limit_s=limit_s)
        finally:
            rows += [_row(case) for case in ElementTree.parse(results).iter("testcase")] if results.exists() else []
            write(session.out / "check.json", {"tests": rows})
        if not any(row["outcome"] == "passed" for row in rows):
            raise RuntimeError("no test ran; " + ", ".join({row.get("told", "") for row in rows}))

    session.part("check", session.limit_s("check"), work)


def _row(case: ElementTree.Element) -> dict[str, Any]:
    """The result of one test, from JUnit's XML."""
    row: dict[str, Any] = {"test": case.get("name"), "outcome": "passed", "seconds": float(case.get("time", 0))}
    for kind, outcome in (("skipped", "skipped"), ("failure", "failed"), ("error", "failed")):
        if (element := case.find(kind)) is not None:
            row |= {"outcome": outcome, "told": element.get("message", "")[:500]}
    return row


def speed(session: Session) -> None:
    """Measure training steps and inference, and count operations."""
    arguments = session.arguments
    device: list[object] = ["--device", arguments.device]
    peer: list[object] = ["--peer", arguments.peer.resolve()] if arguments.peer else []
    textures: list[object] = ["--textures", arguments.textures.resolve()] if arguments.textures else []
    words: dict[str, list[object]] = {
        "training_step": ["--batches", 8, "--repeats", 8, *device, *textures, *peer],
        "inference": ["--batches", 1, 32, "--repeats", 10, "--ways", *WAYS[arguments.device], *device, *peer],
        "operations": [],
    }
    if arguments.quick:
        small = ["--recipe", "small", "--repeats", 1, "--batches"]
        words = {
            "training_step": [*small, 2, *device, *textures],
            "inference": [*small, 1, 2, "--size", 128, "--ways", *WAYS[arguments.device], *device],
            "operations": ["--quick"],
        }
    for name, limit_s in shared(session.limit_s("speed"), SPEED):
        file = f"{name.replace('_', '-')}{'' if name == 'operations' else f'-{arguments.device}'}.json"
        command = [HERE / f"{name}.py", *words[name], "--out", session.out / file]

        def work(limit_s: float, command: list[object] = command) -> None:
            session.python(*command, limit_s=limit_s)

        session.part(name, limit_s, work)


def proof(session: Session) -> None:
    """Train all methods, and evaluate the detectors."""
    arguments = session.arguments
    recipe = "small" if arguments.quick else "fast"
    options: list[object] = ["--textures", arguments.textures.resolve()] if arguments.textures else []
    options += ["--set", "iterations=8"] if arguments.quick else []
    data = arguments.data.resolve() if arguments.data else session.scratch / "bricks"
    if not arguments.data:
        code = "import pathlib, sys, blemish.data.demo_images as d; d.make_demo_images(pathlib.Path(sys.argv[1]))"
        session.part("bricks", 60.0, lambda limit_s: session.python("-c", code, data, limit_s=limit_s))
    rows: list[dict[str, Any]] = []
    for name, limit_s in shared(session.limit_s("proof"), PROOF):
        run = session.scratch / name
        where: list[object] = ["--device", arguments.device]
        fit = ["fit", data, "--method", name, "--recipe", recipe, *options, *where, "--out", run]
        evaluate = ["evaluate", run / "detector.blemish", data, *where, "--out", run / "evaluation"]

        def work(limit_s: float, name: str = name, run: Path = run, commands: Any = (fit, evaluate)) -> None:
            end_s = time.perf_counter() + limit_s
            for words in commands:
                session.python("-m", "blemish", *words, limit_s=end_s - time.perf_counter())
            summary = json.loads((run / "summary.json").read_text())
            metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
            row = {"method": name, "recipe": recipe, "data": metrics["data"]}
            rows.append(row | {key: summary[key] for key in SUMMARY} | {key: metrics.get(key) for key in METRICS})
            write(session.out / f"proof-{arguments.device}.json", {"rows": rows})
            if len(rows) == 1:
                shutil.copyfile(run / "evaluation" / "report.html", session.out / "report.html")

        session.part(f"proof {name}", limit_s, work)
    if rows:
        print(table(rows), flush=True)


PARTS: dict[str, Callable[[Session], None]] = {"check": check, "speed": speed, "proof": proof}


def main() -> None:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, function in PARTS.items():
        parser.add_argument(f"--{name}", action="store_true", help=function.__doc__)
    parser.add_argument("--data", type=Path, help="dataset for --proof; default: the images of the demo")
    parser.add_argument("--textures", type=Path, help="folder of texture photographs; required with --peer")
    parser.add_argument("--peer", type=Path, help="virtual environment with anomalib")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install first, for this run only")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, only to see that all parts run; the figures mean nothing"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    chosen = [name for name in PARTS if getattr(arguments, name)] or [*PARTS]
    with tempfile.TemporaryDirectory() as scratch:
        session = Session(arguments, Path(scratch))
        session.prepare()
        for name in chosen:
            PARTS[name](session)
    sys.exit(any(part["status"] != "passed" for part in session.parts.values()))


if __name__ == "__main__":
    main()
