"""The authors' weights, converted, against their networks written down from the tensors of their files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from authors_states import State, Weights, codebook_state, draem_states, dsr_states
from blemish.errors import BlemishError
from blemish.methods.authors_weights import DSR_PARTS, convert_codebook, convert_draem, convert_dsr
from blemish.methods.draem import DRAEM, DRAEMSettings
from blemish.methods.dsr import DSR, DSRSettings
from blemish.methods.dsr.codebook import load_codebook, save_codebook

# --- their forward pass, by tensor names -----------------------------------------------------------------------


def convolved(state: State, name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = state[f"{name}.weight"]
    padding = {1: 0, 3: 1, 4: 1}[weight.shape[-1]]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, padding)


def enlarged(state: State, name: str, x: Tensor) -> Tensor:
    return F.conv_transpose2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=2, padding=1)


def residual(state: State, name: str, x: Tensor) -> Tensor:
    for layer in (0, 1):
        x, block = x.relu(), f"{name}._layers.{layer}._block"
        x = x + convolved(state, f"{block}.3", convolved(state, f"{block}.1", x).relu())
    return x.relu()


def normalized(state: State, name: str, x: Tensor) -> Tensor:
    """Batch norm where there are tensors of one, else instance norm."""
    if f"{name}.weight" not in state:
        return F.instance_norm(x, eps=1e-5)
    statistics = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    return F.batch_norm(x, *statistics, state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-5)


def block(state: State, name: str, x: Tensor, layers: tuple[int, ...] = (0, 3)) -> Tensor:
    for layer in layers:
        x = normalized(state, f"{name}.{layer + 1}", convolved(state, f"{name}.{layer}", x)).relu()
    return x


def twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


def encoder_decoder(
    state: State, x: Tensor, names: tuple[str, str], n_blocks: int, steps: tuple[str, ...], skips: bool
) -> Tensor:
    """An encoder and a decoder, with or without skip connections."""
    encoder, decoder = names
    levels = []
    for number in range(1, n_blocks + 1):
        x = block(state, f"{encoder}.block{number}", x if number == 1 else F.max_pool2d(x, 2))
        levels.append(x)
    for step, level in zip(steps, reversed(levels[:-1]), strict=True):
        x = block(state, f"{decoder}.up{step}", twice(x), (1,))
        x = block(state, f"{decoder}.db{step}", torch.cat([x, level], 1) if skips else x)
    return convolved(state, f"{decoder}.fin_out.0", x)


def u_net(state: State, x: Tensor) -> Tensor:
    return encoder_decoder(state, x, ("unet.encoder", "unet.decoder"), 4, ("1", "2", "3"), True)


def restricted(state: State, x: Tensor) -> Tensor:
    return encoder_decoder(state, x, ("unet.encoder", "unet.decoder"), 3, ("2", "3"), False)


def codes_of(codebook: State, level: str, features: Tensor) -> Tensor:
    """(B, 128, h, w) to the indices of the nearest codes, (B, h, w)."""
    vectors, codes = features.permute(0, 2, 3, 1), codebook[f"{level}._embedding.weight"]
    distances = vectors.square().sum(-1, keepdim=True) + codes.square().sum(1) - 2 * vectors @ codes.T
    return distances.argmin(-1)


def looked_up(codebook: State, level: str, indices: Tensor) -> Tensor:
    return codebook[f"{level}._embedding.weight"][indices].permute(0, 3, 1, 2)


def general_decoder(codebook: State, low: Tensor, high: Tensor) -> Tensor:
    joined = torch.cat([enlarged(codebook, "upsample_t", low), high], 1)
    x = residual(codebook, "_decoder_b._residual_stack", convolved(codebook, "_decoder_b._conv_1", joined))
    return enlarged(codebook, "_decoder_b._conv_trans_2", enlarged(codebook, "_decoder_b._conv_trans_1", x).relu())


def specific_decoder(state: State, joined: Tensor) -> Tensor:
    x = F.max_pool2d(block(state, "block2", F.max_pool2d(block(state, "block1", joined), 2)), 2)
    x = convolved(state, "pre_vq_conv", x)
    x = enlarged(state, "upblock2", enlarged(state, "upblock1", x).relu()).relu()
    x = residual(state, "_residual_stack", convolved(state, "_conv_1", x))
    return enlarged(state, "_conv_trans_2", enlarged(state, "_conv_trans_1", x).relu())


def encoded(codebook: State, bgr: Tensor) -> dict[str, Tensor]:
    """Codes of both levels, and the features that they stand for."""
    x = convolved(codebook, "_encoder_b._conv_1", bgr, 2).relu()
    x = convolved(codebook, "_encoder_b._conv_3", convolved(codebook, "_encoder_b._conv_2", x, 2).relu())
    early = residual(codebook, "_encoder_b._residual_stack", x)
    x = convolved(codebook, "_encoder_t._conv_2", convolved(codebook, "_encoder_t._conv_1", early, 2).relu())
    low = convolved(codebook, "_pre_vq_conv_top", residual(codebook, "_encoder_t._residual_stack", x))
    codes_low = codes_of(codebook, "_vq_vae_top", low)
    upper = enlarged(codebook, "upsample_t", looked_up(codebook, "_vq_vae_top", codes_low))
    codes_high = codes_of(
        codebook, "_vq_vae_bot", convolved(codebook, "_pre_vq_conv_bot", torch.cat([early, upper], 1))
    )
    return {"codes_low": codes_low, "codes_high": codes_high}


def dsr_maps(codebook: State, states: dict[str, State], bgr: Tensor) -> dict[str, Tensor]:
    """All that DSR makes of images (B, 3, H, W) BGR in [0, 1]; I_gen and I_spc are BGR."""
    maps = encoded(codebook, bgr)
    low = looked_up(codebook, "_vq_vae_top", maps["codes_low"])
    high = looked_up(codebook, "_vq_vae_bot", maps["codes_high"])
    maps["I_gen"] = general_decoder(codebook, low, high)
    maps["restored_low"] = codes_of(codebook, "_vq_vae_top", restricted(states["subspace_restriction_lo"], low))
    maps["restored_high"] = codes_of(codebook, "_vq_vae_bot", restricted(states["subspace_restriction_hi"], high))
    restored_low = looked_up(codebook, "_vq_vae_top", maps["restored_low"])
    restored_high = looked_up(codebook, "_vq_vae_bot", maps["restored_high"])
    joined = torch.cat([enlarged(codebook, "upsample_t", restored_low), restored_high], 1)
    maps["I_spc"] = specific_decoder(states["image_recon_module"], joined)
    both = torch.cat([maps["I_spc"], maps["I_gen"]], 1)
    mask = u_net(states["anomaly_det_module"], both).softmax(1)
    maps["M"] = mask[:, 1:]
    maps["M_r"] = u_net(states["upsample_module"], torch.cat([both, mask], 1)).softmax(1)[:, 1:]
    maps["score"] = F.avg_pool2d(maps["M"], 21, stride=1, padding=10).amax((1, 2, 3))
    return maps


def draem_maps(reconstructive: State, discriminative: State, bgr: Tensor) -> dict[str, Tensor]:
    repaired = encoder_decoder(reconstructive, bgr, ("encoder", "decoder"), 5, ("1", "2", "3", "4"), False)
    names, steps = ("encoder_segment", "decoder_segment"), ("_b", "1", "2", "3", "4")
    mask = encoder_decoder(discriminative, torch.cat([repaired, bgr], 1), names, 6, steps, True).softmax(1)[:, 1:]
    score = F.avg_pool2d(mask, 21, stride=1, padding=10).amax((1, 2, 3))
    return {"repaired": repaired, "M": mask, "score": score}


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert theirs.ndim == 1 or theirs.std() > 0.005, "a constant would hide differences"


# --- conversions -----------------------------------------------------------------------------------------------


def written(folder: Path, states: dict[str, State]) -> dict[str, Path]:
    files = {part: folder / f"DSR_{part}_bottle.pckl" for part in states}
    for part, state in states.items():
        torch.save(state, files[part])
    return files


@pytest.fixture(scope="module")
def tiny_codebook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codebook") / "vq.pckl"
    torch.save(codebook_state(Weights(is_small_file=True)), path)
    return path


def tiny_dsr(folder: Path, **others: State) -> dict[str, Path]:
    """Files of full shape that take little space, some of them replaced."""
    return written(folder, dsr_states(Weights(is_small_file=True)) | others)


@torch.no_grad()
def test_dsr_makes_of_an_image_what_the_authors_networks_make(tmp_path: Path) -> None:
    weights = Weights(1)
    codebook, states = codebook_state(weights), dsr_states(weights)
    torch.save(codebook, tmp_path / "vq.pckl")
    method, unused = convert_dsr(written(tmp_path, states), convert_codebook(tmp_path / "vq.pckl"))
    assert not unused
    method.eval()
    images = F.interpolate(torch.rand(1, 3, 32, 32, generator=weights.generator).round(), scale_factor=4)
    theirs = dsr_maps(codebook, states, images.flip(1))

    early = method.vq.encoder_high(images)
    features_low = method.vq.features_low(early)
    codes_low = method.vq.codebook_low(features_low)
    low = method.vq.codebook_low.look_up(codes_low)
    codes_high = method.vq.codebook_high(method.vq.features_high(early, low))
    high = method.vq.codebook_high.look_up(codes_high)
    assert torch.equal(codes_low, theirs["codes_low"])
    assert torch.equal(codes_high, theirs["codes_high"])
    assert torch.equal(method.vq.codebook_low(method.restriction_low(low)), theirs["restored_low"])
    assert torch.equal(method.vq.codebook_high(method.restriction_high(high)), theirs["restored_high"])
    for name in ("codes_low", "codes_high", "restored_low", "restored_high"):
        assert len(theirs[name].unique()) > 10, f"{name}: too few different codes to tell them apart"

    specific, general = method._reconstruct(images)
    assert_equal(general.flip(1), theirs["I_gen"])
    assert_equal(specific.flip(1), theirs["I_spc"])
    assert_equal(method._detect(specific, general), theirs["M"])
    upsampled, score = method(images)
    assert_equal(upsampled, theirs["M_r"])
    assert_equal(score, theirs["score"])
    assert not torch.allclose(method(images.flip(1))[0], theirs["M_r"], atol=1e-3), "colours do not matter here"


def test_dsr_keeps_the_authors_codes_and_scale(tmp_path: Path) -> None:
    state = codebook_state(Weights(2))
    state["_vq_vae_top._embedding.weight"] *= 0.01
    torch.save(state, tmp_path / "vq.pckl")
    network = convert_codebook(tmp_path / "vq.pckl")
    assert torch.equal(network.codebook_low.codes, state["_vq_vae_top._embedding.weight"])
    assert torch.equal(network.codebook_high.codes, state["_vq_vae_bot._embedding.weight"])
    save_codebook(network, tmp_path / "codebook.safetensors", {}, torch.float32)
    again = load_codebook(tmp_path / "codebook.safetensors")
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in network.state_dict().items())


@torch.no_grad()
def test_the_codebook_alone_gives_the_authors_images(tmp_path: Path) -> None:
    weights = Weights(3)
    state, images = codebook_state(weights), torch.rand(2, 3, 32, 40, generator=weights.generator)
    torch.save(state, tmp_path / "vq.pckl")
    codes = encoded(state, images.flip(1))
    low, high = (
        looked_up(state, level, codes[name])
        for level, name in (("_vq_vae_top", "codes_low"), ("_vq_vae_bot", "codes_high"))
    )
    assert_equal(convert_codebook(tmp_path / "vq.pckl")(images), general_decoder(state, low, high).flip(1))


@torch.no_grad()
def test_draem_makes_of_an_image_what_the_authors_networks_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = {"reconstructive_widths": (4, 6, 8, 10, 10), "discriminative_widths": (3, 5, 7, 9, 9, 9)}
    monkeypatch.setitem(DRAEM.recipes, "paper", DRAEMSettings(**widths))
    weights = Weights(4)
    states = draem_states(weights, *widths.values())
    for state, name in zip(states, ("a.pckl", "a_seg.pckl"), strict=True):
        torch.save(state, tmp_path / name)
    method = convert_draem(tmp_path / "a.pckl", tmp_path / "a_seg.pckl").eval()
    images = torch.rand(2, 3, 64, 96, generator=weights.generator)
    theirs = draem_maps(*states, images.flip(1))
    repaired, anomaly_map = method._reconstruct_and_detect(images)
    assert repaired is not None
    assert_equal(repaired.flip(1), theirs["repaired"])
    assert_equal(anomaly_map, theirs["M"])
    assert_equal(method(images)[1], theirs["score"])


def test_shapes_are_those_of_the_authors_full_networks(tmp_path: Path, tiny_codebook: Path) -> None:
    states = dsr_states(Weights(is_small_file=True))
    sizes = {part: sum(tensor.numel() for tensor in state.values()) for part, state in states.items()}
    assert [round(sizes[part] / 1e6, 2) for part in DSR_PARTS] == [7.82, 7.82, 9.42, 5.61, 5.61]
    method, _ = convert_dsr(written(tmp_path, states), convert_codebook(tiny_codebook))
    n_codebook = sum(tensor.numel() for tensor in method.vq.state_dict().values())
    assert sum(tensor.numel() for tensor in method.state_dict().values()) == n_codebook + sum(sizes.values())
    assert all(tensor.device.type == "cpu" for tensor in method.state_dict().values())
    norms = [module for module in method.modules() if isinstance(module, nn.InstanceNorm2d)]
    assert norms
    assert not any(norm.affine or norm.track_running_stats for norm in norms)


def test_draem_has_as_many_numbers_as_the_authors_networks(tmp_path: Path) -> None:
    states = draem_states(Weights(is_small_file=True))
    names = ("weight", "bias")
    sizes = [sum(tensor.numel() for name, tensor in state.items() if name.endswith(names)) for state in states]
    assert [round(size / 1e6, 2) for size in sizes] == [69.05, 28.37]
    for state, path in zip(states, ("a.pckl", "a_seg.pckl"), strict=True):
        torch.save(state, tmp_path / path)
    method = convert_draem(tmp_path / "a.pckl", tmp_path / "a_seg.pckl")
    assert sum(parameter.numel() for parameter in method.parameters()) == sum(sizes)


def test_photographs_are_resized_as_in_the_authors_code(tmp_path: Path, tiny_codebook: Path) -> None:
    method, _ = convert_dsr(tiny_dsr(tmp_path), convert_codebook(tiny_codebook))
    assert (method.settings.image_size_px, method.settings.resizing) == (256, "bilinear")
    assert method.settings == DSR.recipes["paper"] == DSRSettings.from_dict(vars(method.settings))
    assert DRAEM.recipes["paper"].resizing == "bilinear"


def test_tensors_that_the_object_specific_decoder_does_not_use_are_named(tmp_path: Path, tiny_codebook: Path) -> None:
    states = dsr_states(Weights(is_small_file=True))
    spare = {"vq._embedding.weight": torch.rand(512, 64), "vq._ema_w": torch.rand(512, 64)}
    files = tiny_dsr(tmp_path, image_recon_module=states["image_recon_module"] | spare)
    assert convert_dsr(files, convert_codebook(tiny_codebook))[1] == list(spare)


# --- files that are refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "other", "message"),
    [
        (
            "image_recon_module",
            "upsample_module",
            "not DSR's object-specific decoder (24 of its 24 tensors are missing)",
        ),
        ("anomaly_det_module", "image_recon_module", "not DSR's anomaly detection module (36 of its 36 tensors are"),
        ("subspace_restriction_lo", "anomaly_det_module", "not DSR's subspace restriction module of the low level ("),
        ("anomaly_det_module", "upsample_module", "block1.0.weight is 64 x 8 x 3 x 3, should be 64 x 6 x 3 x 3)"),
    ],
)
def test_a_file_of_another_part_is_refused(
    part: str, other: str, message: str, tmp_path: Path, tiny_codebook: Path
) -> None:
    files = tiny_dsr(tmp_path, **{part: dsr_states(Weights(is_small_file=True))[other]})
    with pytest.raises(BlemishError, match=f"{part}_bottle.pckl: .*{re.escape(message)}.*; give the right one"):
        convert_dsr(files, convert_codebook(tiny_codebook))


@pytest.mark.parametrize("name", ["_residual_stack._layers.2._block.1.weight", "block1.1.running_mean"])
def test_a_larger_object_specific_decoder_is_refused(name: str, tmp_path: Path, tiny_codebook: Path) -> None:
    state = dsr_states(Weights(is_small_file=True))["image_recon_module"] | {name: torch.zeros(3)}
    with pytest.raises(BlemishError, match=f"{name} is none of its tensors"):
        convert_dsr(tiny_dsr(tmp_path, image_recon_module=state), convert_codebook(tiny_codebook))


def test_other_files_hold_nothing_else(tmp_path: Path) -> None:
    state = codebook_state(Weights(is_small_file=True))
    torch.save(state | {"vq.extra": torch.zeros(1)}, tmp_path / "vq.pckl")
    with pytest.raises(
        BlemishError, match=r"vq\.pckl: not DSR's VQ autoencoder \(vq\.extra is none of its tensors\)"
    ):
        convert_codebook(tmp_path / "vq.pckl")
    state.pop("upsample_t.bias")
    torch.save(state, tmp_path / "vq.pckl")
    with pytest.raises(BlemishError, match=r"not DSR's VQ autoencoder \(1 of its 36 tensors is missing\)"):
        convert_codebook(tmp_path / "vq.pckl")


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_file_cut_short_is_called_that(is_zip: bool, tmp_path: Path) -> None:
    path = tmp_path / "vq.pckl"
    torch.save(codebook_state(Weights(is_small_file=True)), path, _use_new_zipfile_serialization=is_zip)
    assert convert_codebook(path).codebook_low.codes.shape == (4096, 128)
    content = path.read_bytes()
    for n_bytes in (0, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:n_bytes])
        with pytest.raises(BlemishError, match=r"vq\.pckl: cut short; copy or download it again"):
            convert_codebook(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"a": torch.zeros(1)}}, r"holds more than a state dict; save only `model\.state_dict\(\)`"),
        ([torch.zeros(1)], "holds more than a state dict"),
        ({"a": Path("x")}, "cannot be read as plain weights"),
        (None, "no such file"),
    ],
)
def test_what_is_no_state_dict_is_refused(content: object, message: str, tmp_path: Path) -> None:
    if content is not None:
        torch.save(content, tmp_path / "vq.pckl")
    with pytest.raises(BlemishError, match=rf"vq\.pckl: {message}"):
        convert_codebook(tmp_path / "vq.pckl")


def test_nan_is_refused_and_a_folder_is_no_file(tmp_path: Path) -> None:
    state = codebook_state(Weights(is_small_file=True))
    torch.save(state | {"upsample_t.bias": torch.full((128,), float("nan"))}, tmp_path / "vq.pckl")
    with pytest.raises(BlemishError, match=r"vq\.pckl: damaged, upsample_t\.bias contains NaN"):
        convert_codebook(tmp_path / "vq.pckl")
    with pytest.raises(BlemishError, match="is no file; give the authors' state dict"):
        convert_codebook(tmp_path)
