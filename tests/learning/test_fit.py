"""From good images to findings, in Python, with a tiny network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import blemish
from blemish.compare.comparison import compare
from blemish.compare.runs import find_runs
from blemish.data.loading import load_images
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.evaluation.evaluate import evaluate
from blemish.files import write_text
from blemish.inspection.framing import Whole
from blemish.learning.images import split_images
from blemish.learning.tuning import tune
from blemish.methods import build
from blemish.methods.dsr.codebook import save_codebook
from blemish.methods.dsr.vq import VQAutoencoder
from blemish.synthesis.textures import TextureBank
from blemish.thresholds import Threshold

TINY: dict[str, Any] = {
    "image_size_px": 32,
    "batch_size": 4,
    "reconstructive_widths": [4, 8, 8],
    "discriminative_widths": [4, 8, 8],
    "epochs": None,
    "iterations": 6,
}


def part(number: int, size_hw: tuple[int, int] = (40, 50)) -> np.ndarray:
    """A grey part with soft stripes, a little different each time."""
    stripes = 120 + 50 * np.sin(np.arange(size_hw[1]) / 4) + np.random.default_rng(number).normal(0, 3, size_hw)
    return np.repeat(stripes.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def save_parts(folder: Path, n: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(n):
        Image.fromarray(part(number)).save(folder / f"part {number}.png")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, Path]:
    folder = tmp_path_factory.mktemp("fit")
    save_parts(folder / "gute Teile ü", 20)
    detector = blemish.fit(
        folder / "gute Teile ü", settings=TINY, out=folder / "run", device="cpu", false_rejects=0.2
    )
    return detector, folder / "run"


def test_a_run_folder_holds_what_scripts_read(run: tuple[Detector, Path]) -> None:
    detector, folder = run
    summary = json.loads((folder / "summary.json").read_text())
    assert {"method", "recipe", "seed", "iterations", "training_s", "images_per_s", "threshold"} <= set(summary)
    assert {"parameters", "device", "versions"} <= set(summary)
    assert summary["iterations"] == 6
    assert summary["threshold"] == detector.threshold.value
    assert (summary["n_train"], summary["n_calibration"]) == (15, 5)  # never fewer than 5 held out
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["settings"]["iterations"] == 6
    assert config["settings"]["anomalies"]["probability"] == 0.5
    assert (folder / "detector.blemish").exists()
    assert (folder / "checkpoint.pt").exists()


def test_the_config_of_a_run_makes_the_same_detector(run: tuple[Detector, Path]) -> None:
    detector, folder = run
    again = blemish.fit(**yaml.safe_load((folder / "config.yaml").read_text()))
    for name, tensor in detector.method.state_dict().items():
        assert torch.equal(tensor, again.method.state_dict()[name])
    assert again.threshold == detector.threshold


@pytest.mark.parametrize("kind", ["path", "pil", "array", "grey", "16 bit"])
def test_inspect_takes_every_kind_of_image(run: tuple[Detector, Path], tmp_path: Path, kind: str) -> None:
    detector, _ = run
    image = part(99, (45, 70))
    path = tmp_path / "x y.png"
    Image.fromarray(image).save(path)
    image_like: Any = {
        "path": path, "pil": Image.fromarray(image), "array": image, "grey": image[..., 0],
        "16 bit": image.astype(np.uint16) * 257,
    }[kind]  # fmt: skip
    finding = detector.inspect(image_like)
    assert finding.map.shape == finding.mask.shape == (45, 70)
    assert (finding.map.dtype, finding.mask.dtype) == (np.float32, np.bool_)
    assert finding.is_defective == (finding.score > finding.threshold)
    assert finding.score == detector.inspect(image).score
    assert finding.path == (str(path) if kind == "path" else None)


def test_a_list_of_images_of_different_sizes_keeps_its_order(run: tuple[Detector, Path]) -> None:
    detector, _ = run
    images = [part(number, (30 + number, 60)) for number in range(11)]  # more than one batch
    findings = detector.inspect(list(images), explain=True)
    assert [finding.map.shape[0] for finding in findings] == [30 + number for number in range(11)]
    for image, finding in zip(images, findings, strict=True):
        assert finding.score == pytest.approx(detector.inspect(image).score, rel=1e-4)
        assert finding.explanation["reconstruction"].shape == image.shape
        assert finding.explanation["reconstruction"].dtype == np.uint8


def test_a_passing_image_outlines_nothing_and_a_defective_one_something(run: tuple[Detector, Path]) -> None:
    detector, _ = run
    strict = Detector(detector.runtime, detector.threshold, detector.pixel_threshold)
    finding = strict.inspect(part(1))
    strict.threshold = Threshold(finding.score * 0.99, 0.01, 5, 99)
    defective = strict.inspect(part(1))
    assert defective.is_defective
    assert defective.mask.any()
    assert defective.regions[0].peak == pytest.approx(defective.map.max())
    strict.threshold = Threshold(finding.score * 1.01, 0.01, 5, 99)
    passing = strict.inspect(part(1))
    assert not passing.is_defective
    assert not passing.mask.any()
    assert passing.regions == []


def test_the_threshold_rejects_at_most_its_rate_of_the_calibration_images(run: tuple[Detector, Path]) -> None:
    detector, _ = run
    assert len(detector.calibration_scores) == 5
    rejected = sum(score > detector.threshold.value for score in detector.calibration_scores)
    assert rejected <= 1
    assert detector.threshold.is_promised  # 20 % needs 4 images


@pytest.mark.parametrize(("n", "count"), [(1, "1 good training image;"), (3, "3 good training images;")])
def test_too_few_images_are_reported(tmp_path: Path, n: int, count: str) -> None:
    with pytest.raises(BlemishError, match=f"{count} at least 10 are needed"):
        blemish.fit(save_parts(tmp_path / "few", n), settings=TINY)


def test_every_unreadable_file_is_listed(tmp_path: Path) -> None:
    folder = save_parts(tmp_path / "good", 12)
    (folder / "text.png").write_text("not an image")
    (folder / "empty.jpg").write_bytes(b"")
    with pytest.raises(BlemishError) as error:
        blemish.fit(folder, settings=TINY)
    assert "2 of 14 images cannot be used" in str(error.value)
    assert "text.png" in str(error.value)
    assert "empty.jpg" in str(error.value)


def test_black_images_and_grey_and_colour_mixed_are_trained_on(tmp_path: Path) -> None:
    for number in range(12):
        mode = ("L", "RGB")[number % 2]
        Image.new(mode, (40, 40)).save(tmp_path / f"{number}.png")
    detector = blemish.fit(tmp_path, settings=TINY, device="cpu")
    assert np.isfinite(detector.inspect(np.zeros((10, 10), dtype=np.uint8)).score)


def test_calibration_images_of_their_own(tmp_path: Path) -> None:
    good, fresh = save_parts(tmp_path / "good", 12), save_parts(tmp_path / "fresh", 7)
    detector = blemish.fit(good, calibration=fresh, settings=TINY, device="cpu")
    assert len(detector.calibration_scores) == 7
    assert detector.provenance["n_train"] == 12


def test_very_long_images_are_inspected(run: tuple[Detector, Path]) -> None:
    assert run[0].inspect(np.full((10, 20_000, 3), 90, dtype=np.uint8)).map.shape == (10, 20_000)


@pytest.mark.parametrize(
    ("options", "message_part"),
    [
        ({"method": "dream"}, "unknown method 'dream'; there are: draem"),
        ({"recipe": "quick"}, "unknown recipe 'quick'"),
        ({"settings": {"itrations": 3}}, "unknown setting itrations"),
        ({"settings": {"anomalies": {"shape": "round"}}}, "setting shape: 'round' should be one of perlin"),
        ({"false_rejects": 0.0}, "rate must lie between 0 and 1"),
        ({"layout": "mvtek"}, "layout 'mvtek' is unknown"),
        ({"textures": "nowhere"}, "nowhere"),
        ({"codebook": "mine.safetensors"}, "codebook mine.safetensors: draem needs no codebook"),
        ({"method": "dsr", "settings": {}, "codebook": "no.safetensors"}, "no.safetensors: no such file"),
        ({"defect_masks": "masks"}, "no defects to go with them"),
        ({"method": "ssae", "settings": {}, "defects": "bad"}, "learns from good images only"),
    ],
)
def test_wrong_options_are_reported_in_one_line(tmp_path: Path, options: dict[str, Any], message_part: str) -> None:
    folder = save_parts(tmp_path / "good", 12)
    with pytest.raises(BlemishError) as error:
        blemish.fit(folder, **{"settings": TINY, **options})
    assert message_part in str(error.value)
    assert "\n" not in str(error.value)


# --- validation images, and what they decide --------------------------------------------------------------------


def bytes_of(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


def test_no_image_is_used_for_two_things(tmp_path: Path) -> None:
    folder = save_parts(tmp_path / "good", 40)
    all_images = set(bytes_of(load_images(sorted(folder.iterdir()), (32, 32))))
    assert len(all_images) == 40
    first, again, other_seed = (split_images(folder, None, "auto", Whole((32, 32)), seed, 0.1) for seed in (0, 0, 1))
    parts = [bytes_of(part) for part in (first.train, first.validation, first.calibration)]
    assert [len(part) for part in parts] == [31, 4, 5]
    assert set().union(*parts) == all_images
    assert bytes_of(again.validation) == parts[1]
    assert bytes_of(other_seed.validation) != parts[1]
    without = split_images(folder, None, "auto", Whole((32, 32)), 0)
    assert [len(part) for part in (without.train, without.validation, without.calibration)] == [35, 0, 5]
    # A method with validation is calibrated on the same images as one without.
    assert set(bytes_of(without.calibration)) == set(parts[2])


def test_validation_images_are_taken_from_training_where_calibration_has_its_own(tmp_path: Path) -> None:
    good, fresh = save_parts(tmp_path / "good", 12), tmp_path / "fresh"
    fresh.mkdir()
    for number in range(6):
        Image.fromarray(part(100 + number)).save(fresh / f"{number}.png")
    images = split_images(good, fresh, "auto", Whole((32, 32)), 0, 0.05)
    lengths = [len(part) for part in (images.train, images.validation, images.calibration)]
    assert lengths == [10, 2, 6]  # never fewer than 2 for validation
    assert set(bytes_of(images.train)) | set(bytes_of(images.validation)) == set(
        bytes_of(load_images(sorted(good.iterdir()), (32, 32)))
    )


TINY_SSAE: dict[str, Any] = {
    "encoder": "trained", "difference": "ssim",
    "image_size_px": 32, "batch_size": 4, "widths": [4, 6], "patch_px": 1, "filters_per_dilation": 3,
    "dilations": [1, 2], "n_stacks": 1, "iterations": 6, "corruption": {"kinds": ["elastic"]},
}  # fmt: skip


@pytest.fixture(scope="module")
def ssae_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, Path]:
    folder = tmp_path_factory.mktemp("ssae")
    save_parts(folder / "good", 20)
    detector = blemish.fit(
        folder / "good", method="ssae", settings=TINY_SSAE, out=folder / "run", device="cpu", false_rejects=0.2
    )
    return detector, folder / "run"


def test_what_good_images_decided_is_recorded(ssae_run: tuple[Detector, Path]) -> None:
    detector, folder = ssae_run
    chosen = detector.provenance["chosen"]
    assert set(chosen) == {"n_means", "mean_px", "correction"}
    assert {name: getattr(detector.method.settings, name) for name in chosen} == chosen
    assert 0.0 < detector.provenance["validation"] <= 1.0
    assert [detector.provenance[f"n_{part}"] for part in ("train", "validation", "calibration")] == [13, 2, 5]
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["chosen"], summary["validation"]) == (chosen, detector.provenance["validation"])
    assert Detector.load(folder / "detector.blemish").provenance["chosen"] == chosen
    written = yaml.safe_load((folder / "config.yaml").read_text())["settings"]
    assert written["mean_px"] == build("ssae", "small", 0, TINY_SSAE).settings.mean_px  # type: ignore[attr-defined]


def test_the_config_of_a_run_that_chose_makes_the_same_detector(ssae_run: tuple[Detector, Path]) -> None:
    detector, folder = ssae_run
    again = blemish.fit(**yaml.safe_load((folder / "config.yaml").read_text()))
    assert again.method.settings == detector.method.settings
    assert again.threshold == detector.threshold
    for name, tensor in detector.method.state_dict().items():
        assert torch.equal(tensor, again.method.state_dict()[name])


def test_a_method_without_a_choice_records_none(run: tuple[Detector, Path]) -> None:
    detector, _ = run
    assert (detector.provenance["chosen"], detector.provenance["validation"]) == ({}, None)
    assert detector.provenance["n_validation"] == 0


@pytest.mark.parametrize(("kinds", "is_made"), [(["elastic", "cut-out"], False), (["elastic", "occlusion"], True)])
def test_textures_are_made_for_a_method_that_pastes_them(
    kinds: list[str], is_made: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    bank = TextureBank.procedural((32, 32), n=6)
    monkeypatch.setattr(TextureBank, "procedural", lambda *arguments: calls.append(arguments) or bank)
    detector = blemish.fit(
        save_parts(tmp_path / "good", 12), method="ssae", device="cpu",
        settings={**TINY_SSAE, "iterations": 1, "corruption": {"kinds": kinds}},
    )  # fmt: skip
    assert len(calls) == is_made
    assert detector.provenance["textures"] == (bank.source if is_made else "none")


TINY_DSR: dict[str, Any] = {
    "image_size_px": 32, "batch_size": 4, "restriction_widths": [8, 8], "decoder_widths": [8, 8, 8],
    "detection_widths": [4, 8], "iterations": 2, "upsampling_iterations": 2, "encoder": "trained",
}  # fmt: skip


def test_dsr_takes_another_codebook_and_says_which(tmp_path: Path) -> None:
    save_codebook(VQAutoencoder(30, 8, 4, 1), tmp_path / "mine.safetensors", {})
    good = save_parts(tmp_path / "good", 12)
    options: dict[str, Any] = {"method": "dsr", "settings": TINY_DSR, "device": "cpu"}
    mine = blemish.fit(good, **options, codebook=tmp_path / "mine.safetensors", out=tmp_path / "run")
    assert mine.method.vq.codebook_low.codes.shape == (30, 8)
    shipped = blemish.fit(good, **options)
    assert shipped.method.vq.codebook_low.codes.shape == (4096, 128)
    assert mine.provenance["pretrained_sha256"] != shipped.provenance["pretrained_sha256"]
    assert mine.provenance["textures"] == "none"
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["codebook"] == str(tmp_path / "mine.safetensors")
    again = Detector.load(tmp_path / "run" / "detector.blemish")
    assert again.inspect(part(3)).score == pytest.approx(mine.inspect(part(3)).score, rel=1e-4)


@pytest.mark.parametrize(("method", "settings"), [("draem", TINY), ("dsr", TINY_DSR)])
def test_real_defects_are_learned_from(method: str, settings: dict[str, Any], tmp_path: Path) -> None:
    good = save_parts(tmp_path / "good", 12)
    for number in range(3):
        write_mask(tmp_path / "masks" / f"bad {number}.png")
        (tmp_path / "bad").mkdir(exist_ok=True)
        Image.fromarray(part(number)).save(tmp_path / "bad" / f"bad {number}.png")
    options: dict[str, Any] = {"method": method, "settings": settings, "device": "cpu"}
    plain = blemish.fit(good, **options)
    with_defects = blemish.fit(good, **options, defects=tmp_path / "bad", defect_masks=tmp_path / "masks")
    assert (plain.provenance["n_defects"], with_defects.provenance["n_defects"]) == (0, 3)
    assert with_defects.inspect(part(1)).score != plain.inspect(part(1)).score


def write_mask(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.eye(40, 50, dtype=np.uint8) * 255).save(path)


def test_seeds_that_chose_differently_are_averaged(ssae_run: tuple[Detector, Path], tmp_path: Path) -> None:
    for folder in ("train/good", "test/good", "test/dent"):
        save_parts(tmp_path / "parts" / folder, 2)
    for number in range(2):
        write_mask(tmp_path / "parts" / "ground_truth" / "dent" / f"part {number}_mask.png")
    for seed, n_means in ((0, 1), (1, 3)):
        detector = Detector.load(ssae_run[1] / "detector.blemish")
        chosen = {**detector.provenance["chosen"], "n_means": n_means}
        detector.method.settings = replace(detector.method.settings, seed=seed, **chosen)
        detector.provenance |= {"chosen": chosen, "seed": seed}
        metrics = evaluate(detector, tmp_path / "parts").metrics
        assert metrics["detector"]["chosen"] == chosen
        recorded = metrics["detector"]["settings"]
        assert {recorded[name] for name in chosen} == {"chosen"}
        assert recorded["n_stacks"] == 1
        (tmp_path / str(seed)).mkdir()
        write_text(tmp_path / str(seed) / "metrics.json", json.dumps(metrics))
    runs, _ = find_runs([tmp_path])
    table = compare(runs, ["image_auroc"]).tables[0]
    (column,) = table.columns
    assert table.n_seeds(column) == 2


def test_plain_images_leave_nothing_to_choose_by(tmp_path: Path) -> None:
    for number in range(12):
        Image.new("L", (40, 40), 90).save(tmp_path / f"{number}.png")
    detector = blemish.fit(tmp_path, method="ssae", settings={**TINY_SSAE, "mean_px": 7}, device="cpu")
    assert (detector.provenance["chosen"], detector.provenance["validation"]) == ({}, None)
    assert detector.method.settings.mean_px == 7  # type: ignore[attr-defined]
    assert np.isfinite(detector.inspect(np.zeros((10, 10), dtype=np.uint8)).score)
    with pytest.raises(BlemishError, match="no simulated damage shows"):
        tune(tmp_path, {"n_stacks": [1]}, tmp_path / "out", method="ssae", settings=TINY_SSAE, device="cpu")


def test_nested_settings_are_merged() -> None:
    method = build("draem", "paper", 4, {**TINY, "anomalies": {"probability": 0.7}})
    assert method.settings.anomalies.probability == 0.7  # type: ignore[attr-defined]
    assert method.settings.anomalies.min_opacity == 0.2  # type: ignore[attr-defined]
    assert method.settings.seed == 4
