"""The rows that a search looks through: an array, a tensor or a store, read a piece ahead of the one in use."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memlight.patches.store import PatchStore

Rows = NDArray[Any] | Tensor | PatchStore
"""Embeddings ``(N, D)``, float16 or float32 (a tensor may be bfloat16)."""

SHARD_ROWS = 1 << 20
"""Rows of an array or tensor that are searched as one shard."""

PIECE_ROWS = 1 << 16
"""Most rows that are in the memory of a device at once, twice: those in use and those that follow."""


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one shard.

    Attributes:
        shard: number of the shard.
        first: number of its first row in the whole index.
        count: number of rows.
        last: whether the shard ends with it.
    """

    shard: int
    first: int
    count: int
    last: bool


class Index:
    """Rows of an array, a tensor or a store, by shards.

    Args:
        rows: ``(N, D)``.

    Attributes:
        shards: first row and number of rows of each.
        num_rows: N.
        dim: D.

    Raises:
        ValueError: not a matrix.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        if isinstance(rows, PatchStore):
            self.num_rows, self.dim = rows.num_rows, rows.dim
            self.shards = [(shard.first_row, shard.rows) for shard in rows.shards]
            return
        if rows.ndim != 2:
            raise ValueError(f"embeddings must be (rows, dim), got shape {tuple(rows.shape)}")
        self.num_rows, self.dim = rows.shape
        starts = range(0, self.num_rows, SHARD_ROWS)
        self.shards = [(start, min(SHARD_ROWS, self.num_rows - start)) for start in starts]

    def pieces(self, shards: Sequence[int]) -> list[Piece]:
        """All pieces of some shards, in order."""
        pieces = []
        for shard in shards:
            first, count = self.shards[shard]
            for start in range(0, count, PIECE_ROWS):
                length = min(PIECE_ROWS, count - start)
                pieces.append(Piece(shard, first + start, length, start + length == count))
        return pieces

    def read(self, piece: Piece, device: torch.device) -> Tensor:
        """The rows of a piece on a device, as they are stored."""
        return self._read(piece.shard, piece.first, piece.count).to(device)

    def all(self, device: torch.device) -> Tensor:
        """Every row on a device, float32."""
        pieces = [self.read(piece, device).float() for piece in self.pieces(range(len(self.shards)))]
        return torch.cat(pieces) if pieces else torch.empty(0, self.dim, device=device)

    def take(self, rows: NDArray[np.int64]) -> Tensor:
        """Some rows in memory, float32, in the order asked for."""
        if isinstance(self._rows, PatchStore):
            return torch.from_numpy(self._rows.rows(rows))
        if isinstance(self._rows, Tensor):
            return self._rows[torch.from_numpy(rows).to(self._rows.device)].cpu().float()
        return torch.from_numpy(np.asarray(self._rows[rows], dtype=np.float32))

    def _read(self, shard: int, first: int, count: int) -> Tensor:
        if isinstance(self._rows, PatchStore):
            start = first - self.shards[shard][0]
            return torch.from_numpy(np.array(self._rows.shard(shard)[start : start + count]))
        rows = self._rows[first : first + count]
        return rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))


@dataclass
class ReadAhead:
    """Reads each piece while the one before it is in use.

    Attributes:
        index: what is read.
        device: that the rows are moved to.
        read_seconds: what reading took.
        wait_seconds: of that, what the search had to wait for.
    """

    index: Index
    device: torch.device
    read_seconds: float = field(default=0.0, init=False)
    wait_seconds: float = field(default=0.0, init=False)

    def pieces(self, pieces: Sequence[Piece]) -> Iterator[tuple[Piece, Tensor]]:
        """The pieces in their order, with their rows ``(count, D)`` on the device."""
        with ThreadPoolExecutor(1, "read-ahead") as reader:
            waiting = [reader.submit(self._timed, piece) for piece in pieces[:1]]
            for position, piece in enumerate(pieces):
                start = time.perf_counter()
                rows = waiting.pop().result()
                self.wait_seconds += time.perf_counter() - start
                waiting = [reader.submit(self._timed, after) for after in pieces[position + 1 : position + 2]]
                yield piece, rows

    def _timed(self, piece: Piece) -> Tensor:
        start = time.perf_counter()
        rows = self.index.read(piece, self.device)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        self.read_seconds += time.perf_counter() - start
        return rows
