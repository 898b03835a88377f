"""The chart of fine-tuning shows the numbers of its tables."""

import numpy as np

from memlight.analyses.finetune.chart import finetune_chart
from tests.finetuned_tables import one_trial, tables


def test_gains_of_every_arm_but_the_head_with_intervals_and_trials() -> None:
    table, effects = tables()
    gains, _ = finetune_chart(effects, table).axes
    labels = [tick.get_text() for tick in gains.get_yticklabels()]
    assert labels[:3] == ["layer1", "delta-1: layer8", "delta-2: layer7,layer8"] and labels[-1] == "random-2"
    for y, row in enumerate(range(1, len(effects["arm"]))):
        at_y = [line for line in gains.lines if list(line.get_ydata()) == [y] * len(line.get_ydata())]
        trials, interval, mean = (np.asarray(line.get_xdata()) for line in at_y)
        (thin,) = gains.collections[y].get_segments()
        outer = [100 * effects[f"gain_simultaneous_{end}"][row] for end in ("low", "high")]
        np.testing.assert_allclose(thin, [[outer[0], y], [outer[1], y]])
        np.testing.assert_allclose(trials, 100 * table["gain"][table["arm"] == effects["arm"][row]])
        np.testing.assert_allclose(interval, [100 * effects["gain_low"][row], 100 * effects["gain_high"][row]])
        np.testing.assert_allclose(mean, 100 * effects["gain"][row])


def test_accuracy_of_every_trial_against_its_trained_parameters() -> None:
    table, effects = tables()
    _, costs = finetune_chart(effects, table).axes
    alone, *ranked = costs.lines[:5]
    assert list(alone.get_ydata()) == [100 * effects["top1"][0]] * 2
    shown = dict(zip(("named layers", "delta", "LayerMem", "random layers"), ranked, strict=True))
    for (label, line), rank_by in zip(shown.items(), ("named", "delta", "layermem", "random"), strict=True):
        of = table["rank_by"] == rank_by
        assert line.get_label() == label
        np.testing.assert_array_equal(line.get_xdata(), table["trained_parameters"][of])
        np.testing.assert_allclose(line.get_ydata(), 100 * table["top1"][of])


def test_a_single_trial_is_a_point_without_an_interval() -> None:
    table, effects = one_trial()
    gains, _ = finetune_chart(effects, table).axes
    assert [len(line.get_xdata()) for line in gains.lines[1:]] == [1, 1]
