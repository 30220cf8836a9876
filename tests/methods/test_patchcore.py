"""PatchCore: its memory and scores against naive loops, what a user may give, and the contract of inspection."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from contract import INGREDIENTS, InspectionContract, TrainingContract, drawn, good_images
from PIL import Image
from torch import Tensor

import blemish
from blemish.backbones import Backbone, layout_of
from blemish.commands.study import damage_run
from blemish.detector import Detector
from blemish.errors import BlemishError
from blemish.fleet.cells import Cell
from blemish.fleet.cost import training_s
from blemish.fleet.states import cell_state
from blemish.learning.training import Trainer
from blemish.learning.tuning import tune
from blemish.methods import build
from blemish.methods.base import Settings
from blemish.methods.patchcore import (
    CHUNK,
    PatchCore,
    PatchCoreSettings,
    coreset,
    nearest_distances,
    patch_features,
    projected,
)
from test_backbones import efficientnet_state, resnet_state

TINY = PatchCoreSettings(
    image_size_px=32, batch_size=5, stages=(1, 2), max_vectors=40, max_candidates=200, smoothing_px=1.0
)


def tiny_backbone() -> Backbone:
    return Backbone(layout_of(efficientnet_state()))


class TestContract(InspectionContract):
    tiny = TINY

    def make(self, settings: Settings) -> PatchCore:
        assert isinstance(settings, PatchCoreSettings)
        method = PatchCore(settings, tiny_backbone())
        method.finish(good_images(), good_images(0))
        return method

    test_trains_and_inspects_on_a_card = TrainingContract.test_trains_and_inspects_on_a_card


class TestContractOfEquationSevenAndAResNet(TestContract):
    """Settings that TINY does not cover: eq. 7, a coreset in a random projection, the other family of networks."""

    tiny = replace(
        TINY, image_score="reweighted", n_neighbours=3, max_vectors=None, coreset_share=0.2, projection_dims=6,
        smoothing_px=0.0, stages=(0, 2),
    )  # fmt: skip

    def make(self, settings: Settings) -> PatchCore:
        assert isinstance(settings, PatchCoreSettings)
        method = PatchCore(settings, Backbone(layout_of(resnet_state())))
        method.finish(good_images(), good_images(0))
        return method


# --- the memory --------------------------------------------------------------------------------------------------


def test_patch_features_are_means_of_three_by_three_positions_and_as_fine_as_the_finest_stage() -> None:
    fine, coarse = drawn(2, 3, 6, 8), drawn(2, 5, 3, 4, seed=1)
    features = patch_features([fine, coarse])
    assert features.shape == (2, 8, 6, 8)
    torch.testing.assert_close(features[0, 1, 2, 3], fine[0, 1, 1:4, 2:5].mean())
    torch.testing.assert_close(features[1, 2, 0, 0], fine[1, 2, :2, :2].sum() / 9)  # zeros outside count
    inside = patch_features([drawn(1, 1, 12, 12), torch.ones(1, 1, 6, 6)])[0, 1, 4:8, 4:8]
    assert bool((inside == 1.0).all())


def naive_coreset(vectors: Tensor, first: int, n: int) -> list[int]:
    """Algorithm 1 as it is written."""
    chosen = [first]
    while len(chosen) < n:
        gaps = [min(math.dist(vector, vectors[row]) for row in chosen) for vector in vectors.tolist()]
        chosen.append(max(range(len(vectors)), key=gaps.__getitem__))
    return chosen


def test_the_coreset_is_that_of_a_naive_loop() -> None:
    vectors = torch.randn(40, 5, generator=torch.Generator().manual_seed(3))
    rows = coreset(vectors, 12, torch.Generator().manual_seed(1)).tolist()
    assert rows == naive_coreset(vectors, rows[0], 12)


def test_a_coreset_takes_no_row_twice_even_among_equal_vectors() -> None:
    vectors = (torch.randn(5, 7, generator=torch.Generator().manual_seed(0)) * 30).repeat(6, 1)
    rows = coreset(vectors, 30, torch.Generator().manual_seed(0)).tolist()
    assert sorted(rows) == list(range(30))
    assert len({row % 5 for row in rows[:5]}) == 5, "the different ones come first"


def test_a_projection_nearly_keeps_distances_and_leaves_few_dimensions_alone() -> None:
    vectors = torch.randn(50, 2000, generator=torch.Generator().manual_seed(0))
    narrow = projected(vectors, 400, torch.Generator().manual_seed(1))
    assert narrow.shape == (50, 400)
    ratio = torch.pdist(narrow) / torch.pdist(vectors)
    assert 0.8 < ratio.min() < ratio.max() < 1.2
    assert projected(vectors, 2000, torch.Generator()) is vectors


@pytest.mark.parametrize("n_memory", [1, 7, CHUNK, 2 * CHUNK + 3])
def test_nearest_distances_are_those_of_cdist(n_memory: int) -> None:
    queries, memory = 5 * drawn(2, 30, 9), 5 * drawn(n_memory, 9, seed=1)
    expected = torch.cdist(queries.double(), memory.double()).amin(2).float()
    torch.testing.assert_close(nearest_distances(queries, memory), expected, atol=1e-4, rtol=1e-4)


def all_patches(method: PatchCore, images: Tensor) -> Tensor:
    features = method._features(images.float() / 255.0)
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


@pytest.mark.parametrize(
    ("changes", "n_vectors"),
    [
        ({"max_vectors": None, "max_candidates": None}, 12 * 64),
        ({"max_vectors": None, "max_candidates": None, "coreset_share": 0.1}, 77),
        ({"max_vectors": 20, "max_candidates": 100}, 20),
        ({"max_vectors": 200, "max_candidates": 100}, 100),
        ({"coreset_share": 1e-6}, 1),
    ],
)
def test_the_memory_holds_patches_of_the_good_images_and_as_many_as_asked(
    changes: dict[str, float | None], n_vectors: int
) -> None:
    images = (255 * drawn(12, 3, 32, 32)).byte()
    method = PatchCore(replace(TINY, **changes), tiny_backbone())
    assert method.finish(images, images[:0]).settings == {}
    assert len(method.memory) == n_vectors
    patches = all_patches(method, images)
    gaps = torch.cdist(method.memory.double(), patches.double()).amin(1)
    assert gaps.max() < 1e-3
    assert len(method.memory.unique(dim=0)) == n_vectors, "no patch is held twice"


def test_the_same_seed_remembers_the_same() -> None:
    def memory(seed: int) -> Tensor:
        method = PatchCore(replace(TINY, seed=seed), tiny_backbone())
        method.finish(good_images(), good_images(0))
        return method.memory

    assert torch.equal(memory(1), memory(1))
    assert not torch.equal(memory(1), memory(2))


# --- scores ------------------------------------------------------------------------------------------------------


def naive_score(queries: Tensor, memory: Tensor, n_neighbours: int) -> float:
    """Eq. 6 and 7 as they are written, of the patches of one image."""
    gaps = torch.cdist(queries.double(), memory.double())
    patch = int(gaps.amin(1).argmax())
    nearest = int(gaps[patch].argmin())
    largest = float(gaps[patch, nearest])
    neighbours = torch.cdist(memory[nearest : nearest + 1].double(), memory.double())[0].argsort()[:n_neighbours]
    return (1.0 - math.exp(largest) / float(gaps[patch, neighbours].exp().sum())) * largest


@pytest.mark.parametrize(("n_memory", "n_neighbours"), [(25, 3), (25, 9), (2, 9), (1, 9)])
def test_the_image_score_is_equation_seven(n_memory: int, n_neighbours: int) -> None:
    queries, memory = drawn(3, 20, 10), drawn(n_memory, 10, seed=1)
    method = PatchCore(replace(TINY, image_score="reweighted", n_neighbours=n_neighbours), tiny_backbone())
    method.memory = memory
    scores = method._image_score(queries, nearest_distances(queries, memory))
    expected = [naive_score(image, memory, n_neighbours) for image in queries]
    torch.testing.assert_close(scores, torch.tensor(expected), atol=1e-5, rtol=1e-4)


def test_the_other_image_scores_are_maxima() -> None:
    images = drawn(2, 3, 32, 32)
    method = TestContract().make(TINY)
    anomaly_map, score = method(images)
    assert torch.equal(score, anomaly_map.amax((1, 2, 3)))
    method.settings = replace(TINY, image_score="patch", smoothing_px=0.0)
    anomaly_map, score = method(images)
    assert bool((score >= anomaly_map.amax((1, 2, 3)) - 1e-5).all()), "interpolation can only lower a maximum"
    gaps = nearest_distances(method._features(images).flatten(2).transpose(1, 2), method.memory)
    torch.testing.assert_close(score, gaps.amax(1))


def test_smoothing_is_a_mean_with_gaussian_weights_inside_of_the_image() -> None:
    method = PatchCore(replace(TINY, smoothing_px=2.0), tiny_backbone())
    constant = torch.full((1, 1, 20, 9), 3.0)
    torch.testing.assert_close(method._smoothed(constant), constant)
    spot = torch.zeros(1, 1, 41, 41)
    spot[..., 20, 20] = 1.0
    blurred = method._smoothed(spot)[0, 0]
    assert float(blurred[20, 23] / blurred[20, 20]) == pytest.approx(math.exp(-9 / 8), rel=1e-4)
    assert float(blurred.sum()) == pytest.approx(1.0, abs=1e-3)


def test_a_patch_that_good_images_lack_stands_out() -> None:
    method = PatchCore(PatchCoreSettings(image_size_px=64, smoothing_px=2.0, max_vectors=300))
    images = good_images(12, 64)
    method.finish(images, images[:0])
    spoiled = images[:1].clone()
    spoiled[..., 40:56, 8:24] = (255 * drawn(1, 3, 16, 16)).byte()
    (good_map, good_score), (spoiled_map, spoiled_score) = (method(x.float() / 255.0) for x in (images[:1], spoiled))
    assert spoiled_score > 2 * good_score
    assert bool((good_map >= 0).all())
    row, column = divmod(int(spoiled_map.argmax()), 64)
    assert 36 <= row < 60
    assert 4 <= column < 28


# --- what a user gives -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message_part"),
    [
        ({"stages": []}, "stages"),
        ({"stages": [2, 1]}, r"setting stages: \[2, 1\] should be one or more, rising, such as \[2, 4\]"),
        ({"stages": [-1, 1]}, "stages"),
        ({"coreset_share": 1.5}, "setting coreset_share: 1.5 should be above 0, at most 1"),
        ({"coreset_share": 0.0}, "setting coreset_share: 0.0 should be above 0, at most 1"),
        ({"smoothing_px": 1e9}, "setting smoothing_px: 1000000000.0 should be in \\[0, 256\\]"),
        ({"max_vectors": 0}, "setting max_vectors: 0 should be at least 1"),
        ({"max_candidates": 0}, "setting max_candidates: 0 should be at least 1"),
        ({"smoothing_px": -1.0}, "smoothing_px"),
        ({"image_score": "sum"}, "one of reweighted, patch, map"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, object], message_part: str) -> None:
    with pytest.raises(BlemishError, match=message_part):
        PatchCoreSettings.from_dict(values)


def test_the_papers_network_has_to_be_given() -> None:
    with pytest.raises(BlemishError, match=r"wide_resnet50_2 do not come with blemish.*--set backbone=FILE"):
        build("patchcore", "paper")
    with pytest.raises(BlemishError, match=r"none\.pth: no such file"):
        build("patchcore", "paper", settings={"backbone": "none.pth"})


def test_a_network_of_ones_own_is_read_from_its_file(tmp_path: Path) -> None:
    torch.save(resnet_state(), tmp_path / "x.pth")
    method = build("patchcore", "paper", settings={"backbone": str(tmp_path / "x.pth"), "image_size_px": 64})
    assert isinstance(method, PatchCore)
    assert method.memory.shape == (1, 32 + 64)
    assert len(method.backbone.stages) == 3, "stages that are not needed are left out"
    with pytest.raises(BlemishError, match=r"setting stages: \[4\], but backbone .*x\.pth has the stages 0 to 3"):
        build("patchcore", "paper", settings={"backbone": str(tmp_path / "x.pth"), "stages": [4]})


def test_a_codebook_is_refused() -> None:
    with pytest.raises(BlemishError, match="patchcore needs no codebook"):
        PatchCore.build(codebook="codebook.safetensors")


# --- commands ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    for number, image in enumerate(good_images(12, 64)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number}.png")
    return folder


SMALL = {"image_size_px": 64, "max_vectors": 60, "max_candidates": 300}


def test_a_run_has_no_steps_and_its_detector_needs_no_file_of_weights(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(resnet_state(), tmp_path / "x.pth")
    settings = {**SMALL, "backbone": str(tmp_path / "x.pth"), "stages": [0, 1]}
    options = {"method": "patchcore", "settings": settings, "device": "cpu", "out": tmp_path / "run"}
    detector = blemish.fit(good, **options)
    (tmp_path / "x.pth").unlink()
    monkeypatch.setattr("blemish.methods.patchcore.load_backbone", None)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["iterations"], summary["images_per_s"], summary["chosen"]) == (0, 0.0, {})
    assert summary["training_s"] > 0, "the memory takes time to fill"
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
    loaded = blemish.load(tmp_path / "run")
    images = good_images(3, 64)
    assert all(map(torch.equal, detector.maps_and_scores(images), loaded.maps_and_scores(images)))
    assert loaded.provenance["pretrained_sha256"]
    assert loaded.provenance["textures"] == "none"


def test_a_run_is_resumed_from_its_beginning(good: Path, tmp_path: Path) -> None:
    options = {"method": "patchcore", "settings": SMALL, "device": "cpu", "out": tmp_path / "run"}
    first = blemish.fit(good, **options)
    (tmp_path / "run" / "summary.json").unlink()
    assert blemish.fit(good, resume=True, **options).threshold == first.threshold


def test_a_method_object_is_filled_in_place(good: Path) -> None:
    method = blemish.PatchCore.build(blemish.PatchCoreSettings.from_dict(SMALL))
    detector = blemish.fit(good, method=method, device="cpu")
    assert detector.method is method
    assert len(method.memory) == 60


def test_the_trainer_has_nothing_to_do() -> None:
    method = PatchCore(TINY, tiny_backbone())
    record = Trainer(method, good_images(), INGREDIENTS, device="cpu").run()
    assert (record.iterations, record.images_per_s) == (0, 0.0)


def test_a_grid_knows_that_it_takes_no_steps(good: Path, tmp_path: Path) -> None:
    cell = Cell("gasket", {"data": good, "method": "patchcore", "settings": SMALL, "device": "cpu"})
    lines: list[str] = []
    assert training_s([cell, replace(cell, name="again")], lines.append) == [0.0, 0.0]
    assert lines == ["patchcore (small), as in gasket: takes no steps; its time is not estimated"]
    assert cell_state(cell, tmp_path, 0).progress == "no training steps"


def test_commands_that_make_no_sense_say_so(good: Path, tmp_path: Path) -> None:
    with pytest.raises(BlemishError, match="tune: patchcore has nothing to choose by"):
        tune(good, {}, tmp_path / "tuned", method="patchcore")
    with pytest.raises(BlemishError, match="study damage: patchcore trains on no damage; methods that do: draem"):
        damage_run(
            good, tmp_path / "study", method="patchcore", recipe="small", textures=None, n_images=2, seed=0,
            layout="auto", assignments=["image_size_px=32"],
        )  # fmt: skip
    with pytest.raises(BlemishError, match="patchcore with these settings learns from good images only"):
        blemish.fit(good, method="patchcore", settings=SMALL, defects=good, device="cpu")


def test_tensors_of_another_method_are_refused(tmp_path: Path, good: Path) -> None:
    detector = blemish.fit(good, method="patchcore", settings=SMALL, device="cpu")
    tensors = {name: tensor for name, tensor in detector.runtime.tensors().items() if "stages.2" not in name}
    with pytest.raises(RuntimeError):
        PatchCore.restored(detector.settings, tensors)
    detector.save(tmp_path / "x.blemish")
    assert Detector.load(tmp_path / "x.blemish").settings == detector.settings


def test_eight_bits_are_refused_as_distances_need_all_digits() -> None:
    pytest.importorskip("openvino")
    detector = Detector.uncalibrated(PatchCore(TINY, tiny_backbone()), 0.5, 0.1)
    with pytest.raises(
        BlemishError, match=r"int8: patchcore needs all its convolutions in float32; take --precision"
    ):
        detector.compiled(good_images(3))
