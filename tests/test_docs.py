"""What the documents tell a reader to type is run; the figures they show are those of ``benchmarks/results``.

Commands that train get tiny settings; benchmarks get ``--help``; ``make`` only says what it would do.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest

from authors_states import write_dsr
from blemish.cli import main
from blemish.data.demo_images import make_demo_images

REPOSITORY = Path(__file__).parents[1]
GUIDES = ("README.md", "docs/guide.md", "docs/line.md")
PAGES = (*GUIDES, "docs/results.md", "docs/performance.md", "docs/architecture.md", "CONTRIBUTING.md")
BIN = ".venv/bin/"

TINY = {
    "draem": [
        "iterations=2", "image_size_px=32", "reconstructive_widths=[4, 8, 8]", "discriminative_widths=[4, 8, 8]",
    ],
    "dsr": [
        "iterations=2", "image_size_px=64", "restriction_widths=[8, 8]", "decoder_widths=[8, 8, 8]",
        "detection_widths=[4, 8]", "encoder=trained",
    ],
    "ssae": [
        "iterations=2", "image_size_px=32", "widths=[4]", "filters_per_dilation=2", "dilations=[1]", "n_stacks=1",
        "patch_px=1", "validate_every=1", "corruption.kinds=[elastic]", "encoder=trained", "difference=ssim",
    ],
    "patchcore": ["image_size_px=32", "max_vectors=50", "max_candidates=200"],
}  # fmt: skip
"""Settings with which a method trains in a moment."""


def commands(page: str) -> list[str]:
    """The indented lines that are to be typed, without their comments."""
    lines = re.findall(rf"^    ((?:{re.escape(BIN)}|make ).*)$", (REPOSITORY / page).read_text(), re.MULTILINE)
    return [line.split("  #")[0].strip() for line in lines]


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (REPOSITORY / page).read_text(), re.MULTILINE | re.DOTALL)


def typed(kind: str, pages: tuple[str, ...] = PAGES) -> list[str]:
    """All commands that begin so, each once."""
    return list(dict.fromkeys(line for page in pages for line in commands(page) if line.startswith(kind)))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the documents' commands name."""
    folder = tmp_path_factory.mktemp("workshop")
    data = folder / "DATA"
    make_demo_images(data)
    for surplus in sorted((data / "train" / "good").iterdir())[14:]:
        surplus.unlink()
    good, *kinds = sorted((data / "test").iterdir(), key=lambda kind: kind.name != "good")
    for kind in kinds[2:]:
        shutil.rmtree(kind)
    defective = kinds[0]
    shutil.copytree(data / "train" / "good", folder / "parts" / "good")
    shutil.copytree(data / "calibration", folder / "parts" / "good-of-today")
    shutil.copytree(defective, folder / "parts" / "bad")
    shutil.copytree(data / "ground_truth" / defective.name, folder / "parts" / "bad-masks")
    shutil.copytree(good, folder / "photos")
    shutil.copy(next(defective.iterdir()), folder / "part_17.png")
    write_dsr(folder / "DSR" / "checkpoints", "bottle")
    shutil.copytree(good, folder / "incoming")
    pixels = cv2.imread(str(next((folder / "photos").iterdir())))
    height, width, _ = pixels.shape
    corners = [[width // 4, height // 4], [3 * width // 4, height // 4], [width // 2, 3 * height // 4]]
    (folder / "region.json").write_text(json.dumps([corners]))
    film = cv2.VideoWriter(str(folder / "film.mkv"), cv2.VideoWriter_fourcc(*"FFV1"), 25, (width, height))
    film.write(pixels)
    film.release()
    settings = ";".join(TINY["draem"])
    (folder / "products.csv").write_text(f'name,data,device,set\ngasket,parts/good,cpu,"{settings}"\n')
    return folder


def tiny(words: list[str]) -> list[str]:
    """The same command, with settings that train in a moment."""
    if "--config" in words or (words[0] not in ("fit", "tune") and words[:2] != ["study", "objectives"]):
        return words
    default = "draem" if words[0] == "fit" else "ssae"
    method = words[words.index("--method") + 1] if "--method" in words else default
    has_size = "--image-size" in words or "--tile" in words
    settings = [f"--set={setting}" for setting in TINY[method] if not (has_size and "image_size" in setting)]
    return [*words, *settings, "--device", "cpu"]


def watch(words: list[str]) -> None:
    """Watch until something is inspected."""
    heartbeat = Path(words[words.index("--out") + 1], "heartbeat.json")
    with subprocess.Popen([sys.executable, "-m", "blemish", *words, "--device", "cpu"]) as process:
        while not (heartbeat.exists() and json.loads(heartbeat.read_text())["n_inspected"]):
            assert process.poll() is None
            time.sleep(0.1)
        process.terminate()
    assert process.returncode == 0


def test_a_newcomer_follows_the_readme_and_the_guide(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command in turn, in one folder, as a reader would."""
    monkeypatch.chdir(workshop)
    lines = typed(f"{BIN}blemish", GUIDES)
    assert {line.split()[1] for line in lines} >= {"data", "fit", "inspect", "evaluate", "compare", "export"}
    for line in lines:
        if line.split()[1] == "watch":
            watch(shlex.split(line)[1:])
            continue
        with pytest.raises(SystemExit) as ended:
            main(tiny(shlex.split(line)[1:]))
        assert ended.value.code == 0, line
    for out in ("runs/gasket/detector.blemish", "findings/findings.jsonl", "runs/gasket/evaluation/report.html"):
        assert (workshop / out).exists(), out


@pytest.mark.parametrize("code", [block for page in PAGES for block in python_blocks(page)])
def test_python_runs(code: str, workshop: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(workshop)
    values = ", ".join(f'"{name}": {value}' for name, value in (setting.split("=") for setting in TINY["draem"]))
    quick = code.replace('recipe="small"', f'recipe="small", device="cpu", settings={{{values}}}')
    assert quick != code, "the example names no recipe, so it would train for minutes"
    exec(compile(quick, "document", "exec"), {})
    assert (workshop / "gasket.blemish").exists()


SCRIPTS = sorted({line.split()[1] for line in typed(f"{BIN}python")})
EXPLAINING = """
import os, runpy, sys
from pathlib import Path
import accelerate, cv2, torch

for script in sys.argv[1:]:
    if os.fork() == 0:
        output = os.open(Path(script).stem, os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1), os.dup2(output, 2)
        sys.path[0], sys.argv[:] = str(Path(script).parent), [script, "--help"]
        runpy.run_path(script, run_name="__main__")
        sys.exit()
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""
"""Runs each script in a fork of one process, which loads the libraries that all of them take seconds to load."""


@pytest.fixture(scope="module")
def explanations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """How each script ends that is asked for help, and what it says."""
    folder = tmp_path_factory.mktemp("explanations")
    command = [sys.executable, "-c", EXPLAINING, *(REPOSITORY / script for script in SCRIPTS)]
    codes = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split()
    texts = [(folder / Path(script).stem).read_text() for script in SCRIPTS]
    return {script: (int(code), text) for script, code, text in zip(SCRIPTS, codes, texts, strict=True)}


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_explain_themselves(script: str, explanations: dict[str, tuple[int, str]]) -> None:
    code, text = explanations[script]
    assert code == 0, text
    assert "usage" in text


@pytest.mark.parametrize("line", typed("make "))
def test_make_knows_its_targets(line: str) -> None:
    target = line.split()[1]
    result = subprocess.run(["make", "-n", target], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_every_typed_line_is_of_a_kind_that_is_tested() -> None:
    installed = {"blemish", "python", "pip", "pre-commit"}
    assert {line.split()[0].removeprefix(BIN) for line in typed(BIN)} <= installed
    for page in PAGES:
        if page not in GUIDES:
            assert not [line for line in commands(page) if line.startswith(f"{BIN}blemish")], page


def test_extras_that_are_installed_exist() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text()
    asked = {extra for page in PAGES for extra in re.findall(r"blemish\[(\w+)\]", (REPOSITORY / page).read_text())}
    assert asked
    assert all(re.search(rf"^{extra} = \[", text, re.MULTILINE) for extra in asked)


@pytest.mark.parametrize("page", [*PAGES, "src/blemish/weights/README.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = REPOSITORY / page
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", path.read_text()):
        assert not target or (path.parent / target).exists(), target


def test_tables_of_figures_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    import results_page

    for page in results_page.PAGES:
        text = page.read_text()
        assert "<!-- table" in text
        assert results_page.with_tables(text) == text, f"{page}: run benchmarks/accuracy.py"
        assert results_page.with_tables(text.replace("0.990", "0.999", 1)) == text
