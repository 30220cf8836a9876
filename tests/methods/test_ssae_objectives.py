"""SSAE: the two objectives (eq. 1 and 4)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract import drawn

from blemish.methods.ssae import (
    amplify_objective,
    filter_objective,
)

# --- the objectives (eq. 1 and 4) ------------------------------------------------------------------------------


def naive_term(error: np.ndarray, weight: np.ndarray) -> float:
    """|W E|^2 / |W|_1 of one image, (C, H, W), from the definition of the norms."""
    square = total = 0.0
    for c, y, x in np.ndindex(error.shape):
        square += (weight[c, y, x] * error[c, y, x]) ** 2
        total += abs(weight[c, y, x])
    return square / total if total else 0.0


def objective_inputs(mask: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Repair, image, modified image and mask of a batch of two; the second mask is of the requested kind."""
    repair, image, modified = (drawn(2, 3, 3, 4, seed=seed) for seed in range(3))
    masks = drawn(2, 1, 3, 4, seed=3)
    if mask == "binary":
        masks = masks.round()
    if mask == "empty":
        masks[1] = 0.0
    if mask == "whole":
        masks[1] = 1.0
    return repair, image, modified.where(masks > 0, image), masks


@pytest.mark.parametrize("balance", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("mask", ["real", "binary", "empty", "whole"])
def test_objectives_equal_their_definitions(mask: str, balance: float) -> None:
    repair, image, modified, masks = objective_inputs(mask)
    error, m = (repair - image).double().numpy(), masks.double().expand_as(image).numpy()
    w = (image - modified).abs().double().numpy()
    keep, fix, amplify = (
        np.mean([naive_term(error[number], weight[number]) for number in range(2)]) for weight in (1 - m, m, w)
    )
    objective_1, objective_4 = (
        filter_objective(repair, image, masks, balance),
        amplify_objective(repair, image, modified, masks, balance),
    )
    assert {name: value.item() for name, value in objective_1.items()} == pytest.approx(
        {"keep": (1 - balance) * keep, "repair": balance * fix}, rel=1e-5
    )
    assert {name: value.item() for name, value in objective_4.items()} == pytest.approx(
        {"keep": (1 - balance) * keep, "amplify": -balance * amplify}, rel=1e-5
    )


def test_objective_4_rewards_error_where_the_image_was_changed_and_only_there() -> None:
    image = torch.full((1, 3, 1, 3), 0.5)
    modified, mask = image.clone(), torch.tensor([0.0, 1.0, 1.0]).view(1, 1, 1, 3)
    modified[..., 2] = 0.9  # masked: the middle pixel, where nothing changed, and the last, where something did
    repair = torch.full_like(image, 0.6).requires_grad_()
    losses = amplify_objective(repair, image, modified, mask, 0.5)
    assert losses["amplify"] < 0
    torch.stack(list(losses.values())).sum().backward()
    assert repair.grad is not None
    kept, unchanged, changed = repair.grad.unbind(3)
    assert bool((kept > 0).all())
    assert bool((unchanged == 0).all())
    assert bool((changed < 0).all())
