import numpy as np
import pytest
import torch
from scipy import stats

from memlight.random import ANALYSIS, permutation, uniforms

MASK = (1 << 64) - 1


def splitmix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def oracle(seed: int, sample: int, epoch: int, view: int, draw: int, stream: int) -> float:
    gamma = 0x9E3779B97F4A7C15
    key = splitmix((seed + gamma) & MASK)
    key += sample * 0xD1B54A32D192ED03 + epoch * 0xABC98388FB8FAC03
    key += view * 0x8CB92BA72F3D8DD7 + stream * 0xDB4F0B9175AE2165
    return (splitmix((splitmix(splitmix(key & MASK)) + (draw + 1) * gamma) & MASK) >> 40) / 2**24


@pytest.mark.parametrize("seed", [0, -3, 2**40])
def test_every_number_is_the_counter_hash(seed):
    ids = torch.tensor([0, 1, 59_999, 2**40])
    drawn = uniforms(seed, ids, epoch=ANALYSIS, view=7, draws=3, stream=2)
    expected = [[oracle(seed, i, ANALYSIS, 7, d, 2) for d in range(3)] for i in ids.tolist()]
    assert drawn.dtype == torch.float32
    assert drawn.tolist() == expected


def test_numbers_never_change():
    drawn = uniforms(0, torch.tensor([0, 1]), epoch=0, view=0, draws=2) * 2**24
    assert drawn.tolist() == [[2942985.0, 7939244.0], [5052833.0, 6358984.0]]
    assert permutation(0, 0, 8).tolist() == [1, 3, 0, 4, 5, 2, 6, 7]


def test_numbers_do_not_depend_on_the_batch():
    ids = torch.arange(1000)
    whole = uniforms(5, ids, epoch=3, view=1, draws=9)
    order = permutation(0, ANALYSIS, 1000)
    assert torch.equal(uniforms(5, ids[order], epoch=3, view=1, draws=9), whole[order])
    assert torch.equal(uniforms(5, ids[17:18], epoch=3, view=1, draws=4), whole[17:18, :4])
    assert torch.equal(uniforms(5, ids, epoch=torch.full((1000,), 3), view=1, draws=9), whole)


@pytest.mark.parametrize("coordinate", ["seed", "id", "epoch", "view", "draw", "stream"])
def test_numbers_are_uniform_and_independent_along_every_coordinate(coordinate):
    n = 4000
    one = torch.tensor([12])
    along = {
        "seed": lambda: torch.cat([uniforms(s, one, epoch=0, view=0, draws=1) for s in range(n)]),
        "id": lambda: uniforms(0, torch.arange(n), epoch=0, view=0, draws=1),
        "epoch": lambda: uniforms(0, one.expand(n), epoch=torch.arange(n), view=0, draws=1),
        "view": lambda: torch.cat([uniforms(0, one, epoch=0, view=v, draws=1) for v in range(n)]),
        "draw": lambda: uniforms(0, one, epoch=0, view=0, draws=n),
        "stream": lambda: torch.cat([uniforms(0, one, epoch=0, view=0, draws=1, stream=s) for s in range(n)]),
    }
    u = along[coordinate]().flatten().double().numpy()
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    for lag in (1, 2, 7):
        assert stats.pearsonr(u[:-lag], u[lag:]).pvalue > 1e-3
    pairs, _, _ = np.histogram2d(u[:-1:2], u[1::2], bins=8, range=[[0, 1], [0, 1]])
    assert stats.chisquare(pairs.ravel()).pvalue > 1e-3


def test_a_million_numbers_fill_every_cell():
    u = uniforms(1, torch.arange(50_000), epoch=2, view=0, draws=20).double()
    assert u.min() >= 0 and u.max() < 1
    counts = torch.histc(u, bins=1000, min=0, max=1).numpy()
    assert stats.chisquare(counts).pvalue > 1e-3
    correlations = torch.corrcoef(u.T).fill_diagonal_(0)
    assert correlations.abs().max() < 5 / 50_000**0.5


def test_numbers_of_one_image_are_independent_over_views_epochs_and_seeds():
    n, ids = 50_000, torch.arange(50_000)
    columns = [uniforms(0, ids, epoch=0, view=view, draws=8) for view in range(4)]
    columns += [uniforms(0, ids, epoch=epoch, view=0, draws=8) for epoch in (ANALYSIS, 1, 2)]
    columns += [uniforms(seed, ids, epoch=0, view=0, draws=8) for seed in (1, 2)]
    columns += [uniforms(0, ids + 1, epoch=0, view=0, draws=8), uniforms(0, ids, epoch=0, view=0, draws=8, stream=1)]
    u = torch.cat(columns, dim=1).double()
    assert torch.corrcoef(u.T).fill_diagonal_(0).abs().max() < 5 / n**0.5
    assert torch.corrcoef((u < 0.2).double().T).fill_diagonal_(0).abs().max() < 5 / n**0.5


def test_permutation_holds_everyone_once_and_every_place_is_as_likely():
    orders = torch.stack([permutation(3, epoch, 10) for epoch in range(2000)])
    assert torch.equal(orders.sort(dim=1).values, torch.arange(10).expand(2000, 10))
    counts = torch.nn.functional.one_hot(orders, 10).sum(dim=0).numpy()
    # Rows and columns both sum to 2000: 81 degrees of freedom among 100 counts.
    assert stats.chisquare(counts.ravel(), ddof=18).pvalue > 1e-3
    assert not torch.equal(permutation(3, 0, 100), permutation(3, ANALYSIS, 100))
    assert not torch.equal(permutation(3, 0, 100), permutation(4, 0, 100))


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    uniforms(0, torch.arange(4), epoch=0, view=0, draws=2)
    permutation(0, 0, 4)
    assert torch.equal(torch.get_rng_state(), before)
