"""DSR's anomalies in the space of codes, against a naive sort."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from blemish.errors import BlemishError
from blemish.synthesis.replaced_codes import (
    LatentSettings,
    grid_mask,
    neighbour_table,
    nth_nearest_codes,
    replace_codes,
    replace_features,
)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def codes() -> Tensor:
    return torch.randn(60, 6, generator=Generator().manual_seed(0))


def naive_rank(codes: Tensor, index: int, neighbour: int) -> int:
    """How many codes are nearer to code ``index`` than code ``neighbour`` is."""
    distances = [float((codes[index] - code).square().sum()) for code in codes]
    return sorted(range(len(codes)), key=distances.__getitem__).index(neighbour)


def damaged(codes: Tensor, settings: LatentSettings, batch: int = 4, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = Generator().manual_seed(seed)
    indices = torch.randint(len(codes), (batch, 20, 20), generator=generator)
    mask = (torch.rand(batch, 1, 20, 20, generator=generator) > 0.5).float()
    return indices, mask, replace_codes(indices, mask, neighbour_table(codes), generator, settings)


def test_the_table_is_a_naive_sort(codes: Tensor) -> None:
    table = neighbour_table(codes)
    assert table.shape == (60, 60)
    for index in (0, 17, 59):
        assert [naive_rank(codes, index, int(neighbour)) for neighbour in table[index]] == list(range(60))


def test_only_masked_positions_change(codes: Tensor) -> None:
    indices, mask, result = damaged(codes, LatentSettings())
    before = indices.clone()
    assert torch.equal(result[mask[:, 0] == 0], indices[mask[:, 0] == 0])
    assert bool((result[mask[:, 0] > 0] != indices[mask[:, 0] > 0]).all())
    assert torch.equal(indices, before)


@pytest.mark.parametrize("bound", [0.0, 0.05, 0.2])
def test_masked_positions_never_get_one_of_the_nearest_codes(codes: Tensor, bound: float) -> None:
    settings = LatentSettings(similarity_bound=bound, min_reach=0.2)
    indices, mask, result = damaged(codes, settings)
    pairs = zip(indices[mask[:, 0] > 0].tolist(), result[mask[:, 0] > 0].tolist(), strict=True)
    ranks = {naive_rank(codes, before, after) for before, after in pairs}
    assert min(ranks) == int(bound * 60)
    assert max(ranks) < 59


def test_each_image_has_a_reach_of_its_own_and_ranks_are_uniform_below_it(codes: Tensor) -> None:
    indices, mask, result = damaged(codes, LatentSettings(), batch=200)
    order = neighbour_table(codes).long().argsort(1)  # [c, d]: the rank of code d among the neighbours of c
    ranks = order[indices, result]
    reaches = torch.tensor([int(ranks[n][mask[n, 0] > 0].max()) + 1 for n in range(200)])
    assert reaches.min() >= 10
    assert reaches.max() >= 55
    assert reaches.float().mean().item() == pytest.approx(36, abs=3)  # U[0.2, 1] of 60
    widest = ranks[(reaches > 50)[:, None, None] & (mask[:, 0] > 0)]
    shares = torch.bincount(widest[widest < 50])[3:].float()
    assert (shares / shares.mean() - 1.0).abs().max() < 0.25


def test_ranks_are_distributed_as_if_all_distances_were_sorted(codes: Tensor) -> None:
    """The reference that the benchmark compares our sampling with draws from the same distribution."""
    spec = importlib.util.spec_from_file_location("dsr_sampling", BENCHMARKS / "dsr_sampling.py")
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        spec.loader.exec_module(benchmark)
    indices, mask, ours = damaged(codes, LatentSettings(), batch=1500)
    theirs = benchmark.by_sorting(indices, mask, codes, Generator().manual_seed(9), LatentSettings())
    order = neighbour_table(codes).long().argsort(1)
    inside = mask[:, 0] > 0
    shares = [torch.bincount(order[indices, drawn][inside], minlength=60) / inside.sum() for drawn in (ours, theirs)]
    assert (shares[0] - shares[1]).abs().max() < 0.002
    assert (shares[0].cumsum(0) - shares[1].cumsum(0)).abs().max() < 0.01
    assert torch.equal(theirs[~inside], indices[~inside])


def test_uniform_sampling_draws_every_code(codes: Tensor) -> None:
    _, mask, result = damaged(codes, LatentSettings(sampling="uniform"), batch=40)
    shares = torch.bincount(result[mask[:, 0] > 0], minlength=60).float()
    assert (shares / shares.mean() - 1.0).abs().max() < 0.35


def test_the_same_seed_gives_the_same(codes: Tensor) -> None:
    result, repeated, other_seed = (damaged(codes, LatentSettings(), seed=seed)[2] for seed in (1, 1, 2))
    assert torch.equal(result, repeated)
    assert not torch.equal(result, other_seed)


def test_a_mask_on_the_grid_is_all_it_touches() -> None:
    mask = torch.zeros(1, 1, 8, 16)
    mask[0, 0, 5, 3] = 1.0
    assert grid_mask(mask, (2, 4)).tolist() == [[[[0, 0, 0, 0], [1, 0, 0, 0]]]]


def test_a_similarity_bound_above_the_least_reach_raises_it(codes: Tensor) -> None:
    indices, mask, result = damaged(codes, LatentSettings(similarity_bound=0.5), batch=40)
    ranks = neighbour_table(codes).long().argsort(1)[indices, result][mask[:, 0] > 0]
    assert ranks.min() == 30
    assert ranks.max() >= 57


@pytest.mark.parametrize("values", [{"similarity_bound": 1.0}, {"similarity_bound": -0.1}, {"min_reach": 1.5}])
def test_wrong_settings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(BlemishError, match="|".join(values)):
        LatentSettings(**values)


# --- ranking by features, as the authors' code does ------------------------------------------------------------


@pytest.mark.parametrize("n_codes", [1, 2, 60])
def test_the_code_of_a_rank_is_that_of_a_naive_sort(codes: Tensor, n_codes: int) -> None:
    generator = Generator().manual_seed(3)
    vectors, ranks = torch.randn(200, 6, generator=generator) * 3, torch.randint(n_codes, (200,), generator=generator)
    distances = torch.cdist(vectors.double(), codes[:n_codes].double())
    expected = distances.argsort(1).gather(1, ranks[:, None])[:, 0]
    assert torch.equal(nth_nearest_codes(vectors, codes[:n_codes], ranks), expected)


def test_codes_that_occur_twice_are_neither_nearer_nor_farther(codes: Tensor) -> None:
    twice = torch.cat([codes[:5], codes[:5]])
    vectors = codes[:5] + 0.01
    for rank in range(10):
        nearest = nth_nearest_codes(vectors, twice, torch.full((5,), rank)) % 5
        expected = torch.cdist(vectors, twice).argsort(1)[:, rank] % 5
        assert torch.equal(nearest, expected)


def test_features_get_codes_of_the_same_ranks_as_codes_do(codes: Tensor) -> None:
    """Where the features are the codes themselves, both rankings are the same."""
    settings = LatentSettings(similarity_bound=0.1)
    indices, mask, by_codes = damaged(codes, settings)
    generator = Generator().manual_seed(0)
    torch.randint(len(codes), (4, 20, 20), generator=generator), torch.rand(4, 1, 20, 20, generator=generator)
    features = codes[indices].permute(0, 3, 1, 2)
    by_features = replace_features(features, indices, mask, codes, generator, settings)
    assert torch.equal(by_features, by_codes)
    # Of a feature between codes, others are near.
    generator = Generator().manual_seed(0)
    torch.randint(len(codes), (4, 20, 20), generator=generator), torch.rand(4, 1, 20, 20, generator=generator)
    moved = features + torch.randn(features.shape, generator=Generator().manual_seed(1))
    other = replace_features(moved, indices, mask, codes, generator, settings)
    assert not torch.equal(other, by_codes)
    assert torch.equal(other[mask[:, 0] == 0], indices[mask[:, 0] == 0])
    ranks = torch.cdist(moved.permute(0, 2, 3, 1)[mask[:, 0] > 0], codes).argsort(1).argsort(1)
    assert ranks.gather(1, other[mask[:, 0] > 0][:, None]).min() == 6
