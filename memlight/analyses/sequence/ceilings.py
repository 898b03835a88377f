"""The highest accuracy possible at each position and for each rank, where a run's configuration names the law."""

from typing import Any, NamedTuple

import numpy as np

from memlight.analyses.sequence.experiment import Array, Experiment
from memlight.sequences.measures import bayes_ceiling

MOST_BITS = 20_000_000
"""Bits of sequences of which ceilings are computed; of more members than that the first ones stand for all."""


class Ceilings(NamedTuple):
    """Accuracy of the Bayes posterior, mean over members; NaN where the law or the sequences are unknown.

    Attributes:
        by_position_N: by number of bits already seen, weighted as sequences are drawn.
        by_rank_R: of each test sequence, over its counted bits.
    """

    by_position_N: Array
    by_rank_R: Array


def set_ceilings(experiment: Experiment, index: int) -> Ceilings:
    """Ceilings of one set of an experiment."""
    found = experiment.results
    law = settings(experiment, "data").get("law")
    if law not in ("zipf", "uniform") or len(found.sequences) <= index:
        return Ceilings(np.full(found.position_accuracy.shape[-1], np.nan), np.full(len(found.test_rank), np.nan))
    bits = found.sequences[index]
    members = bits if bits.ndim == 3 else bits[None]
    exponent = float(settings(experiment, "data").get("exponent", 1.0)) if law == "zipf" else 0.0
    law_K = np.arange(1, members.shape[1] + 1) ** -exponent
    few = members[: max(1, MOST_BITS // members[0].size)]
    first = first_counted(experiment)
    ceilings = [bayes_ceiling(one, law_K / law_K.sum(), first=first) for one in few]
    return Ceilings(
        np.mean([ceiling.accuracy_N for ceiling in ceilings], axis=0),
        np.mean([ceiling.accuracy_KN[found.test_rank, first:].mean(axis=1) for ceiling in ceilings], axis=0),
    )


def first_counted(experiment: Experiment) -> int:
    """First position that accuracy and loss count: 1, or 0 of models that also predict the first bit."""
    return 0 if settings(experiment, "model").get("include_first_bit") else 1


def settings(experiment: Experiment, part: str) -> dict[str, Any]:
    """Arguments of the model or the data as the run was configured; empty where they are not recorded."""
    configured = experiment.results.args.get(part)
    arguments = configured.get("init_args") if isinstance(configured, dict) else None
    return arguments if isinstance(arguments, dict) else {}
