"""Charts of agreement and of repetitions show the numbers of their tables."""

import numpy as np
import pytest

from memlight.analyses.layermem.agreement import layer_agreement, pairwise_agreement
from memlight.analyses.layermem.chart import MOST_WRITTEN, agreement_between_layers, agreement_between_runs
from memlight.report.compare.figures import repeats_by_depth
from memlight.report.compare.runs import compare_layers
from memlight.storage.tables import Table

RNG = np.random.default_rng(0)
LAYERS = ["layer1", "res2", "layer3"]
SCORES = {
    split: {layer: RNG.normal(size=count) for layer in LAYERS}
    for split, count in (("candidate", 120), ("external", 60))
}


def test_candidates_are_below_the_diagonal_and_external_images_above() -> None:
    table = layer_agreement(SCORES)
    tau, overlap, *_ = agreement_between_layers(table).axes
    for ax, name in ((tau, "tau"), (overlap, "overlap")):
        shown = np.ma.getdata(ax.images[0].get_array())
        assert np.isnan(np.diag(shown)).all()
        for row, (split, a, b) in enumerate(zip(table["split"], table["layer_a"], table["layer_b"], strict=True)):
            earlier, later = LAYERS.index(a), LAYERS.index(b)
            place = (later, earlier) if split == "candidate" else (earlier, later)
            assert shown[place] == pytest.approx(table[name][row])
            (written,) = [t.get_text() for t in ax.texts if t.get_position() == (place[1], place[0])]
            assert float(written.replace("\N{MINUS SIGN}", "-")) == pytest.approx(table[name][row], abs=0.0051)
    assert overlap.get_title("left") == "Overlap of the top 50: 20.8 if unrelated"


def test_a_deep_network_has_no_numbers_written_in_and_candidates_may_stand_alone() -> None:
    names = [f"block{n}" for n in range(MOST_WRITTEN + 1)]
    figure = agreement_between_layers(layer_agreement({"candidate": {name: RNG.normal(size=9) for name in names}}))
    assert len(figure.axes[0].texts) == 0
    assert figure.get_supxlabel() == "below the diagonal: candidates"


def between_runs(runs: int) -> Table:
    parts = []
    for split, count in (("candidate", 120), ("external", 60)):
        for layer in LAYERS:
            table = pairwise_agreement([f"s{n}" for n in range(runs)], RNG.normal(size=(runs, count)), "run")
            parts.append({"split": np.full(len(table["n"]), split), "layer": np.full(len(table["n"]), layer), **table})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize("runs", [2, 3])
def test_agreement_of_runs_is_the_mean_over_pairs(runs: int) -> None:
    table = between_runs(runs)
    tau, overlap = agreement_between_runs(table).axes
    for line, band, split in zip(tau.lines, tau.collections, ("candidate", "external"), strict=False):
        rows = [np.flatnonzero((table["split"] == split) & (table["layer"] == layer)) for layer in LAYERS]
        np.testing.assert_allclose(line.get_ydata(), [sum(table["tau"][at]) / len(at) for at in rows])
        ends = ("tau_low", "tau_high") if runs == 2 else ("tau", "tau")
        limits = band.get_datalim(tau.transData)
        assert limits.y0 == pytest.approx(min(table[ends[0]][at].min() for at in rows))
        assert limits.y1 == pytest.approx(max(table[ends[1]][at].max() for at in rows))
    chance = [line.get_ydata()[0] for line in overlap.lines if line.get_linestyle() == ":"]
    assert chance == pytest.approx([50 / 120, 30 / 60])


def test_repetitions_show_every_run_and_their_mean() -> None:
    runs: Table = {name: np.full(6, np.nan) for name in compare_layers()}
    runs |= {"run": np.repeat(["s0", "s1"], 3), "layer": np.array(LAYERS * 2)}
    runs["contrast"] = np.array([0.0, 0.1, 0.2, 0.2, 0.3, np.nan])
    means: Table = {
        "layer": np.array(LAYERS * 2),
        "depth": np.array([0, 1, 2] * 2),
        "number": np.repeat(["contrast", "own_max_share"], 3),
        "runs": np.array([2, 2, 1] * 2),
        "mean": np.array([0.1, 0.2, 0.2, 0.5, 0.6, 0.7]),
    }
    means |= {"mean_low": means["mean"] - 0.05, "mean_high": means["mean"] + 0.05}
    for name in ("mean_low", "mean_high"):
        means[name][2] = np.nan  # a single run has no interval
    contrast, share = repeats_by_depth(means, runs).axes
    first, second, mean = contrast.lines[:3]
    assert first.get_ydata().tolist() == [0.0, 0.1, 0.2] and second.get_ydata().tolist() == [0.2, 0.3]
    assert mean.get_ydata().tolist() == [0.1, 0.2, 0.2]
    (_, _, (bars,)) = contrast.containers[0]
    ends = [tuple(path[:, 1]) for path in bars.get_segments()]
    assert ends == [pytest.approx((0.05, 0.15)), pytest.approx((0.15, 0.25)), pytest.approx((0.2, 0.2))]
    assert share.get_title("left").startswith("Own-max share: 0.5")
    assert share.lines[-1].get_ydata()[0] == 0.5
