"""Gains of fine-tuning against their definitions, written out."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from memlight.analyses.finetune.arms import (
    Arm,
    finetune_tables,
    gain_over_random,
    paired_gain,
    trials_interval,
)
from memlight.analyses.finetune.columns import FINETUNE_EFFECTS, FINETUNE_TABLE

TRIALS, IMAGES = 4, 50


def answers(seed: int, share: float) -> Tensor:
    return torch.rand(TRIALS, IMAGES, generator=torch.Generator().manual_seed(seed)) < share


ARMS = [
    Arm("head", "head", ((),) * TRIALS),
    Arm("delta-1", "delta", (("layer8",),) * TRIALS),
    Arm("delta-2", "delta", (("layer4", "layer8"),) * TRIALS),
    Arm("random-1", "random", (("layer2",), ("layer8",), ("layer2",), ("layer4",))),
    Arm("layer2", "named", (("layer2",),) * TRIALS),
]
RIGHT = {arm.name: answers(n, 0.4 + 0.08 * n) for n, arm in enumerate(ARMS)}
PARAMETERS = {(): 10, ("layer2",): 20, ("layer4",): 40, ("layer8",): 80, ("layer4", "layer8"): 120}


def deviation(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def gain_by_loops(
    right: list[list[bool]], baseline: list[list[bool]], one_more_draw: bool = False
) -> tuple[float, float, float]:
    by_trial, by_image = [0.0] * TRIALS, [0.0] * IMAGES
    for t in range(TRIALS):
        for i in range(IMAGES):
            d = int(right[t][i]) - int(baseline[t][i])
            by_trial[t] += d / IMAGES
            by_image[i] += d / TRIALS
    gain = sum(by_trial) / TRIALS
    of_trials = stats.t.ppf(0.975, TRIALS - 1) * deviation(by_trial)
    of_trials *= math.sqrt(1 + 1 / TRIALS) if one_more_draw else math.sqrt(1 / TRIALS)
    of_images = stats.norm.ppf(0.975) * deviation(by_image) / math.sqrt(IMAGES)
    half = math.sqrt(of_trials**2 + of_images**2)
    return gain, gain - half, gain + half


def test_gain_follows_its_definition() -> None:
    right, baseline = RIGHT["delta-1"], RIGHT["head"]
    assert paired_gain(right, baseline) == pytest.approx(gain_by_loops(right.tolist(), baseline.tolist()))
    assert paired_gain(right, right) == (0, 0, 0)
    over_random = gain_by_loops(right.tolist(), baseline.tolist(), one_more_draw=True)
    assert gain_over_random(right, baseline) == pytest.approx(over_random)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """Trials and images both vary; no gain in truth."""
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        shift = generator.normal(0, 0.05, (TRIALS, 1))
        right, baseline = generator.random((TRIALS, 200)) < 0.5 + shift, generator.random((TRIALS, 200)) < 0.5
        found = paired_gain(torch.from_numpy(right), torch.from_numpy(baseline))
        covered += found.low <= 0 <= found.high
    assert covered / 400 >= 0.94


def test_a_ranking_that_knows_nothing_seldom_beats_random_layers() -> None:
    """Layers differ in worth; the ranking's are one more draw of them, the same in every trial."""
    generator = np.random.default_rng(1)
    decided = dict.fromkeys((gain_over_random, paired_gain), 0)
    for _ in range(400):
        ranked, random = 0.5 + generator.normal(0, 0.1), 0.5 + generator.normal(0, 0.1, (TRIALS, 1))
        right = [torch.from_numpy(generator.random((TRIALS, 200)) < share) for share in (ranked, random)]
        for interval in decided:
            low, high = interval(*right)[1:]
            decided[interval] += low > 0 or high < 0
    assert decided[gain_over_random] / 400 <= 0.06
    assert decided[paired_gain] / 400 > 0.1  # which asks something else


def test_interval_over_trials_is_that_of_a_t_test() -> None:
    values = [0.1, 0.4, 0.35, 0.2]
    found = trials_interval(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found == pytest.approx((sum(values) / 4, low, high))


def test_a_single_trial_has_no_interval() -> None:
    for found in (paired_gain(RIGHT["head"][:1], RIGHT["delta-1"][:1]), trials_interval([0.3])):
        assert math.isfinite(found.value) and math.isnan(found.low) and math.isnan(found.high)


def test_gain_needs_the_same_trials_and_images() -> None:
    for right, baseline in (
        (RIGHT["head"], RIGHT["head"][:2]),
        (RIGHT["head"][:, :1],) * 2,
        (RIGHT["head"][0],) * 2,
    ):
        with pytest.raises(ValueError, match="two or more images of equal trials"):
            paired_gain(right, baseline)


def test_table_has_every_trial_of_every_arm() -> None:
    table, _ = finetune_tables(ARMS, RIGHT, PARAMETERS)
    assert list(table) == list(FINETUNE_TABLE)
    row = 0
    for arm in ARMS:
        for trial in range(TRIALS):
            layers = arm.draws[trial]
            top1 = sum(RIGHT[arm.name][trial].tolist()) / IMAGES
            assert [table[n][row] for n in ("arm", "rank_by", "trial")] == [arm.name, arm.rank_by, trial]
            assert (table["layers"][row], table["count"][row]) == (",".join(layers), len(layers))
            assert table["trained_parameters"][row] == PARAMETERS[layers]
            assert table["top1"][row] == pytest.approx(top1)
            assert table["gain"][row] == pytest.approx(top1 - sum(RIGHT["head"][trial].tolist()) / IMAGES)
            row += 1
    assert len(table["arm"]) == row


def test_effects_compare_each_arm_with_the_head_and_a_ranking_with_random_layers_of_its_number() -> None:
    _, effects = finetune_tables(ARMS, RIGHT, PARAMETERS)
    assert list(effects) == list(FINETUNE_EFFECTS)
    assert effects["arm"].tolist() == [arm.name for arm in ARMS]
    assert effects["layers"].tolist() == ["", "layer8", "layer4,layer8", "drawn in each trial", "layer2"]
    assert effects["trained_parameters"].tolist() == [10, 80, 120, (20 + 80 + 20 + 40) / 4, 20]

    def found(name: str, row: int) -> list[float]:
        return [float(effects[f"{name}{end}"][row]) for end in ("", "_low", "_high")]

    for row, arm in enumerate(ARMS):
        assert found("top1", row) == pytest.approx(trials_interval(RIGHT[arm.name].double().mean(1)))
        if row:
            assert found("gain", row) == pytest.approx(paired_gain(RIGHT[arm.name], RIGHT["head"]))
    assert found("over_random", 1) == pytest.approx(gain_over_random(RIGHT["delta-1"], RIGHT["random-1"]))
    assert np.isnan([found("gain", 0), *(found("over_random", row) for row in (0, 2, 3, 4))]).all()
