from functools import partial

import pytest
import torch
from timm.layers import GluMlp, SwiGLU
from timm.models.cait import LayerScaleBlock
from timm.models.eva import EvaBlock
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import Block, ParallelScalingBlock, ParallelThingsBlock, ResPostBlock
from timm.models.xcit import XCABlock
from torch import nn
from torchvision.models import resnet18
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.models.vision_transformer import EncoderBlock

from memlight.features.discovery import evaluating, first_tensor, list_layers
from memlight.features.hooks import capture, count_units
from memlight.models.encoders import build_encoder
from tests.tiny_net import Toy, assert_unchanged, snapshot


class OneBlock(nn.Module):
    """A stem, four tokens through one block, and nothing else."""

    def __init__(self, block: nn.Module, size: tuple[int, ...] = (), as_map: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, 2)
        self.block = block
        self.size = size
        self.as_map = as_map

    def forward(self, x):
        x_BHWC = self.stem(x).permute(0, 2, 3, 1)
        x = self.block(x_BHWC if self.as_map else x_BHWC.flatten(1, 2), *self.size)
        return x.flatten(1, -2).mean(1)


def layers_of_block(block: nn.Module, size: tuple[int, ...] = ()) -> list[str]:
    stem, *inside = list_layers(OneBlock(block, size), image_size=4)
    assert stem == "stem"
    return inside


def test_layers_come_in_execution_order_without_head_unused_or_repeated_ones():
    assert list_layers(Toy(), image_size=8) == ["first", "second"]


def test_listing_and_counting_leave_the_model_bit_identical():
    model = Toy().train()
    model.norm.eval()
    before = snapshot(model)
    list_layers(model, image_size=8)
    count_units(model, ["first", "second"], image_size=8)
    assert_unchanged(model, before)


def test_a_forward_that_fails_leaves_no_hooks():
    model = Toy()
    before = snapshot(model)
    with pytest.raises(RuntimeError):
        list_layers(model, image_size=1)
    assert_unchanged(model, before)


def test_a_compiled_model_is_listed_too():
    model = Toy().eval()
    model.compile(backend="eager")
    assert list_layers(model, image_size=8) == ["first", "second"]


def test_residual_blocks_stand_after_their_convolutions():
    layers = list_layers(build_encoder("resnet18", seed=0))
    start = layers.index("layer2.0.conv1")

    assert layers[0] == "conv1" and layers[-1] == "layer4.1" and len(layers) == 28
    assert layers[start : start + 4] == [
        "layer2.0.conv1",
        "layer2.0.conv2",
        "layer2.0.downsample.0",
        "layer2.0",
    ]


def test_a_plain_torchvision_model_loses_its_classifier_only():
    layers = list_layers(resnet18(), image_size=32)
    assert "fc" not in layers and layers[-1] == "layer4.1"


def test_a_model_without_a_known_size_asks_for_it():
    with pytest.raises(ValueError, match="image_size"):
        list_layers(Toy())


def test_modules_whose_first_axis_is_not_the_batch_are_left_out():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            return self.inner(x.permute(0, 2, 3, 1).reshape(-1, 4, 3)).sum((1, 2))

    assert list_layers(Windows(), image_size=4) == []


FIVE = ["block.attn", "block.norm2@in", "block.mlp.act", "block.mlp", "block"]
GATED = ["block.attn", "block.norm2@in", "block.mlp.fc2@in", "block.mlp", "block"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, FIVE),
        ({"init_values": 1e-5, "drop_path": 0.5, "proj_drop": 0.5}, FIVE),
        ({"act_layer": partial(nn.ReLU, inplace=True)}, FIVE),
        ({"scale_mlp_norm": True}, [*FIVE[:2], "block.mlp.norm", *FIVE[3:]]),
        ({"mlp_layer": GluMlp}, GATED),
        ({"mlp_layer": SwiGLU}, GATED),
    ],
    ids=["plain", "layer scale", "in-place", "scaled hidden", "glu", "swiglu"],
)
def test_a_transformer_block_gives_its_five_layers(options, expected):
    assert layers_of_block(Block(8, 2, **options)) == expected


@pytest.mark.parametrize(
    ("block", "size", "expected"),
    [
        (ResPostBlock(8, 2), (), ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", ""]),
        (ParallelScalingBlock(8, 2), (), ["attn_out_proj", "mlp_out_proj", ""]),
        (
            ParallelThingsBlock(8, 2, num_parallel=1),
            (),
            ["attns.0.attn.qkv", "attns.0.attn.proj", "ffns.0.mlp.fc1", "ffns.0.mlp.fc2", ""],
        ),
        (
            XCABlock(8, 2),
            (2, 2),
            ["attn.qkv", "attn.proj", "local_mp.conv1", "local_mp.conv2", "mlp.fc1", "mlp.fc2", ""],
        ),
    ],
    ids=["norms behind", "one projection", "in parallel", "three sub-layers"],
)
def test_a_block_of_another_order_is_not_taken_for_one(block, size, expected):
    # Older releases of timm read the weight of in_proj without calling the module.
    found = [name for name in layers_of_block(block, size) if name != "block.in_proj"]
    assert found == [f"block.{name}".rstrip(".") for name in expected]


SMALL_SWIN = {"img_size": 32, "patch_size": 4, "embed_dim": 8, "depths": (2, 1), "num_heads": (2, 2), "window_size": 4}


@pytest.mark.parametrize(
    ("build", "of_first_block", "of_last_block"),
    [
        (SwinTransformer, ["norm2@in", "mlp.act", "mlp", ""], FIVE),
        (SwinTransformerV2, ["mlp.fc1", "mlp.fc2", ""], ["attn.proj", "mlp.fc1", "mlp.fc2", ""]),
    ],
)
def test_attention_within_windows_is_left_out_until_one_window_is_the_image(build, of_first_block, of_last_block):
    model = build(**SMALL_SWIN, num_classes=0)
    layers = list_layers(model, image_size=32)
    last = [name.removeprefix("block").removeprefix(".") for name in of_last_block]

    assert [layer for layer in layers if layer.startswith("layers.0.blocks.0")] == [
        f"layers.0.blocks.0.{name}".rstrip(".") for name in of_first_block
    ]
    assert [layer for layer in layers if layer.startswith("layers.1.blocks.0")] == [
        f"layers.1.blocks.0.{name}".rstrip(".") for name in last
    ]
    units = count_units(model, layers, image_size=32)
    assert {units[layer] for layer in layers if layer.startswith("layers.0")} == {8, 32}
    assert {units[layer] for layer in layers if layer.startswith("layers.1")} == {16, 64}


class Reordered(nn.Module):
    """The parts of a transformer block, put together in another way."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attn, self.mlp = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
        self.order = order

    def forward(self, x):
        if self.order == "no sum after attention":
            return x + self.mlp(self.norm2(self.attn(self.norm1(x))))
        if self.order == "no sum after mlp":
            x = x + self.attn(self.norm1(x))
            return self.mlp(self.norm2(x))
        if self.order == "parallel":
            return x + self.attn(self.norm1(x)) + self.mlp(self.norm2(x))
        if self.order == "mlp first":
            x = x + self.mlp(self.norm2(x))
            return x + self.attn(self.norm1(x))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x) + 1) if self.order == "fed by more" else x + self.mlp(self.norm2(x))


@pytest.mark.parametrize(
    "order", ["no sum after attention", "no sum after mlp", "parallel", "mlp first", "fed by more", "usual"]
)
def test_only_the_usual_order_of_calls_makes_a_block(order):
    found = layers_of_block(Reordered(order))
    if order == "usual":
        assert found == ["block.attn", "block.norm2@in", "block.mlp.1", "block.mlp", "block"]
    else:
        assert sorted(found) == ["block.attn", "block.mlp.0", "block.mlp.2"]


def test_a_stage_that_changes_width_projects_its_shortcut_and_is_still_a_block():
    class Widening(Reordered):
        def __init__(self) -> None:
            super().__init__("usual")
            self.attn, self.shortcut = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            x = self.shortcut(x) + self.attn(self.norm1(x))
            return x + self.mlp(self.norm2(x))

    assert layers_of_block(Widening()) == [
        *("block.shortcut", "block.attn", "block.norm2@in"),
        *("block.mlp.1", "block.mlp", "block"),
    ]


@pytest.mark.parametrize(
    ("block", "as_map", "attention", "norm"),
    [
        (lambda: Block(8, 2), False, "attn", "norm2"),
        (lambda: Block(8, 2, init_values=0.5), False, "attn", "norm2"),
        (lambda: EvaBlock(8, 2, init_values=0.5), False, "attn", "norm2"),
        (lambda: LayerScaleBlock(8, 2, init_values=0.5), False, "attn", "norm2"),
        (lambda: EncoderBlock(2, 8, 16, 0.0, 0.0), False, "self_attention", "ln_2"),
        (lambda: SwinTransformerBlock(8, 2, [1, 1], [0, 0]), True, "attn", "norm2"),
    ],
    ids=["ViT", "DINOv2", "DINOv3", "CaiT", "torchvision's ViT", "torchvision's Swin"],
)
def test_the_sums_are_what_their_names_say(block, as_map, attention, norm):
    torch.manual_seed(0)
    model = OneBlock(block(), as_map=as_map).eval()
    wanted = ["block@in", f"block.{attention}", f"block.{norm}@in", "block.mlp", "block"]
    assert set(wanted[1:]) <= set(list_layers(model, image_size=4))

    scales = [weight for name, weight in model.named_parameters() if "gamma" in name]
    for scale in scales:
        nn.init.uniform_(scale, 0.5, 1.5)
    first, second = scales or [1, 1]
    with torch.no_grad(), capture(model, wanted, reduce="none") as out:
        model(torch.randn(3, 3, 4, 4))
    into, att, after_att, mlp, after_mlp = (out[layer] for layer in wanted)

    assert not torch.allclose(after_att, into, atol=1e-3) and not torch.allclose(after_mlp, after_att, atol=1e-3)
    torch.testing.assert_close(after_att, into + first * att)
    torch.testing.assert_close(after_mlp, after_att + second * mlp)


def test_the_hidden_layer_is_what_the_last_linear_gets():
    for mlp_layer in (None, GluMlp, SwiGLU):
        torch.manual_seed(0)
        block = Block(8, 2, act_layer=partial(nn.ReLU, inplace=True), **({"mlp_layer": mlp_layer} if mlp_layer else {}))
        model = OneBlock(block).eval()
        hidden = list_layers(model, image_size=4)[3]
        x = torch.randn(3, 3, 4, 4)
        with torch.no_grad(), capture(model, [hidden, "block.mlp"], reduce="none") as out:
            model(x)
        torch.testing.assert_close(block.mlp.fc2(out[hidden]), out["block.mlp"])
        assert mlp_layer or (out[hidden].min() == 0 < out[hidden].max())


def test_first_tensor_looks_into_containers():
    a, b = torch.zeros(1), torch.zeros(2)
    assert first_tensor(a) is a
    assert first_tensor((None, {"x": [b]}, a)) is b
    assert first_tensor(((), {"query": a})) is a
    assert first_tensor(("text", None, 3)) is None


def test_evaluating_restores_each_modules_own_mode():
    model = Toy().train()
    model.norm.eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(RuntimeError, match="stop"), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError("stop")
    assert [module.training for module in model.modules()] == modes


def test_a_model_with_an_attribute_of_that_name_still_loses_its_classifier():
    class Net(Toy):
        spec = "anything"

    assert list_layers(Net(), image_size=8) == ["first", "second"]
