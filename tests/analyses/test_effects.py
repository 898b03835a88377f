import math

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats
from torch import Tensor

from memlight.analyses.effects import Effect, against_random, paired_drop
from tests.close import DOUBLE

REPETITIONS = 300
"""Of the experiment whose intervals are counted."""


def right(rng: np.random.Generator, accuracy: float, *shape: int) -> Tensor:
    return torch.from_numpy(rng.random(shape) < accuracy)


def loop_effect(none: list[bool], treated: list[bool], random: list[list[bool]]) -> list[float]:
    """Every number of an `Effect`, one image and one draw at a time."""
    images, draws = len(none), len(random)
    differences = [int(a) - int(b) for a, b in zip(none, treated, strict=True)]
    drop = sum(differences) / images
    error = math.sqrt(sum((d - drop) ** 2 for d in differences) / (images - 1) / images)
    z = scipy_stats.norm.ppf(0.975)
    drops = [sum(none) / images - sum(draw) / images for draw in random]
    mean = sum(drops) / draws
    spread = math.sqrt(sum((d - mean) ** 2 for d in drops) / (draws - 1))
    between = scipy_stats.t.ppf(0.975, draws - 1) * spread * math.sqrt(1 + 1 / draws)
    against = [sum(draw[i] for draw in random) / draws - treated[i] for i in range(images)]
    excess = sum(against) / images
    over_images = z * math.sqrt(sum((e - excess) ** 2 for e in against) / (images - 1) / images)
    half = math.sqrt(between**2 + over_images**2)
    first = [drop, drop - z * error, drop + z * error]
    return [*first, mean, mean - between, mean + between, excess, excess - half, excess + half]


@pytest.mark.parametrize("draws", [2, 10])
def test_values_equal_loops(draws: int) -> None:
    rng = np.random.default_rng(draws)
    none, treated, random = right(rng, 0.8, 50), right(rng, 0.5, 50), right(rng, 0.6, draws, 50)
    effect = against_random(none, treated, random)
    expected = loop_effect(none.tolist(), treated.tolist(), random.tolist())
    np.testing.assert_allclose([*effect.drop, *effect.random, *effect.excess], expected, rtol=1e-10, atol=1e-12)
    assert effect.excess.value == pytest.approx(effect.drop.value - effect.random.value)
    assert effect.drop == paired_drop(none, treated)


def test_the_interval_holds_what_is_so_over_draws_and_images() -> None:
    """A copy treated at random is no exception, whatever images it is tested on; the mean's error alone says it is."""
    rng = np.random.default_rng(0)
    covered, by_error_of_mean, verdicts = [], [], set()
    for _ in range(REPETITIONS):
        ease = rng.normal(0.7, 0.5, 300)  # images differ, alike for all copies
        levels = rng.normal(0, 0.08, 11)  # draws differ
        copies = torch.from_numpy(ease + levels[:, None] + rng.normal(0, 0.2, (11, 300)) > 0.5)
        effect = against_random(torch.from_numpy(ease > 0.5), copies[0], copies[1:])
        covered.append(effect.excess.low <= 0 <= effect.excess.high)
        error = (effect.random.high - effect.random.value) / math.sqrt(11)  # sqrt(1 + 1/10) becomes sqrt(1/10)
        by_error_of_mean.append(abs(effect.excess.value) <= error)
        verdicts.add(effect.verdict)
    four_errors = 4 * math.sqrt(0.95 * 0.05 / REPETITIONS)  # of the share that REPETITIONS estimate
    assert 0.95 - four_errors < np.mean(covered) < 1
    assert np.mean(by_error_of_mean) < 0.95 - 2 * four_errors
    assert verdicts == {"not decidable", "costs more", "costs less"}


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.3, "costs more"), (0.9, "costs less")])
def test_planted_effects_are_found(accuracy: float, verdict: str) -> None:
    rng = np.random.default_rng(1)
    none, random = right(rng, 0.8, 2000), right(rng, 0.6, 10, 2000)
    assert against_random(none, right(rng, accuracy, 2000), random).verdict == verdict


def test_the_treatment_itself_among_the_draws_and_copies_that_agree() -> None:
    rng = np.random.default_rng(2)
    none = right(rng, 0.8, 40)
    same = against_random(none, none, none.expand(3, 40))
    # the mean of equal numbers need not be that number to the last digit
    assert (*same.drop, *same.random, *same.excess) == pytest.approx((0,) * 9, abs=DOUBLE["atol"])
    assert same.verdict == "not decidable"


def test_a_single_draw_has_no_spread_and_decides_nothing() -> None:
    rng = np.random.default_rng(3)
    effect = against_random(right(rng, 0.9, 500), right(rng, 0.1, 500), right(rng, 0.8, 1, 500))
    assert effect.excess.value > 0.5
    assert all(math.isnan(bound) for bound in (*effect.random[1:], *effect.excess[1:]))
    assert effect.verdict == "not decidable"
    assert effect.drop.low > 0.5


def test_other_images_are_refused() -> None:
    row = torch.ones(5, dtype=torch.bool)
    for wrong in ((row, row[:4], row[None]), (row, row, row[None, :4]), (row[:1], row[:1], row[None, :1])):
        with pytest.raises(ValueError, match="each of the same two or more test images"):
            against_random(*wrong)
    with pytest.raises(ValueError, match="no random draw"):
        against_random(row, row, row.expand(0, 5))
    assert isinstance(against_random(row, row, row[None]), Effect)
