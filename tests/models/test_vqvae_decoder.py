"""The decoder of VAR's VQVAE: size of the published one, and what it computes, written out plainly."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, group_norm, silu

from memlight.models.vqvae import VQVAEDecoder


def test_the_published_decoder_has_64_7_million_parameters_under_its_names() -> None:
    with torch.device("meta"):
        tensors = VQVAEDecoder().state_dict()
    assert sum(tensor.numel() for tensor in tensors.values()) == 64_653_923
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert shapes["conv_in.weight"] == (640, 32, 3, 3)
    assert shapes["up.3.block.0.nin_shortcut.weight"] == (320, 640, 1, 1)
    assert shapes["up.4.attn.2.qkv.weight"] == (1920, 640, 1, 1)
    assert shapes["up.1.upsample.conv.weight"] == (160, 160, 3, 3)
    assert shapes["conv_out.weight"] == (3, 160, 3, 3)
    assert not [name for name in shapes if name.startswith("up.0.upsample") or name.startswith("up.3.attn")]


def test_one_level_without_attention_is_what_it_says() -> None:
    torch.manual_seed(0)
    decoder = VQVAEDecoder(32, (1, 1), blocks=0, latent_channels=4)
    weights = decoder.state_dict()

    def conv(x: Tensor, name: str) -> Tensor:
        weight = weights[f"{name}.weight"]
        return conv2d(x, weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def normed(x: Tensor, name: str) -> Tensor:
        return group_norm(x, 32, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6)

    def block(x: Tensor, name: str) -> Tensor:
        h = conv(silu(normed(x, f"{name}.norm1")), f"{name}.conv1")
        return x + conv(silu(normed(h, f"{name}.norm2")), f"{name}.conv2")

    def attention(x: Tensor, name: str) -> Tensor:
        q, k, v = conv(normed(x, f"{name}.norm"), f"{name}.qkv").flatten(2).chunk(3, dim=1)  # (B, C, positions)
        weight = (q.transpose(1, 2) @ k / q.shape[1] ** 0.5).softmax(dim=2)
        return x + conv((weight @ v.transpose(1, 2)).transpose(1, 2).reshape(x.shape), f"{name}.proj_out")

    latents = torch.randn(2, 4, 3, 5)
    x = block(attention(block(conv(latents, "conv_in"), "mid.block_1"), "mid.attn_1"), "mid.block_2")
    x = attention(block(x, "up.1.block.0"), "up.1.attn.0")
    x = conv(x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3), "up.1.upsample.conv")
    x = conv(silu(normed(block(x, "up.0.block.0"), "norm_out")), "conv_out")
    with torch.no_grad():
        painted = decoder(latents)
    assert painted.shape == (2, 3, 6, 10)
    torch.testing.assert_close(painted, x, rtol=1e-4, atol=1e-5)
