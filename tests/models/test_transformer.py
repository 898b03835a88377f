"""Transformers over bits: the authors' parameter counts, the definition as loops, members, scopes and controls."""

import math

import pytest
import torch
from torch import Tensor

from memlight.errors import UserError
from memlight.models.sequence_model import SequenceModel
from memlight.models.transformer import GPT, OneLayerAttention


def random_bits(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(seed))


def spread_out(model: SequenceModel) -> SequenceModel:
    """In float64, with weights large enough that every part matters."""
    model.double()
    with torch.no_grad():
        for index, parameter in enumerate(model.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index)) / 3)
    return model


@pytest.mark.parametrize("heads, published", [(1, 3362), (14, 326_594)])
def test_parameter_counts_of_the_authors(heads: int, published: int) -> None:
    model = OneLayerAttention(100, heads, 16)
    unused_norm = 2 * 16 * heads
    assert sum(parameter.numel() for parameter in model.parameters()) + unused_norm == published


def test_gpt_has_the_usual_parameters() -> None:
    layers, width, bits = 3, 8, 10
    norm, attention, mlp = 2 * width, 4 * width * width + 4 * width, 8 * width * width + 5 * width
    expected = (2 + bits) * width + layers * (2 * norm + attention + mlp) + norm + 2 * width + 2
    assert sum(parameter.numel() for parameter in GPT(bits, layers, 2, width).parameters()) == expected


def test_one_layer_is_that_of_loops() -> None:
    model = spread_out(OneLayerAttention(5, heads=2, features=3, mlp_layers=2, mlp_width=4))
    weights = dict(model.named_parameters())
    bits = random_bits(0, 5)
    embedded = [weights["wte"][bits[i]] + weights["wpe"][i] for i in range(4)]
    qkv = [weights["c_attn_weight"] @ x + weights["c_attn_bias"] for x in embedded]
    expected = [torch.zeros((), dtype=torch.float64)]
    for i in range(4):
        mixed = []
        for head in range(2):
            q, k, v = (slice(6 * part + 3 * head, 6 * part + 3 * head + 3) for part in range(3))
            mass = [(qkv[i][q] @ qkv[j][k] / math.sqrt(3)).exp() for j in range(i + 1)]
            mixed.append(sum(m * qkv[j][v] for j, m in enumerate(mass)) / sum(mass))
        x = torch.cat(mixed)
        x = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt() * weights["norm_weight"] + weights["norm_bias"]
        x = (weights["mlp0_weight"] @ x + weights["mlp0_bias"]).relu()
        x = (weights["mlp1_weight"] @ x + weights["mlp1_bias"]).relu() + x
        zero, one = weights["head_weight"] @ x + weights["head_bias"]
        expected.append(one - zero)
    logits = torch.stack(expected)
    torch.testing.assert_close(model.logits(bits[None])[0], logits, atol=1e-12, rtol=0)
    p_right = torch.where(bits > 0, logits.sigmoid(), 1 - logits.sigmoid())
    torch.testing.assert_close(model.loss(bits[None]), -p_right.log()[1:].mean(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", [OneLayerAttention, GPT])
def test_the_future_is_not_seen_and_the_first_bit_not_foretold(kind: type[SequenceModel]) -> None:
    model = spread_out(kind(8))
    bits = random_bits(1, 3, 8)
    before = model.logits(bits)
    assert not before[:, 0].any()
    assert model.counted.tolist() == [False] + 7 * [True]
    for position in range(8):
        changed = bits.clone()
        changed[:, position] = 1 - changed[:, position]
        differs = (model.logits(changed) - before).abs() > 1e-9
        assert not differs[:, : position + 1].any()
        assert differs[:, position + 1 :].all()


@pytest.mark.parametrize("kind", [OneLayerAttention, GPT])
def test_a_replica_is_its_solo_run(kind: type[SequenceModel]) -> None:
    seeds = (4, 9)
    together = kind(6, replicas=2, seeds=seeds).double()
    bits = random_bits(2, 2, 5, 6)
    optimizer = torch.optim.Adam(together.parameters(), 0.01)
    solos = [kind(6, seeds=[seed]).double() for seed in seeds]
    optimizers = [torch.optim.Adam(solo.parameters(), 0.01) for solo in solos]
    for _ in range(3):
        optimizer.zero_grad()
        together.loss(bits).sum().backward()
        optimizer.step()
        for solo, its_optimizer, its_bits in zip(solos, optimizers, bits, strict=True):
            its_optimizer.zero_grad()
            solo.loss(its_bits).backward()
            its_optimizer.step()
    for member, solo in enumerate(solos):
        for name, parameter in solo.named_parameters():
            torch.testing.assert_close(together.get_parameter(name)[member], parameter, atol=1e-10, rtol=0)
    maps = together.attention_maps(bits)
    torch.testing.assert_close(maps[1], solos[1].attention_maps(bits[1]), atol=1e-10, rtol=0)
    torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps[..., 0]), atol=1e-12, rtol=0)
    assert not maps.triu(1).any()


def test_initial_weights() -> None:
    model = GPT(50, layers=2, heads=2, width=64, seeds=[7])
    for name, parameter in model.named_parameters():
        if name.endswith("_bias"):
            assert not parameter.any(), name
        elif name.startswith("norm"):
            assert (parameter == 1).all(), name
        elif parameter.numel() > 1000:
            expected = 0.01 if name.startswith("c_proj") or name.endswith("out_weight") else 0.02
            assert parameter.std().item() == pytest.approx(expected, rel=0.1), name
    assert not torch.equal(model.wte, GPT(50, width=64, seeds=[8]).wte)


@pytest.mark.parametrize("attention", ["zero", "random"])
def test_controls_of_attention_are_frozen(attention: str) -> None:
    model = OneLayerAttention(6, attention=attention)  # type: ignore[arg-type]
    assert [name for name, parameter in model.named_parameters() if not parameter.requires_grad] == [
        "c_attn_weight",
        "c_attn_bias",
    ]
    assert model.get_parameter("c_attn_weight").any() == (attention == "random")
    logits = model.logits(random_bits(3, 4, 6))
    assert (logits[0] != logits[1]).any() == (attention == "random")


def test_scopes() -> None:
    one, gpt = OneLayerAttention(6), GPT(6, layers=2)
    for model in (one, gpt):
        names = {name for name, _ in model.named_parameters()}
        assert set(model.names_in("all_but_mlp")) == names - set(model.names_in("mlp"))
        assert set(model.names_in("attention+embeddings+norm+mlp+head")) == names
        assert "head_weight" in model.names_in("all_but_mlp") and "wpe" in model.names_in("attention+embeddings")
    assert one.names_in("c_attn") == one.names_in("attention") == ("c_attn_weight", "c_attn_bias")
    assert len(gpt.names_in("attention")) == 2 * len(gpt.names_in("c_attn"))
    with pytest.raises(
        UserError, match="scope='mpl': GPT has no 'mpl'; scopes are c_attn, attention, embeddings, norm, mlp"
    ):
        gpt.names_in("mpl")


def test_reset_and_shuffle_are_each_members_own() -> None:
    together = OneLayerAttention(6, replicas=2, seeds=(4, 9))
    solo = OneLayerAttention(6, seeds=[9])
    first = {name: parameter.clone() for name, parameter in solo.named_parameters()}
    for model in (together, solo):
        model.shuffle_scope("mlp")
    for name, parameter in solo.named_parameters():
        assert torch.equal(together.get_parameter(name)[1], parameter)
        assert torch.equal(parameter.flatten().sort()[0], first[name].flatten().sort()[0])
        assert torch.equal(parameter, first[name]) == (not name.startswith("mlp") or name.endswith("bias")), name
    for model in (together, solo):
        model.reset_scope("mlp+norm", std=0.5)
        model.reset_scope("head")
    assert solo.mlp0_weight.std().item() == pytest.approx(0.5, rel=0.15)
    assert solo.mlp0_bias.any() and solo.norm_weight.any()
    assert solo.head_weight.any() and not torch.equal(solo.head_weight, first["head_weight"])
    assert not solo.head_bias.any() and torch.equal(solo.wte, first["wte"])
    again = solo.head_weight.clone()
    solo.reset_scope("head", seed=1)
    assert not torch.equal(solo.head_weight, again)
    for name in ("mlp0_weight", "norm_weight"):
        assert torch.equal(together.get_parameter(name)[1], solo.get_parameter(name))


@pytest.mark.parametrize(
    "kind, settings, flag",
    [
        (OneLayerAttention, {"heads": 0}, "heads=0"),
        (OneLayerAttention, {"mlp_width": 0}, "mlp_width=0"),
        (OneLayerAttention, {"attention": "frozen"}, "attention='frozen'"),
        (GPT, {"layers": 0}, "layers=0"),
        (GPT, {"heads": 3}, "width=64: not a multiple of the 3 heads"),
        (GPT, {"num_bits": 1}, "num_bits=1"),
    ],
)
def test_impossible_settings_name_their_flag(kind: type[SequenceModel], settings: dict[str, object], flag: str) -> None:
    with pytest.raises(UserError, match=flag):
        kind(**{"num_bits": 6, **settings})  # type: ignore[arg-type]
