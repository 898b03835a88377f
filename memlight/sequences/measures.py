"""What a model of bit sequences has learned, from tables of its losses and accuracies ([A]; METHODS section 6).

Position n is the prediction from the first n bits. All in numpy; what is undefined is NaN.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Ceiling:
    """What nobody can beat who knows the sequences and their law, but not which of them comes.

    Attributes:
        accuracy_KN: expected accuracy at each position of each sequence.
        loss_KN: expected loss at each position of each sequence, nats.
        weights_K: how the averages weigh sequences; sums to 1.
        first: first position that averages count.
    """

    accuracy_KN: Floats
    loss_KN: Floats
    weights_K: Floats
    first: int

    @property
    def accuracy_N(self) -> Floats:
        """Average over sequences."""
        return self.weights_K @ self.accuracy_KN

    @property
    def loss_N(self) -> Floats:
        """Average over sequences, nats."""
        return self.weights_K @ self.loss_KN

    @property
    def accuracy(self) -> float:
        """Average over sequences and counted positions."""
        return float(self.accuracy_N[self.first :].mean())

    @property
    def loss(self) -> float:
        """Average over sequences and counted positions, nats a bit."""
        return float(self.loss_N[self.first :].mean())


def posterior(bits_KN: ArrayLike, probabilities_K: ArrayLike) -> Floats:
    """Probability of bit 1 at each position given the bits before it, for whoever knows the set and its law.

    Sequences with the prefix vote with their probabilities: the inner nodes of the set's trie.

    Args:
        bits_KN: 0 and 1.
        probabilities_K: the law they are drawn by.

    Returns:
        ``(K, N)``.
    """
    bits, law = np.asarray(bits_KN), np.asarray(probabilities_K, dtype=np.float64)
    order = np.lexsort(bits.T[::-1])
    ordered, weights = bits[order], law[order]
    differs = ordered[1:] != ordered[:-1]
    shared = np.where(differs.any(1), differs.argmax(1), bits.shape[1])  # bits that neighbours begin with alike
    out = np.empty(bits.shape)
    for position in range(bits.shape[1]):
        node = np.concatenate([[0], np.cumsum(shared < position)])
        mass = np.bincount(node, weights)
        ones = np.bincount(node, weights * (ordered[:, position] > 0))
        out[order, position] = (ones / mass)[node]
    return out


def bayes_ceiling(
    bits_KN: ArrayLike, probabilities_K: ArrayLike, weights_K: ArrayLike | None = None, first: int = 1
) -> Ceiling:
    """Accuracy and loss of the `posterior`.

    Args:
        bits_KN: 0 and 1.
        probabilities_K: the law the sequences are drawn by.
        weights_K: how averages weigh sequences; None for their law (what a training batch shows), ones for a plain
            mean over the set.
        first: first position that counts: 1, or 0 where the first bit counts as well.
    """
    ones = np.asarray(bits_KN) > 0
    of_one = posterior(bits_KN, probabilities_K)
    with np.errstate(divide="ignore"):
        loss = -np.log(np.where(ones, of_one, 1 - of_one))
    weights = np.asarray(probabilities_K if weights_K is None else weights_K, dtype=np.float64)
    return Ceiling(right(of_one - 0.5, ones).astype(np.float64), loss, weights / weights.sum(), first)


def right(log_odds: ArrayLike, bits: ArrayLike) -> NDArray[np.bool_]:
    """Where a prediction is right; undecided (log-odds 0, or p - 1/2 = 0) counts as bit 0, "-1".

    Args:
        log_odds: of bit 1, any shape.
        bits: of that shape; above 0 means 1.
    """
    return np.asarray((np.asarray(log_odds) > 0) == (np.asarray(bits) > 0))


def appearances_at_saturation(accuracy_TR: ArrayLike, appearances_TR: ArrayLike, threshold: float = 0.9) -> Floats:
    """How often a sequence had been shown when its accuracy first rose above 0.9.

    Args:
        accuracy_TR: at T evaluations, of R sequences; leading axes are carried along.
        appearances_TR: draws of each sequence up to each evaluation.
        threshold: the level.

    Returns:
        ``(R,)``; NaN where it never did.
    """
    reached = np.asarray(accuracy_TR) > threshold
    appearances = np.broadcast_to(np.asarray(appearances_TR, dtype=np.float64), reached.shape)
    first = reached.argmax(-2)[..., None, :]
    return np.where(reached.any(-2), np.take_along_axis(appearances, first, axis=-2)[..., 0, :], np.nan)


def maximum_learned_rank(accuracy_R: ArrayLike, ranks_R: ArrayLike, threshold: float = 0.9) -> Ints:
    """The rarest sequence that is known: the largest rank with an accuracy above 0.9.

    Args:
        accuracy_R: of R sequences; leading axes are carried along.
        ranks_R: their ranks, from 0.
        threshold: the level.

    Returns:
        Accuracy's shape without R; -1 where none is known.
    """
    known = np.asarray(accuracy_R) > threshold
    return np.asarray(np.where(known, np.asarray(ranks_R, dtype=np.int64), -1).max(-1))


def prefix_row_correlation(A_NHN: ArrayLike) -> Floats:
    """Do neighbouring prefix lengths weigh the bits alike? Pearson's r of rows n and n + 1 over the n bits both see.

    Args:
        A_NHN: weights or logits of the DAM's attention, ``[n, h, i]``, of which row n uses i < n; leading axes are
            carried along.

    Returns:
        Mean over heads and n, from n = 3 on, of the pairs that vary: the leading axes. NaN where none does.
    """
    rows = np.asarray(A_NHN, dtype=np.float64)
    pairs = [_pearson(rows[..., n, :, :n], rows[..., n + 1, :, :n]) for n in range(3, rows.shape[-1] - 1)]
    return _mean_of_known(np.concatenate(pairs, axis=-1)) if pairs else np.full(rows.shape[:-3], np.nan)


def head_correlation(rows_HN: ArrayLike) -> Floats:
    """Do heads look alike? Pearson's r between the rows of two heads.

    Args:
        rows_HN: weights or logits of B, or of one row of A over its prefix; leading axes are carried along.

    Returns:
        Mean over the pairs of heads that vary: the leading axes. NaN where there is none.
    """
    rows = np.asarray(rows_HN, dtype=np.float64)
    first, second = np.triu_indices(rows.shape[-2], k=1)
    return _mean_of_known(_pearson(rows[..., first, :], rows[..., second, :]))


def bits_per_parameter(loss: ArrayLike, num_sequences: int, counted_bits: int, parameters: int) -> Floats:
    """Information that a model holds on a set, per trained parameter: what its predictions save over 1 bit a bit.

    Args:
        loss: mean over all sequences of the set, each counting alike, nats a counted bit; of any shape, such as one
            for each member.
        num_sequences: K, in the set.
        counted_bits: counted positions of a sequence.
        parameters: trained ones of one member.

    Returns:
        ``K counted_bits (1 - loss / ln 2) / parameters``, in bits, of the shape of ``loss``.
    """
    saved = 1 - np.asarray(loss, dtype=np.float64) / np.log(2)
    return np.asarray(saved * num_sequences * counted_bits / parameters)


def _pearson(a: Floats, b: Floats) -> Floats:
    """Over the last axis; NaN where one of the two does not vary by more than rounding."""
    sizes = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    a = a - a.mean(-1, keepdims=True)
    b = b - b.mean(-1, keepdims=True)
    spreads = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(spreads > 1e-12 * sizes, (a * b).sum(-1) / spreads, np.nan))


def _mean_of_known(x: Floats) -> Floats:
    """Over the last axis, without NaN; NaN where all are."""
    known = ~np.isnan(x)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, x, 0).sum(-1) / known.sum(-1))
