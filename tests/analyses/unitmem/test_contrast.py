import numpy as np
import pytest
import torch

from memlight.analyses.unitmem import contrast
from memlight.analyses.unitmem.contrast import UnitContrast, unit_contrasts
from memlight.metrics.functional import unitmem
from memlight.metrics.unitmem import UnitMem, UnitMemResult
from memlight.stats import Claim, claims

UNITS = 30


def table(rng: np.random.Generator, images: int) -> np.ndarray:
    mu = rng.gamma(2.0, size=(images, UNITS))
    mu[:, 7] = 0  # dead
    return mu


def result(mu: np.ndarray, ids: np.ndarray) -> UnitMemResult:
    metric = UnitMem(UNITS, keep_table=True)
    metric.update(torch.tensor(mu, dtype=torch.float32), torch.tensor(ids))
    return metric.compute()


def compare(f: np.ndarray, g: np.ndarray, ids: np.ndarray, candidates: int, **options: int) -> UnitContrast:
    c, i = slice(None, candidates), slice(candidates, None)
    parts = ({"only": result(mu[part], ids[part])} for mu in (f, g) for part in (c, i))
    return unit_contrasts(*parts, **{"draws": 300, **options})["only"]


def loop_statistics(f: np.ndarray, g: np.ndarray, is_candidate: np.ndarray) -> tuple[float, float]:
    def mean_score(mu: np.ndarray) -> float:
        scores = unitmem(torch.tensor(mu, dtype=torch.float32))
        return float(scores[np.flatnonzero(mu.any(0))].mean())

    c, i = is_candidate, ~is_candidate
    alive = [unit for unit in range(UNITS) if unit != 7]
    own_f = np.mean([c[f[:, unit].argmax()] for unit in alive])
    own_g = np.mean([i[g[:, unit].argmax()] for unit in alive])
    contrast = (mean_score(f[c]) - mean_score(f[i]) + mean_score(g[i]) - mean_score(g[c])) / 2
    return contrast, float(own_f + own_g) / 2


@pytest.mark.parametrize(("images", "candidates"), [(40, 20), (61, 15)])
def test_values_equal_loops(images: int, candidates: int) -> None:
    rng = np.random.default_rng(images)
    f, g, ids = table(rng, images), table(rng, images), rng.permutation(images)
    compared = compare(f, g, ids, candidates)
    contrast, share = loop_statistics(f, g, np.arange(images) < candidates)
    np.testing.assert_allclose(compared.contrast.value, contrast, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(compared.own_max_share.value, share, rtol=1e-12)


def test_striking_images_alone_cancel_between_members() -> None:
    rng = np.random.default_rng(3)
    f, g = table(rng, 200), table(rng, 200)
    f[:5] *= 4  # five candidate images excite both encoders alike
    g[:5] *= 4
    compared = compare(f, g, np.arange(200), 100)
    assert compared.contrast.low < 0 < compared.contrast.high
    assert compared.own_max_share.low < 0.5 < compared.own_max_share.high


def test_memorising_members_stand_out() -> None:
    rng = np.random.default_rng(4)
    f, g = table(rng, 200), table(rng, 200)
    f[rng.integers(0, 100, UNITS), np.arange(UNITS)] *= 10
    g[rng.integers(100, 200, UNITS), np.arange(UNITS)] *= 10
    f[:, 7] = g[:, 7] = 0
    compared = compare(f, g, np.arange(200), 100)
    assert compared.contrast.low > 0
    assert compared.own_max_share.low > 0.5


def test_intervals_cover_nothing_in_19_of_20_pairs_without_memorisation() -> None:
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(60):
        striking = rng.gamma(2.0, size=(60, 1))  # images differ for all units at once: units are not independent
        f, g = (rng.gamma(4.0, size=(60, UNITS)) * striking for _ in "fg")
        contrast, share = compare(f, g, np.arange(60), 30, draws=200)
        covered.append((contrast.low <= 0 <= contrast.high, share.low <= 0.5 <= share.high))
    assert (np.mean(covered, axis=0) > 0.87).all()


def test_same_seed_same_interval_and_tables_are_required() -> None:
    rng = np.random.default_rng(6)
    f, g, ids = table(rng, 40), table(rng, 40), np.arange(40)
    assert compare(f, g, ids, 20, seed=1) == compare(f, g, ids, 20, seed=1) != compare(f, g, ids, 20, seed=2)
    metric = UnitMem(UNITS)
    metric.update(torch.tensor(f, dtype=torch.float32), torch.tensor(ids))
    bare = metric.compute()
    with pytest.raises(ValueError, match="keep_table"):
        unit_contrasts(*[{"only": bare}] * 4)
    other = [result(part, ids[:20] + shift) for part, shift in ((f[:20], 0), (f[20:], 20), (g[:20], 0), (g[20:], 21))]
    with pytest.raises(ValueError, match="different images"):
        unit_contrasts(*({"only": part} for part in other))


def test_ties_go_to_the_lowest_id() -> None:
    def members(candidate_mu: float) -> list[UnitMemResult]:
        results = []
        for mu, ids in ((candidate_mu, [9, 3, 8, 7]), (1.0, [2, 5, 6, 4])):
            metric = UnitMem(1, keep_table=True)
            metric.update(torch.full((4, 1), mu), torch.tensor(ids))
            results.append(metric.compute())
        return results

    # For f all images tie and id 2 is an independent one; g prefers the candidates: neither has a maximum of its own.
    compared = unit_contrasts(*({"only": part} for part in (*members(1.0), *members(2.0))), draws=20)["only"]
    assert compared.own_max_share.value == 0
    assert compared.contrast.value == 0


def layers_of(mu: np.ndarray, ids: np.ndarray, sizes: tuple[int, ...]) -> dict[str, UnitMemResult]:
    """Units dealt to layers: ``size`` of them to each."""
    metric = UnitMem(mu.shape[1], keep_table=True)
    metric.update(torch.tensor(mu, dtype=torch.float32), torch.tensor(ids))
    whole, ends = metric.compute(), np.cumsum(sizes)
    return {
        f"layer{n}": whole.units(slice(end - size, end)) for n, (size, end) in enumerate(zip(sizes, ends, strict=True))
    }


def pair_of(f: np.ndarray, g: np.ndarray, sizes: tuple[int, ...]) -> list[dict[str, UnitMemResult]]:
    half, ids = len(f) // 2, np.arange(len(f))
    return [layers_of(mu[part], ids[part], sizes) for mu in (f, g) for part in (slice(None, half), slice(half, None))]


def test_layers_are_tested_together_by_the_same_relabellings() -> None:
    """A layer's interval is that of the layer alone; its p is that of the largest of all layers."""
    rng = np.random.default_rng(7)
    f, g = (rng.gamma(2.0, size=(60, 24)) for _ in "fg")
    f[rng.integers(0, 30, 6), np.arange(6)] *= 4
    together = unit_contrasts(*pair_of(f, g, (6, 6, 12)), draws=200)
    first = unit_contrasts(*pair_of(f[:, :6], g[:, :6], (6,)), draws=200)["layer0"].contrast
    assert together["layer0"].contrast[:3] == first[:3]
    assert first.p_adjusted <= together["layer0"].contrast.p_adjusted
    assert first.simultaneous_high - first.value < together["layer0"].contrast.simultaneous_high - first.value
    for pair in together.values():
        for claim, expected in zip(pair, (0, 0.5), strict=True):
            if not claim.simultaneous_low <= expected <= claim.simultaneous_high:
                assert claim.p_adjusted <= 0.05


def test_a_layer_without_living_units_claims_nothing() -> None:
    rng = np.random.default_rng(8)
    f, g = (rng.gamma(2.0, size=(40, 8)) for _ in "fg")
    f[:, :4] = g[:, :4] = 1.0  # every image alike
    dead, alive = unit_contrasts(*pair_of(f, g, (4, 4)), draws=100).values()
    assert np.isnan([dead.contrast.p_adjusted, dead.contrast.low, dead.own_max_share.simultaneous_high][:2]).all()
    assert np.isfinite([*alive.contrast, *alive.own_max_share]).all()


def test_where_nothing_is_memorised_a_layer_is_named_in_5_of_100_labellings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty layers whose units answer to the same striking images: every relabelling is taken for the true one."""
    statistics = []

    def kept(values: np.ndarray, null: np.ndarray, expected: float) -> list[Claim]:
        statistics.append((np.concatenate([values[None], null]), expected))
        return claims(values, null, expected)

    monkeypatch.setattr(contrast, "claims", kept)
    rng = np.random.default_rng(9)
    striking = rng.gamma(2.0, size=(40, 1))
    f, g = (rng.gamma(4.0, size=(40, 120)) * striking for _ in "fg")
    unit_contrasts(*pair_of(f, g, (4,) * 30), draws=299)
    for made, expected in statistics:
        named, alone = np.zeros((2, len(made)))
        for row in range(len(made)):
            found = claims(made[row], np.delete(made, row, axis=0), expected)
            named[row] = min(claim.p_adjusted for claim in found) <= 0.05
            alone[row] = any(not claim.low <= expected <= claim.high for claim in found)
        assert 0.02 < named.mean() <= 0.05 < 0.3 < alone.mean()  # of each layer by itself, in one case of three
