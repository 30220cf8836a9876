"""Nearest codes by candidates, as a GPU searches them: the same as in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from blemish.data.loading import load_images, to_tensor
from blemish.methods.base import Ingredients
from blemish.methods.dsr import DSR, DSRSettings, vq
from blemish.methods.dsr.codebook import load_codebook
from blemish.methods.dsr.vq import BLOCK, as_vectors
from blemish.runtimes.torch import TorchRuntime

# --- nearest codes by candidates -----------------------------------------------------------------------------


def assert_nearest(indices: torch.Tensor, vectors: torch.Tensor, codes: torch.Tensor) -> None:
    """Indices are those of the nearest codes to the precision of float32, and almost always the first nearest."""
    assert indices.dtype == torch.int64
    distances = torch.cat([torch.cdist(part, codes.double()) for part in vectors.double().split(4096)])
    least, first = distances.min(1)
    excess = distances.gather(1, indices[:, None])[:, 0] - least
    assert not (excess > 1e-5 * least).any()
    assert (indices != first).double().mean() < 1e-3, "distances that are equal in float32 are rare"


def coarsely_nearest(vectors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """The nearest codes, (M,), by a single product of bfloat16 numbers."""
    products = vectors.bfloat16().float() @ codes.bfloat16().float().T
    return (products - codes.square().sum(1) / 2).argmax(1)


@pytest.mark.parametrize("n_codes", [1, 2, 3, 65, 100, 3 * BLOCK, 4 * BLOCK, 1024])
@pytest.mark.parametrize("n_vectors", [0, 1, 1013])
def test_candidates_hold_the_nearest_code(n_vectors: int, n_codes: int) -> None:
    generator = torch.Generator().manual_seed(n_codes)
    vectors, codes = torch.randn(n_vectors, 13, generator=generator), torch.randn(n_codes, 13, generator=generator)
    indices = vq._nearest_by_candidates(vectors, codes)
    assert indices.shape == (n_vectors,)
    if n_vectors:
        assert_nearest(indices, vectors, codes)


def test_codes_near_to_each_other_are_distinguished() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = 3.0 + torch.randn(256, 64, generator=generator)
    codes = torch.cat(
        [codes, codes + 0.002 * torch.randn(256, 64, generator=generator)]
    )  # pairs, the same in bfloat16
    chosen = torch.randint(len(codes), (5000,), generator=generator)
    vectors = codes[chosen] + 0.002 * torch.randn(5000, 64, generator=generator)
    indices = vq._nearest_by_candidates(vectors, codes)
    assert_nearest(indices, vectors, codes)
    assert (indices == chosen).double().mean() > 0.5, "the vectors should be nearest to the codes they come from"
    with pytest.raises(AssertionError):
        assert_nearest(coarsely_nearest(vectors, codes), vectors, codes)


@pytest.mark.parametrize("n_codes", [70, 8 * BLOCK])
def test_of_equal_codes_the_first_candidate_is_taken(n_codes: int) -> None:
    generator = torch.Generator().manual_seed(n_codes)
    codes = torch.randn(n_codes, 32, generator=generator)
    codes = torch.cat([codes, codes, codes, codes])[torch.randperm(4 * n_codes, generator=generator)]
    vectors = torch.randn(999, 32, generator=generator)
    naive = (vectors[:, None] - codes).square().sum(2).argmin(1)
    assert torch.equal(vq._nearest_by_candidates(vectors, codes), naive)


def test_chunks_are_put_together_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors, codes = torch.randn(301, 16, generator=generator), torch.randn(4 * BLOCK, 16, generator=generator)
    whole = vq._nearest_by_candidates(vectors, codes)
    monkeypatch.setattr(vq, "GPU_CHUNK", 100)
    assert torch.equal(vq._nearest_by_candidates(vectors, codes), whole)


@pytest.fixture(params=["bottle", "astronaut", "coffee"])
def photographs(request: pytest.FixtureRequest) -> torch.Tensor:
    """Images of one kind, (B, 3, 256, 256) in [0, 1]."""
    if request.param == "bottle":
        folder = request.getfixturevalue("shared_data") / "mvtec" / "bottle" / "train" / "good"
        return load_images(sorted(folder.iterdir())[:3], (256, 256)).float() / 255.0
    data = pytest.importorskip("skimage.data")
    return to_tensor([getattr(data, request.param)()], (256, 256)).float() / 255.0


def test_candidates_hold_the_nearest_codes_of_photographs(photographs: torch.Tensor) -> None:
    network = load_codebook()
    with torch.no_grad():
        early = network.encoder_high(photographs)
        low = network.features_low(early)
        high = network.features_high(early, network.codebook_low.quantized(low))
    for features, codes in ((low, network.codebook_low.codes), (high, network.codebook_high.codes)):
        vectors = as_vectors(features)
        assert_nearest(vq._nearest_by_candidates(vectors, codes), vectors, codes)
        with pytest.raises(AssertionError):
            assert_nearest(coarsely_nearest(vectors, codes), vectors, codes)


class CountingLaunches(TorchDispatchMode):
    """Records the names of operations, except views, which launch nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view:
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_nearest_codes_off_the_cpu_take_few_launches_and_no_answer_to_the_host() -> None:
    vectors, codes = torch.empty(65536, 128, device="meta"), torch.empty(4096, 128, device="meta")
    with CountingLaunches() as launches:
        indices = vq._nearest_by_candidates(vectors, codes)  # a value read by the host would raise here
    assert (indices.shape, indices.dtype, indices.device.type) == ((65536,), torch.int64, "meta")
    assert len(launches.names) < 40, launches.names
    assert launches.names.count("aten.mm.dtype") == 1


def test_an_image_has_the_same_codes_in_training_in_bf16_and_in_inspection(photographs: torch.Tensor) -> None:
    settings = DSRSettings(
        restriction_widths=(8, 8), decoder_widths=(8, 8, 8), detection_widths=(4, 8), anomaly_probability=0.0,
        rotation_probability=0.0,
    )  # fmt: skip
    method = DSR(settings)
    codes: list[torch.Tensor] = []

    def first_codes(network: DSR, run: Callable[[], object]) -> list[torch.Tensor]:
        codes.clear()
        books = (network.vq.codebook_low, network.vq.codebook_high)
        hooks = [book.register_forward_hook(lambda *call: codes.append(call[2])) for book in books]
        run()
        for hook in hooks:
            hook.remove()
        return codes[:2]

    def train() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            method.loss(method.stages()[0], photographs, Ingredients(), torch.Generator().manual_seed(0))

    photographs = photographs[:1, :, 64:192, 64:192]
    in_training = first_codes(method, train)
    assert [tuple(level.shape[1:]) for level in in_training] == [(16, 16), (32, 32)]
    in_float32 = first_codes(method, lambda: method.eval()(photographs))
    assert all(torch.equal(*levels) for levels in zip(in_training, in_float32, strict=True))
    prepared = TorchRuntime(method, "bf16").prepared
    assert isinstance(prepared, DSR)
    for trained, inspected in zip(in_training, first_codes(prepared, lambda: prepared(photographs)), strict=True):
        assert (trained != inspected).float().mean() < 2e-3  # sums in another order; 0.06 and more in bf16
