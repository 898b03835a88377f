"""What attention and memory keys look like at each snapshot: sharpness, agreement of heads, stability of rows."""

from collections.abc import Mapping, Sequence

import numpy as np

from memlight.analyses.sequence import columns
from memlight.analyses.sequence.ceilings import first_counted
from memlight.analyses.sequence.experiment import Array, Experiment, joined, over_members
from memlight.sequences import measures as metrics
from memlight.storage.tables import Table

ATTENTION = "attention"
"""Name under which a snapshot keeps mean attention maps ``(E, layers, heads, queries, keys)`` instead of weights."""


def weights_table(experiments: Sequence[Experiment]) -> Table:
    """Numbers of the attention A and the keys B of every snapshot: columns ``WEIGHTS``; none without such weights.

    Measures: ``A sharpness`` and ``B sharpness`` (mean over rows of their largest weight), ``A head correlation`` and
    ``B head correlation`` (mean over pairs of heads), ``A row correlation`` (neighbouring prefixes of the same head),
    ``A to B correlation`` (the longest prefix's row against the same head of B).
    """
    blocks = []
    for experiment in experiments:
        for step, named in experiment.results.weights.items():
            one_by_one = [
                _measures({name: array[member : member + 1] for name, array in named.items()})
                for member in range(experiment.members)
            ]
            for measure in one_by_one[0]:
                value, low, high = over_members(np.concatenate([found[measure] for found in one_by_one]))
                row = {"run": experiment.name, "step": step, "measure": measure}
                blocks.append({**row, "value": value, "low": low, "high": high})
    return joined(columns.WEIGHTS, blocks)


def attention_rows(A_logits: Array) -> Array:
    """``A(n)``: softmax over the first n entries of row n (METHODS, section 6).

    Args:
        A_logits: ``(E, N, H, N)``, or ``(E, H, N)`` where all prefixes share one row.

    Returns:
        ``(E, H, N, N)``: member, head, prefix length, bit; NaN where a bit is not in the prefix.
    """
    bits = A_logits.shape[-1]
    tied = A_logits.ndim == 3
    rows = np.repeat(A_logits[:, :, None], bits, axis=2) if tied else A_logits.swapaxes(1, 2)
    inside = np.arange(bits) < np.arange(bits)[:, None]
    return _softmax(np.where(inside, rows.astype(np.float64), -np.inf), inside)


def keys(B_logits: Array) -> Array:
    """``B``: softmax over bits of ``(..., H, N)``."""
    return _softmax(B_logits.astype(np.float64), np.ones(B_logits.shape[-1], dtype=bool))


def used_parameters(experiment: Experiment) -> int | None:
    """Numbers that one member can train, of A those that are used; None where no weights were kept."""
    last = list(experiment.results.weights.values())[-1:]
    arrays = {name: values[0] for named in last for name, values in named.items() if name != ATTENTION}
    if not arrays:
        return None
    unused = 0
    if (A := arrays.get("A_logits")) is not None and A.ndim == 3:
        bits, heads, _ = A.shape
        unused = heads * bits * (bits + 1) // 2
    return int(sum(values.size for values in arrays.values())) - unused


def bits_per_parameter(experiment: Experiment, index: int) -> Array:
    """Bits of a set that need not be guessed, for each trained number, at the end of its own training.

    See `memlight.sequences.measures.bits_per_parameter`, of the bits that the loss counts, over the test sequences
    without weights. An associative memory also holds sequences as they are: then this says how much of the set the
    whole model gives back, not how much its weights store.

    Args:
        experiment: the experiment.
        index: which set.

    Returns:
        ``(E,)``; NaN where the number of parameters or the sequences are unknown.
    """
    found, phase, parameters = experiment.results, experiment.phase(index), used_parameters(experiment)
    if not len(phase) or not parameters or not len(found.test_rank) or len(found.sequences) <= index:
        return np.full(experiment.members, np.nan)
    num_sequences, num_bits = found.sequences[index].shape[-2:]
    losses = found.test_loss[:, index, phase[-1]]
    return metrics.bits_per_parameter(losses, num_sequences, num_bits - first_counted(experiment), parameters)


def _measures(named: Mapping[str, Array]) -> dict[str, Array]:
    """``(E,)`` values of each measure of one snapshot."""
    if "A_logits" not in named or "B_logits" not in named:
        return {}
    A, B = attention_rows(named["A_logits"]), keys(named["B_logits"])
    long = A[..., 2:, :]  # shorter prefixes have a weight of 1 whatever was learned
    last, first_bits = A[..., -1, :-1], B[..., :-1]
    heads = np.stack([last, first_bits], axis=-2)
    return {
        "A sharpness": np.nanmax(long, axis=-1).mean(axis=(1, 2)),
        "A head correlation": metrics.head_correlation(last),
        "A row correlation": metrics.prefix_row_correlation(A.swapaxes(1, 2)),
        "B sharpness": B.max(axis=-1).mean(axis=1),
        "B head correlation": metrics.head_correlation(B),
        "A to B correlation": over_members(metrics.head_correlation(heads).T)[0],
    }


def _softmax(logits: Array, inside: Array) -> Array:
    """Over the last axis, of the entries inside; NaN outside them."""
    top = np.where(inside, logits, -np.inf).max(axis=-1, keepdims=True)
    powers = np.where(inside, np.exp(np.where(inside, logits - np.where(np.isfinite(top), top, 0), 0)), 0)
    total = powers.sum(axis=-1, keepdims=True)
    return np.where(inside, powers / np.where(total > 0, total, 1), np.nan)
