"""The encoder of VAR's VQVAE: names and sizes of the published weights, and what it computes, written out plainly."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from memlight.errors import UserError
from memlight.features.discovery import list_layers
from memlight.features.hooks import capture, count_units
from memlight.interventions.exchange import exchange_layers
from memlight.interventions.parts import unit_weights
from memlight.models.encoders import build_encoder, encoder_spec
from memlight.models.foreign import load_weights
from memlight.models.vqvae import Attention, VQVAEEncoder, save_published
from memlight.models.weight_files import read_record

SIDE = 32
MULTIPLIERS = (1, 1, 2, 2, 4)

LAYERS = [
    "conv.in",
    *("down.0.block.0", "down.0.block.1", "down.0.downsample"),
    *("down.1.block.0", "down.1.block.1", "down.1.downsample"),
    *("down.2.block.0", "down.2.block.1", "down.2.downsample"),
    *("down.3.block.0", "down.3.block.1", "down.3.downsample"),
    *("down.4.block.0", "down.4.attn.0", "down.4.block.1", "down.4.attn.1"),
    *("mid.block.1", "mid.attn.1", "mid.block.2", "norm.out", "conv.out"),
]
UNITS = [160] * 7 + [320] * 6 + [640] * 8 + [32]


def small(seed: int = 0) -> VQVAEEncoder:
    """32 channels wide, every tensor random, norms and biases too."""
    encoder = build_encoder("var_vqvae_ch32", seed=seed, image_size=SIDE).eval()
    assert isinstance(encoder, VQVAEEncoder)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in encoder.state_dict().items():
        if tensor.ndim == 1:
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.1 + name.endswith("weight"))
    return encoder


def images(count: int = 2, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def published_tensors(channels: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes in the published file, without ``encoder.``."""
    found: dict[str, tuple[int, ...]] = {}

    def conv(name: str, width_in: int, width: int, kernel: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (width, width_in, kernel, kernel), (width,)

    def norm(name: str, width: int) -> None:
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)

    def block(name: str, width_in: int, width: int) -> None:
        norm(f"{name}.norm1", width_in)
        conv(f"{name}.conv1", width_in, width, 3)
        norm(f"{name}.norm2", width)
        conv(f"{name}.conv2", width, width, 3)
        if width_in != width:
            conv(f"{name}.nin_shortcut", width_in, width, 1)

    def attention(name: str, width: int) -> None:
        norm(f"{name}.norm", width)
        conv(f"{name}.qkv", width, 3 * width, 1)
        conv(f"{name}.proj_out", width, width, 1)

    conv("conv_in", 3, channels, 3)
    before = channels
    for level, multiplier in enumerate(MULTIPLIERS):
        width = channels * multiplier
        block(f"down.{level}.block.0", before, width)
        block(f"down.{level}.block.1", width, width)
        if level == 4:
            attention("down.4.attn.0", width)
            attention("down.4.attn.1", width)
        else:
            conv(f"down.{level}.downsample.conv", width, width, 3)
        before = width
    block("mid.block_1", before, before)
    attention("mid.attn_1", before)
    block("mid.block_2", before, before)
    norm("norm_out", before)
    conv("conv_out", before, 32, 3)
    return found


def test_tensors_layers_and_units_are_those_of_the_published_encoder():
    with torch.device("meta"):
        encoder = build_encoder("var_vqvae")
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    layers = list_layers(encoder)
    units = count_units(encoder, layers, image_size=SIDE)

    assert shapes == published_tensors(160)
    assert len(shapes) == 132 and sum(p.numel() for p in encoder.parameters()) == 44_107_872
    assert layers == LAYERS and len(layers) == 22
    assert list(units.values()) == UNITS and sum(units.values()) == 8192
    assert encoder_spec(encoder).input_size == 256 and encoder_spec(encoder).num_features == 32


def plain(state: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
    """Every layer's output on images, from nothing but convolutions, sums and exponentials."""

    def conv(name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return functional.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride, padding=padding)

    def norm(name: str, x: Tensor) -> Tensor:
        groups = x.reshape(len(x), 32, -1)
        centred = groups - groups.mean(-1, keepdim=True)
        scaled = (centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()).reshape(x.shape)
        return scaled * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]

    def swish(x: Tensor) -> Tensor:
        return x / (1 + (-x).exp())

    def block(name: str, x: Tensor) -> Tensor:
        h = conv(f"{name}.conv1", swish(norm(f"{name}.norm1", x)), padding=1)
        h = conv(f"{name}.conv2", swish(norm(f"{name}.norm2", h)), padding=1)
        return h + (conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in state else x)

    def attention(name: str, x: Tensor) -> Tensor:
        channels = x.shape[1]
        qkv = conv(f"{name}.qkv", norm(f"{name}.norm", x))
        attended = torch.zeros_like(x)
        for image in range(len(x)):
            q, k, v = (qkv[image, part * channels : (part + 1) * channels].flatten(1) for part in range(3))
            for place in range(q.shape[1]):
                weights = ((q[:, place, None] * k).sum(0) / channels**0.5).exp()
                attended[image].flatten(1)[:, place] = (v * weights / weights.sum()).sum(1)
        return x + conv(f"{name}.proj_out", attended)

    out = {"conv.in": (x := conv("conv_in", x, padding=1))}
    for level in range(5):
        for number in range(2):
            out[name] = x = block(name := f"down.{level}.block.{number}", x)
            if level == 4:
                out[name] = x = attention(name := f"down.{level}.attn.{number}", x)
        if level < 4:
            wider = torch.zeros(*x.shape[:2], x.shape[2] + 1, x.shape[3] + 1)
            wider[:, :, :-1, :-1] = x
            out[f"down.{level}.downsample"] = x = conv(f"down.{level}.downsample.conv", wider, stride=2)
    for part, layer in (("block", block), ("attn", attention), ("block", block)):
        number = 2 if f"mid.{part}.1" in out else 1
        out[f"mid.{part}.{number}"] = x = layer(f"mid.{part}_{number}", x)
    out["norm.out"] = x = norm("norm_out", x)
    out["norm.out@act"] = x = swish(x)
    out["conv.out"] = conv("conv_out", x, padding=1)
    return out


def test_every_layer_computes_what_is_written_out_plainly_and_in_this_order():
    encoder, views = small(), images()
    expected = plain(encoder.state_dict(), views)
    with torch.no_grad(), capture(encoder, list(expected), reduce="none") as captured:
        features = encoder(views)

    assert [layer for layer in expected if layer != "norm.out@act"] == LAYERS
    assert list(captured) == list(expected)  # filled in the order in which they ran
    for layer, value in expected.items():
        torch.testing.assert_close(captured[layer], value, rtol=1e-4, atol=1e-4, msg=layer)
    torch.testing.assert_close(features, expected["conv.out"].mean((2, 3)), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(encoder.latents(views), captured["conv.out"])


def test_absolute_activations_of_units_are_means_over_positions_before_and_after_the_activation():
    encoder, views = small(), images()
    layers = ["conv.in", "down.4.attn.0", "norm.out", "norm.out@act", "conv.out"]
    expected = plain(encoder.state_dict(), views)
    with torch.no_grad(), capture(encoder, layers, activation="abs") as captured:
        encoder(views)
    for layer in layers:
        torch.testing.assert_close(captured[layer], expected[layer].abs().mean((2, 3)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(captured["norm.out"], captured["norm.out@act"], atol=0.05)


def test_a_layer_goes_by_its_module_path_too():
    encoder, views = small(), images()
    with torch.no_grad(), capture(encoder, ["mid.block.1", "mid.block_1", "norm_out", "norm.out"]) as captured:
        encoder(views)
    assert torch.equal(captured["mid.block.1"], captured["mid.block_1"])
    assert torch.equal(captured["norm.out"], captured["norm_out"])
    with (
        pytest.raises(UserError, match=r"^layers='norm.oux': no such layer; nearest: .*norm.out"),
        capture(encoder, ["norm.oux"]),
    ):
        pass


def test_weights_of_units_and_exchanged_layers_are_found_by_these_names():
    encoder, other = small(), small(seed=1)
    found = unit_weights(encoder, ["conv.in", "down.0.downsample", "conv.out"])
    assert [weights.producer for weights in found.values()] == ["conv_in", "down.0.downsample.conv", "conv_out"]
    changed = exchange_layers(encoder, other, ["mid.attn.1"]).state_dict()
    own, theirs = encoder.state_dict(), other.state_dict()
    for name, tensor in changed.items():
        assert torch.equal(tensor, theirs[name] if name.startswith("mid.attn_1.") else own[name]), name


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        (lambda encoder: encoder.to(memory_format=torch.channels_last), 1e-4),
        (lambda encoder: encoder.to(torch.bfloat16), 0.06),
        (lambda encoder: encoder.to(torch.bfloat16, memory_format=torch.channels_last), 0.06),
    ],
    ids=["channels_last", "bf16", "both"],
)
def test_other_formats_are_close(change: Callable[[nn.Module], nn.Module], tolerance: float):
    """Relative to the spread of each layer's values."""
    views = images()
    with torch.no_grad(), capture(encoder := small(), LAYERS, reduce="none") as exact:
        encoder(views)
    changed = change(small())
    with torch.no_grad(), capture(changed, LAYERS, reduce="none") as captured:
        changed(views.to(changed.conv_in.weight.dtype))
    for layer in LAYERS:
        error = (captured[layer].float() - exact[layer]).square().mean().sqrt() / exact[layer].std()
        assert error < tolerance, (layer, float(error))
    if changed.conv_in.weight.is_contiguous(memory_format=torch.channels_last):
        assert captured["mid.attn.1"].is_contiguous(memory_format=torch.channels_last)


def test_autocast_to_bfloat16_is_close():
    encoder, views = small(), images()
    with torch.no_grad():
        exact = encoder.latents(views)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            close = encoder.latents(views)
    assert close.dtype == torch.bfloat16 and (close - exact).square().mean().sqrt() < 0.06 * exact.std()


def test_attention_differentiates_as_its_formula():
    attention = Attention(32)
    x = torch.randn(2, 32, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    state = {f"a.{name}": tensor for name, tensor in attention.named_parameters()}
    q, k, v = (
        functional.conv2d(
            functional.group_norm(x, 32, state["a.norm.weight"], state["a.norm.bias"], 1e-6),
            state["a.qkv.weight"],
            state["a.qkv.bias"],
        )
        .flatten(2)
        .chunk(3, dim=1)
    )
    weights = (q.transpose(1, 2) @ k / 32**0.5).softmax(-1)
    attended = (v @ weights.transpose(1, 2)).reshape(x.shape)
    expected = x + functional.conv2d(attended, state["a.proj_out.weight"], state["a.proj_out.bias"])
    (wanted,) = torch.autograd.grad(expected.square().sum(), x)
    (given,) = torch.autograd.grad(attention(x).square().sum(), x)
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)


def test_it_trains():
    encoder = small().train()
    encoder.latents(images()).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    assert all(float(p.grad.abs().max()) > 0 for name, p in encoder.named_parameters() if name.endswith("weight"))


def published_file(encoder: nn.Module) -> dict[str, Tensor]:
    """Laid out like vae_ch160v4096z32.pth: decoder and quantiser beside the encoder, some of their names the same."""
    decoder = {"conv_in.weight": (128, 32, 3, 3), "mid.block_1.norm1.weight": (128,), "norm_out.weight": (32,)}
    rest = {"quantize.embedding.weight": (64, 32), "quant_conv.weight": (32, 32, 3, 3), "quant_conv.bias": (32,)}
    others = {f"decoder.{name}": shape for name, shape in decoder.items()} | rest
    return {
        **{f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()},
        **{name: torch.ones(shape) for name, shape in others.items()},
    }


def test_the_published_file_fills_it_and_decoder_and_quantiser_are_left_out(tmp_path: Path):
    theirs, encoder = small(seed=1), build_encoder("var_vqvae_ch32", seed=0, image_size=SIDE)
    torch.save(published_file(theirs), tmp_path / "vae.pth")
    loaded = load_weights(encoder, tmp_path / "vae.pth")

    assert loaded.words == "132 tensors from encoder; left out: decoder (3), quantize (1), quant_conv (2)"
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda file: file.pop("encoder.mid.attn_1.qkv.bias"), "missing: mid"),
        (lambda file: file.update({"encoder.mid.attn_2.qkv.bias": torch.ones(1)}), "unexpected: mid"),
        (lambda file: file.update({"encoder.conv_out.bias": torch.ones(64)}), "other shape: conv_out"),
    ],
)
def test_loading_is_strict(change: Callable[[dict[str, Tensor]], object], words: str, tmp_path: Path):
    file = published_file(small(seed=1))
    change(file)
    torch.save(file, tmp_path / "vae.pth")
    encoder = small()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(UserError, match=words):
        load_weights(encoder, tmp_path / "vae.pth")
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_own_weights_in_the_published_format_say_what_they_were_trained_on(tmp_path: Path):
    path = tmp_path / "own.pth"
    save_published(path, small(seed=1), trained_on="nothing: random weights")
    file = torch.load(path, weights_only=True)

    assert {name for name in file if name != "memlight"} == {f"encoder.{name}" for name in published_tensors(32)}
    assert read_record(path, "memlight") == {"trained_on": "nothing: random weights"}
    assert load_weights(small(), path).words == "132 tensors from encoder"


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("var_vqvae_ch40", 32, "32 groups; use a multiple, as var_vqvae_ch32"),
        ("var_vqvae_ch32", 8, "too small to be halved four times; use `image_size` 16"),
        ("var_vqvae_32", 32, "no such encoder; nearest: var_vqvae"),
    ],
)
def test_what_cannot_be_built_says_what_can(name: str, size: int, words: str):
    with pytest.raises(UserError, match=words):
        build_encoder(name, image_size=size)


@pytest.mark.parametrize("size", [16, 20, 48])
def test_image_sizes(size: int):
    encoder = small()
    with torch.no_grad():
        latents = encoder.latents(torch.zeros(1, 3, size, size))
    assert latents.shape == (1, 32, size // 16, size // 16)


def test_other_levels_and_widths_from_arguments():
    encoder = VQVAEEncoder(32, (1, 2), blocks=1, latent_channels=4, in_channels=1, image_size=8)
    assert encoder.layer_names == (
        *("conv.in", "down.0.block.0", "down.0.downsample", "down.1.block.0", "down.1.attn.0"),
        *("mid.block.1", "mid.attn.1", "mid.block.2", "norm.out", "conv.out"),
    )
    with torch.no_grad():
        assert encoder(torch.zeros(2, 1, 8, 8)).shape == (2, 4)
        assert encoder.latents(torch.zeros(2, 1, 8, 8)).shape == (2, 4, 4, 4)


def test_a_forward_of_the_published_size_holds_few_images():
    with torch.device("meta"):
        assert VQVAEEncoder().max_forward == 25  # maps of 160 x 256 x 256 in a gigabyte
        assert VQVAEEncoder(32, image_size=64).max_forward == 2048
