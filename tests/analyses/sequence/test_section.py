"""Words about sequences follow the numbers: what is not measurable is not claimed."""

import numpy as np
import pytest

from memlight.analyses.sequence.columns import FORGETTING, SAVINGS, SETS
from memlight.analyses.sequence.section import sequence_words
from memlight.storage.tables import Table, table_of


def table(names: tuple[str, ...], *rows: dict[str, object]) -> Table:
    return table_of(names, [[row.get(name, float("nan")) for name in names] for row in rows])


def told(
    difference: tuple[float, float, float], *, retained: tuple[float, float] = (0.3, 0.2), reached: int = 8
) -> str:
    own = {
        "run": "run",
        "members": 8,
        "floor_accuracy": 0.5,
        "accuracy": 0.9,
        "accuracy_low": 0.88,
        "accuracy_high": 0.92,
    }
    sets = table(SETS, *({**own, "set": index, "ends": 1000 * (index + 1)} for index in (0, 1)))
    forgetting = table(
        FORGETTING,
        {"run": "run", "after": 1, "set": 0, "accuracy": 0.6, "retained": retained[0], "retained_low": retained[1]},
    )
    steps = {"members": 8, "reached": 8, "steps": 400.0, "savings": 0.5, "savings_low": 0.4, "savings_high": 0.6}
    between = dict(zip(("difference", "difference_low", "difference_high"), difference, strict=True))
    savings = table(
        SAVINGS,
        *({**steps, "run": "run", "set": index} for index in (0, 1)),
        {**steps, **between, "run": "control", "set": 1, "reached": reached},
    )
    return sequence_words(sets, savings, forgetting, 0.8)


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ((0.3, 0.1, 0.5), "They exceed those of control by 0.30 (95 % interval 0.10 to 0.50)."),
        ((-0.3, -0.5, -0.1), "They fall short of those of control by 0.30 (95 % interval 0.10 to 0.50)."),
        ((0.1, -0.1, 0.3), "From those of control they differ by 0.10 (95 % interval \N{MINUS SIGN}0.10 to 0.30), not"),
        ((0.1, np.nan, np.nan), "From those of control they differ by 0.10, without an interval."),
        ((np.nan, np.nan, np.nan), "Against control they cannot be compared"),
    ],
)
def test_savings_are_held_against_the_control(difference: tuple[float, float, float], said: str) -> None:
    assert said in told(difference)


def test_what_is_left_of_the_first_set() -> None:
    assert "accuracy 0.600, 30 % of what was learned about it." in told((0.3, 0.1, 0.5))
    assert "nothing measurable is left" in told((0.3, 0.1, 0.5), retained=(0.02, -0.1))


def test_members_that_did_not_get_there_are_counted() -> None:
    assert "of its members 5 of 8 got there." in told((0.3, 0.1, 0.5), reached=5)


def test_a_set_that_nobody_learned_has_no_savings() -> None:
    nothing = {
        "run": "run",
        "members": 8,
        "floor_accuracy": 0.5,
        "accuracy": 0.5,
        "accuracy_low": 0.49,
        "accuracy_high": 0.51,
    }
    sets = table(SETS, *({**nothing, "set": index, "ends": 1} for index in (0, 1)))
    savings = table(SAVINGS, *({"run": "run", "set": index, "members": 8, "reached": 2 * index} for index in (0, 1)))
    left = table(FORGETTING, {"run": "run", "after": 1, "set": 0, "accuracy": 0.5})
    words = sequence_words(sets, savings, left, 0.8)
    assert words.count("That is not measurably above a coin.") == 2
    assert "Savings are not defined: 0 and 2 of 8 members" in words
