"""SSAE: the network and the objectives of the paper, what good images decide, and the contract."""

from __future__ import annotations

from contract import MethodContract

from blemish.methods.base import Settings
from blemish.methods.ssae import SSAE, SSAESettings
from blemish.synthesis.corruption import CorruptionSettings
from blemish.synthesis.textures import TextureBank

TINY = SSAESettings(
    image_size_px=32,
    batch_size=4,
    widths=(6, 8),
    filters_per_dilation=3,
    dilations=(1, 2),
    n_stacks=2,
    corruption=CorruptionSettings(kinds=("elastic", "cut-out", "swap", "occlusion")),
    iterations=45,
    learning_rate=1e-3,
    ema_decay=0.9,
    validate_every=10,
    mean_px=3,
)


class TestContract(MethodContract):
    tiny = TINY

    def make(self, settings: Settings) -> SSAE:
        assert isinstance(settings, SSAESettings)
        return SSAE(settings, TextureBank.procedural((32, 32), n=6))
