"""Which axis of (B, a, b) the channels are on: by the kinds of modules, and by what ran before the others."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from memlight.features import capture, list_layers
from memlight.features.hooks import count_units, layer_sizes

C, T = 5, 12


class Sound(nn.Module):
    """A Conv1d front, as of wav2vec2, and tokens behind it."""

    def __init__(self, channels: int = C) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, channels, 3, padding=1)
        self.norm = nn.BatchNorm1d(channels)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool1d(2)
        self.drop = nn.Dropout(0.5)
        self.block = nn.Sequential(nn.Conv1d(channels, channels, 1), nn.GELU())
        self.sum = nn.Identity()
        self.tokens = nn.Linear(channels, 7)
        self.token_act = nn.GELU()
        self.back = nn.Identity()
        self.head = nn.Linear(7, 3)

    def forward(self, x):
        x = self.drop(self.pool(self.act(self.norm(self.conv(x)))))
        x = self.sum(self.block(x) + x)
        x = self.token_act(self.tokens(x.transpose(1, 2)))
        x = self.back(x.transpose(1, 2))
        return self.head(x.mean(2))


LAYERS = ["conv", "norm", "act", "pool", "drop", "block.0", "block.1", "block", "sum", "tokens", "token_act", "back"]
INPUTS = ["conv@in", "norm@in", "act@in", "block@in", "tokens@in", "token_act@in", "back@in"]


def test_units_of_conv1d_and_of_all_that_follows_it_are_its_channels():
    model = Sound().eval()
    x = torch.randn(4, 2, T)
    names = [*LAYERS, *INPUTS]
    with torch.no_grad(), capture(model, names, reduce="none") as raw, capture(model, names) as out:
        model(x)
    tokens = {"tokens", "token_act", "tokens@in", "token_act@in"}
    for name in names:
        axis = 2 if name in tokens else 1
        torch.testing.assert_close(out[name], raw[name].abs().mean(3 - axis), msg=name)
    assert count_units(model, names, example_inputs=x) == {
        **dict.fromkeys(LAYERS[:9], C),
        **{"tokens": 7, "token_act": 7, "back": 7},
        **{"conv@in": 2, "norm@in": C, "act@in": C, "block@in": C, "tokens@in": C, "token_act@in": 7, "back@in": 7},
    }
    assert layer_sizes(model, ["pool"], example_inputs=x)["pool"].shape == (C, T // 2)


def test_as_many_channels_as_positions_are_told_apart_too():
    model = Sound(channels=T).eval()
    x = torch.randn(4, 2, T)
    with torch.no_grad(), capture(model, ["act", "tokens@in"], reduce="none") as raw, capture(model, LAYERS) as out:
        model(x)
    assert raw["act"].shape == (4, T, T)
    torch.testing.assert_close(out["act"], raw["act"].abs().mean(2))


def test_tokens_behind_a_convolution_that_was_copied_are_tokens():
    class Copied(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act, self.pooled = nn.Conv1d(2, C, 1), nn.GELU(), nn.Identity()

        def forward(self, x):
            x = self.conv(x)
            y = self.pooled(F.max_pool1d(x, 3))
            return self.act(x.transpose(1, 2) * 2).mean(1) + y.mean(2)

    x = torch.randn(4, 2, T)
    model = Copied()
    with capture(model, ["act", "pooled"], reduce="none") as raw, capture(model, ["act", "pooled"]) as out:
        model(x)
    assert raw["act"].shape == (4, T, C) and raw["pooled"].shape == (4, C, T // 3)
    assert out["act"].shape == out["pooled"].shape == (4, C)


def test_a_class_token_is_cut_from_tokens_and_never_from_channels():
    class Model(nn.Module):
        num_prefix_tokens = 1

        def __init__(self):
            super().__init__()
            self.conv, self.mix = nn.Conv1d(2, C, 1), nn.Linear(C, 6)

        def forward(self, x):
            return self.mix(self.conv(x).mT).mean(1)

    model, x = Model(), torch.randn(4, 2, T)
    patches = capture(model, ["conv", "mix"], tokens="patch", activation="identity")
    with torch.no_grad(), capture(model, ["conv", "mix"], reduce="none") as raw, patches as out:
        model(x)
    torch.testing.assert_close(out["conv"], raw["conv"].mean(2))
    torch.testing.assert_close(out["mix"], raw["mix"][:, 1:].mean(1))


@pytest.mark.parametrize(
    ("module", "shape", "units"),
    [
        (nn.ConvTranspose1d(2, C, 3), (4, 2, T), C),
        (nn.GroupNorm(1, C), (4, C, T), C),
        (nn.InstanceNorm1d(C), (4, C, T), C),
        (nn.AdaptiveAvgPool1d(3), (4, C, T), C),
        (nn.ReplicationPad1d(1), (4, C, T), C),
        (nn.LayerNorm(C), (4, T, C), C),
        (nn.RMSNorm(C), (4, T, C), C),
        (nn.Conv3d(2, C, 1), (4, 2, 3, 3, 3), C),
        (nn.Sequential(nn.Conv3d(2, C, 1), nn.ReLU()), (4, 2, 3, 3, 3), C),
        (nn.GRU(3, C, batch_first=True), (4, T, 3), C),
        (nn.ReLU(), (4, T, C), C),  # nothing says anything: tokens
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_modules_say_by_their_kind(module, shape, units):
    model = nn.Sequential(module)
    last = [name for name, _ in model.named_modules()][-1]
    assert count_units(model, [last], example_inputs=torch.randn(shape)) == {last: units}


def test_a_convolution_over_channels_has_none_and_is_no_layer():
    class ECA(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.conv = nn.Conv2d(3, 6, 1), nn.Conv1d(1, 1, 3, padding=1)

        def forward(self, x):
            x = self.stem(x)
            return x.mean((2, 3)) * self.conv(x.mean((2, 3))[:, None])[:, 0].sigmoid()

    assert list_layers(ECA(), image_size=4) == ["stem"]
