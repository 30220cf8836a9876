"""Verdicts and scores on the same photographs by every way to inspect them: they should be equal.

    .venv/bin/python benchmarks/ways.py DETECTOR [DETECTOR ...] --photographs FOLDER --n 200

Each photograph alone, a list in Python, a folder, a video made of them without loss (FFV1; photographs of the most
frequent size only), a watched folder, the service by both of its interfaces, and exported to ONNX and to OpenVINO, as
a file for other programs and as a .blemish. The first way is what the others are compared with. Writes
``results/ways.json``.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import tritonclient.http as tritonclient

import blemish
from blemish.data.listing import list_images
from blemish.data.reading import read_image
from machine import RESULTS, describe

HINT = {"INFERENCE_PRECISION_HINT": "f32"}


def command(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "blemish", *map(str, words)], check=True, capture_output=True)


def scores_of_rows(out: Path) -> list[float]:
    rows = [json.loads(line) for line in (out / "findings.jsonl").read_text().splitlines()]
    return [float(row["score"]) for row in rows]


def by_video(detector: Path, paths: Sequence[Path], folder: Path) -> list[float]:
    frames = [read_image(path) for path in paths]
    size_wh = frames[0].shape[1], frames[0].shape[0]
    writer = cv2.VideoWriter(str(folder / "all.mkv"), cv2.VideoWriter_fourcc(*"FFV1"), 25, size_wh)
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    writer.release()
    command("inspect", detector, folder / "all.mkv", "--out", folder / "by-video", "--save", "none")
    return scores_of_rows(folder / "by-video")


def by_watch(detector: Path, photographs: Path, n: int, folder: Path) -> list[float]:
    out = folder / "by-watch"
    words = ["watch", str(photographs), "--detector", str(detector), "--out", str(out), "--save", "none"]
    process = subprocess.Popen([sys.executable, "-m", "blemish", *words], stdout=subprocess.DEVNULL)
    while not (out / "findings.jsonl").exists() or len((out / "findings.jsonl").read_text().splitlines()) < n:
        time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    return scores_of_rows(out)


@contextmanager
def service(detector: Path, folder: Path) -> Iterator[str]:
    """The address of a service of this detector, as the product ``part``."""
    words = ["serve", "--product", f"part={detector}", "--storage", str(folder / "service"), "--port", "0"]
    process = subprocess.Popen([sys.executable, "-m", "blemish", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = next(match for line in process.stdout if (match := re.search(r"127\.0\.0\.1:\d+", line)))
    try:
        yield found[0]
    finally:
        process.terminate()
        assert process.wait(60) == 0


def by_post(address: str, paths: Sequence[Path]) -> list[float]:
    url, kind = f"http://{address}/products/part/inspect", {"Content-Type": "application/octet-stream"}
    with httpx.Client(timeout=60) as client:
        answers = [client.post(url, content=path.read_bytes(), headers=kind) for path in paths]
    return [float(answer.raise_for_status().json()["score"]) for answer in answers]


def by_open_inference(address: str, paths: Sequence[Path]) -> list[float]:
    client, scores = tritonclient.InferenceServerClient(address), list[float]()
    for path in paths:
        image = tritonclient.InferInput("image", [1], "BYTES")
        image.set_data_from_numpy(np.array([path.read_bytes()], dtype=object))
        scores.append(float(client.infer("part", [image]).as_numpy("score")[0]))
    return scores


def by_file(path: Path, paths: Sequence[Path]) -> list[float]:
    """By an exported file, as another program would."""
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return [float(session.run(["score"], {"photographs": read_image(each)[None]})[0][0]) for each in paths]
    import openvino

    model = openvino.Core().compile_model(path, "CPU", HINT)
    return [float(model({"photographs": read_image(each)[None]})["score"][0]) for each in paths]


def measured(path: Path, photographs: Path, folder: Path) -> dict[str, Any]:
    """Scores by each way, compared with those of one photograph at a time."""
    paths = list_images(photographs)
    detector = blemish.load(path, precision="float32")
    ways = {"one at a time": [detector.inspect(str(each)).score for each in paths]}
    ways["a list in Python"] = [finding.score for finding in detector.inspect([str(each) for each in paths])]
    float32 = ("--precision", "float32")
    command("inspect", path, photographs, "--out", folder / "by-folder", "--save", "none", *float32)
    ways["a folder"] = scores_of_rows(folder / "by-folder")
    ways["a folder, precision auto"] = ways["a folder"]
    command("inspect", path, photographs, "--out", folder / "by-auto", "--save", "none")
    ways["a folder, precision auto"] = scores_of_rows(folder / "by-auto")
    ways["a lossless video"] = by_video(path, paths, folder)
    ways["watch"] = by_watch(path, photographs, len(paths), folder)
    with service(path, folder) as address:
        ways["the service, POST"] = by_post(address, paths)
        ways["the service, Open Inference Protocol"] = by_open_inference(address, paths)
    for name in ("d.onnx", "d.xml", "d.blemish"):
        command("export", path, "--out", folder / name)
    ways["ONNX Runtime"] = by_file(folder / "d.onnx", paths)
    ways["OpenVINO, .xml"] = by_file(folder / "d.xml", paths)
    command("inspect", folder / "d.blemish", photographs, "--out", folder / "by-openvino", "--save", "none")
    ways["OpenVINO, .blemish"] = scores_of_rows(folder / "by-openvino")
    threshold, first = detector.threshold.value, np.array(ways["one at a time"])
    rows = [
        {
            "way": way,
            "n": len(scores),
            "largest_difference": float(np.abs(np.array(scores) - first).max()),
            "other_verdicts": int(((np.array(scores) > threshold) != (first > threshold)).sum()),
        }
        for way, scores in ways.items()
    ]
    framing = detector.description["framing"]["kind"]
    return {"method": detector.method_name, "framing": framing, "threshold": threshold, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("detectors", nargs="+", type=Path)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--n", type=int, default=200)
    arguments = parser.parse_args()
    results = []
    for detector in arguments.detectors:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "photographs").mkdir()
            found = list_images(arguments.photographs, recursive=True)
            sizes = Counter(read_image(path).shape for path in found)
            kept = [path for path in found if read_image(path).shape == sizes.most_common(1)[0][0]][: arguments.n]
            for number, path in enumerate(kept):
                shutil.copy(path, folder / "photographs" / f"{number:04}{path.suffix}")
            results.append(measured(detector, folder / "photographs", folder))
            print(json.dumps(results[-1], indent=1))
    (RESULTS / "ways.json").write_text(json.dumps({**describe(), "detectors": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
