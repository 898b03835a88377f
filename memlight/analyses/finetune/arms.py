"""Arms of fine-tuning: which layers each trains, and what it gains on the test images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Tensor

from memlight.analyses.finetune.claims import gains_claimed
from memlight.analyses.finetune.columns import FINETUNE_EFFECTS, FINETUNE_TABLE, HEAD, NAMED, RANDOM, is_ranked
from memlight.errors import UserError
from memlight.random import permutation
from memlight.stats import Interval
from memlight.storage.schema import required
from memlight.storage.tables import Table, table_of


@dataclass(frozen=True)
class Arm:
    """One way to choose layers.

    Attributes:
        name: of the arm.
        rank_by: how its layers are chosen: ``HEAD`` (there are none), ``NAMED``, ``RANDOM`` or a ranking.
        draws: its layers in each trial, in execution order; the same ones unless they are random.
    """

    name: str
    rank_by: str
    draws: tuple[tuple[str, ...], ...]

    @property
    def count(self) -> int:
        """Number of layers."""
        return len(self.draws[0])


def head_arm(trials: int) -> Arm:
    """No layer: the linear classifier alone, which the others are compared with."""
    return Arm(HEAD, HEAD, ((),) * trials)


def named_arms(words: Sequence[str], trials: int) -> list[Arm]:
    """One arm for each word of ``--layers``, its layers joined by commas.

    Raises:
        UserError: a word that names no layer, one layer twice, or the layers of another word.
    """
    arms: list[Arm] = []
    for word in words:
        layers = tuple(word.split(","))
        if "" in layers or len(set(layers)) < len(layers):
            why = "join the layers of one arm by commas, each once, as in layer6,layer8"
            raise UserError("layers", repr(word), why)
        if any(set(arm.draws[0]) == set(layers) for arm in arms):
            raise UserError("layers", word, "the same layers are named twice")
        arms.append(Arm(word, NAMED, (layers,) * trials))
    return arms


def ranked_arms(
    rankings: Sequence[str],
    counts: Sequence[int],
    layermem: Table | None,
    usable: Sequence[str],
    *,
    trials: int,
    seed: int,
) -> list[Arm]:
    """The first layers of each ranking, and random layers of the same numbers.

    Args:
        rankings: columns of ``layermem``, from the highest value on, and ``random``.
        counts: numbers of layers.
        layermem: columns ``LAYERMEM_TABLE``; needed for rankings by its columns. A layer without a value, as the first
            one is without a delta, ranks nowhere.
        usable: the layers to choose from, in execution order; other rows of the table are passed over.
        trials: how many trials; each draws random layers of its own.
        seed: of the draws.

    Raises:
        UserError: the same is asked for twice, or there are fewer layers to choose from.
    """
    for name, values in (("rank_by", rankings), ("count", counts)):
        if len(set(values)) < len(values):
            raise UserError(name, list(values), "names one twice")
    arms = []
    for ranking in rankings:
        ordered = list(usable) if ranking == RANDOM or layermem is None else _ordered(layermem, ranking, usable)
        for count in counts:
            if count > len(ordered):
                raise UserError("count", count, f"{len(ordered)} layers can be ranked by {ranking}", "ask for fewer")
            draws = []
            for trial in range(trials):
                if ranking == RANDOM:
                    ordered = [usable[row] for row in permutation(seed, trial, len(usable)).tolist()]
                draws.append(tuple(layer for layer in usable if layer in ordered[:count]))
            arms.append(Arm(f"{ranking}-{count}", ranking, tuple(draws)))
    return arms


def _ordered(layermem: Table, column: str, usable: Sequence[str]) -> list[str]:
    """Layers from the highest value down; of equal ones the first to run comes first."""
    ranked = [
        (float(value), str(layer))
        for layer, value in zip(layermem["layer"], layermem[column], strict=True)
        if layer in usable and np.isfinite(value)
    ]
    return [layer for _, layer in sorted(ranked, key=lambda pair: -pair[0])]


def trials_interval(values_T: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean over T trials with ``t(T - 1) * sd / sqrt(T)`` around it; without bounds (NaN) for a single trial."""
    values = np.asarray(values_T, dtype=np.float64)
    mean, half = float(values.mean()), _quantile_times_deviation(values, confidence) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def paired_gain(right_TM: Tensor, baseline_TM: Tensor, *, confidence: float = 0.95) -> Interval:
    """Accuracy of one arm minus that of another, over the same trials and test images.

    ``d_ti = right_ti - baseline_ti``. Trials differ in order, views and, of random arms, layers; test images are a
    sample. The half width is the root of the sum of the squared half widths ``t(T - 1) * sd_t(mean_i d) / sqrt(T)`` and
    ``z * sd_i(mean_t d) / sqrt(M)``. What is particular to a trial and an image is in both, so that the interval is
    rather too wide. Without bounds (NaN) for a single trial.

    Args:
        right_TM: bool ``(T, M)``, which test images are classified correctly in each trial.
        baseline_TM: bool ``(T, M)``, the same of the arm to compare with.
        confidence: of the interval.

    Raises:
        ValueError: other shapes, or fewer than two images.
    """
    return _paired(right_TM, baseline_TM, 1 / right_TM.shape[0], confidence)


def gain_over_random(right_TM: Tensor, random_TM: Tensor, *, confidence: float = 0.95) -> Interval:
    """Accuracy of layers that a ranking chose minus that of random ones, a draw in each trial.

    As `paired_gain`, but the question is whether the ranking did better than one more random draw would have done: of
    layers chosen at random, too, half are better than the mean. So the half width over trials is
    ``t(T - 1) * sd_t(mean_i d) * sqrt(1 + 1 / T)``, a prediction interval.

    Args:
        right_TM: bool ``(T, M)``, which test images are classified correctly in each trial.
        random_TM: bool ``(T, M)``, the same of as many random layers.
        confidence: of the interval.

    Raises:
        ValueError: other shapes, or fewer than two images.
    """
    return _paired(right_TM, random_TM, 1 + 1 / right_TM.shape[0], confidence)


def _paired(right_TM: Tensor, baseline_TM: Tensor, share_of_variance: float, confidence: float) -> Interval:
    if right_TM.shape != baseline_TM.shape or right_TM.ndim != 2 or right_TM.shape[1] < 2:
        raise ValueError(f"two or more images of equal trials are needed: {right_TM.shape}, {baseline_TM.shape}")
    d_TM = (right_TM.double() - baseline_TM.double()).cpu().numpy()
    over_images = float(stats.norm.ppf(0.5 + confidence / 2)) * d_TM.mean(0).std(ddof=1) / math.sqrt(d_TM.shape[1])
    over_trials = _quantile_times_deviation(d_TM.mean(1), confidence) * math.sqrt(share_of_variance)
    half = math.hypot(over_trials, float(over_images))
    gain = float(d_TM.mean())
    return Interval(gain, gain - half, gain + half)


def finetune_tables(
    arms: Sequence[Arm], right: Mapping[str, Tensor], parameters: Mapping[tuple[str, ...], int]
) -> tuple[Table, Table]:
    """Every trial of every arm (``FINETUNE_TABLE``), and every arm over its trials (``FINETUNE_EFFECTS``).

    ``gain`` is over the linear layer alone, ``over_random`` over random layers of the same number; NaN for the arm
    itself, and where there are no random ones to compare a ranking with. What may be said of both is said of all arms
    together (`memlight.analyses.finetune.claims.gains_claimed`).

    Args:
        arms: the first trains the linear layer alone.
        right: name of an arm -> bool ``(T, M)``, which test images are classified correctly in each trial.
        parameters: layers -> number of trained parameters.
    """
    head = right[arms[0].name]
    random = {arm.count: right[arm.name] for arm in arms if arm.rank_by == RANDOM}
    unknown = Interval(math.nan, math.nan, math.nan)
    trials, effects = [], []
    for arm in arms:
        right_TM = right[arm.name]
        top1_T = right_TM.double().mean(1)
        gain_T = top1_T - head.double().mean(1)
        for trial, layers in enumerate(arm.draws):
            numbers = float(top1_T[trial]), float(gain_T[trial])
            trials.append((arm.name, ",".join(layers), arm.rank_by, arm.count, trial, parameters[layers], *numbers))
        named = ",".join(arm.draws[0]) if arm.rank_by != RANDOM else "drawn in each trial"
        trained = float(np.mean([parameters[layers] for layers in arm.draws]))
        top1 = trials_interval(top1_T.cpu())
        gain = paired_gain(right_TM, head) if arm.count else unknown
        ranked = is_ranked(arm.rank_by) and arm.count in random
        over_random = gain_over_random(right_TM, random[arm.count]) if ranked else unknown
        effects.append((arm.name, named, arm.rank_by, arm.count, len(arm.draws), trained, *top1, *gain, *over_random))
    table = table_of(FINETUNE_TABLE, trials)
    return table, gains_claimed(table_of(required(FINETUNE_EFFECTS), effects), table)


def _quantile_times_deviation(values_T: NDArray[Any], confidence: float) -> float:
    """``t(T - 1) * sd``; NaN for a single trial."""
    trials = len(values_T)
    return float(stats.t.ppf(0.5 + confidence / 2, trials - 1) * values_T.std(ddof=1)) if trials > 1 else math.nan
