"""Adjusted p-values and verdicts of tables of effects, against tests made by the book."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from memlight.analyses.effects import effect_row, paired_drop
from memlight.analyses.verdicts import (
    StandardErrors,
    against_draws,
    against_untreated,
    effects_table,
    holm,
    interval_p,
)
from memlight.storage.tables import Table

COLUMNS = ("drop", "drop_low", "drop_high", "random", "random_low", "random_high", "draws", "excess", "excess_low",
           "excess_high", "verdict")  # fmt: skip


def right(rng: np.random.Generator, accuracy: float, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.random(shape) < accuracy)


def test_holm_is_the_loop() -> None:
    p = [0.04, 0.001, math.nan, 0.03, 0.5, 0.011]
    left, before, expected = sorted(value for value in p if value == value), 0.0, {}
    for rank, value in enumerate(left):
        before = max(before, min(1.0, value * (len(left) - rank)))
        expected[value] = before
    np.testing.assert_allclose(holm(p), [expected.get(value, math.nan) for value in p])
    assert holm([]).size == 0
    np.testing.assert_array_equal(holm(np.array([[0.01], [0.2]])), [[0.02], [0.2]])


def test_a_p_is_the_level_whose_interval_just_reaches_0() -> None:
    errors = StandardErrors(
        np.array([0.02, 0.02, 0.0, 0.01]), np.array([0.0, 0.01, 0.01, 0.02]), np.array([9.0, 2, 4, 1])
    )
    value = np.array([0.05, -0.3, 0.02, 0.0])
    p = errors.own_p(value)
    np.testing.assert_allclose(errors.half_width(p), np.abs(value), atol=1e-12)
    np.testing.assert_allclose(p[[0, 2]], [2 * stats.t.sf(2.5, 9), 2 * stats.norm.sf(2)])
    assert p[3] == 1
    assert np.isnan(StandardErrors(*np.full((3, 1), np.nan)).own_p(np.array([0.1]))).all()


def rows(rng: np.random.Generator, accuracies: tuple[float, ...], draws: int) -> list[tuple[object, ...]]:
    none, random = right(rng, 0.8, 400), [right(rng, 0.7, 400) for _ in range(draws)]
    return [effect_row(none, right(rng, accuracy, 400), random) for accuracy in accuracies]


def test_a_row_alone_is_judged_by_its_interval_and_many_rows_more_strictly() -> None:
    rng = np.random.default_rng(0)
    accuracies = (0.5, 0.6, 0.62, 0.64, 0.66, 0.7, 0.76, 0.8)
    made = rows(rng, accuracies, 6)
    together = effects_table(COLUMNS, made)
    alone = [effects_table(COLUMNS, [row]) for row in made]
    for row, one in enumerate(alone):
        low, high = (float(together[f"excess_{end}"][row]) for end in ("low", "high"))
        assert (one["p_adjusted"][0] <= 0.05) == (not low <= 0 <= high)
        assert (one["excess_simultaneous_low"][0], one["excess_simultaneous_high"][0]) == pytest.approx((low, high))
        assert together["p_adjusted"][row] >= one["p_adjusted"][0]
        assert together["excess_simultaneous_low"][row] < low and high < together["excess_simultaneous_high"][row]
    np.testing.assert_allclose(together["p_adjusted"], holm([one["p_adjusted"][0] for one in alone]))
    assert together["verdict"][0] == "costs more"
    decided = [one["verdict"][0] for one in alone], together["verdict"].tolist()
    assert sum(verdict == "not decidable" for verdict in decided[0]) < sum(v == "not decidable" for v in decided[1])


def test_an_older_table_is_judged_anew_and_one_that_was_judged_is_left() -> None:
    made = effects_table(COLUMNS, rows(np.random.default_rng(1), (0.5, 0.66, 0.8), 5))
    old = {name: made[name] for name in COLUMNS} | {"verdict": np.full(3, "costs more")}
    again = against_draws(old)
    assert list(again) == list(made) and all(np.array_equal(again[name], made[name]) for name in made)
    edited: Table = {**made, "verdict": np.full(3, "edited")}
    assert against_draws(edited) is edited


def test_no_draw_and_one_draw_decide_nothing() -> None:
    rng = np.random.default_rng(2)
    for draws, verdict in ((0, "no random draws"), (1, "not decidable")):
        table = effects_table(COLUMNS, rows(rng, (0.1, 0.9), draws))
        assert table["verdict"].tolist() == [verdict] * 2 and np.isnan(table["p_adjusted"]).all()
    assert effects_table(COLUMNS, [])["p_adjusted"].size == 0


def test_drops_are_tested_by_the_images_that_one_copy_alone_classifies_correctly() -> None:
    """The counts come out of the interval: the p is McNemar's exact one."""
    rng = np.random.default_rng(3)
    names = ("layers", "drop", "drop_low", "drop_high", "n_test")
    cells, expected = [("none", 0.0, 0.0, 0.0, 150)], [math.nan]
    none = right(rng, 0.8, 150)
    for name, accuracy in (("same", None), ("less", 0.55), ("alike", 0.8), ("more", 0.95)):
        copy = none.clone() if accuracy is None else right(rng, accuracy, 150)
        cells.append((name, *paired_drop(none, copy), 150))
        lost, gained = int((none & ~copy).sum()), int((copy & ~none).sum())
        expected.append(stats.binomtest(lost, lost + gained).pvalue if lost + gained else 1.0)
    table = against_untreated({n: np.array(c) for n, c in zip(names, zip(*cells, strict=True), strict=True)}, ("none",))
    np.testing.assert_allclose(table["p_adjusted"], holm(expected))
    wide = table["drop_simultaneous_high"] - table["drop"], (table["drop_high"] - table["drop"])
    np.testing.assert_allclose(wide[0][2:] / wide[1][2:], stats.norm.ppf(1 - 0.025 / 4) / stats.norm.ppf(0.975))
    assert against_untreated(table, ()) is table


def test_a_p_from_an_interval() -> None:
    value = np.array([0.2, -0.2, 0.1, 0.0, 0.3, np.nan])
    below, above = np.array([0.2, 0.1, 0.05, 0.1, 0.0, 0.1]), np.array([0.4, 0.2, 0.4, 0.1, 0.1, 0.1])
    p = interval_p(value, value - below, value + above)
    expected = [0.05, 0.05, 2 * stats.norm.sf(2 * stats.norm.ppf(0.975)), 1, math.nan, math.nan]
    np.testing.assert_allclose(p, expected)
