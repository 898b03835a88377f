"""The nearest rows found so far, sorted by distance, then by row; on the disk too, so that a search can go on."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memlight.storage.arrays import DAMAGED, read_npz
from memlight.storage.tables import write_arrays
from memlight.storage.writing import writing

SAVE_SECONDS = 5.0
"""Least time between two writings of the file, unless the search is over."""


@dataclass
class Nearest:
    """The k nearest rows of every query among those that were searched.

    Attributes:
        distances: ``(Q, k)`` float32, ascending; infinity where fewer were found.
        rows: ``(Q, k)`` int64; -1 where fewer were found.
    """

    distances: Tensor
    rows: Tensor

    @classmethod
    def none(cls, queries: int, k: int) -> "Nearest":
        """Nothing found yet."""
        return cls(torch.full((queries, k), float("inf")), torch.full((queries, k), -1, dtype=torch.int64))

    @property
    def k(self) -> int:
        """How many are kept of every query."""
        return self.distances.shape[1]

    def to(self, device: torch.device) -> "Nearest":
        """The same on another device, to be changed there."""
        return Nearest(self.distances.to(device, copy=True), self.rows.to(device, copy=True))

    def of(self, queries: Tensor) -> "Nearest":
        """Those of some queries."""
        return Nearest(self.distances[queries], self.rows[queries])

    def replace(self, queries: Tensor, found: "Nearest") -> None:
        """Let others take the place of those of some queries."""
        self.distances[queries], self.rows[queries] = found.distances, found.rows

    def joined(self, distances_QC: Tensor, rows_QC: Tensor) -> "Nearest":
        """With further rows, none of which is here already; ties go to the lowest row."""
        distances, rows = torch.cat([self.distances, distances_QC], 1), torch.cat([self.rows, rows_QC], 1)
        rows, order = rows.sort(dim=1)
        distances, place = distances.gather(1, order).sort(dim=1, stable=True)
        return Nearest(distances[:, : self.k].clone(), rows.gather(1, place)[:, : self.k].clone())

    def with_pairs(self, query_P: Tensor, distance_P: Tensor, row_P: Tensor) -> "Nearest":
        """With further rows given as pairs, sorted by query."""
        counts = torch.bincount(query_P, minlength=len(self.rows))
        width = int(counts.max()) if len(query_P) else 0
        place = torch.arange(len(query_P), device=query_P.device) - (counts.cumsum(0) - counts)[query_P]
        distances = self.distances.new_full((len(counts), width), float("inf"))
        rows = self.rows.new_full((len(counts), width), -1)
        distances[query_P, place], rows[query_P, place] = distance_P, row_P
        return self.joined(distances, rows)

    def merged(self, other: "Nearest") -> "Nearest":
        """With those of another search, which may have found the same rows."""
        known = (other.rows[:, :, None] == self.rows[:, None, :]).any(2)
        return self.joined(other.distances.masked_fill(known, float("inf")), other.rows.masked_fill(known, -1))


class SearchProgress:
    """The nearest rows among the shards that are done, in one file that is replaced as a whole.

    Args:
        path: the file.
        identity: what is searched, where and how, JSON-able, under other names than those of the numbers that follow;
            what another search left is not used.
        queries: number of queries.
        k: number of nearest rows of each.

    Attributes:
        done: the shards that were searched before this search began.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], queries: int, k: int) -> None:
        self.done: frozenset[int] = frozenset()
        self._path = path
        self._identity = json.dumps({**identity, "queries": queries, "k": k}, sort_keys=True, default=str)
        self._found = Nearest.none(queries, k)
        self._shards: set[int] = set()
        self._written = 0.0
        self._lock = threading.Lock()

    def load(self) -> Nearest:
        """What an interrupted search found; nothing where there is no file, or that of another search."""
        try:
            file = read_npz(self._path, ("identity", "distances", "rows", "done"))
        except DAMAGED:
            file = {}
        shape = self._found.rows.shape
        if file and str(file["identity"]) == self._identity and file["distances"].shape == file["rows"].shape == shape:
            self._found = Nearest(torch.from_numpy(file["distances"]), torch.from_numpy(file["rows"]))
            self.done = frozenset(file["done"].tolist())
        self._shards = set(self.done)
        return self._found

    def add(self, shard: int, found: Nearest) -> None:
        """A device has finished a shard; ``found`` is what it found until then."""
        with self._lock:
            self._shards.add(shard)
            self._found = self._found.merged(found.to(torch.device("cpu")))
            if time.monotonic() - self._written >= SAVE_SECONDS:
                self._write()
                self._written = time.monotonic()

    def remove(self) -> None:
        """The search is over and its result written."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        with writing("out", self._path, "what was saved before stays"):
            write_arrays(
                self._path,
                identity=np.array(self._identity),
                distances=self._found.distances.numpy(),
                rows=self._found.rows.numpy(),
                done=np.array(sorted(self._shards), dtype=np.int64),
            )
