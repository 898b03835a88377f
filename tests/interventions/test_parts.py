"""Which weights make a unit: those whose change moves this unit, found by perturbing every tensor."""

import pytest
import torch
from torch import nn

from memlight.errors import UserError
from memlight.features.hooks import capture
from memlight.interventions.parts import prunable_layers, unit_entries, unit_weights
from memlight.models.encoders import build_encoder
from tests.interventions.nets import Odd, Residual, randomised
from tests.tiny_net import assert_unchanged, snapshot

SIZE = 8


@pytest.mark.parametrize(
    ("encoder", "layers", "example"),
    [
        ("resnet9", [f"layer{n}" for n in range(1, 9)], ("layer3", "layer3.conv", "layer3.norm")),
        ("vit_tiny_patch16", None, ("blocks.3.mlp.act", "blocks.3.mlp.fc1", None)),
        ("vit_tiny_patch16", None, ("blocks.11.attn", "blocks.11.attn.proj", None)),
        ("resnet18", None, ("layer3.1.conv2", "layer3.1.conv2", "layer3.1.bn2")),
        ("timm:resnet18", None, ("layer2.0.downsample.0", "layer2.0.downsample.0", "layer2.0.downsample.1")),
    ],
)
def test_known_architectures(encoder: str, layers: list[str] | None, example: tuple[str, str, str | None]) -> None:
    model = build_encoder(encoder, stem="cifar" if encoder == "resnet18" else "imagenet", image_size=32, seed=0)
    before = snapshot(model)
    found = prunable_layers(model)
    layer, *weights = example
    assert list(unit_weights(model, [layer])[layer]) == weights
    assert layer in found
    assert layers is None or found == layers
    assert_unchanged(model, before)


def test_attention_of_torchvision_runs_no_module_for_its_last_weights() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 4, stride=4)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.drop = nn.Dropout(0.1)

        def forward(self, x):
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            return self.drop(self.attention(tokens, tokens, tokens, need_weights=False)[0]) + tokens

    model = Attention()
    assert unit_weights(model, ["attention"], SIZE)["attention"] == ("attention.out_proj", None)
    assert unit_weights(model, ["drop"], SIZE)["drop"] == ("attention.out_proj", None)


def test_sums_in_place_gates_and_heads_are_refused_and_usable_layers_named() -> None:
    model = Residual()
    assert prunable_layers(model, SIZE) == ["stem", "block.conv1", "block.conv2"]
    for layer in ("block", "block.act2", "pool", "block.conv1@in"):
        with pytest.raises(
            UserError, match=rf"^layers='{layer}': its units are not rows.*: stem, block.conv1, block.conv2"
        ):
            unit_weights(model, [layer], SIZE)
    with pytest.raises(UserError, match=r"^layers='head': is the classifier's head"):
        unit_weights(model, ["head"], SIZE)
    with pytest.raises(UserError, match=r"^layers='no': no such layer"):
        unit_weights(model, ["no"], SIZE)
    odd = Odd()
    assert unit_weights(odd, ["depthwise", "wide", "narrow", "squash", "late", "plain"], SIZE) == {
        "depthwise": ("depthwise", "layer_norm"),
        "wide": ("wide", None),
        "narrow": ("narrow", None),
        "squash": ("squash.0", None),
        "late": ("late.0", "late.2"),
        "plain": ("plain.0", "plain.1"),
    }
    with pytest.raises(UserError, match=r"^layers='act': its units are not rows"):
        unit_weights(odd, ["act"], SIZE)


@pytest.mark.parametrize("layer", ["stem", "block.conv1", "block.conv2"])
def test_entries_are_those_that_move_this_unit_and_no_other(layer: str) -> None:
    """Oracle: change one entry of one tensor at a time, and see which unit behind the norm answers."""
    model = randomised(Residual())
    weights = unit_weights(model, [layer], SIZE)[layer]
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))

    def behind_norm() -> torch.Tensor:
        with torch.no_grad(), capture(model, [str(weights.norm)], activation="abs") as captured:
            model(images)
            return captured[str(weights.norm)].clone()

    before = behind_norm()
    masks = unit_entries(model, {layer: [1, 3]}, SIZE)
    assert set(masks) == {
        name
        for name in model.state_dict()
        if name.startswith((f"{weights.producer}.", f"{weights.norm}.")) and "num_batches" not in name
    }
    for name, tensor in model.state_dict().items():
        if name not in masks:
            continue
        for row in range(len(tensor)):
            kept = tensor.clone()
            tensor[row] += 0.5
            moved = (behind_norm() != before).any(0).nonzero().flatten().tolist()
            tensor.copy_(kept)
            assert moved == [row], name
            assert masks[name][row].all() == masks[name][row].any() == (row in (1, 3)), name


def test_units_that_a_layer_does_not_have() -> None:
    with pytest.raises(UserError, match=r"^units: stem has units 0 to 5, not -1 to 2"):
        unit_entries(Residual(), {"stem": [-1, 2]}, SIZE)
    with pytest.raises(UserError, match=r"^units: stem has units 0 to 5, not 6 to 6"):
        unit_entries(Residual(), {"stem": [6]}, SIZE)
