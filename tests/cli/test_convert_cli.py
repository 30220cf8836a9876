"""``blemish convert``: the authors' files and folders, as they lie on a user's disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import blemish
from authors_states import (
    CODEBOOK,
    State,
    Weights,
    codebook_state,
    draem_states,
    dsr_states,
    write_draem,
    write_dsr,
)
from blemish.cli import main
from blemish.methods.authors_weights import DSR_PARTS, convert_codebook
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.methods.dsr import DSR, DSRSettings
from blemish.methods.dsr.codebook import load_codebook

Run = Callable[..., str]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; its output, or after a user's mistake the lines on standard error."""

    def run_it(*words: str | Path, code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["convert", *map(str, words)])
        output = capsys.readouterr()
        assert ended.value.code == code, output
        return output.out if code == 0 else output.err

    return run_it


@pytest.fixture
def dsr_of(monkeypatch: pytest.MonkeyPatch) -> dict[str, State]:
    """Files of a narrow DSR, which takes little time; its codebook is as large as the authors'."""
    restriction, decoder, detection = (4, 6, 8), (4, 6, 8), (3, 4, 5, 5)
    narrow = DSRSettings(
        restriction_widths=restriction, decoder_widths=decoder, detection_widths=detection,
        image_size_px=64, resizing="bilinear",
    )  # fmt: skip
    monkeypatch.setitem(DSR.recipes, "paper", narrow)
    return dsr_states(Weights(), restriction, decoder, detection)


@pytest.fixture
def draem_of(monkeypatch: pytest.MonkeyPatch) -> tuple[State, State]:
    """Files of a narrow DRÆM."""
    reconstructive, discriminative = (4, 6, 8, 10, 10), (3, 5, 7, 9, 9, 9)
    narrow = DRAEMSettings(
        reconstructive_widths=reconstructive, discriminative_widths=discriminative,
        image_size_px=64, resizing="bilinear",
    )  # fmt: skip
    monkeypatch.setitem(DRAEM.recipes, "paper", narrow)
    return draem_states(Weights(), reconstructive, discriminative)


def good_images(folder: Path, n_images: int, side_px: int = 80) -> Path:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(n_images)
    for number in range(n_images):
        pixels = generator.integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number:03}.png"), pixels)
    return folder


def only_line(errors: str) -> str:
    (line,) = errors.strip().splitlines()
    return line.removeprefix("blemish: ")


# --- what is made ----------------------------------------------------------------------------------------------


def test_a_folder_of_dsr_becomes_a_detector_of_each_category(
    run: Run, dsr_of: dict[str, State], tmp_path: Path
) -> None:
    write_dsr(tmp_path / "DSR" / "checkpoints", "bottle", "metal_nut", run="my_run", **dsr_of)
    output = run("dsr", tmp_path / "DSR", "--out", tmp_path / "out")
    assert output.splitlines() == [
        f"{tmp_path}/out/bottle.blemish: image threshold 0.5",
        "Nothing is promised: no good images were held out. 99 held-out good images would do.",
        f"{tmp_path}/out/metal_nut.blemish: image threshold 0.5",
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bottle.blemish", "metal_nut.blemish"]
    detector = blemish.load(tmp_path / "out" / "metal_nut.blemish")
    assert detector.method_name == "dsr"
    assert detector.provenance == {
        "recipe": "paper",
        "converted_from": [CODEBOOK, *(f"my_run_{part}_metal_nut.pckl" for part in DSR_PARTS)],
    }
    assert detector.framing.resizing == "bilinear"
    network = convert_codebook(tmp_path / "DSR" / "checkpoints" / CODEBOOK)
    assert torch.equal(detector.method.vq.codebook_low.codes, network.codebook_low.codes)
    expected = dsr_of["subspace_restriction_hi"]["unet.decoder.db3.3.weight"]
    assert torch.equal(detector.method.restriction_high.blocks[1][3].weight, expected)


def test_one_category_becomes_one_file(run: Run, draem_of: tuple[State, State], tmp_path: Path) -> None:
    write_draem(tmp_path / "checkpoints", "bottle", "metal_nut", "pill", states=draem_of)
    run("draem", tmp_path / "checkpoints", "--category", "metal_nut", "--out", tmp_path / "mine.blemish")
    detector = blemish.load(tmp_path / "mine.blemish")
    names = ["DRAEM_seg_large_ae_large_0.0001_800_bs8_metal_nut_.pckl"]
    names.append(names[0].replace("_.pckl", "__seg.pckl"))
    assert detector.provenance == {"recipe": "paper", "converted_from": names}
    expected = draem_of[1]["decoder_segment.db_b.0.weight"]
    assert torch.equal(detector.method.discriminative.blocks[0][0].weight, expected)
    run("draem", tmp_path / "checkpoints", "--category", "pill", "bottle", "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bottle.blemish", "pill.blemish"]


def test_two_files_of_draem_need_no_names(run: Run, draem_of: tuple[State, State], tmp_path: Path) -> None:
    for state, name in zip(draem_of, ("a.pth", "b.pth"), strict=True):
        torch.save(state, tmp_path / name)
    output = run("draem", tmp_path / "a.pth", tmp_path / "b.pth", "--out", tmp_path / "x.blemish")
    assert "Nothing is promised" in output
    assert blemish.load(tmp_path / "x.blemish").provenance["converted_from"] == ["a.pth", "b.pth"]
    errors = run("draem", tmp_path / "b.pth", tmp_path / "a.pth", "--out", tmp_path / "y.blemish", code=2)
    assert f"{tmp_path}/b.pth: not DRÆM's reconstructive network" in only_line(errors)
    assert not (tmp_path / "y.blemish").exists()


def test_a_codebook_keeps_all_digits(run: Run, tmp_path: Path) -> None:
    state = codebook_state(Weights(5))
    torch.save(state, tmp_path / CODEBOOK)
    run("codebook", tmp_path / CODEBOOK, "--out", tmp_path / "codebook.safetensors")
    codes = load_codebook(tmp_path / "codebook.safetensors").codebook_high.codes
    assert torch.equal(codes, state["_vq_vae_bot._embedding.weight"])
    (tmp_path / "notes").write_text("mine")
    errors = run("codebook", tmp_path / CODEBOOK, "--out", tmp_path / "notes", code=2)
    assert "notes: is not a result of blemish" in only_line(errors)


def test_unused_tensors_and_files_are_named(
    dsr_of: dict[str, State], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dsr_of["image_recon_module"]["vq._ema_w"] = torch.zeros(512, 64)
    write_dsr(tmp_path / "c", "bottle", **dsr_of)
    for name in ("dsr_0.0002_100__upsample.pckl", "._DSR_upsample_module_bottle.pckl"):
        (tmp_path / "c" / name).touch()
    with pytest.raises(SystemExit):
        main(["convert", "dsr", str(tmp_path / "c"), "--out", str(tmp_path / "x.blemish")])
    assert capsys.readouterr().err.splitlines() == [
        f"blemish: {tmp_path}/c: no part of DSR, not used: dsr_0.0002_100__upsample.pckl",
        f"blemish: {tmp_path}/c/DSR_image_recon_module_bottle.pckl: the authors' network does not use vq._ema_w, nor "
        f"does the detector",
    ]


# --- calibration -----------------------------------------------------------------------------------------------


def test_good_images_set_the_threshold(run: Run, draem_of: tuple[State, State], tmp_path: Path) -> None:
    write_draem(tmp_path / "c", "bottle", "pill", states=draem_of)
    good_images(tmp_path / "good" / "bottle", 5)
    good_images(tmp_path / "good" / "pill" / "train" / "good", 6)
    output = run(
        "draem",
        tmp_path / "c",
        "--out",
        tmp_path / "out",
        "--calibration",
        tmp_path / "good",
        "--false-rejects",
        "0.2",
    )
    assert (
        output.splitlines()[0] == "With 5 held-out good images a false-reject rate of 20 % is promised (4 would do)."
    )
    assert (
        "With 6 good images a false-reject rate of 20 % cannot be promised: they are training images of pill"
        in (output.splitlines()[2])
    )
    bottle, pill = (blemish.load(tmp_path / "out" / f"{name}.blemish") for name in ("bottle", "pill"))
    assert bottle.threshold.is_promised
    assert not pill.threshold.is_promised
    assert (len(bottle.calibration_scores), len(pill.calibration_scores)) == (5, 6)
    findings = bottle.inspect(sorted((tmp_path / "good" / "bottle").iterdir()))
    assert max(finding.score for finding in findings) == pytest.approx(bottle.threshold.value, rel=1e-4)

    for folder in ("good", "good/bottle"):  # of one category, its folder will do
        one = tmp_path / "one.blemish"
        run("draem", tmp_path / "c", "--category", "bottle", "--out", one, "--calibration", tmp_path / folder)
        assert blemish.load(one).calibration_scores == bottle.calibration_scores


def test_calibration_needs_images_of_each_category(run: Run, tmp_path: Path) -> None:
    write_dsr(tmp_path / "c", "bottle", "pill")
    good_images(tmp_path / "good" / "bottle", 2)
    words = "dsr", tmp_path / "c", "--out", tmp_path / "out", "--calibration"
    errors = run(*words, tmp_path / "good", code=2)
    assert f"{tmp_path}/good: no folder pill in it; give one with a dataset for each category" in only_line(errors)
    manifest = tmp_path / "good" / "manifest.csv"
    manifest.write_text("path,label,split\nbottle/000.png,good,test\n")
    errors = run(*words, manifest, "--category", "pill", code=2)
    assert only_line(errors) == f"{manifest}: no good training images in it; give good images to calibrate with"
    assert "0 and 1, not 1.5" in only_line(run(*words[:-1], "--false-rejects", "1.5", code=2))
    assert not (tmp_path / "out").exists()


# --- mistakes --------------------------------------------------------------------------------------------------


def test_incomplete_categories_are_named_and_nothing_is_written(
    run: Run, dsr_of: dict[str, State], tmp_path: Path
) -> None:
    folder = tmp_path / "c"
    write_dsr(folder, "bottle", "metal_nut", "pill", **dsr_of)
    (folder / "DSR_upsample_module_bottle.pckl").unlink()
    (folder / "DSR_image_recon_module_metal_nut.pckl").unlink()
    line = only_line(run("dsr", folder, "--out", tmp_path / "out", code=2))
    missing = "of bottle DSR_upsample_module_bottle.pckl; of metal_nut DSR_image_recon_module_metal_nut.pckl"
    remedy = "copy them there, or choose from the complete ones by --category: pill"
    assert line == f"{folder}: incomplete, missing are {missing}: {remedy}"
    assert not (tmp_path / "out").exists()
    run("dsr", folder, "--category", "pill", "--out", tmp_path / "out")
    (folder / CODEBOOK).unlink()
    line = only_line(run("dsr", folder, "--category", "pill", "--out", tmp_path / "out", code=2))
    assert line == f"{folder}: incomplete, missing are {CODEBOOK}, which all categories need: copy them there"


def test_all_files_are_checked_before_the_first_is_written(
    run: Run, dsr_of: dict[str, State], tmp_path: Path
) -> None:
    folder = tmp_path / "c"
    write_dsr(folder, "bottle", "pill", "screw", **dsr_of)
    cut, other = folder / "DSR_anomaly_det_module_pill.pckl", folder / "DSR_anomaly_det_module_screw.pckl"
    cut.write_bytes(cut.read_bytes()[:-100])
    shutil.copy(folder / "DSR_upsample_module_screw.pckl", other)
    first, *lines = run("dsr", folder, "--out", tmp_path / "out", code=2).splitlines()
    assert first == "blemish: 2 of 3 categories cannot be converted:"
    assert lines[0] == f"{cut}: cut short; copy or download it again"
    assert lines[1].startswith(f"{other}: not DSR's anomaly detection module (unet.encoder.block1.0.weight is")
    assert not (tmp_path / "out").exists()


def test_what_fails_later_leaves_nothing_behind(run: Run, draem_of: tuple[State, State], tmp_path: Path) -> None:
    write_draem(tmp_path / "c", "bottle", "pill", states=draem_of)
    for category in ("bottle", "pill"):
        good_images(tmp_path / "good" / category, 2)
    (tmp_path / "good" / "pill" / "001.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "other").touch()
    words = "draem", tmp_path / "c", "--out", tmp_path / "out", "--calibration", tmp_path / "good"
    assert "001.png" in run(*words, code=2)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["other"]


def tiny_folders(tmp_path: Path) -> None:
    write_dsr(tmp_path / "DSR", "bottle", "pill")
    write_dsr(tmp_path / "RUNS", "bottle")
    write_dsr(tmp_path / "RUNS", "bottle", run="mine")
    write_draem(tmp_path / "DRAEM", "bottle", "pill")
    write_draem(tmp_path / "OWN", "gasket", run="run")
    write_draem(tmp_path / "BOTH", "bottle")
    write_draem(tmp_path / "BOTH" / "checkpoints", "pill")
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "notes.blemish").write_text("my notes, which are longer")
    (tmp_path / "DSR.zip").touch()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dsr", "gone"], "gone: no such folder; give the one with the authors' files"),
        (["dsr", "DSR.zip"], "DSR.zip: is a file; unpack it, and give the folder"),
        (["dsr", "EMPTY"], "EMPTY: holds no files of DSR's authors; give the folder with vq_model"),
        (["draem", "EMPTY"], "EMPTY: holds no files of DRÆM's authors; give the folder with RUN_CATEGORY_.pckl and"),
        (["dsr", "DRAEM"], "DRAEM: holds no files of DSR's authors, but those of DRÆM (blemish convert draem)"),
        (["draem", "DSR"], "DSR: holds no files of DRÆM's authors, but those of DSR (blemish convert dsr)"),
        (["dsr", "DSR", "--category", "bottel"], "DSR: no files of bottel; there are: bottle, pill"),
        (["draem", "DRAEM", "--category", "nut", "pill"], "DRAEM: no files of nut; there are: bottle, pill"),
        (["dsr", "RUNS"], "RUNS: bottle is there of the runs DSR, mine; choose one by --run"),
        (["dsr", "RUNS", "--run", "your"], "RUNS: no files of the run your; there are: DSR, mine"),
        (["draem", "OWN"], "OWN: the category cannot be told from run_gasket_.pckl, run_gasket__seg.pckl; give"),
        (["draem", "BOTH"], "BOTH: holds files of DRÆM itself and in checkpoints; give BOTH/checkpoints, or"),
        (["draem", "DRAEM/none_.pckl"], "none_.pckl: is one file; give the other network's"),
        (["draem", "DRAEM", "b.pckl"], "DRAEM: is a folder; give either a folder or the two files of one category"),
        (["draem", "a.pckl", "b.pckl", "--run", "x"], "a.pckl: --category and --run choose from a folder"),
        (["draem", "a.pth", "b.pth"], "a.pth: no such file; give the authors' state dict"),
        (["dsr", "DSR", "--out", "x.blemish"], "x.blemish: one file cannot hold bottle, pill; choose a folder"),
        (["dsr", "DSR", "--out", "notes.txt"], "notes.txt: is a file; choose a folder as --out, or a .blemish file"),
        (["draem", "DRAEM", "--category", "pill", "--out", "notes.blemish"], "notes.blemish: is not a result"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(
    words: list[str], message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_folders(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    line = only_line(run(*words, *([] if "--out" in words else ["--out", "out"]), code=2))
    assert line.startswith(message) or message in line
    assert sorted(tmp_path.rglob("*")) == before, "something was written"


def test_categories_of_ones_own_are_told_by_the_run_or_by_name(
    run: Run, draem_of: tuple[State, State], tmp_path: Path
) -> None:
    write_draem(tmp_path / "c", "big_gasket", "pill", run="my_run", states=draem_of)
    run("draem", tmp_path / "c", "--run", "my_run", "--out", tmp_path / "out")
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == ["big_gasket", "pill"]
    run("draem", tmp_path / "c", "--category", "big_gasket", "--out", tmp_path / "gasket.blemish")
    assert blemish.load(tmp_path / "gasket.blemish").provenance["converted_from"][0] == "my_run_big_gasket_.pckl"


def test_code_in_a_pickle_is_never_run(run: Run, tmp_path: Path) -> None:
    torch.save({"model": np.random.default_rng(0)}, tmp_path / "trap.pth")
    errors = run("draem", tmp_path / "trap.pth", tmp_path / "trap.pth", "--out", tmp_path / "x.blemish", code=2)
    assert "cannot be read as plain weights" in only_line(errors)
