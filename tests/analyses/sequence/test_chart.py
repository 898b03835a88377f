"""Charts of sequence experiments show the numbers of their tables, whatever the number of sets, heads and members."""

import numpy as np
import pytest

from memlight.analyses.sequence.chart import (
    hues,
    sequence_positions,
    sequence_rank_time,
    sequence_ranks,
    sequence_runs,
    sequence_switches,
    sequence_time,
)
from memlight.analyses.sequence.chart_sets import (
    attention_maps,
    sequence_forgetting,
    sequence_interventions,
    sequence_savings,
)
from memlight.analyses.sequence.columns import PROBES, SWAPS
from memlight.analyses.sequence.experiment import Experiment, set_ceilings
from memlight.analyses.sequence.tables import (
    appearances_table,
    curves_table,
    forgetting_table,
    learned_table,
    positions_table,
    rank_time_table,
    ranks_table,
    savings_table,
    sets_table,
    training_table,
)
from memlight.storage.tables import table_of
from tests.sequence_runs import sequence_results


def made(name: str = "run", **options: int) -> Experiment:
    return Experiment(name, sequence_results(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("sets", [1, 3, 16])
def test_curves_of_any_number_of_sets(sets: int) -> None:
    run = made(sets=sets, members=2)
    table, of_sets = curves_table([run]), sets_table([run])
    accuracy, loss = sequence_switches(table, of_sets).axes
    for index in range(sets):
        rows = (table["set"] == index) & table["trained"]
        np.testing.assert_array_equal(accuracy.lines[index].get_ydata(), table["accuracy"][rows])
        np.testing.assert_array_equal(accuracy.lines[index].get_xdata(), table["since_switch"][rows])
        np.testing.assert_array_equal(loss.lines[index].get_ydata(), table["loss"][rows])
    assert [line.get_ydata()[0] for line in accuracy.lines[sets:]] == [0.93, 0.5]
    over_time = sequence_time(table, of_sets, training_table([run])).axes
    assert len(over_time) == 3 and len(over_time[0].lines) == sets + 2 + sets - 1
    positions = positions_table([run])
    (by_position,) = sequence_positions(positions, of_sets).axes
    ceiling = set_ceilings(run, 0).by_position_N
    np.testing.assert_array_equal(by_position.lines[sets].get_ydata(), ceiling)
    assert len(set(hues(sets))) == sets


@pytest.mark.parametrize("sets", [1, 3, 9])
def test_maps_of_any_number_of_sets(sets: int) -> None:
    run = made(sets=sets, members=2)
    maps = sequence_rank_time(rank_time_table(run), sets_table([run])).axes
    assert len(maps) == min(sets, 6) + 1
    shown = maps[0].collections[0].get_array()
    np.testing.assert_allclose(shown[:, 5], run.results.test_accuracy[:, 0, 5].mean(axis=0))
    if sets > 1:
        left, right, *_ = sequence_forgetting(forgetting_table([run])).axes
        np.testing.assert_allclose(np.diag(right.images[0].get_array()), 1)
        assert (len(left.texts) > 0) == (sets <= 8)


def test_ranks_and_learned_sequences() -> None:
    run = made(sets=2, members=3)
    table = ranks_table([run])
    panels = sequence_ranks(table, appearances_table([run]), learned_table([run]), sets_table([run]), uneven=False).axes
    np.testing.assert_array_equal(panels[0].lines[1].get_ydata(), table["accuracy"][table["set"] == 1])
    np.testing.assert_array_equal(panels[0].lines[2].get_ydata(), table["ceiling"][table["set"] == 0])
    assert panels[3].lines[0].get_ydata()[-1] == 190


def test_runs_without_a_switch_or_savings_are_shown_beside_others() -> None:
    runs = [made(), made("alone", sets=1, members=1)]
    first, last = sequence_runs(curves_table(runs), sets_table(runs)).axes
    assert len(first.lines) == len(last.lines) + 1
    steps, savings = sequence_savings(savings_table(runs, 0.8), 0.8).axes
    assert len(steps.containers) == 2 and len(savings.containers) == 1
    assert [label.get_text() for label in savings.get_xticklabels()] == ["run", "alone"]


def test_swaps_or_probes_alone() -> None:
    probes = table_of(
        PROBES, [("run", 0, 3, 0, np.nan, np.nan, np.nan, 0.6), ("run", 200, 3, 2, 30.0, 10.0, 50.0, 0.9)]
    )
    (forks,) = sequence_interventions(table_of(SWAPS, []), probes).axes
    assert [label.get_text() for label in forks.get_xticklabels()] == ["0\n0 of 3", "200\n2 of 3"]
    swaps = table_of(SWAPS, [("run", 200, "mlp@100", 0, 0.7, 0.6, 0.8, 0.5)])
    (swapped,) = sequence_interventions(swaps, table_of(PROBES, [])).axes
    assert swapped.containers[0].lines[0].get_ydata().tolist() == [0.7]


@pytest.mark.parametrize("heads", [1, 5, 30])
def test_attention_of_any_number_of_heads(heads: int) -> None:
    maps = np.random.default_rng(0).dirichlet(np.ones(6), (heads, 6))
    axes = attention_maps(maps, [f"head {head}" for head in range(heads)], "position").axes
    assert len(axes) == min(heads, 12) + 1
    np.testing.assert_array_equal(axes[0].images[0].get_array(), maps[0])
