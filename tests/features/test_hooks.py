import math

import pytest
import torch
from timm.layers import LayerNorm2d, Mlp
from torch import nn
from torchvision.models import VisionTransformer

from memlight.errors import UserError
from memlight.features.hooks import capture, check_finite, count_units
from memlight.models.encoders import build_encoder
from tests.tiny_net import Toy, assert_unchanged, snapshot


class Tokens(nn.Module):
    """One class token and four patch tokens, and a map in the order (B, H, W, C)."""

    num_prefix_tokens = 1

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 6)
        self.norm = nn.LayerNorm(6)
        self.map = nn.Linear(3, 6)

    def forward(self, x):
        map_BHWC = self.map(x.permute(0, 2, 3, 1))
        tokens_BTC = map_BHWC.flatten(1, 2)[:, :5]
        return self.norm(tokens_BTC + self.embed(x.flatten(2).transpose(1, 2))[:, :5]).mean(1)


def unit_oracle(x, activation):
    """(B, U) by plain loops in float64 over a (B, C, H, W) tensor."""
    act = {"abs": abs, "relu": lambda v: max(v, 0.0)}.get(activation, lambda v: v)
    rows = []
    for image in x.double().tolist():
        row = []
        for channel in image:
            values = [act(value) for line in channel for value in line]
            mean = math.fsum(values) / len(values)
            row.append(abs(mean) if activation == "abs_of_mean" else mean)
        rows.append(row)
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("activation", ["identity", "abs", "relu", "abs_of_mean"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_unit_means_against_plain_loops(activation, memory_format):
    model = Toy().eval().to(memory_format=memory_format)
    x = torch.randn(3, 3, 9, 9, generator=torch.Generator().manual_seed(0)).to(memory_format=memory_format)
    with torch.no_grad(), capture(model, ["first", "second"], activation=activation) as out:
        model(x)
    with torch.no_grad():
        expected = unit_oracle(model.first(x), activation)

    assert out["first"].dtype == torch.float32
    assert torch.allclose(out["first"].double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
def test_accelerators_fused_mean_equals_the_cpus():
    model, x = build_encoder("resnet18", seed=0).eval(), torch.randn(4, 3, 32, 32)
    with torch.no_grad(), capture(model, ["conv1"], reduce="none") as raw, capture(model, ["conv1"]) as out:
        model.cuda()(x.cuda())
    assert torch.allclose(out["conv1"].cpu().double(), raw["conv1"].cpu().double().abs().mean((2, 3)), rtol=1e-5)


@pytest.mark.parametrize("reduce", ["none", "flat", lambda x: x, lambda x: x.flatten(1)])
def test_inplace_activations_do_not_reach_what_was_captured(reduce):
    model = Toy().eval()
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = model.second(model.act(model.norm(model.first(x))))
        with capture(model, ["second"], reduce=reduce) as out:
            model(x)

    assert (expected < 0).any()
    assert torch.equal(out["second"].flatten(), expected.flatten())


def test_the_forward_is_bit_identical_and_gradients_flow():
    model, x = Toy().eval(), torch.randn(2, 3, 8, 8)
    plain = model(x)
    with capture(model, ["first", "second"]) as out:
        assert torch.equal(model(x), plain)
    out["first"].sum().backward()

    assert model.first.weight.grad is not None and model.second.weight.grad is None


def test_every_forward_refills_the_dictionary():
    model = Toy().eval()
    with torch.no_grad(), capture(model, ["first"]) as out:
        model(torch.randn(4, 3, 8, 8))
        first = out["first"]
        model(torch.randn(2, 3, 8, 8))

    assert first.shape == (4, 4) and out["first"].shape == (2, 4)


def test_captures_nest_and_leave_no_hooks_after_an_exception():
    model, x = Toy().eval(), torch.randn(2, 3, 8, 8)
    before = snapshot(model)
    with pytest.raises(RuntimeError, match="stop"), capture(model, ["first"]) as outer:
        with capture(model, ["first", "second"], reduce="flat") as inner:
            model(x)
        assert outer.keys() == {"first"} and inner["first"].shape == (2, 4 * 36)
        model(x)
        raise RuntimeError("stop")
    assert_unchanged(model, before)


def test_a_forward_that_failed_does_not_spoil_the_next():
    model = Toy().eval()
    with capture(model, ["first"]) as out:
        with pytest.raises(RuntimeError):
            model(torch.randn(2, 3, 1, 1))
        model(torch.randn(2, 3, 8, 8))
    assert out["first"].shape == (2, 4)


def test_reductions_are_float32_under_autocast():
    model, x = Toy().eval(), torch.randn(2, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16), capture(model, ["first"]) as out:
        model(x)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        low = model.first(x)

    assert low.dtype == torch.bfloat16 and out["first"].dtype == torch.float32
    assert torch.allclose(out["first"].double(), low.double().abs().mean((2, 3)), rtol=1e-5)


def test_float64_stays_float64():
    model = Toy().eval().double()
    with torch.no_grad(), capture(model, ["first"]) as out:
        model(torch.randn(2, 3, 8, 8, dtype=torch.float64))
    assert out["first"].dtype == torch.float64


def test_tokens_and_channels_last_maps():
    model, x = Tokens().eval(), torch.randn(2, 3, 3, 3)
    with torch.no_grad(), capture(model, ["norm", "map"], reduce="none") as raw:
        model(x)
    got = {}
    for tokens in ("mean", "patch", "cls"):
        with torch.no_grad(), capture(model, ["norm", "map"], activation="identity", tokens=tokens) as out:
            model(x)
        got[tokens] = out

    torch.testing.assert_close(got["mean"]["norm"], raw["norm"].mean(1))
    torch.testing.assert_close(got["patch"]["norm"], raw["norm"][:, 1:].mean(1))
    torch.testing.assert_close(got["cls"]["norm"], raw["norm"][:, 0])
    torch.testing.assert_close(got["cls"]["map"], raw["map"].mean((1, 2)))


class Sublayers(nn.Module):
    """A module that returns a tuple, one that overwrites its input, and one that is called with a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)
        self.act = nn.ReLU(inplace=True)
        self.last = nn.Linear(3, 5)

    def forward(self, x):
        x = x.flatten(2).transpose(1, 2)
        x, _ = self.attention(query=x, key=x, value=x, need_weights=False)
        return self.last(input=self.act(x + 0)).mean(1)


def test_inputs_and_the_first_tensor_of_a_tuple():
    torch.manual_seed(0)
    model, x = Sublayers().eval(), torch.randn(4, 3, 3, 3)
    layers = ["attention@in", "attention", "act@in", "act", "last@in", "last"]
    with torch.no_grad(), capture(model, layers, reduce="none") as out:
        model(x)
    tokens = x.flatten(2).transpose(1, 2)
    with torch.no_grad():
        expected = model.attention(tokens, tokens, tokens)[0]

    assert list(out) == layers
    assert torch.equal(out["attention@in"], tokens)
    torch.testing.assert_close(out["attention"], expected)
    assert torch.equal(out["act@in"], out["attention"]) and (out["act@in"] < 0).any()
    assert torch.equal(out["act"], out["act@in"].relu()) and torch.equal(out["last@in"], out["act"])
    assert count_units(model, ["last@in", "last"], image_size=4) == {"last@in": 3, "last": 5}


def test_a_layer_without_a_tensor_is_an_error():
    class Counting(nn.Module):
        def forward(self, x):
            return len(x)

    model = nn.Sequential(Counting())
    with pytest.raises(ValueError, match="layer 0 gives int, not a tensor"), capture(model, ["0"]):
        model(torch.zeros(2, 3))


class Maps(nn.Module):
    """Modules whose 4-D values have the channels last, beside their twins that have them second."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp_last, self.mlp_second = Mlp(3, 5), Mlp(3, 5, use_conv=True)
        self.norm_last, self.norm_second = nn.LayerNorm(3), LayerNorm2d(3)

    def forward(self, x):
        self.mlp_second(self.norm_second(x))
        return self.mlp_last(self.norm_last(x.permute(0, 2, 3, 1)))


def test_the_units_of_a_map_are_its_channels_whichever_axis_they_are_on():
    inside = {"": 3, "@in": 3, ".fc1": 5, ".act": 5, ".drop1": 5, ".fc2@in": 5, ".fc2": 3}
    for order in ("last", "second"):
        expected = {f"mlp_{order}{name}": units for name, units in inside.items()} | {f"norm_{order}@in": 3}
        assert count_units(Maps(), list(expected), image_size=4) == expected


@pytest.mark.parametrize(
    ("build", "prefix", "cls"),
    [
        (lambda: build_encoder("timm:test_vit", image_size=32), 1, True),
        (lambda: build_encoder("timm:test_vit2", image_size=32), 1, False),  # a register, no class token
        (lambda: build_encoder("timm:deit_tiny_distilled_patch16_224", image_size=32), 2, True),
        (lambda: VisionTransformer(32, 16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16), 1, True),
    ],
    ids=["class token", "register", "distillation token", "torchvision"],
)
def test_tokens_before_the_patches(build, prefix, cls):
    model = build().eval()
    layer = next(name for name, _ in model.named_modules() if name.endswith("mlp"))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), capture(model, [layer], reduce="none") as raw:
        model(x)
    with torch.no_grad(), capture(model, [layer], activation="identity", tokens="patch") as out:
        model(x)
    torch.testing.assert_close(out[layer], raw[layer][:, prefix:].mean(1))
    if cls:
        with torch.no_grad(), capture(model, [layer], activation="identity", tokens="cls") as out:
            model(x)
        torch.testing.assert_close(out[layer], raw[layer][:, 0])
    else:
        with pytest.raises(UserError, match=r"^tokens='cls': this encoder has no class token"):
            capture(model, [layer], tokens="cls").__enter__()


def test_a_class_token_that_joins_late_is_none():
    model = build_encoder("timm:xcit_nano_12_p16_224", seed=0, image_size=32)
    with pytest.raises(UserError, match=r"^tokens='patch'"):
        capture(model, ["blocks.0"], tokens="patch").__enter__()


def test_vectors_get_the_activation_alone():
    model, x = Toy().eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad(), capture(model, ["head"], activation="relu") as out:
        result = model(x)
    assert torch.equal(out["head"], result.relu())


def test_a_compiled_model_is_captured_too():
    model, x = Toy().eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        with capture(model, ["first", "second"]) as plain:
            model(x)
        model.compile(backend="eager")
        model(x)
        with capture(model, ["first", "second"]) as compiled:
            model(x)
    assert all(torch.equal(plain[layer], compiled[layer]) for layer in plain)


def test_layers_that_run_never_or_twice_and_bad_words_are_errors():
    model, x = Toy().eval(), torch.randn(2, 3, 8, 8)
    with pytest.raises(ValueError, match="shared ran twice"), capture(model, ["shared"]):
        model(x)
    with pytest.raises(ValueError, match="did not run in this forward: unused"), capture(model, ["unused"]):
        model(x)
    with pytest.raises(ValueError, match="first ran outside a forward"), capture(model, ["first"]):
        model.first(x)
    with pytest.raises(UserError, match=r"^layers='frist': no such layer; nearest: first"), capture(model, ["frist"]):
        pass
    with pytest.raises(UserError, match=r"^activation='sign'"), capture(model, ["first"], activation="sign"):
        pass
    with pytest.raises(UserError, match=r"^tokens='cls': this encoder"), capture(model, ["first"], tokens="cls"):
        pass
    with pytest.raises(ValueError, match="reduce='max'"), capture(model, ["first"], reduce="max"):
        pass


def test_a_layer_whose_first_axis_is_not_the_batch_is_an_error():
    class Windows(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            return self.inner(x.permute(0, 2, 3, 1).reshape(-1, 4, 3)).sum((1, 2))

    model = Windows()
    with pytest.raises(ValueError, match="first axis is 8, not the batch of 2"), capture(model, ["inner"]):
        model(torch.randn(2, 3, 4, 4))


def test_check_finite_names_the_first_bad_layer():
    good, bad = torch.ones(2, 3), torch.tensor([[1.0, math.inf]])
    check_finite({"a": good})
    check_finite({})
    with pytest.raises(UserError, match=r"^encoder: layer b gives NaN"):
        check_finite({"a": good, "b": bad, "c": bad * math.nan})
