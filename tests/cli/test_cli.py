"""End to end through the command line, on photographs, as a user would run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields
from importlib import import_module
from inspect import signature
from io import BytesIO, TextIOWrapper
from pathlib import Path

import cv2
import pytest
import torch
from cyclopts import App

import blemish
from blemish import cli
from blemish.cli import app
from blemish.data.demo_images import TEST, make_demo_images
from blemish.data.layouts import LAYOUTS
from blemish.learning.options import FitOptions
from blemish.studies.objectives import study_objectives

QUICK = [
    "--device", "cpu", "--set", "iterations=20", "--set", "image_size_px=32",
    "--set", "reconstructive_widths=[4, 8, 8]", "--set", "discriminative_widths=[4, 8, 8]",
]  # fmt: skip


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "blemish", *map(str, arguments)]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def run_process(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT, check=False)


def run(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The same in this process, which saves some seconds: for all that has nothing to do with processes."""
    output, errors = (TextIOWrapper(BytesIO(), encoding="utf-8") for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output), redirect_stderr(errors):
        patch.setenv("COLUMNS", ENVIRONMENT["COLUMNS"])
        patch.chdir(cwd or Path.cwd())
        with pytest.raises(SystemExit) as end:
            cli.main([*map(str, arguments)])
    texts = []
    for stream in (output, errors):
        stream.seek(0)
        texts.append(stream.read())
    return subprocess.CompletedProcess(arguments, int(end.value.code or 0), *texts)


def only_line(result: subprocess.CompletedProcess[str]) -> str:
    """The only line on standard error after a user's mistake; no traceback."""
    assert result.returncode == 2, result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("blemish: ")
    return line


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real textures in MVTec's layout, the test images with drawn defects; a path with a space and an umlaut."""
    folder = tmp_path_factory.mktemp("cli") / "gute Bilder ü"
    make_demo_images(folder)
    for image in sorted((folder / "train" / "good").iterdir())[40:]:  # 40 training images are enough
        image.unlink()
    return folder


@pytest.fixture(scope="module")
def trained(photographs: Path) -> Path:
    out = photographs.parent / "run"
    result = run("fit", photographs, *QUICK, "--out", out, "--false-rejects", "0.2")
    assert result.returncode == 0, result.stderr
    return out


def test_fit_says_what_it_promises_and_where_the_detector_is(photographs: Path, tmp_path: Path) -> None:
    result = run_process("fit", photographs, *QUICK, "--out", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert "99 would do" in result.stdout  # 1 % cannot be promised from 5 images
    assert str(tmp_path / "run" / "detector.blemish") in result.stdout
    assert "joint 20/20" in result.stderr  # plain progress lines in a log


def test_fit_on_two_processes_prints_once(photographs: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    arguments = ("-m", "blemish", "fit", photographs, *QUICK, "--out", tmp_path / "run")
    result = subprocess.run(
        [*launch, *map(str, arguments)], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("image threshold") == 1
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["iterations"] == 20
    blemish.load(tmp_path / "run" / "detector.blemish")


QUICK_DSR = [
    "--method", "dsr", "--device", "cpu", "--set", "iterations=3", "--set", "upsampling_iterations=2",
    "--set", "upsampling=reconstructions",
    "--set", "image_size_px=64", "--set", "restriction_widths=[8, 8]", "--set", "decoder_widths=[8, 8, 8]",
    "--set", "detection_widths=[4, 8]", "--set", "encoder=trained",
]  # fmt: skip


def test_dsr_with_its_shipped_codebook_and_real_defects(photographs: Path, tmp_path: Path) -> None:
    kind = sorted((photographs / "test").iterdir())[-1].name
    defects, masks = photographs / "test" / kind, photographs / "ground_truth" / kind
    defect_options = ["--defects", defects, "--defect-masks", masks]
    fitted = run("fit", photographs / "train" / "good", *QUICK_DSR, *defect_options, "--out", tmp_path / "run")
    assert fitted.returncode == 0, fitted.stderr
    assert "detection 3/3" in fitted.stderr
    assert "upsampling 2/2" in fitted.stderr
    n_defects = json.loads((tmp_path / "run" / "summary.json").read_text())["n_defects"]
    assert n_defects == len(list(defects.iterdir()))
    detector = tmp_path / "run" / "detector.blemish"
    inspected = run("inspect", detector, defects, "--out", tmp_path / "findings")
    assert inspected.returncode == 0, inspected.stderr
    assert f"{n_defects} images" in inspected.stdout
    evaluated = run("evaluate", detector, photographs, "--out", tmp_path / "evaluation")
    assert evaluated.returncode == 0, evaluated.stderr
    judged = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["detector"]
    assert judged["method"] == "dsr"
    assert {"iterations", "detection_widths"} <= {*judged["changed_settings"]}
    report = (tmp_path / "evaluation" / "report.html").read_text()
    assert "recipe small with " in report
    assert "iterations=3" in report
    assert "object-specific" in report


def test_inspect_writes_findings_overlays_and_continues_after_a_bad_file(trained: Path, photographs: Path) -> None:
    unreadable = photographs.parent / "kaputt.png"
    unreadable.write_text("no image")
    out = photographs.parent / "findings"
    paths = (photographs / "test", unreadable, photographs / "gone.png")
    result = run("inspect", trained / "detector.blemish", *paths, "--out", out)
    assert result.returncode == 2, result.stderr  # what was given and not inspected is never exit code 0
    rows = [json.loads(line) for line in (out / "findings.jsonl").read_text().splitlines()]
    keys = {"path", "score", "threshold", "is_defective", "regions", "error", "verdict", "unlike", "overlay"}
    keys |= {"map", "mask", "min_area_px"}
    assert all(set(row) == keys for row in rows)
    n_test = len(TEST)
    assert [row["error"] is not None for row in rows] == [False] * n_test + [True] * 2
    assert "kaputt.png" in rows[n_test]["error"]
    assert rows[n_test + 1]["score"] is None
    overlays = list((out / "overlays").iterdir())
    assert len(overlays) == n_test
    assert {out / row["overlay"] for row in rows[:n_test]} == set(overlays)
    assert [row["overlay"] for row in rows[n_test:]] == [None, None]
    assert f"{n_test + 2} images: " in result.stdout
    assert f"2 unreadable; {n_test} of {n_test + 2} files inspected, 0 left out" in result.stdout
    assert all(cv2.imread(str(overlay)) is not None for overlay in overlays)
    assert len((out / "findings.csv").read_text().splitlines()) == 1 + n_test + 2
    for row in rows[:n_test]:
        assert row["is_defective"] == (row["score"] > row["threshold"])
        assert bool(row["regions"]) == row["is_defective"]


def test_fail_on_defect_exits_with_1(trained: Path, photographs: Path, tmp_path: Path) -> None:
    detector = blemish.load(trained / "detector.blemish")
    image = next((photographs / "test" / "good").iterdir())
    for value, code in ((0.0, 1), (1e9, 0)):
        detector.threshold = type(detector.threshold)(value, 0.2, 5, 4)
        detector.save(tmp_path / "set.blemish")
        arguments = ("inspect", tmp_path / "set.blemish", image, "--out", tmp_path / "out")
        assert run(*arguments, "--fail-on-defect").returncode == code
        assert run(*arguments).returncode == 0


def test_inspect_takes_odd_names_and_skips_its_own_overlays(trained: Path, photographs: Path, tmp_path: Path) -> None:
    image = next((photographs / "test" / "good").iterdir()).read_bytes()
    (tmp_path / "plain.png").write_bytes(image)
    (tmp_path / os.fsdecode(b"teil_\xe4.png")).write_bytes(image)  # a Latin-1 name, as in old archives
    for start in (run_process, run):
        result = start("inspect", trained / "detector.blemish", tmp_path, "--out", tmp_path / "findings")
        assert result.returncode == 0, result.stderr
        rows = (tmp_path / "findings" / "findings.jsonl").read_text().splitlines()
        assert [json.loads(row)["error"] for row in rows] == [None, None]


def test_evaluate_writes_metrics_and_a_table(trained: Path, photographs: Path, tmp_path: Path) -> None:
    before = (trained / "detector.blemish").read_bytes()
    result = run("evaluate", trained / "detector.blemish", photographs, "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    fractions = ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "pixel_aupro")
    assert all(0 <= metrics[name] <= 1 for name in fractions)
    assert (metrics["n_good"], metrics["n_defective"]) == (10, len(TEST) - 10)
    assert {"protocol", "by_defect"} <= set(metrics)
    assert "scratch" in result.stdout
    assert len((tmp_path / "scores.csv").read_text().splitlines()) == 1 + len(TEST)
    assert (trained / "detector.blemish").read_bytes() == before


def test_compare_reads_the_results_of_evaluate(trained: Path, photographs: Path, tmp_path: Path) -> None:
    assert (
        run("evaluate", trained / "detector.blemish", photographs, "--out", tmp_path / "evaluation").returncode == 0
    )
    metrics = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert (metrics["data"], metrics["layout"]) == (photographs.name, "mvtec")
    detector = metrics["detector"]
    assert (detector["method"], detector["recipe"], detector["seed"]) == ("draem", "small", 0)
    assert detector["settings"]["iterations"] == 20
    result = run("compare", tmp_path, "--metric", "image_auroc", "--out", tmp_path / "comparison")
    assert result.returncode == 0, result.stderr
    percent = f"{100 * metrics['image_auroc']:.1f}"
    assert percent in result.stdout
    assert f"| {photographs.name} | {percent} |" in (tmp_path / "comparison" / "compare.md").read_text(
        encoding="utf-8"
    )
    assert percent in (tmp_path / "comparison" / "compare.html").read_text(encoding="utf-8")


def test_a_second_run_in_the_same_folder_is_refused(trained: Path, photographs: Path) -> None:
    assert "--overwrite" in only_line(run("fit", photographs, *QUICK, "--out", trained))


def test_config_of_a_run_repeats_it(trained: Path, tmp_path: Path) -> None:
    result = run("fit", "--config", trained / "config.yaml", "--out", tmp_path / "again")
    assert result.returncode == 0, result.stderr
    first, again = (json.loads((folder / "summary.json").read_text()) for folder in (trained, tmp_path / "again"))
    assert first["threshold"] == again["threshold"]
    assert first["false_rejects"] == again["false_rejects"] == 0.2
    (tmp_path / "odd.yaml").write_text("recipes: small\n")
    assert "odd.yaml" in only_line(
        run("fit", trained.parent, "--config", tmp_path / "odd.yaml", "--out", tmp_path / "x")
    )


def wait_for_steps(process: subprocess.Popen[str], metrics: Path) -> None:
    for _ in range(600):
        if metrics.exists() and metrics.read_text():
            return
        assert process.poll() is None, "training ended before it could be stopped"
        time.sleep(0.1)
    raise AssertionError("no step in a minute")


def test_ctrl_c_and_kill_lose_nothing_up_to_the_checkpoint(photographs: Path, tmp_path: Path) -> None:
    words = ["fit", photographs, *QUICK, "--set", "iterations=250", "--set", "batch_size=2", "--out"]
    metrics = tmp_path / "run" / "metrics.jsonl"
    long_fit = command(*words, tmp_path / "run")
    process = subprocess.Popen(long_fit, text=True, stderr=subprocess.PIPE, env=ENVIRONMENT)
    wait_for_steps(process, metrics)
    process.send_signal(signal.SIGINT)
    _, error_output = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "with --resume continues" in error_output
    assert "Traceback" not in error_output
    checkpoint_step = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"]
    assert checkpoint_step > 0

    killed = subprocess.Popen([*long_fit, "--resume"], stderr=subprocess.DEVNULL, env=ENVIRONMENT)
    for _ in range(600):
        if metrics.exists() and json.loads(metrics.read_text().splitlines()[-1])["step"] > checkpoint_step:
            break
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "run" / "detector.blemish").exists()
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == checkpoint_step

    assert run(*words, tmp_path / "run", "--resume").returncode == 0
    resumed = blemish.load(tmp_path / "run" / "detector.blemish").method.state_dict()
    assert run(*words, tmp_path / "whole").returncode == 0
    uninterrupted = blemish.load(tmp_path / "whole" / "detector.blemish").method.state_dict()
    assert all(torch.equal(resumed[name], uninterrupted[name]) for name in resumed)


@pytest.mark.parametrize(
    ("arguments", "message_part"),
    [
        (["fit", "nowhere"], "nowhere: no such file or folder"),
        (["fit"], "no data; give a folder"),
        (["fit", "EMPTY"], "EMPTY: no known layout"),
        (["fit", "GOOD", "--method", "dream"], "unknown method 'dream'"),
        (["fit", "GOOD", "--set", "iterations"], "should be name=value"),
        (["fit", "GOOD", "--set", "iterations=many"], "setting iterations: 'many'"),
        (["fit", "GOOD", "--set", "learning_rate=1e-4", "--set", "batch_size=0.5"], "setting batch_size: 0.5"),
        (["fit", "GOOD", "--codebook", "gone.safetensors", "--method", "dsr"], "gone.safetensors: no such file"),
        (["fit", "GOOD", "--defects", "EMPTY", "--defect-masks", "GOOD"], "EMPTY: no images of defects in it"),
        (["fit", "GOOD", "--out", "/proc/run"], "/proc/run: cannot write there"),
        (["inspect", "gone.blemish", "GOOD"], "gone.blemish: no such file"),
        (["inspect", "DETECTOR", "EMPTY"], "EMPTY: no images in it or below"),
        (["evaluate", "DETECTOR", "GOOD"], "no test images with labels"),
        (["compare", "EMPTY"], "EMPTY: no metrics.json in it or below"),
        (["compare", "gone"], "gone: no such file or folder"),
        (["convert", "draem", "a.pth", "b.pth", "--out", "x.blemish"], "a.pth: no such file"),
    ],
)
def test_mistakes_are_reported_in_one_line(  # type: ignore[no-untyped-def]
    arguments, message_part, photographs: Path, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "GOOD").symlink_to(photographs / "train" / "good")
    (tmp_path / "DETECTOR").symlink_to(trained / "detector.blemish")
    start = run_process if arguments[0] in ("evaluate", "convert") else run  # with and without data that are read
    assert message_part in only_line(start(*arguments, cwd=tmp_path))


def test_too_little_memory_is_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cli, "app", lambda *_, **__: torch.empty(2**46))  # more than any address reaches
    with pytest.raises(SystemExit) as end:
        cli.main(["fit"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("blemish: not enough memory; a smaller --set batch_size")


@pytest.mark.parametrize(
    "words",
    ["inspect x photos --min-area 1.9", "combine a b --good c --out d --seed=2.5", "fit photos --image-size 256.5"],
)
def test_whole_numbers_are_not_rounded(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words.split())
    assert end.value.code == 2
    assert capsys.readouterr().err.endswith(f"{words.split()[-1].split('=')[-1]}: should be a whole number\n")


def test_every_name_of_the_package_is_there() -> None:
    assert all(callable(getattr(blemish, name)) for name in blemish.__all__)
    assert {"calibrate", "combine", "fit", "load"} < {*blemish.__all__}


def test_unknown_option_and_missing_argument_exit_with_2() -> None:
    for arguments in (["fit", "x", "--colour", "red"], ["inspect"], ["paint"]):
        assert "--help" in only_line(run_process(*arguments))


def every_command(app: App, words: tuple[str, ...] = ()) -> list[str]:
    """The words of each command, such as ``convert draem``."""
    names = [name for name in app if not name.startswith("-")]
    commands = [command for name in names for command in every_command(app[name], (*words, name))]
    return commands or [" ".join(words)]


@pytest.mark.parametrize("name", every_command(app))
def test_the_help_of_every_command_has_an_example(name: str) -> None:
    result = run(*name.split(), "--help")
    assert result.returncode == 0
    assert f"Example: blemish {name}" in result.stdout.replace("`", "")


def test_a_command_takes_only_those_options_of_fit_that_it_passes_on() -> None:
    offered = {name: fields(import_module(f"blemish.cli.{name}").Options) for name in ("study", "tune")}
    assert offered["study"]
    assert {field.name for field in offered["study"]} <= set(signature(study_objectives).parameters)
    assert {field.name for field in offered["tune"]} < {field.name for field in fields(FitOptions)}


def test_import_and_help_do_not_load_torch() -> None:
    code = "import sys, blemish, blemish.cli; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_waiting_threads_leave_their_core_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line sets it, libgomp reads it: its own list of settings, from a process that imports torch."""
    for given, expected in ((None, "2000"), ("77", "77")):
        monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
        if given is not None:
            monkeypatch.setenv("GOMP_SPINCOUNT", given)
        listing = subprocess.run(
            [sys.executable, "-c", "from blemish.cli import share_cores; share_cores(); import torch"],
            env={**os.environ, "OMP_DISPLAY_ENV": "VERBOSE"}, capture_output=True, text=True, check=True,
        ).stderr  # fmt: skip
        assert f"GOMP_SPINCOUNT = '{expected}'" in listing


def test_data_checks_a_dataset_without_torch(photographs: Path) -> None:
    code = (
        "import sys; from blemish.commands.data import survey_run; ok = survey_run(sys.argv[1], 'auto', False)\n"
        "sys.exit(10 * ok + ('torch' in sys.modules or 'cv2' in sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(photographs)], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )
    assert result.returncode == 10, result.stderr
    assert "layout mvtec" in result.stdout
    assert run("data", photographs).stdout == result.stdout


def test_help_of_data_lists_every_layout() -> None:
    described = run_process("data", "--help").stdout
    assert all(name in described for name in LAYOUTS)
