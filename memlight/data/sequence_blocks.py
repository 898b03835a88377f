"""The loader of sequence training: blocks of gradient steps, whose bounds the training knows and whose ids the data."""

from collections.abc import Callable, Iterable, Iterator

from torch import Tensor

from memlight.batch import SequenceBlock

Bounds = Callable[[], Iterable[tuple[int, int, int]]]
"""Gives ``(start, stop, set index)`` of every block of the coming epoch."""


class BlockLoader:
    """Blocks of one Lightning epoch, drawn when they are asked for.

    Args:
        bounds: which blocks are next.
        ids: ``(set index, start, stop)`` -> ``int64 (E, stop - start, B)``.
    """

    def __init__(self, bounds: Bounds, ids: Callable[[int, int, int], Tensor]) -> None:
        self._bounds = bounds
        self._ids = ids

    def __iter__(self) -> Iterator[SequenceBlock]:
        for start, stop, set_index in self._bounds():
            yield SequenceBlock(start, stop, set_index, self._ids(set_index, start, stop))
