import pytest

from memlight.errors import UserError
from memlight.features.layers import (
    check_layers,
    choose_layers,
    delta_references,
    split_layer,
    with_patterns,
)
from tests.tiny_net import Toy


def test_a_suffix_says_where_in_the_module() -> None:
    assert split_layer("blocks.0.norm2@in") == ("blocks.0.norm2", "@in")
    assert split_layer("layer3.1.conv2") == ("layer3.1.conv2", "")


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "names no layer"),
        (["first", "first"], "first': named twice"),
        (["first@in", "first@in"], "first@in': named twice"),
        (["sec"], "nearest: second"),
        (["sec@in"], "sec@in': no such layer; nearest: second"),
        (["first@out"], "first for its output, first@in for its input"),
        (["first@"], "first for its output, first@in for its input"),
    ],
)
def test_check_layers_names_the_argument(layers: list[str], words: str) -> None:
    with pytest.raises(UserError, match=f"^layers.*{words}"):
        check_layers(Toy(), layers)


def test_an_input_and_an_output_are_two_layers() -> None:
    check_layers(Toy(), ["second", "second@in"])


def transformer(blocks: int, prefix: str = "blocks.") -> list[str]:
    inside = ("attn", "norm2@in", "mlp.act", "mlp")
    return ["stem", *(f"{prefix}{n}{end}" for n in range(blocks) for end in (*(f".{name}" for name in inside), ""))]


@pytest.mark.parametrize("prefix", ["blocks.", "encoder.layers.encoder_layer_", "layers.2.blocks."])
def test_deltas_of_a_transformer_are_those_of_the_papers_table(prefix: str) -> None:
    layers = transformer(12, prefix)
    references = dict(zip(layers, delta_references(layers), strict=True))

    for n in range(12):
        res_mlp = f"{prefix}{n - 1}" if n else "stem"  # delta_att(N) = LM(att N) - LM(res_mlp N-1)
        res_att = f"{prefix}{n}.norm2@in"  # delta_mlp(N) = LM(mlp N) - LM(res_att N)
        assert references[f"{prefix}{n}.attn"] == layers.index(res_mlp)
        assert references[f"{prefix}{n}.mlp"] == layers.index(res_att)
        assert references[res_att] == layers.index(res_mlp)
        assert references[f"{prefix}{n}.mlp.act"] == references[f"{prefix}{n}"] == layers.index(res_att)
    assert references["stem"] is None


def test_outside_of_blocks_it_is_the_row_before() -> None:
    assert delta_references(["conv1", "layer1.0.conv1", "layer1.0"]) == [None, 0, 1]
    assert delta_references([]) == []


@pytest.mark.parametrize(
    ("layers", "references"),
    [
        (["blocks.0.attn", "blocks.0.norm2@in"], [None, None]),  # nothing before
        (
            ["stem", "blocks.1.attn", "blocks.1.norm2@in", "blocks.1.mlp"],
            [None, None, None, 2],
        ),  # blocks.0 is not there
        (["blocks.0", "blocks.1.attn", "blocks.1.mlp", "blocks.1"], [None, 0, None, None]),  # norm2@in is not there
        (["blocks.9", "blocks.10.attn.qkv", "blocks.10.norm2@in", "blocks.10.mlp.fc1"], [None, 0, 0, 2]),
        (["0.norm2@in", "0.norm2", "0.mlp.fc2@in", "0"], [None, 0, 0, 0]),
        (["reduction", "b.0.norm2@in", "b.0", "b.1.norm2@in", "b.1", "head"], [None, 0, 1, 2, 3, 4]),  # Swin
        (["conv", "s.0.attn_block.norm2@in", "s.0.attn_block", "s.0.attn_grid.norm2@in"], [None, 0, 1, 2]),  # MaxViT
        (["e.ln_1", "e.self_attention", "e.ln_2@in", "e.mlp.1"], [None, None, None, 2]),
    ],
)
def test_a_stream_that_was_not_measured_gives_none(layers: list[str], references: list[int | None]) -> None:
    assert delta_references(layers) == references


KNOWN = ["conv1", "layer1.0.conv1", "layer1.0", "layer4.0.conv1", "layer4.0", "layer4.1", "fc"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["layer4.*"], ["layer4.0.conv1", "layer4.0", "layer4.1"]),
        (["layer4.?"], ["layer4.0", "layer4.1"]),
        (["layer[14].0"], ["layer1.0", "layer4.0"]),
        (["*"], KNOWN),
        (["fc", "layer4.*", "conv1"], ["fc", "layer4.0.conv1", "layer4.0", "layer4.1", "conv1"]),
        (["*.conv1", "layer4.*"], ["layer1.0.conv1", "layer4.0.conv1", "layer4.0", "layer4.1"]),
        (["layer4.*", "layer4.0"], ["layer4.0.conv1", "layer4.1", "layer4.0"]),
        (["other", "other"], ["other", "other"]),  # names are checked elsewhere
    ],
)
def test_patterns_stand_for_layers_in_their_order_each_once(words: list[str], expected: list[str]) -> None:
    assert choose_layers(words, KNOWN) == expected


def test_a_pattern_that_matches_nothing_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"^layers='layer5.\*': matches none of the 7 layers; nearest: layer"):
        choose_layers(["conv1", "layer5.*"], KNOWN)


def test_in_words_of_several_layers_a_pattern_is_all_of_them_together() -> None:
    words = with_patterns(["layer4.*,fc", "conv1,fc"], KNOWN)
    assert words == ["layer4.0.conv1,layer4.0,layer4.1,fc", "conv1,fc"]
