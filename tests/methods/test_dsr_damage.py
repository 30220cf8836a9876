"""Simulated anomalies of DSR: replaced codes on one level or both, smudges in the image, grey photographs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from contract import INGREDIENTS, drawn
from tiny_dsr import TINY, damaged, dsr

from blemish.methods.dsr import DSR
from blemish.methods.dsr.damage import grey_where
from blemish.synthesis.pasted_textures import AnomalySettings
from blemish.synthesis.replaced_codes import LatentSettings


def test_half_of_the_anomalies_are_on_both_levels_and_masks_follow_the_level() -> None:
    _, _, damage = damaged(replace(TINY, anomaly_probability=1.0), n=400)
    low = (damage.damaged_low != damage.low).any(1, keepdim=True).float()
    high = (damage.damaged_high != damage.high).any(1, keepdim=True).float()
    is_low, is_high = low.flatten(1).any(1), high.flatten(1).any(1)
    any_mask = damage.masks.flatten(1).any(1)
    assert torch.equal(any_mask, is_low | is_high)
    n_damaged = any_mask.sum().item()
    assert n_damaged > 100, "too few damaged images for this test"
    for share, expected in (((is_low & is_high), 0.5), ((is_low & ~is_high), 0.25), ((~is_low & is_high), 0.25)):
        assert share.sum().item() / n_damaged == pytest.approx(expected, abs=0.1)
    for number in any_mask.nonzero()[:, 0].tolist():
        level, cell_px = (low, 8) if is_low[number] else (high, 4)
        cells = F.max_pool2d(damage.masks[number : number + 1], cell_px)
        assert torch.equal(cells, level[number : number + 1]), "every masked cell was replaced, and no other"
        enlarged = cells.repeat_interleave(cell_px, 2).repeat_interleave(cell_px, 3)
        assert torch.equal(enlarged, damage.masks[number : number + 1])


def test_half_of_the_images_stay_as_they_are() -> None:
    method, images, damage = damaged(TINY, n=300)
    is_clean = ~damage.masks.flatten(1).any(1)
    assert 0.5 <= is_clean.float().mean() < 0.75  # a mask may come out empty, too
    low, high = method.vq.encode(images)
    for before, after in ((low, damage.damaged_low), (high, damage.damaged_high)):
        torch.testing.assert_close(after[is_clean], before[is_clean], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(damage.low, low, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(damage.high, high, atol=1e-5, rtol=1e-5)


def test_no_masked_position_gets_one_of_the_nearest_codes() -> None:
    settings = replace(TINY, anomaly_probability=1.0, latent=LatentSettings(similarity_bound=0.25, min_reach=0.5))
    method, _, damage = damaged(settings)
    changed = (damage.damaged_low != damage.low).any(1)
    codes = method.vq.codebook_low.codes
    before = damage.low.permute(0, 2, 3, 1)[changed]
    after = damage.damaged_low.permute(0, 2, 3, 1)[changed]
    assert len(before) > 50, "too few changed codes for this test"
    rank = (torch.cdist(before, codes) < (before - after).norm(dim=1, keepdim=True) - 1e-5).sum(1)
    assert rank.min() >= 10  # a quarter of 40


def test_high_codes_follow_from_a_damaged_low_level() -> None:
    """Where both levels are damaged, Q_hi outside of the mask is what the encoder computes from the new Q_lo."""
    method, images, damage = damaged(replace(TINY, anomaly_probability=1.0), n=40)
    with torch.no_grad():
        early = method.vq.encoder_high(images)
        recomputed = method.vq.codebook_high.quantized(method.vq.features_high(early, damage.damaged_low))
    is_low = (damage.damaged_low != damage.low).flatten(1).any(1)
    is_high = (damage.damaged_high != damage.high).flatten(1).any(1)
    outside = F.max_pool2d(damage.masks, 4) == 0
    both, low_only = is_low & is_high, is_low & ~is_high
    assert both.any(), "no image for this test"
    assert low_only.any(), "no image for this test"
    difference = (damage.damaged_high - recomputed).abs().amax(1, keepdim=True)
    assert difference[both][outside[both]].max() < 1e-4
    assert torch.equal(damage.damaged_high[low_only], damage.high[low_only])


def test_smudges_are_in_the_image_and_their_masks_are_as_fine_as_pixels() -> None:
    method, images, damage = damaged(replace(TINY, smudged_share=0.5, anomaly_probability=1.0), n=40)
    codes, cells = damage.masks[20:], F.interpolate(F.max_pool2d(damage.masks, 4), scale_factor=4.0)
    assert torch.equal(cells[20:], codes), "the second half has replaced codes, whose masks are of whole cells"
    smudged = damage.masks[:20].flatten(1).any(1)
    assert smudged.any()
    assert not torch.equal(cells[:20], damage.masks[:20])
    with torch.no_grad():
        low, high = method.vq.encode(images)
    torch.testing.assert_close((damage.low, damage.high), (low, high), atol=1e-5, rtol=1e-5)
    changed = (damage.damaged_low[:20] != damage.low[:20]).flatten(1).any(1)
    assert torch.equal(changed | smudged, smudged), "an image without a smudge keeps its codes"
    assert changed.any()


def test_half_of_the_smudged_images_stay_as_they_are() -> None:
    settings = replace(TINY, smudged_share=1.0, smudges=AnomalySettings(source="colours", probability=1.0))
    _, _, damage = damaged(settings, n=200)
    assert 0.4 <= damage.masks.flatten(1).any(1).float().mean() < 0.6, (
        "anomaly_probability decides, not that of stage 3"
    )


def test_only_pictures_of_grey_images_lose_their_colour() -> None:
    images, pictures = drawn(3, 3, 8, 8), drawn(3, 3, 8, 8, seed=1)
    images[0], images[2] = images[0, :1], images[2, :1]
    images[2, 0, 3, 3] += 1.0 / 255.0  # a single pixel has a colour
    got = grey_where(images, pictures)
    assert torch.equal(got[1:], pictures[1:])
    torch.testing.assert_close(got[0], pictures[0].mean(0).expand(3, 8, 8))


def test_grey_photographs_are_reconstructed_and_damaged_without_colour() -> None:
    """With the codebook that is shipped: a random one decodes to what is cut off at 0."""
    settings = replace(TINY, restriction="residual", image_weight=0.0, anomaly_probability=1.0)
    method = DSR(replace(settings, keep_grey=True, smudged_share=1.0)).eval()
    grey = drawn(4, 1, 32, 32).expand(4, 3, 32, 32)
    for images, has_colour in ((grey, False), (drawn(4, 3, 32, 32), True)):
        pictures = method.explain(images) | method.damage(images, INGREDIENTS, torch.Generator().manual_seed(0))[0]
        for name, picture in pictures.items():
            assert bool((picture[:, 0] != picture[:, 1]).any()) == has_colour, name
    seen: list[torch.Tensor] = []
    method.vq.encoder_high.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method._damage(grey, None, torch.Generator().manual_seed(0))
    assert not torch.equal(seen[1], grey), "smudged"
    assert torch.equal(seen[1][:, 0], seen[1][:, 1])


def test_without_it_a_grey_photograph_is_treated_as_any_other() -> None:
    grey = drawn(2, 1, 32, 32).expand(2, 3, 32, 32)
    general = dsr().eval().explain(grey)["general"]
    assert (general[:, 0] != general[:, 1]).any()
