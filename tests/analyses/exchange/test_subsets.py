import pytest
import torch

from memlight.analyses.exchange.study import all_subsets, layers_with_weights, named_subsets
from memlight.errors import UserError
from memlight.models.encoders import build_encoder

RESNET9 = build_encoder("resnet9", seed=0)
EIGHT = [f"layer{n}" for n in range(1, 9)]


def test_a_word_is_a_subset_in_the_order_in_which_its_layers_run() -> None:
    subsets = named_subsets(RESNET9, ["layer8,layer2", "layer3"])
    assert subsets == [("layer2", "layer8"), ("layer3",)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["layer9"], "layers='layer9': no such layer"),
        (["layer1", "layer2,res2"], "layers='res2': has no weights of its own"),
        (["layer2,layer2"], "layers='layer2': named twice"),
        (["layer1,layer2", "layer2,layer1"], "layers='layer2,layer1': this subset is named twice"),
        (["layer1,"], "layers='': no such layer"),
    ],
)
def test_words_that_are_no_subset(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        named_subsets(RESNET9, words)


def test_every_subset_of_the_layers_that_have_weights() -> None:
    subsets = all_subsets(RESNET9, [1, 2, 3], 92)
    assert len(set(subsets)) == 8 + 28 + 56
    assert subsets[:8] == [(layer,) for layer in EIGHT]
    assert all(list(subset) == sorted(subset) for subset in subsets)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ([3], "subsets=3: 56 subsets of 8 layers, .*`max_subsets=56`"),
        ([0], "subsets=0: this encoder has 8 layers with weights"),
        ([9], "subsets=9: this encoder has 8"),
        ([1, 1], "subsets=1: given twice"),
    ],
)
def test_sizes_that_are_refused(sizes: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        all_subsets(RESNET9, sizes, 55)


def test_a_block_is_left_out_for_the_layers_within_it() -> None:
    with torch.device("meta"):
        vit, resnet = build_encoder("vit_tiny_patch16"), build_encoder("resnet18")
    blocks = [f"blocks.{n}.{part}" for n in range(12) for part in ("attn", "mlp")]
    assert layers_with_weights(vit.to_empty(device="cpu")) == ["patch_embed.proj", *blocks]
    convolutions = layers_with_weights(resnet.to_empty(device="cpu"))
    assert len(convolutions) == 20 and "layer1.0" not in convolutions and "layer1.0.conv1" in convolutions
