"""Tests that every method must pass: a test class inherits ``MethodContract`` and makes a tiny method."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.detector import Detector
from blemish.inspection.sources import photographs
from blemish.inspection.stream import judge
from blemish.learning.calibration import calibrated
from blemish.learning.graphed import GraphedStep
from blemish.learning.training import Trainer
from blemish.methods.base import Ingredients, Method, Settings, Stage
from blemish.methods.features import encoders_of
from blemish.runtimes.export import _converted, _convolutions_in_float
from blemish.runtimes.graphed import GraphedInspection
from blemish.runtimes.torch import FEW_CHANNELS, TorchRuntime
from blemish.runtimes.tracing import quiet_libraries
from blemish.synthesis.textures import TextureBank
from card import capture, graphs

INGREDIENTS = Ingredients(TextureBank.procedural((32, 32), n=6), largest_share=0.2)


def good_images(n: int = 12, size_px: int = 32, width_px: int | None = None) -> Tensor:
    """(n, 3, size, width or size) uint8: the same soft stripes with slightly different brightness."""
    ramp = torch.linspace(0, 12, width_px or size_px).sin().view(1, 1, 1, -1) * 60 + 120
    light = torch.rand(n, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * 40
    return (ramp + light).expand(n, 3, size_px, width_px or size_px).round().to(torch.uint8)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Random numbers in [0, 1)."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class AsGraphs(NamedTuple):
    """Trainings as graphs, with two seeds."""

    weights: dict[str, Tensor]
    """Of the first seed."""
    descriptions: list[list[list[str]]]
    """Of the graphs of each seed."""
    errors: str


class _Contract:
    """Subclasses define ``make`` and ``tiny``."""

    tiny: Settings

    def make(self, settings: Settings) -> Method:
        raise AssertionError("a subclass must override this")

    @property
    def rectangle(self) -> Settings:
        """``tiny`` for images of 32 x 48 px."""
        return replace(self.tiny, image_width_px=48)

    @pytest.fixture
    def method(self) -> Method:
        return self.with_random_weights()

    def with_random_weights(self) -> Method:
        """A method with random weights and statistics, so that maps follow the image; pretrained encoders stay."""
        method, generator = self.make(self.tiny), torch.Generator().manual_seed(7)
        kept = {tensor.data_ptr() for encoder in encoders_of(method) for tensor in encoder.state_dict().values()}
        for tensor in method.state_dict().values():
            if tensor.data_ptr() in kept:
                continue
            if tensor.ndim > 1:
                torch.nn.init.kaiming_normal_(tensor, generator=generator)
            elif tensor.is_floating_point():
                tensor.mul_(0.5 + torch.rand(tensor.shape, generator=generator))
        return method

    @pytest.fixture
    def images(self) -> Tensor:
        return torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class TrainingContract(_Contract):
    """What concerns training: also for settings that change nothing else."""

    def test_gradients_reach_what_a_stage_trains_and_nothing_else(self, method: Method, images: Tensor) -> None:
        for stage in method.stages():
            method.train().zero_grad(set_to_none=True)
            learned = {id(parameter) for parameter in stage.parameters}
            assert learned
            for parameter in method.parameters():
                parameter.requires_grad_(id(parameter) in learned)
            losses = method.loss(stage, images, INGREDIENTS, torch.Generator().manual_seed(0))
            assert all(loss.ndim == 0 and bool(loss.isfinite()) for loss in losses.values())
            torch.stack(list(losses.values())).sum().backward()
            for name, parameter in method.named_parameters():
                assert (parameter.grad is not None) == (id(parameter) in learned), name

    def test_loss_leaves_the_good_images_alone_and_repeats_by_seed(self, method: Method, images: Tensor) -> None:
        before = images.clone()
        stage = method.stages()[0]
        first, second = (method.loss(stage, images, INGREDIENTS, torch.Generator().manual_seed(5)) for _ in range(2))
        assert torch.equal(images, before)
        assert first.keys() == second.keys()
        assert all(loss.item() == second[name].item() for name, loss in first.items())

    @classmethod
    def trained(cls, **options: object) -> dict[str, Tensor]:
        method = cls().make(cls.tiny)
        Trainer(method, good_images(), INGREDIENTS, validation=good_images(2), device="cpu", **options).run()  # type: ignore[arg-type]
        return {name: tensor.clone() for name, tensor in method.state_dict().items()}

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls) -> dict[str, Tensor]:
        """Weights of a training with seed 1."""
        return cls.trained(seed=1)

    def test_training_changes_the_weights_and_the_same_seed_gives_the_same(self, whole: dict[str, Tensor]) -> None:
        start = self.make(self.tiny).state_dict()
        repeated, reseeded = self.trained(seed=1), self.trained(seed=2)
        assert any(not torch.equal(whole[name], start[name]) for name in whole)
        assert all(torch.equal(whole[name], repeated[name]) for name in whole)
        assert any(not torch.equal(whole[name], reseeded[name]) for name in whole)

    def test_resumed_equals_uninterrupted(self, whole: dict[str, Tensor], tmp_path: Path) -> None:
        class Enough(Exception):
            pass

        class StopsHalfway:
            def step(self, stage: str, step: int, n_steps: int, losses: dict[str, float], left_s: float) -> None:
                if (tmp_path / "checkpoint.pt").exists():
                    raise Enough

        with pytest.raises(Enough):
            self.trained(seed=1, folder=tmp_path, reporter=StopsHalfway(), checkpoint_every_s=0.0)
        method = self.make(self.tiny)
        options: dict[str, Any] = {"device": "cpu", "seed": 99, "folder": tmp_path, "resume": True}
        Trainer(method, good_images(), INGREDIENTS, validation=good_images(2), **options).run()
        resumed = method.state_dict()
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)

    @pytest.mark.parametrize("fits", [True, False])
    def test_trains_and_inspects_on_a_card(
        self, card: torch.device, fits: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr("blemish.learning.training._fits", lambda images, device: fits)
        monkeypatch.setattr("blemish.learning.graphed.N_WARM_UP", 1)
        monkeypatch.setattr(Stage, "n_iterations", lambda stage, n_images: 3)
        method, held_out = self.make(self.tiny), good_images(3)
        trainer = Trainer(method, good_images(), INGREDIENTS, validation=held_out, device=card, precision="float32")
        trainer.uses_graphs = True
        record = trainer.run()
        assert record.iterations == 3 * len(method.stages())
        assert {tensor.device.type for tensor in method.state_dict().values()} == {"meta"}
        method.finish(good_images().to(card), held_out.to(card))
        detector = calibrated(method, held_out, 0.1)
        photographs = [image.permute(1, 2, 0).numpy() for image in held_out]
        findings = detector.inspect(photographs, explain=True)
        assert [finding.map.shape for finding in findings] == [(32, 32)] * 3
        warnings = capsys.readouterr().err
        assert not warnings, warnings

    def test_rectangles_are_trained_on_and_inspected(self) -> None:
        method, images = self.make(self.rectangle), good_images(width_px=48)
        Trainer(method, images, INGREDIENTS, validation=images[:2], device="cpu", seed=1).run()
        method.finish(images, images[:2])
        detector = calibrated(method, images, 0.1)
        photograph = np.full((64, 96, 3), 130, np.uint8)
        assert detector.size_hw == (32, 48)
        assert detector.inspect(photograph).map.shape == (64, 96)
        (judgement,) = judge(detector, photographs([photograph]))
        assert judgement.map.shape == (32, 48)

    @classmethod
    def weights_after_steps(
        cls, step: Callable[..., Any] = GraphedStep, capture: Callable[..., Any] = capture, seed: int = 0
    ) -> dict[str, Tensor]:
        """Weights after 12 steps of each stage, as graphs or not."""
        method, held_out = cls().make(cls.tiny), good_images(2)
        trainer = Trainer(
            method, good_images(), INGREDIENTS, validation=held_out, seed=seed, device="cpu", precision="float32"
        )
        trainer.uses_graphs = True
        with graphs() as patch:
            patch.setattr(Stage, "n_iterations", lambda stage, n_images: 12)
            patch.setattr("blemish.learning.training.GraphedStep", step)
            patch.setattr("blemish.graphs.capture", capture)
            trainer.run()
        return {name: tensor.clone() for name, tensor in method.state_dict().items()}

    @pytest.fixture(scope="class")
    @classmethod
    def without_graphs(cls) -> dict[str, Tensor]:
        """Weights after steps that are not repeated as graphs."""
        return cls.weights_after_steps(lambda step, generator, device: step)

    @pytest.fixture(scope="class")
    @classmethod
    def as_graphs(cls) -> AsGraphs:
        """The same steps as graphs, and with another seed."""
        weights, descriptions = list[dict[str, Tensor]](), list[list[list[str]]]()
        with redirect_stderr(StringIO()) as errors:
            for seed in (0, 1):
                descriptions.append([])

                def describing_capture(work: Callable[[], Any], device: torch.device) -> Any:
                    replay, result = capture(work, device)
                    descriptions[-1].append(replay.__self__.said())  # type: ignore[attr-defined]
                    return replay, result

                weights.append(cls.weights_after_steps(capture=describing_capture, seed=seed))
        return AsGraphs(weights[0], descriptions, errors.getvalue())

    def test_steps_repeated_as_a_graph_learn_the_same(
        self, without_graphs: dict[str, Tensor], as_graphs: AsGraphs
    ) -> None:
        assert all(torch.equal(as_graphs.weights[name], tensor) for name, tensor in without_graphs.items())
        assert not as_graphs.errors

    def test_a_graph_is_the_same_whatever_is_drawn(self, as_graphs: AsGraphs) -> None:
        first, other = as_graphs.descriptions
        assert first
        assert first == other

    def test_where_there_are_no_graphs_training_goes_on_without(
        self, without_graphs: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
    ) -> None:
        def failing_capture(work: Callable[[], Any], device: torch.device) -> Any:
            capture(work, device)
            raise RuntimeError("this card cannot\nas it is a stand-in")

        fallback = self.weights_after_steps(capture=failing_capture)
        assert all(torch.equal(fallback[name], tensor) for name, tensor in without_graphs.items())
        warning = capsys.readouterr().err
        assert "cannot run as a CUDA graph here and continues without one (this card cannot)" in warning


class InspectionContract(_Contract):
    """What concerns inspection: also for a method that trains nothing."""

    @pytest.fixture(scope="class")
    @classmethod
    def converted(cls) -> tuple[Method, torch.export.ExportedProgram, Any]:
        """A method, and what ``to_openvino`` makes of it before anything else: to trace it takes long."""
        method = cls().with_random_weights()
        with quiet_libraries():
            return method, *_converted(method)

    def test_forward_gives_maps_and_scores(self, method: Method, images: Tensor) -> None:
        anomaly_map, score = method.eval()(images)
        assert anomaly_map.shape == (3, 1, 32, 32)
        assert score.shape == (3,)
        assert anomaly_map.dtype == score.dtype == torch.float32
        assert bool((anomaly_map >= 0).all() and (score >= 0).all())
        assert (anomaly_map[0] - anomaly_map[1]).abs().max() > 1e-2, "the map should follow the image"

    @pytest.mark.parametrize("size_hw", [(33, 47), (20, 64), (32, 9)])
    def test_forward_takes_odd_sizes(self, method: Method, size_hw: tuple[int, int]) -> None:
        anomaly_map, _ = method.eval()(torch.rand(1, 3, *size_hw))
        assert anomaly_map.shape == (1, 1, *size_hw)
        for picture in method.explain(torch.rand(1, 3, *size_hw)).values():
            assert picture.shape == (1, 3, *size_hw)

    def test_batch_of_one_equals_batch_of_many(self, method: Method, images: Tensor) -> None:
        method.eval()
        many, scores = method(images)
        for number in range(3):
            single, score = method(images[number : number + 1])
            torch.testing.assert_close(single[0], many[number], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(score[0], scores[number], atol=1e-5, rtol=1e-4)

    def test_channels_last_gives_the_same(self, method: Method, images: Tensor) -> None:
        expected, _ = method.eval()(images)
        method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        got, _ = method(images.contiguous(memory_format=torch.channels_last))
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)

    def test_bf16_is_within_tolerance(self, method: Method, images: Tensor) -> None:
        expected, _ = method.eval()(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got, _ = method(images)
        assert (got.float() - expected).abs().mean() < 0.02

    def test_prepared_for_inspection_gives_the_same(self, method: Method, images: Tensor) -> None:
        runtime = TorchRuntime(method, "float32")
        for module in runtime.prepared.modules():
            assert not isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d)
        with torch.inference_mode():
            for batch in (images, torch.rand(1, 3, 33, 47)):
                for ours, expected in zip(runtime(batch), method(batch), strict=True):
                    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-3)
                pictures, expected_pictures = runtime.explain(batch), method.explain(batch)
                assert pictures.keys() == expected_pictures.keys()
                for name, picture in pictures.items():
                    torch.testing.assert_close(picture, expected_pictures[name], atol=1e-4, rtol=1e-3)

    def test_a_runtime_is_safe_to_call_from_several_threads(self, method: Method) -> None:
        batches = torch.rand(16, 1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
        expected = [TorchRuntime(method, "float32")(batch) for batch in batches]
        runtime = TorchRuntime(method, "float32")
        with ThreadPoolExecutor(4) as pool:
            for (maps, scores), (own_maps, own_scores) in zip(expected, pool.map(runtime, batches), strict=True):
                assert torch.equal(own_maps, maps)
                assert torch.equal(own_scores, scores)

    def test_saved_and_loaded_gives_bit_equal_maps(self, method: Method, tmp_path: Path) -> None:
        images = good_images()
        detector = calibrated(method, images, 0.1)
        detector.save(tmp_path / "x.blemish")
        again = Detector.load(tmp_path / "x.blemish")
        for ours, theirs in zip(detector.maps_and_scores(images), again.maps_and_scores(images), strict=True):
            assert torch.equal(ours, theirs)
        assert again.threshold == detector.threshold
        assert again.pixel_threshold == detector.pixel_threshold
        assert again.method.settings == method.settings

    def test_exports_as_one_graph(self, method: Method, images: Tensor) -> None:
        program = torch.export.export(method.eval(), (images,))
        expected, scores = method(images)
        got, got_scores = program.module()(images)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(got_scores, scores, atol=1e-5, rtol=1e-4)

    def test_openvino_gives_the_same(
        self, converted: tuple[Method, torch.export.ExportedProgram, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (method, program, model), images = converted, good_images(3)
        monkeypatch.setattr("blemish.runtimes.export._converted", lambda method: (program, model))
        detector = Detector.uncalibrated(method, 0.5, 0.1)
        for ours, theirs in zip(
            detector.maps_and_scores(images), detector.compiled().maps_and_scores(images), strict=True
        ):
            torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-3)

    def test_rectangles_are_saved(self, tmp_path: Path) -> None:
        images = good_images(3, width_px=48)
        method = self.make(self.rectangle).eval()
        detector = Detector.uncalibrated(method, 0.5, 0.1)
        detector.save(tmp_path / "x.blemish")
        again = Detector.load(tmp_path / "x.blemish")
        assert again.size_hw == (32, 48)
        for ours, theirs in zip(detector.maps_and_scores(images), again.maps_and_scores(images), strict=True):
            assert ours.shape[:1] == theirs.shape[:1] == (3,)
            assert torch.equal(ours, theirs)

    def test_eight_bits_leave_exact_modules_and_few_channels_in_float(
        self, converted: tuple[Method, torch.export.ExportedProgram, Any]
    ) -> None:
        method, program, model = converted
        in_float = {name.split("/")[0] for name in _convolutions_in_float(method, program, model)}
        in_model = {node.get_friendly_name().split("/")[0] for node in model.get_ordered_ops()}
        convolutions = [
            node for node in program.graph.nodes if "convolution" in str(node.target) and node.name in in_model
        ]
        assert convolutions
        for node in convolutions:  # NNCF knows them by the names of these nodes
            path = [path for path, _ in node.meta["nn_module_stack"].values()][-1]
            part = method.get_submodule(path)
            assert isinstance(part, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
            is_exact = any(path.startswith(f"{name}.") or path == name for name in method.exact)
            has_few = min(part.in_channels, part.out_channels) <= FEW_CHANNELS
            assert (node.name in in_float) == (is_exact or has_few), path

    def test_inspections_repeated_as_a_graph_give_the_same(
        self, method: Method, capsys: pytest.CaptureFixture[str]
    ) -> None:
        method.eval()
        inspect = GraphedInspection(method)
        with torch.inference_mode(), graphs():
            batches = [torch.rand(2, 3, 32, 32) for _ in range(4)]
            kept = [inspect(batch) for batch in batches]
            for batch, (maps, scores) in zip(batches, kept, strict=True):
                expected, expected_scores = method(batch)
                assert torch.equal(maps, expected)
                assert torch.equal(scores, expected_scores)
        assert not capsys.readouterr().err

    def test_what_is_computed_exactly_is_there(self, method: Method) -> None:
        assert {*method.exact, *method.exact_on_cpu} <= {name for name, _ in method.named_modules()}

    def test_every_recipe_is_of_the_methods_own_settings(self, method: Method) -> None:
        assert {"paper", "fast", "small"} <= set(method.recipes)
        for settings in method.recipes.values():
            assert type(settings) is method.settings_type


class MethodContract(TrainingContract, InspectionContract):
    """All of it."""
