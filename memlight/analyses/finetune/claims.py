"""What may be said of gains of fine-tuning, of all arms of a command together: from its tables alone. No torch."""

import numpy as np
from numpy.typing import NDArray

from memlight.analyses.finetune.columns import HEAD, RANDOM, is_ranked
from memlight.analyses.verdicts import StandardErrors
from memlight.storage.tables import Table


def gains_claimed(effects: Table, table: Table) -> Table:
    """Add adjusted p-values and bands of both comparisons; a table that has them stays as it is.

    The arms' gains over the linear layer alone are one family, and the rankings' gains over random layers another. Each
    row's own two-sided p is the level at which its interval would just reach 0 (`memlight.analyses.finetune.arms` has
    the intervals: Student's t with T - 1 degrees of freedom over trials, normal over test images); over the rows it is
    adjusted by Holm's step-down Bonferroni, since trials are few and arms share them and the test images.

    Args:
        effects: columns ``FINETUNE_EFFECTS``, at least those that no table may lack.
        table: columns ``FINETUNE_TABLE``, of the same arms: every trial.
    """
    if "gain_p_adjusted" in effects:
        return effects
    top1 = {arm: table["top1"][table["arm"] == arm] for arm in effects["arm"].tolist()}
    kinds, counts = effects["rank_by"].tolist(), effects["count"].tolist()
    head = next(arm for arm, kind in zip(top1, kinds, strict=True) if kind == HEAD)
    random = {count: arm for arm, kind, count in zip(top1, kinds, counts, strict=True) if kind == RANDOM}
    over_head, over_random = [], []
    for arm, kind, count in zip(top1, kinds, counts, strict=True):
        trials = len(top1[arm])
        over_head.append(np.nan if kind == HEAD else _deviation(top1[arm] - top1[head]) * np.sqrt(1 / trials))
        compared = is_ranked(kind) and count in random
        spread = _deviation(top1[arm] - top1[random[count]]) if compared else np.nan
        over_random.append(spread * np.sqrt(1 + 1 / trials))
    degrees = np.maximum(effects["trials"] - 1.0, 1.0)
    found: Table = {}
    for name, over_trials in (("gain", over_head), ("over_random", over_random)):
        half = effects[f"{name}_high"] - effects[name]
        found |= StandardErrors.of_errors(np.array(over_trials), half, degrees).claims(name, effects[name])
    return {**effects, **found}


def _deviation(values_T: NDArray[np.float64]) -> float:
    """Over trials; NaN for a single one."""
    return float(values_T.std(ddof=1)) if len(values_T) > 1 else float("nan")
