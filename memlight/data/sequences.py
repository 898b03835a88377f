"""Sets of random bit sequences, the law they are drawn by, and the draws of a training.

Nothing here keeps a generator: bits are a function of (set seed, rank), draws of (member seed, set, draw number), so
that blocks may be cut anywhere and a restart goes on where the run stopped (`memlight.random`).
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor

from memlight.batch import SequenceBlock
from memlight.errors import UserError
from memlight.random import permutation, uniforms

Law = Literal["zipf", "uniform"]

Bounds = Callable[[], Iterable[tuple[int, int, int]]]
"""Gives ``(start, stop, set index)`` of every block of the coming epoch."""

SEEDS_OF_A_SET = 1_000_000
"""Set i of a member with seed s has the seed ``s + i * SEEDS_OF_A_SET``."""

_BITS, _DRAWS = 0x62697473, 0x64726177


@dataclass(frozen=True)
class SequenceSet:
    """K sequences of N fair bits and the law they are drawn by; made again from these six values alone.

    Args:
        num_sequences: K.
        num_bits: N.
        law: zipf (``p_r ~ 1 / r**exponent``) or uniform; the rank r - 1 of a sequence is its row.
        exponent: of Zipf's law.
        distinct: no sequence comes twice.
        seed: of the bits.

    Raises:
        UserError: an impossible value, or more distinct sequences than there are.
    """

    num_sequences: int
    num_bits: int
    law: Law = "zipf"
    exponent: float = 1.0
    distinct: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_sequences", "num_bits"):
            if getattr(self, name) < 1:
                raise UserError(name, getattr(self, name), "at least 1 is needed")
        if self.law not in ("zipf", "uniform"):
            raise UserError("law", self.law, "choose zipf or uniform")
        if not (math.isfinite(self.exponent) and self.exponent >= 0):
            raise UserError("exponent", self.exponent, "a finite number of at least 0 is needed")
        if self.distinct and self.num_sequences > 2**self.num_bits:
            why = f"there are only {2**self.num_bits} distinct sequences of {self.num_bits} bits"
            ways = ["take fewer", "raise `num_bits`", "set `distinct=False`"]
            raise UserError("num_sequences", self.num_sequences, why, ways)

    @cached_property
    def bits(self) -> Tensor:
        """``uint8 (K, N)`` of 0 and 1, on the CPU."""
        if self.distinct and 2**self.num_bits <= 8 * self.num_sequences:
            numbers_K = permutation(self.seed, 0, 2**self.num_bits)[: self.num_sequences]
            return (numbers_K[:, None] >> torch.arange(self.num_bits)).bitwise_and_(1).to(torch.uint8)
        bits_KN = self._drawn(torch.arange(self.num_sequences), attempt=0)
        attempt = 0
        while self.distinct and len(again := _repeated(bits_KN)):
            attempt += 1
            bits_KN[again] = self._drawn(again, attempt)
        return bits_KN

    @cached_property
    def probabilities(self) -> Tensor:
        """``float64 (K,)`` that sums to 1: how often each rank is drawn."""
        exponent = self.exponent if self.law == "zipf" else 0.0
        weights_K = torch.arange(1, self.num_sequences + 1, dtype=torch.float64) ** -exponent
        return weights_K / weights_K.sum()

    @cached_property
    def cdf(self) -> Tensor:
        """``float64 (K,)``: probability of a rank up to each; the last is 1."""
        cdf_K = self.probabilities.cumsum(0)
        return cdf_K / cdf_K[-1]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over bits, law and exponent: equal for equal sets."""
        digest = hashlib.sha256(f"{self.num_sequences} {self.num_bits} {self.law} {self.exponent} ".encode())
        digest.update(self.bits.numpy().tobytes())
        return digest.hexdigest()

    @property
    def test_ranks(self) -> Tensor:
        """``int64 (R,)``: every tenth rank, from 0."""
        return torch.arange(0, self.num_sequences, 10)

    def draw(self, uniform: Tensor) -> Tensor:
        """Turn numbers in [0, 1), float64 of any shape, into ranks of the law by bisection; int64 of that shape."""
        return torch.searchsorted(self.cdf, uniform, right=True)

    def _drawn(self, ranks: Tensor, attempt: int) -> Tensor:
        """``uint8 (R, N)``."""
        uniform_RN = uniforms(self.seed, ranks, epoch=attempt, view=0, draws=self.num_bits, stream=_BITS)
        return (uniform_RN >= 0.5).to(torch.uint8)


@dataclass(frozen=True)
class BlockLoader:
    """Blocks of one Lightning epoch, drawn when they are asked for.

    Attributes:
        bounds: which blocks are next.
        ids: ``(set index, start, stop)`` -> ``int64 (E, stop - start, B)``.
    """

    bounds: Bounds
    ids: Callable[[int, int, int], Tensor]

    def __iter__(self) -> Iterator[SequenceBlock]:
        for start, stop, set_index in self.bounds():
            yield SequenceBlock(start, stop, set_index, self.ids(set_index, start, stop))


class SequenceDataModule(L.LightningDataModule):
    """The sequence sets of a training with switches, and what every member draws from them.

    Set 0 is the one before the first switch; every switch goes on to the next. A member is named by its seed: with
    the same seed it draws the same, alone or among others.

    Args:
        num_sequences: K, sequences in each set.
        num_bits: N, bits in each sequence.
        law: zipf or uniform.
        exponent: of Zipf's law.
        distinct: no sequence comes twice in a set.
        batch_size: B, sequences that a member draws for an optimizer step.
        sets: own (every member has sets of its own, those of its solo run) or shared (all have those of ``seed``).
        seed: of the shared sets; null takes --seed_everything (0 in Python).
    """

    def __init__(
        self,
        num_sequences: int = 500,
        num_bits: int = 50,
        law: Law = "uniform",
        exponent: float = 1.0,
        distinct: bool = True,
        batch_size: int = 50,
        sets: Literal["own", "shared"] = "own",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UserError("batch_size", batch_size, "at least 1 is needed")
        if sets not in ("own", "shared"):
            raise UserError("sets", sets, "choose own or shared")
        self.num_sequences = num_sequences
        self.num_bits = num_bits
        self.law: Law = law
        self.exponent = exponent
        self.distinct = distinct
        self.batch_size = batch_size
        self.sets = sets
        self.seed = seed or 0
        self._made: dict[int, SequenceSet] = {}
        self._loader: BlockLoader | None = None
        self.set(0, self.seed)  # what is impossible is said at once

    def set(self, index: int, member_seed: int) -> SequenceSet:
        """The set that a member trains on after ``index`` switches."""
        seed = (self.seed if self.sets == "shared" else member_seed) + index * SEEDS_OF_A_SET
        if seed not in self._made:
            self._made[seed] = SequenceSet(
                self.num_sequences, self.num_bits, self.law, self.exponent, self.distinct, seed
            )
        return self._made[seed]

    def set_seeds(self, index: int, member_seeds: Sequence[int]) -> list[int]:
        """The seed of every member's set; one alone where the sets are shared."""
        seeds = member_seeds[:1] if self.sets == "shared" else member_seeds
        return [self.set(index, seed).seed for seed in seeds]

    def bits(self, index: int, member_seeds: Sequence[int]) -> Tensor:
        """``uint8 (E, K, N)``: every member's set; ``(1, K, N)`` where the sets are shared."""
        seeds = member_seeds[:1] if self.sets == "shared" else member_seeds
        return torch.stack([self.set(index, seed).bits for seed in seeds])

    def ids(self, index: int, member_seeds: Sequence[int], first_step: int, num_steps: int) -> Tensor:
        """Draw the batches of some optimizer steps.

        Args:
            index: of the set; draws from different sets are independent.
            member_seeds: E of them.
            first_step: optimizer steps before these; any cut into blocks gives the same draws.
            num_steps: T.

        Returns:
            ``int64 (E, T, B)`` ranks, on the CPU.
        """
        numbers = first_step * self.batch_size + torch.arange(num_steps * self.batch_size)
        return torch.stack(
            [
                self.set(index, seed).draw(_fine_uniforms(seed, index, numbers)).view(num_steps, self.batch_size)
                for seed in member_seeds
            ]
        )

    def pace(self, bounds: Bounds, member_seeds: Sequence[int]) -> None:
        """Say how `train_dataloader` cuts the training into blocks, and whose batches they hold."""
        self._loader = BlockLoader(
            bounds, lambda index, start, stop: self.ids(index, member_seeds, start, stop - start)
        )

    def train_dataloader(self) -> BlockLoader:
        """Blocks of gradient steps (`SequenceBlock`), once `pace` has been called, as a `SequenceModule` does.

        Raises:
            RuntimeError: it has not been.
        """
        if self._loader is None:
            raise RuntimeError("sequences come in blocks of gradient steps: train a SequenceModule, or call pace")
        return self._loader


def _fine_uniforms(seed: int, index: int, numbers: Tensor) -> Tensor:
    """``float64``, on the multiples of 2**-48: rare ranks of Zipf's law are a few multiples of 2**-24 wide."""
    coarse, fine = uniforms(seed, numbers, epoch=index, view=0, draws=2, stream=_DRAWS).double().unbind(1)
    return coarse + fine * 2.0**-24


def _repeated(bits_KN: Tensor) -> Tensor:
    """Rows that an earlier row equals."""
    rows = np.ascontiguousarray(np.packbits(bits_KN.numpy(), axis=1))
    keys = rows.view(np.dtype((np.void, rows.shape[1]))).ravel()
    first = np.unique(keys, return_index=True)[1]
    again = np.ones(len(keys), dtype=np.bool_)
    again[first] = False
    return torch.from_numpy(np.flatnonzero(again))
