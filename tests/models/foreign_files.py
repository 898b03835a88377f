"""Small networks and files of other programs, shared by the tests of foreign weights."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from memlight.errors import UserError
from memlight.models.encoders import EncoderSpec
from memlight.models.foreign import Loaded, load_weights

State = dict[str, Tensor]


def spread(network: nn.Module, seed: int = 1) -> nn.Module:
    """The network with every tensor drawn anew, so that no two of them are alike and none has its initial value."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.1 + 0.01)
    return network.eval()


def with_spec(network: nn.Module, name: str, side: int = 32) -> nn.Module:
    made: Any = network
    made.spec = EncoderSpec(name, "imagenet", 3, 16, side)
    return network


def vit(name: str = "small_vit", **options: Any) -> Any:
    """A ViT of timm's class, small."""
    shape = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 0}
    network: Any = VisionTransformer(**shape | options)
    return with_spec(network, name, network.patch_embed.img_size[0])


def under(prefix: str, state: Mapping[str, Tensor], *without: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items() if not name.startswith(without or "\0")}


def load(encoder: nn.Module, saved: Any, tmp_path: Path, prefix: str | None = None, **options: Any) -> Loaded:
    path = tmp_path / "weights.pth"
    torch.save(saved, path)
    return load_weights(encoder, path, prefix=prefix, **options)


def refused(encoder: nn.Module, saved: Any, tmp_path: Path, prefix: str | None = None, **options: Any) -> str:
    """The error, after which the encoder is as it was."""
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load(encoder, saved, tmp_path, prefix, **options)
    assert_equal(encoder, before)
    text = str(caught.value)
    assert text.startswith(f"path={tmp_path / 'weights.pth'}: ") and "\n" not in text
    return text


def assert_computes(encoder: nn.Module, theirs: Callable[[Tensor], Tensor], side: int = 32, channels: int = 3) -> None:
    assert not any(module.training for module in encoder.modules())
    views = torch.rand(2, channels, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = theirs(views)
        assert wanted.std() > 0
        torch.testing.assert_close(encoder(views).flatten(1), wanted.flatten(1))


def assert_equal(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, state[name]), name
