"""The orthogonality study, compared with naive loops, and with repairs whose result is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.errors import BlemishError
from blemish.studies import orthogonality
from blemish.studies.orthogonality import AtWidth, draw_trials, figures, is_nearest, measure, swap_patches, widths_px
from blemish.studies.orthogonality_page import orthogonality_page

N, SIDE = 7, 12


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (N, 3, SIDE, SIDE), generator=generator).byte()


def identity(modified: Tensor) -> Tensor:
    return modified


def run(images: Tensor, repair: orthogonality.Repair, widths: tuple[int, ...] = (1, 6, 11)) -> list[AtWidth]:
    return list(measure(images, repair, widths, repeats=2, seed=0))


@pytest.mark.parametrize("width_px", [1, 5, SIDE])
def test_the_patch_and_nothing_else_is_replaced(images: Tensor, width_px: int) -> None:
    before = images.clone()
    trials = draw_trials(N, SIDE, width_px, 3, torch.Generator().manual_seed(0))
    modified = swap_patches(images, trials, width_px)
    assert torch.equal(images, before)
    assert len(modified) == 3 * N
    for image, own, donor, (top, left) in zip(
        modified, trials.own, trials.donor, trials.top_left.tolist(), strict=True
    ):
        assert own != donor
        inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        inside[top : top + width_px, left : left + width_px] = True
        assert int(inside.sum()) == width_px**2, "the patch is inside the image"
        assert torch.equal(image, torch.where(inside, images[donor], images[own]))


def test_every_place_and_every_other_image_is_drawn() -> None:
    trials = draw_trials(3, 4, 2, 200, torch.Generator().manual_seed(0))
    assert {tuple(corner) for corner in trials.top_left.tolist()} == {(y, x) for y in range(3) for x in range(3)}
    assert len({(int(own), int(donor)) for own, donor in zip(trials.own, trials.donor, strict=True)}) == 6


def test_the_nearest_is_that_of_a_naive_loop(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orthogonality, "CHUNK", 50)  # does not divide an image's 432 values
    generator = torch.Generator().manual_seed(1)
    own = torch.randint(N, (40,), generator=generator)
    candidates = images[own] / 255.0 + 0.7 * torch.randn(40, 3, SIDE, SIDE, generator=generator)
    candidates[:20] = candidates[:20].lerp(images[(own[:20] + 1) % N] / 255.0, 0.5)
    expected = []
    for candidate, number in zip(candidates.numpy(), own.tolist(), strict=True):
        distances = [np.linalg.norm(candidate - image.numpy() / 255.0) for image in images]
        expected.append(int(np.argmin(distances)) == number)
    assert is_nearest(candidates, own, images).tolist() == expected
    assert 0 < sum(expected) < 40


def test_a_copy_of_the_image_is_as_near(images: Tensor) -> None:
    images[5] = images[2]
    assert is_nearest(images / 255.0, torch.arange(N), images).all()


def test_the_figures_are_those_of_naive_loops(images: Tensor) -> None:
    """The repair halves all values."""
    (result,) = run(images, lambda modified: modified / 2.0, (6,))
    trials = draw_trials(N, SIDE, 6, 2, torch.Generator().manual_seed(0))
    good, modified = images.numpy() / 255.0, swap_patches(images, trials, 6).numpy() / 255.0
    norms, before, nearest, nearest_before = [], [], [], []
    for image, own in zip(modified, trials.own.tolist(), strict=True):
        norms.append(np.sqrt(((image / 2.0 - good[own]) ** 2).sum()))
        before.append(np.sqrt(((image - good[own]) ** 2).sum()))
        nearest.append(np.argmin([((image / 2.0 - neighbour) ** 2).sum() for neighbour in good]) == own)
        nearest_before.append(np.argmin([((image - neighbour) ** 2).sum() for neighbour in good]) == own)
    n_values = 3 * SIDE**2
    expected = {
        "width_px": 6, "width": 0.5, "share": 0.25, "trials": 2 * N,
        "modified_nearest": np.mean(nearest_before), "repaired_nearest": np.mean(nearest),
        "rms_mean": np.mean(norms) / n_values**0.5, "rms_std": np.std(norms) / n_values**0.5,
        "modified_rms_mean": np.mean(before) / n_values**0.5,
        "norm_per_n_mean": np.mean(norms) / n_values, "norm_per_n_std": np.std(norms) / n_values,
        "modified_norm_per_n_mean": np.mean(before) / n_values,
    }  # fmt: skip
    assert result.row() == pytest.approx(expected, rel=1e-6)


def test_a_repair_that_does_nothing_leaves_everything_as_it_was(images: Tensor) -> None:
    for result in run(images, identity):
        assert torch.equal(result.repaired_nearest, result.modified_nearest)
        assert torch.equal(result.repaired_norm, result.modified_norm)
        assert torch.equal(result.example.repaired, result.example.modified)
    assert [bool(result.modified_nearest.all()) for result in run(images, identity, (1, SIDE))] == [True, False]


def test_a_perfect_projection_finds_every_image(images: Tensor) -> None:
    good = images.float() / 255.0

    def projection(modified: Tensor) -> Tensor:  # a patch of 6 of 12 px is a quarter: the original is nearest
        return good[torch.cdist(modified.flatten(1), good.flatten(1)).argmin(1)]

    results = run(images, projection, (1, 3, 6))
    assert all(result.repaired_nearest.all() and result.example.is_repaired_nearest for result in results)
    assert figures(results)["repaired_nearest"] == 1.0
    assert figures(results)["rms_mean"] == figures(results)["rms_std"] == 0.0
    assert all(torch.equal(result.example.repaired, result.example.image) for result in results)


def test_always_the_same_image_is_right_once(images: Tensor) -> None:
    for result in run(images, lambda modified: (images[:1] / 255.0).expand_as(modified)):
        assert figures([result])["repaired_nearest"] == pytest.approx(1 / N)


def test_the_seed_decides_and_the_batches_do_not(images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    first = [result.row() for result in run(images, identity)]
    monkeypatch.setattr(orthogonality, "BATCH_SIZE", 3)
    assert [result.row() for result in run(images, identity)] == first
    assert [result.row() for result in measure(images, identity, (1, 6, 11), 2, seed=1)] != first


def test_widths_are_even_distinct_and_inside() -> None:
    assert widths_px(12, 512)[0] == 26
    assert widths_px(12, 512)[-1] == 486
    assert len(widths_px(12, 512)) == 12
    assert widths_px(12, 4) == [1, 2, 3, 4]
    assert widths_px(1, 100) == [5]


def test_what_cannot_be_measured_is_refused(images: Tensor) -> None:
    with pytest.raises(BlemishError, match="at least 2"):
        run(images[:1], identity)
    with pytest.raises(BlemishError, match="train the detector again"):
        run(images, lambda modified: modified * torch.nan)


def test_the_page_shows_the_results_and_escapes_names(images: Tensor) -> None:
    results = run(images, identity, (1, 3, 6, 8, 11))
    page = orthogonality_page(results, "<b>parts", "ssae small", N)
    assert "<b>parts" not in page
    assert page.count("<svg") == 3
    assert page.count('class="limit"') == 3
    assert page.count('class="band"') == 1
    assert page.count("<section") == 5
    share = 100 * figures(results[:4])["repaired_nearest"]  # 8 of 12 px are less than half of the image, 11 are not
    assert f"nearest to its own original in {share:.1f}\N{NO-BREAK SPACE}% of" in page
    beyond = orthogonality_page(results[4:], "parts", "ssae small", N)
    assert "<b>Result.</b>" not in beyond
