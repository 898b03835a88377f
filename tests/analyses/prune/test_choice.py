import numpy as np
import pytest

from memlight.analyses.prune.command import Mode, Scope
from memlight.analyses.prune.study import choose_units, pruned_count, require_pruned
from memlight.errors import UserError

SIZES = {"first": 10, "second": 25, "third": 7}


def tied_scores() -> dict[str, np.ndarray]:
    """Few distinct values, so that ties decide."""
    rng = np.random.default_rng(0)
    return {layer: rng.integers(0, 4, units) / 4 for layer, units in SIZES.items()}


def loop_choice(scores: dict[str, np.ndarray], mode: Mode, scope: Scope, ratio: float) -> dict[str, list[int]]:
    """Take the best one that is left, again and again."""
    left = [(layer, unit) for layer in scores for unit in range(len(scores[layer]))]
    sign = 1 if mode == "top" else -1
    lost: dict[str, list[int]] = {layer: [] for layer in scores}
    for layer_alone in scores if scope == "layer" else [None]:
        pool = [unit for unit in left if layer_alone in (None, unit[0])]
        for _ in range(int(ratio * len(pool))):
            best = pool[0]
            for layer, unit in pool:
                if sign * scores[layer][unit] > sign * scores[best[0]][best[1]]:
                    best = (layer, unit)
            pool.remove(best)
            lost[best[0]].append(best[1])
    return {layer: sorted(units) for layer, units in lost.items()}


@pytest.mark.parametrize("scope", ["layer", "model"])
@pytest.mark.parametrize("mode", ["top", "low"])
@pytest.mark.parametrize("ratio", [0.15, 0.5])
def test_scores_choose_as_loops_do_and_ties_go_to_the_first(mode: Mode, scope: Scope, ratio: float) -> None:
    scores = tied_scores()
    copy = choose_units(scores, mode, scope, ratio)
    assert copy[:4] == (mode, scope, ratio, 0)
    assert copy.units == loop_choice(scores, mode, scope, ratio)


@pytest.mark.parametrize("scope", ["layer", "model"])
def test_random_draws_have_the_size_and_depend_on_their_own_numbers_alone(scope: Scope) -> None:
    scores = tied_scores()

    def draw(ratio: float = 0.3, seed: int = 5, trial: int = 2) -> dict[str, list[int]]:
        return choose_units(scores, "random", scope, ratio, seed=seed, trial=trial).units

    drawn = draw()
    counts = {layer: len(set(units)) for layer, units in drawn.items()}
    assert sum(counts.values()) == (3 + 7 + 2 if scope == "layer" else int(0.3 * 42))
    assert all(units == sorted(units) and set(units) <= set(range(SIZES[layer])) for layer, units in drawn.items())
    assert drawn == choose_units({k: -v for k, v in scores.items()}, "random", scope, 0.3, seed=5, trial=2).units
    assert drawn not in (draw(seed=6), draw(seed=-5), draw(trial=3), draw(ratio=0.31))
    if scope == "layer":
        assert counts == {"first": 3, "second": 7, "third": 2}
        alone = choose_units({"second": scores["second"]}, "random", scope, 0.3, seed=5, trial=2).units
        assert alone == {"second": drawn["second"]}


def test_every_unit_is_drawn_equally_often() -> None:
    scores = {layer: np.zeros(units) for layer, units in SIZES.items()}
    times = np.zeros(42)
    for trial in range(2000):
        drawn = choose_units(scores, "random", "model", 0.25, trial=trial).units
        times[[*drawn["first"], *(10 + u for u in drawn["second"]), *(35 + u for u in drawn["third"])]] += 1
    expected, deviation = 2000 * 10 / 42, np.sqrt(2000 * 10 / 42 * 32 / 42)
    assert np.abs(times - expected).max() < 4.5 * deviation


def test_counts_are_those_of_the_paper_and_survive_binary_fractions() -> None:
    assert [pruned_count(0.1, units) for units in (32, 64, 128, 256, 1120)] == [3, 6, 12, 25, 112]
    assert pruned_count(0.29, 100) == 29 != int(0.29 * 100)


def test_a_share_of_nothing_is_refused_with_the_way_out() -> None:
    require_pruned(SIZES, "layer", 0.15)
    require_pruned(SIZES, "model", 0.03)
    with pytest.raises(UserError, match=r"ratios=0.1: is none of the 7 units of third; use 0.143 or more"):
        require_pruned(SIZES, "layer", 0.1)
    require_pruned(SIZES, "layer", 0.143)
    with pytest.raises(UserError, match=r"ratios=0.02: is none of the 42 units of the model; use 0.024 or more"):
        require_pruned(SIZES, "model", 0.02)
