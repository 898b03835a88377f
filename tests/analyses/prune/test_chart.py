"""The chart of pruning shows the numbers of its tables."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from memlight.analyses.prune.chart import accuracy_lost
from memlight.analyses.prune.columns import PRUNE_EFFECTS, PRUNE_TABLE
from memlight.storage.tables import Table
from tests.pruned_tables import copies, effects


def intervals(ax: Axes) -> list[list[float]]:
    """Value, low and high of every error bar, from the left."""
    found = []
    for bar in ax.containers:
        assert isinstance(bar, ErrorbarContainer)
        (x,), (value,) = bar.lines[0].get_data()
        (_, low), (_, high) = bar.lines[2][0].get_segments()[0]
        found.append((x, [value, low, high]))
    return [numbers for _, numbers in sorted(found)]


def test_a_column_for_each_scope_with_drops_and_excesses_in_points() -> None:
    table, compared = copies(), effects()
    assert (list(table), list(compared)) == (list(PRUNE_TABLE), list(PRUNE_EFFECTS))
    axes = accuracy_lost(table, compared).axes
    assert len(axes) == 4
    for ax, scope in zip(axes, ("layer", "model"), strict=False):
        expected = []
        for ratio in (0.1, 0.2):
            rows = [np.flatnonzero(row(compared, scope, ratio, mode))[0] for mode in ("top", "low")]
            drop, random = ([f"{name}{end}" for end in ("", "_low", "_high")] for name in ("drop", "random"))
            for which, names in ((rows[0], drop), (rows[0], random), (rows[1], drop)):
                expected.append([100 * compared[name][which] for name in names])
        np.testing.assert_allclose(intervals(ax), expected, atol=1e-12)
        draws = np.concatenate([line.get_ydata() for line in ax.lines if line.get_label() == "random draws"])
        drawn = (table["scope"] == scope) & (table["mode"] == "random")
        np.testing.assert_allclose(draws, 100 * table["drop"][drawn])
    for ax, scope in zip(axes[2:], ("layer", "model"), strict=True):
        expected = [
            [100 * compared[f"excess{end}"][row(compared, scope, ratio, mode)][0] for end in ("", "_low", "_high")]
            for ratio in (0.1, 0.2)
            for mode in ("top", "low")
        ]
        np.testing.assert_allclose(intervals(ax), expected, atol=1e-12)
        thin = [lines.get_segments()[0][:, 1] for lines in ax.collections if len(lines.get_segments()) == 1]
        wide = [100 * compared[f"excess_simultaneous_{end}"][compared["scope"] == scope] for end in ("low", "high")]
        assert np.stack(wide, axis=1).tolist()[0] in [pytest.approx(segment) for segment in thin]


def row(table: Table, scope: str, ratio: float, mode: str) -> np.ndarray:
    return (table["scope"] == scope) & (table["ratio"] == ratio) & (table["mode"] == mode)


@pytest.mark.parametrize("mode", ["top", "random"])
def test_one_mode_and_one_scope_alone_have_one_panel(mode: str) -> None:
    keep = np.isin(copies()["mode"], ["none", mode]) & (copies()["scope"] != "layer")
    table = {name: column[keep] for name, column in copies().items()}
    alone = (effects()["mode"] == mode) & (effects()["scope"] == "model")
    compared = {name: column[alone] for name, column in effects().items()}
    for name in [*PRUNE_EFFECTS][8:15]:
        compared[name] = np.full(int(alone.sum()), np.nan)
    (ax,) = accuracy_lost(table, compared).axes
    assert len(intervals(ax)) == (2 if mode == "top" else 0)
