"""Models of something else than images: listed by an example, captured like any other, left as they were."""

import pytest
import torch
from torch import Tensor, nn

from memlight.features import capture, list_layers
from memlight.features.hooks import count_units
from tests.tiny_net import assert_unchanged, snapshot

VOCABULARY, D, T = 20, 8, 6


class Text(nn.Module):
    """A small BERT: called with token ids and a mask by name, gives a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, D)
        layer = nn.TransformerEncoderLayer(D, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.pooler = nn.Linear(D, D)
        self.head = nn.Linear(D, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> dict[str, Tensor]:
        padding = None if attention_mask is None else attention_mask == 0
        x = self.encoder(self.embedding(input_ids), src_key_padding_mask=padding)
        return {"logits": self.head(self.pooler(x[:, 0]).tanh()), "last_hidden_state": x}


TEXT_LAYERS = [
    "embedding",
    *(f"encoder.layers.{n}{end}" for n in range(2) for end in (".self_attn", ".linear1", ".linear2", "")),
    "pooler",
]


def batch(count: int = 3) -> dict[str, Tensor]:
    ids = torch.randint(VOCABULARY, (count, T), generator=torch.Generator().manual_seed(0))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_a_transformer_of_tokens_is_listed_and_captured():
    model = Text().train()
    before = snapshot(model)
    layers = list_layers(model, batch())
    assert layers == TEXT_LAYERS
    units = count_units(model, layers, example_inputs=batch())
    assert_unchanged(model, before)
    assert units == {name: 16 if name.endswith("linear1") else D for name in layers}

    model.eval()
    with torch.no_grad(), capture(model, layers) as out, capture(model, layers, reduce="none") as raw:
        model(**batch(5))
    assert raw["embedding"].shape == (5, T, D)
    for name in layers:
        expected = raw[name].abs().mean(1) if raw[name].ndim == 3 else raw[name].abs()
        torch.testing.assert_close(out[name], expected)


def test_padding_does_not_stop_a_layer_from_being_read():
    model, inputs = Text().eval(), batch()
    inputs["attention_mask"][0, 4:] = 0
    with torch.no_grad(), capture(model, ["encoder.layers.1", "pooler"]) as out:
        model(**inputs)
    assert out["encoder.layers.1"].shape == (3, D)


@pytest.mark.parametrize(
    "example",
    [batch()["input_ids"], (batch()["input_ids"],), tuple(batch().values()), batch()],
    ids=["tensor", "tuple", "two arguments", "by name"],
)
def test_an_example_is_a_tensor_a_tuple_or_a_dictionary(example):
    assert list_layers(Text(), example) == TEXT_LAYERS


def test_a_mapping_that_is_no_dict_is_one_too():
    from collections import UserDict

    assert list_layers(Text(), UserDict(batch())) == TEXT_LAYERS


def test_a_model_that_takes_a_dictionary_as_its_one_argument():
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.text = Text()

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            return self.text(**batch)["last_hidden_state"].mean(1)

    model = Wrapped().eval()
    layers = list_layers(model, (batch(),))
    assert layers == [f"text.{name}" for name in [*TEXT_LAYERS, "head"]]
    with torch.no_grad(), capture(model, layers) as out:
        model(batch())
    assert out["text.pooler"].shape == (3, D)


def test_recurrent_and_transposed_linear_layers_are_layers():
    class Conv1D(nn.Module):
        """As GPT-2's in transformers: a Linear whose weight is transposed."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(D, 5))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.rnn, self.c_fc = nn.Embedding(9, D), nn.LSTM(D, D, batch_first=True), Conv1D()

        def forward(self, ids: Tensor) -> Tensor:
            return self.c_fc(self.rnn(self.embedding(ids))[0]).mean(1)

    model, ids = Model(), torch.randint(9, (3, T))
    assert list_layers(model, ids) == ["embedding", "rnn", "c_fc"]
    assert count_units(model, ["rnn", "c_fc"], example_inputs=ids) == {"rnn": D, "c_fc": 5}


@pytest.mark.parametrize("example", [(), {}, ("text",), torch.tensor(3)])
def test_an_example_without_a_batch_is_refused(example):
    with pytest.raises(ValueError, match="example_inputs holds no batch"):
        list_layers(Text(), example)


def test_names_of_its_own_that_are_no_layers_are_not_believed():
    class Other(nn.Module):
        layer_names = ("first", "second")
        layer_paths = ("somewhere", "else")

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(x).mean((2, 3))) * 2

    assert list_layers(Other(), image_size=4) == ["conv", "fc"]
    with capture(Other(), ["conv"]):
        pass


def test_a_model_without_parameters_can_be_looked_at():
    class Plain(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3))

    assert list_layers(nn.Sequential(Plain()), image_size=4) == []
