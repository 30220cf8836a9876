"""A short time on a GPU, in one command: checks, then figures of speed, then trainings; under 12 minutes.

    .venv/bin/python benchmarks/gpu.py --data mvtec/bottle --textures TEXTURES --out $OUT
    .venv/bin/python benchmarks/gpu.py --device cpu --quick --out /tmp/gpu        # before that: does all of it run?

--check runs ``tests/gpu``, and the kernels' tests on the card. --speed takes the training step of DRÆM, DSR and SSAE
(recipe ``paper``) at batch 8 with its parts, inference of the same at batch 1 and 32, and counts the step's
operations; beside anomalib with --peer. --proof fits recipe ``fast`` of all three on --data and evaluates it. Without
any of these: all, in this order. Each part has a limit in seconds, what it has measured until then is kept, and the
next ones run whatever became of it: ``gpu.json`` tells, and the exit code is 1 if one failed or was late.

Writes into --out, for a DEVICE: ``check.json``, ``training-step-DEVICE.json``, ``inference-DEVICE.json``,
``operations.json``, ``proof-DEVICE.json``, ``report.html`` of the first evaluation, and ``gpu.json``. Runs from the
checkout: on a bare machine, --wheels brings what it lacks (cyclopts, docstring-parser, rich-rst, docutils).
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
"""On a card, which is lent for minutes; ten times as long on a CPU, which only shows that all of it runs."""
SPEED = {"training_step": 4.0, "inference": 3.0, "operations": 1.0}
"""Scripts, and how they share the limit."""
WAYS = {"cuda": ("torch", "prepared bf16"), "cpu": ("torch", "prepared")}
"""Those of inference that need no compiling, which takes longer than all the rest."""
PROOF = {"draem": 5.0, "dsr": 4.0, "ssae": 2.0}
"""Methods, and how they share the limit."""
SUMMARY = ("training_s", "iterations", "images_per_s", "n_train", "n_calibration", "precision", "device", "textures")
METRICS = ("image_auroc", "pixel_ap", "pixel_auroc", "pixel_aupro", "false_rejects", "found", "protocol")


class Session:
    """Runs commands with blemish from this checkout, and keeps what became of each part."""

    def __init__(self, arguments: argparse.Namespace, scratch: Path) -> None:
        self.arguments, self.scratch, self.out = arguments, scratch, arguments.out.resolve()
        self.parts: dict[str, dict[str, Any]] = {}
        paths = [str(ROOT / "src"), str(scratch / "wheels"), os.environ.get("PYTHONPATH", "")]
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def python(self, *words: object, limit_s: float = 60.0) -> None:
        """Run Python with these words; at the limit it ends, with all processes that it started.

        Raises
        ------
        TimeoutExpired
            If it takes too long.
        RuntimeError
            If it fails; it has said why.
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
        """Wheels, and the version that blemish reads of itself, where it is not installed."""
        if self.arguments.wheels:
            wheels = sorted(self.arguments.wheels.resolve().glob("*.whl"))
            options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--target", self.scratch / "wheels"]
            self.python("-m", "pip", "install", *options, *wheels)
        try:
            self.python("-c", "import sys, importlib.metadata as m; sys.exit(not [*m.distributions(name='blemish')])")
        except RuntimeError:
            self.python("-c", "import setuptools; setuptools.setup()", "--quiet", "egg_info")

    def limit_s(self, name: str) -> float:
        """Of one of the three kinds of parts."""
        return LIMITS_S[name] * (1 if self.arguments.device == "cuda" else 10)

    def part(self, name: str, limit_s: float, work: Callable[[float], None]) -> None:
        """Do some work within its limit, and tell how it ended."""
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
    """Each name with its share of the seconds that are left when its turn comes."""
    end_s = time.perf_counter() + limit_s
    for number, name in enumerate(weights):
        yield name, (end_s - time.perf_counter()) * weights[name] / sum([*weights.values()][number:])


# --- the parts -----------------------------------------------------------------------------------------------


def check(session: Session) -> None:
    """The tests that need a card."""
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
    """What became of a test, from JUnit's XML."""
    row: dict[str, Any] = {"test": case.get("name"), "outcome": "passed", "seconds": float(case.get("time", 0))}
    for kind, outcome in (("skipped", "skipped"), ("failure", "failed"), ("error", "failed")):
        if (told := case.find(kind)) is not None:
            row |= {"outcome": outcome, "told": told.get("message", "")[:500]}
    return row


def speed(session: Session) -> None:
    """The scripts that measure it."""
    a = session.arguments
    device: list[object] = ["--device", a.device]
    peer: list[object] = ["--peer", a.peer.resolve()] if a.peer else []
    textures: list[object] = ["--textures", a.textures.resolve()] if a.textures else []
    words: dict[str, list[object]] = {
        "training_step": ["--batches", 8, "--repeats", 8, *device, *textures, *peer],
        "inference": ["--batches", 1, 32, "--repeats", 10, "--ways", *WAYS[a.device], *device, *peer],
        "operations": [],
    }
    if a.quick:
        small = ["--recipe", "small", "--repeats", 1, "--batches"]
        words = {
            "training_step": [*small, 2, *device, *textures],
            "inference": [*small, 1, 2, "--size", 128, "--ways", *WAYS[a.device], *device],
            "operations": ["--quick"],
        }
    for name, limit_s in shared(session.limit_s("speed"), SPEED):
        file = f"{name.replace('_', '-')}{'' if name == 'operations' else f'-{a.device}'}.json"
        command = [HERE / f"{name}.py", *words[name], "--out", session.out / file]

        def work(limit_s: float, command: list[object] = command) -> None:
            session.python(*command, limit_s=limit_s)

        session.part(name, limit_s, work)


def proof(session: Session) -> None:
    """Trainings, and how well they find defects."""
    a = session.arguments
    recipe = "small" if a.quick else "fast"
    options: list[object] = ["--textures", a.textures.resolve()] if a.textures else []
    options += ["--set", "iterations=8"] if a.quick else []
    data = a.data.resolve() if a.data else session.scratch / "bricks"
    if not a.data:
        code = "import pathlib, sys, blemish.data.demo_images as d; d.make_demo_images(pathlib.Path(sys.argv[1]))"
        session.part("bricks", 60.0, lambda limit_s: session.python("-c", code, data, limit_s=limit_s))
    rows: list[dict[str, Any]] = []
    for name, limit_s in shared(session.limit_s("proof"), PROOF):
        run = session.scratch / name
        where: list[object] = ["--device", a.device]
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
            write(session.out / f"proof-{a.device}.json", {"rows": rows})
            if len(rows) == 1:
                shutil.copyfile(run / "evaluation" / "report.html", session.out / "report.html")

        session.part(f"proof {name}", limit_s, work)
    if rows:
        print(table(rows), flush=True)


PARTS: dict[str, Callable[[Session], None]] = {"check": check, "speed": speed, "proof": proof}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name, function in PARTS.items():
        parser.add_argument(f"--{name}", action="store_true", help=function.__doc__)
    parser.add_argument("--data", type=Path, help="dataset to prove on; default: the demo's images")
    parser.add_argument("--textures", type=Path, help="folder of photographs; the peer needs one")
    parser.add_argument("--peer", type=Path, help="virtual environment with anomalib")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install first, beside what is there")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument(
        "--quick", action="store_true", help="all of it tiny, to know that it runs: figures of nothing"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    asked = [name for name in PARTS if getattr(arguments, name)] or [*PARTS]
    with tempfile.TemporaryDirectory() as scratch:
        session = Session(arguments, Path(scratch))
        session.prepare()
        for name in asked:
            PARTS[name](session)
    sys.exit(any(part["status"] != "passed" for part in session.parts.values()))


if __name__ == "__main__":
    main()
