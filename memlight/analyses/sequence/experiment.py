"""A sequence experiment as its tables see it: phases, criterion, ceilings, parameters; statistics over members."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from memlight.analyses.sequence.reader import SUFFIXES, read_authors_results
from memlight.errors import UserError, named
from memlight.sequences import measures
from memlight.sequences.results import SequenceResults
from memlight.storage.rundir import RunDir

Array = NDArray[Any]

ATTENTION = "attention"
"""Name under which a snapshot keeps mean attention maps ``(E, layers, heads, queries, keys)`` beside weights."""

CONFIDENCE = 0.95

MOST_BITS = 20_000_000
"""Bits of sequences of which ceilings are computed; of more members than that the first ones stand for all."""

UNEVEN = 3.0
"""Ranks are drawn unevenly where the first test sequence appears so many times as often as the middle one."""


class Ceilings(NamedTuple):
    """Accuracy of the Bayes posterior, mean over members; NaN where the law or the sequences are unknown.

    Attributes:
        by_position_N: by number of bits already seen, weighted as sequences are drawn.
        by_rank_R: of each test sequence, over its counted bits.
    """

    by_position_N: Array
    by_rank_R: Array


@dataclass(frozen=True)
class Experiment:
    """The results of one run, or of one of the authors' files, and what it is called.

    Attributes:
        name: tells it apart from the others.
        results: its members' measurements.
    """

    name: str
    results: SequenceResults

    @property
    def sets(self) -> int:
        """Number of sequence sets."""
        return int(self.results.set_accuracy.shape[1])

    @property
    def members(self) -> int:
        """Number of members."""
        return int(self.results.set_accuracy.shape[0])

    @property
    def retrieval_EST(self) -> Array:
        """Retrieval top-1 of every set at every evaluation; NaN of models without a memory."""
        measured = self.results.retrieval_top1
        return np.full(self.results.set_accuracy.shape, np.nan) if measured is None else measured

    def begins(self, index: int) -> int:
        """Gradient steps done when a set's own training began."""
        return int(self.results.switch_start_iter[index - 1]) if index else 0

    def ends(self, index: int) -> int:
        """Gradient steps done when a set's own training ended."""
        last = int(self.results.eval_steps[-1])
        return int(self.results.switch_start_iter[index]) if index + 1 < self.sets else last

    def phase(self, index: int) -> Array:
        """``(P,)`` evaluations of a set, by position in ``eval_steps``, while it was the one trained.

        An evaluation at the very step of a switch comes before the switch.
        """
        seen = self.seen(index)
        steps = self.results.eval_steps[seen]
        return seen[(steps >= self.begins(index)) & (steps <= self.ends(index))]

    def phases(self) -> list[tuple[int, Array]]:
        """Every set that was evaluated during its own training, with these evaluations."""
        return [(index, phase) for index in range(self.sets) if len(phase := self.phase(index))]

    def seen(self, index: int) -> Array:
        """``(P,)`` all evaluations of a set, by position in ``eval_steps``, also those after its own training."""
        return np.flatnonzero(np.isfinite(self.results.set_accuracy[:, index]).any(axis=0))

    def criterion(self, index: int, share: float) -> Array:
        """``(E,)`` accuracy that lies so far on the way from the floor to the ceiling, or to 1 without a ceiling.

        Args:
            index: which set.
            share: of the way; 0 is the floor and 1 the ceiling.
        """
        floor, ceiling = self.results.floor_accuracy[:, index], self.results.ceiling_accuracy[:, index]
        reached: Array = floor + share * (np.where(np.isnan(ceiling), 1.0, ceiling) - floor)
        return reached

    def steps_to_criterion(self, index: int, share: float) -> Array:
        """``(E,)`` gradient steps from the beginning of a set's training to the first evaluation at the criterion.

        Args:
            index: which set.
            share: see `criterion`.

        Returns:
            NaN for members that never reached it.
        """
        at = self.phase(index)
        if not len(at):
            return np.full(self.members, np.nan)
        reached = self.results.set_accuracy[:, index, at] >= self.criterion(index, share)[:, None]
        steps = (self.results.eval_steps[at] - self.begins(index)).astype(np.float64)
        return np.where(reached.any(axis=1), steps[reached.argmax(axis=1)], np.nan)

    def savings(self, index: int, share: float) -> Array:
        """``(E,)`` 1 - steps / steps of the first set (Ebbinghaus), of members that reached the criterion on both.

        Args:
            index: which set; of the first itself all are NaN.
            share: see `criterion`.
        """
        if index == 0:
            return np.full(self.members, np.nan)
        first, later = (self.steps_to_criterion(which, share) for which in (0, index))
        return 1 - later / np.where(first > 0, first, np.nan)

    def settings(self, part: str) -> dict[str, Any]:
        """Arguments of the ``model`` or the ``data`` as the run was configured; empty where they are not recorded."""
        configured = self.results.args.get(part)
        arguments = configured.get("init_args") if isinstance(configured, dict) else None
        return arguments if isinstance(arguments, dict) else {}

    @property
    def first_counted(self) -> int:
        """First position that accuracy and loss count: 1, or 0 of models that also predict the first bit."""
        return 0 if self.settings("model").get("include_first_bit") else 1

    @cached_property
    def ceilings(self) -> list[Ceilings]:
        """The highest accuracy possible on every set; see `set_ceilings`."""
        return [set_ceilings(self, index) for index in range(self.sets)]

    @property
    def drawn_unevenly(self) -> bool:
        """Whether the first test sequence of the first set was drawn far more often than the middle one."""
        drawn = self.results.test_appearances[:, 0]
        drawn = drawn[:, self.phase(0)[-1:]].mean(axis=(0, 1))
        return bool(len(drawn) and drawn[0] > UNEVEN * max(float(np.median(drawn)), 1.0))

    @property
    def used_parameters(self) -> int | None:
        """Numbers that one member can train, of A those that are used; None where no weights were kept."""
        last = list(self.results.weights.values())[-1:]
        arrays = {name: values[0] for weights in last for name, values in weights.items() if name != ATTENTION}
        if not arrays:
            return None
        unused = 0
        if (A := arrays.get("A_logits")) is not None and A.ndim == 3:
            bits, heads, _ = A.shape
            unused = heads * bits * (bits + 1) // 2
        return int(sum(values.size for values in arrays.values())) - unused

    def bits_per_parameter(self, index: int) -> Array:
        """Bits of a set that need not be guessed, for each trained number, at the end of its own training.

        See `memlight.sequences.measures.bits_per_parameter`, of the bits that the loss counts, over all sequences
        without weights. An associative memory also holds sequences as they are: then this says how much of the set the
        whole model gives back, not how much its weights store.

        Args:
            index: which set.

        Returns:
            ``(E,)``; NaN where the number of parameters or the sequences are unknown.
        """
        results, phase, parameters = self.results, self.phase(index), self.used_parameters
        if not len(phase) or not parameters or len(results.sequences) <= index:
            return np.full(self.members, np.nan)
        num_sequences, num_bits = results.sequences[index].shape[-2:]
        counted = num_bits - self.first_counted
        loss = self.unweighted_loss(index)[:, phase[-1]]
        return measures.bits_per_parameter(loss, num_sequences, counted, parameters)

    def unweighted_loss(self, index: int) -> Array:
        """``(E, T)`` loss of a set, every sequence counting alike, at every evaluation.

        Runs of older versions kept only the mean weighted as sequences are drawn, which is the same where they are
        drawn uniformly, and the test sequences, every tenth, which stand for all of them where they are not.

        Args:
            index: which set.
        """
        results = self.results
        if results.set_loss_unweighted is not None:
            loss: Array = results.set_loss_unweighted[:, index]
            return loss
        if self.settings("data").get("law") == "uniform":
            return np.asarray(results.set_loss[:, index])
        tested = results.test_loss[:, index]
        return np.asarray(tested.mean(axis=-1)) if tested.shape[-1] else np.full(tested.shape[:2], np.nan)


def opened(path: Path, taken: list[str]) -> Experiment:
    """A run directory or a result file of the authors' code, named apart from the others.

    Args:
        path: of either.
        taken: names of the experiments before it.

    Raises:
        UserError: it is neither, or cannot be read.
    """
    if path.is_dir():
        with named(run="compare"):
            name, measured = RunDir(path).name, SequenceResults.read(path)
    elif path.suffix in SUFFIXES:
        with named(path="compare"):
            name, measured = path.stem, read_authors_results(path)
    else:
        raise UserError("compare", path, f"neither a run directory nor a result file ({', '.join(SUFFIXES)})")
    alike = sum(other == name or other.startswith(f"{name} (") for other in taken)
    return Experiment(f"{name} ({alike + 1})" if alike else name, measured)


def set_ceilings(experiment: Experiment, index: int) -> Ceilings:
    """The highest accuracy possible on one set, where a run's configuration names the law."""
    results = experiment.results
    law = experiment.settings("data").get("law")
    if law not in ("zipf", "uniform") or len(results.sequences) <= index:
        return Ceilings(np.full(results.position_accuracy.shape[-1], np.nan), np.full(len(results.test_rank), np.nan))
    bits = results.sequences[index]
    members = bits if bits.ndim == 3 else bits[None]
    exponent = float(experiment.settings("data").get("exponent", 1.0)) if law == "zipf" else 0.0
    law_K = np.arange(1, members.shape[1] + 1) ** -exponent
    few = members[: max(1, MOST_BITS // members[0].size)]
    first = experiment.first_counted
    ceilings = [measures.bayes_ceiling(one, law_K / law_K.sum(), first=first) for one in few]
    return Ceilings(
        np.mean([ceiling.accuracy_N for ceiling in ceilings], axis=0),
        np.mean([ceiling.accuracy_KN[results.test_rank, first:].mean(axis=1) for ceiling in ceilings], axis=0),
    )


def over_members(values: Array) -> tuple[Array, Array, Array]:
    """Mean over members and Student's t interval of it.

    Args:
        values: ``(E, ...)``; NaN where a member has no value.

    Returns:
        Mean, lower and upper end, each ``(...)``; the ends are NaN where fewer than two members have a value.
    """
    values = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(values)
    count = finite.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(finite, values, 0).sum(axis=0) / np.where(count, count, np.nan)
        variance = np.where(finite, (values - mean) ** 2, 0).sum(axis=0) / np.where(count > 1, count - 1, np.nan)
        half = stdtrit(np.maximum(count - 1, 1), 0.5 + CONFIDENCE / 2) * np.sqrt(variance / count)
    return mean, mean - half, mean + half


def difference_of_means(sample_a: Array, sample_b: Array) -> tuple[float, float, float]:
    """``mean(a) - mean(b)`` with Welch's interval; NaN ends where a sample has fewer than two finite values."""
    a, b = (sample[np.isfinite(sample)].astype(np.float64) for sample in (sample_a, sample_b))
    if not len(a) or not len(b):
        return (float("nan"),) * 3
    difference = float(a.mean() - b.mean())
    if len(a) < 2 or len(b) < 2:
        return difference, float("nan"), float("nan")
    parts = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    if sum(parts) == 0:
        return difference, difference, difference
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = float(stdtrit(freedom, 0.5 + CONFIDENCE / 2) * np.sqrt(sum(parts)))
    return difference, difference - half, difference + half
