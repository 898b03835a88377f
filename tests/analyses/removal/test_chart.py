"""The chart of a removal study shows the numbers of its tables."""

import numpy as np

from memlight.analyses.removal.chart import MOST_CLASSES, removal_costs
from tests.removal_tables import classes, effects, table


def test_drops_excesses_and_classes() -> None:
    drops, excess, by_class = removal_costs(table(), effects(), classes()).axes
    drawn = next(line for line in drops.lines if line.get_label() == "random draws")
    np.testing.assert_allclose(drawn.get_ydata(), 100 * table()["drop"][3:])
    for ax, name in ((drops, "drop"), (excess, "excess")):
        points = [float(line.get_ydata()[0]) for line in ax.lines if line.get_marker() == "o"]
        np.testing.assert_allclose(points, 100 * effects()[name])
        bars = [bar.get_segments()[0][:, 1] for bar in ax.collections][-2:]
        np.testing.assert_allclose(bars, 100 * np.stack([effects()[f"{name}_low"], effects()[f"{name}_high"]], 1))
    heights = [patch.get_height() for patch in by_class.patches]
    assert heights == [3, 1, 2, 2, 0, 4]  # top, the mean of two draws, low
    (proportional,) = by_class.collections
    levels = [segment[:, 1].tolist() for segment in proportional.get_segments()]
    np.testing.assert_allclose(levels, [[4 / 20 * 12] * 2, [4 / 20 * 8] * 2])


def test_a_study_without_random_arms_or_with_too_many_classes() -> None:
    alone = {name: column[:3] for name, column in table().items()}
    unknown = effects() | {name: np.full(2, np.nan) for name in effects() if name.startswith(("random", "excess"))}
    many = classes() | {"class_name": np.array([f"c{n}" for n in range(8 * (MOST_CLASSES // 8 + 1))])}
    drops, excess = removal_costs(alone, unknown, many).axes
    assert not [line for line in drops.lines if line.get_label() == "random draws"]
    assert len(excess.lines) == 1
