"""A sequence experiment as its tables see it: phases, mean and interval over members, when a criterion is reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from memlight.sequences.results import SequenceResults
from memlight.storage.schema import Schema
from memlight.storage.tables import Table, table_of

Array = NDArray[Any]

CONFIDENCE = 0.95

Block = Mapping[str, Any]
"""Columns of some rows of a table; single values stand for every row."""


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

    def begins(self, index: int) -> int:
        """Gradient steps done when a set's own training began."""
        return int(self.results.switch_start_iter[index - 1]) if index else 0

    def ends(self, index: int) -> int:
        """Gradient steps done when it ended."""
        last = int(self.results.eval_steps[-1])
        return int(self.results.switch_start_iter[index]) if index + 1 < self.sets else last

    def phase(self, index: int) -> Array:
        """``(P,)`` evaluations of a set, by position in ``eval_steps``, while it was the one trained.

        An evaluation at the very step of a switch comes before the switch.
        """
        steps = self.results.eval_steps
        measured = np.isfinite(self.results.set_accuracy[:, index]).any(axis=0)
        return np.flatnonzero(measured & (steps >= self.begins(index)) & (steps <= self.ends(index)))

    def phases(self) -> list[tuple[int, Array]]:
        """Every set that was evaluated during its own training, with where."""
        found = [(index, self.phase(index)) for index in range(self.sets)]
        return [(index, phase) for index, phase in found if len(phase)]

    def seen(self, index: int) -> Array:
        """``(P,)`` all evaluations of a set, also those after its own training."""
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


def spread(name: str, values: Array) -> dict[str, Array]:
    """Columns of a mean over members and its interval."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), over_members(values), strict=True))


def joined(schema: Schema, blocks: Sequence[Block]) -> Table:
    """One table of blocks of rows; single values are repeated."""
    if not blocks:
        return table_of(schema, [])
    parts = [np.broadcast_arrays(*(np.atleast_1d(block[name]) for name in schema)) for block in blocks]
    return {name: np.concatenate(found) for name, found in zip(schema, zip(*parts, strict=True), strict=True)}
