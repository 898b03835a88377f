import math

import numpy as np
import pytest
import torch
from scipy import stats

from memlight.analyses.unitmem.reliability import split_half, unitmem_curve
from memlight.metrics.functional import unitmem
from memlight.metrics.unitmem import UnitMem, UnitMemResult


def result(keep_table: bool = True) -> UnitMemResult:
    mu = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=(80, 12)))
    mu[:, 5] = 0
    metric = UnitMem(12, keep_table=keep_table)
    metric.update(mu, torch.arange(80))
    return metric.compute()


def test_split_half_ranks_living_units() -> None:
    measured = result()
    assert math.isnan(split_half(measured))
    measured.halves = torch.rand(2, 12, dtype=torch.float64)
    living = np.delete(measured.halves.numpy(), 5, axis=1)
    np.testing.assert_allclose(split_half(measured), stats.spearmanr(*living).statistic)
    measured.halves = torch.zeros(2, 12)
    assert math.isnan(split_half(measured))


def test_curve_grows_with_noise_and_ends_at_the_score() -> None:
    measured = result()
    table = unitmem_curve({"a": measured, "b": measured}, [80, 5, 20, 200, 1])
    assert table["layer"].tolist() == ["a"] * 3 + ["b"] * 3 and table["n"].tolist() == [5, 20, 80] * 2
    np.testing.assert_allclose(table["mean"][2], measured.unitmem[~measured.dead].mean(), rtol=1e-6)
    assert (np.diff(table["mean"][:3]) > 0).all()
    order = np.random.default_rng(0).permutation(80)[:5]
    expected = unitmem(measured.mu[order][:, ~measured.dead]).mean()
    np.testing.assert_allclose(table["mean"][0], expected, rtol=1e-6)


def test_curve_needs_the_table() -> None:
    with pytest.raises(ValueError, match="keep_table"):
        unitmem_curve({"a": result(keep_table=False)}, [5])
    assert unitmem_curve({}, [5])["n"].size == 0
