"""Sequence sets are made again from their seed, follow their law, and are drawn the same however a run is cut."""

import numpy as np
import pytest
import torch

from memlight.data.sequences import SequenceDataModule, SequenceSet
from memlight.errors import UserError


@pytest.mark.parametrize("num_sequences, num_bits", [(8, 3), (5, 3), (300, 12), (1000, 30), (1, 1)])
def test_distinct_sequences_of_fair_bits(num_sequences: int, num_bits: int) -> None:
    """All that there are, half of them, few; those with repetitions at first (300 of 4096)."""
    bits = SequenceSet(num_sequences, num_bits, seed=3).bits
    assert bits.dtype == torch.uint8 and bits.shape == (num_sequences, num_bits)
    assert len(np.unique(bits.numpy(), axis=0)) == num_sequences
    if num_sequences * num_bits > 3000:
        share = bits.double().mean(0)
        assert ((share - 0.5).abs() < 4.5 * 0.5 / num_sequences**0.5).all()


def test_repeated_sequences_where_asked() -> None:
    bits = SequenceSet(200, 5, distinct=False).bits
    assert len(np.unique(bits.numpy(), axis=0)) <= 32


def test_a_set_is_made_again_from_its_seed() -> None:
    first, again, other = (SequenceSet(300, 12, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(first.bits, again.bits) and first.fingerprint == again.fingerprint
    assert not torch.equal(first.bits, other.bits) and first.fingerprint != other.fingerprint
    assert first.fingerprint != SequenceSet(300, 12, law="uniform", seed=5).fingerprint
    assert torch.equal(SequenceSet(10, 40, seed=5).bits, SequenceSet(300, 40, seed=5).bits[:10])


@pytest.mark.parametrize("law, exponent", [("zipf", 1.0), ("zipf", 1.7), ("uniform", 1.0)])
def test_the_law(law: str, exponent: float) -> None:
    sequences = SequenceSet(7, 20, law, exponent)  # type: ignore[arg-type]
    weights = [1 / rank**exponent if law == "zipf" else 1.0 for rank in range(1, 8)]
    expected = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    torch.testing.assert_close(sequences.probabilities, expected)
    assert sequences.cdf[-1] == 1
    assert sequences.draw(torch.tensor([0.0, 1 - 2.0**-48], dtype=torch.float64)).tolist() == [0, 6]
    edges = torch.cat([torch.zeros(1, dtype=torch.float64), sequences.cdf[:-1]])
    assert sequences.draw(edges).tolist() == list(range(7))
    data = SequenceDataModule(7, 20, law, exponent, batch_size=200)  # type: ignore[arg-type]
    drawn = data.ids(0, [1], 0, 100).flatten()
    counts = torch.bincount(drawn, minlength=7).double()
    chi_squared = ((counts - expected * len(drawn)) ** 2 / (expected * len(drawn))).sum()
    assert chi_squared < 22.5  # P = .001 at 6 degrees of freedom


def test_every_tenth_rank_is_tested() -> None:
    assert SequenceSet(25, 10).test_ranks.tolist() == [0, 10, 20]


def test_draws_do_not_depend_on_blocks_or_on_the_other_members() -> None:
    data = SequenceDataModule(50, 20, batch_size=6)
    whole = data.ids(1, [4, 9], 0, 20)
    assert whole.shape == (2, 20, 6) and whole.dtype == torch.int64
    assert torch.equal(torch.cat([data.ids(1, [4, 9], 0, 7), data.ids(1, [4, 9], 7, 13)], dim=1), whole)
    assert torch.equal(data.ids(1, [9], 5, 3)[0], whole[1, 5:8])
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(data.ids(0, [4, 9], 0, 20), whole)


def test_own_and_shared_sets() -> None:
    own, shared = (SequenceDataModule(20, 16, sets=sets, seed=2) for sets in ("own", "shared"))  # type: ignore[arg-type]
    members = [4, 9]
    assert own.bits(0, members).shape == (2, 20, 16) and shared.bits(0, members).shape == (1, 20, 16)
    assert torch.equal(own.bits(1, members)[1], own.set(1, 9).bits)
    assert own.set_seeds(1, members) == [1_000_004, 1_000_009] and shared.set_seeds(1, members) == [1_000_002]
    assert torch.equal(shared.bits(0, members)[0], own.set(0, 2).bits)
    everything = torch.cat([own.bits(index, members).flatten(0, 1) for index in range(3)])
    assert len(everything.unique(dim=0)) == 3 * 2 * 20


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"num_sequences": 9, "num_bits": 3}, "num_sequences=9: there are only 8 distinct sequences of 3 bits"),
        ({"num_sequences": 0}, "num_sequences=0"),
        ({"num_bits": 0}, "num_bits=0"),
        ({"law": "power"}, "law='power'"),
        ({"exponent": -1.0}, "exponent=-1.0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"sets": "mine"}, "sets='mine'"),
    ],
)
def test_bad_input_names_its_flag(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SequenceDataModule(**settings)  # type: ignore[arg-type]
