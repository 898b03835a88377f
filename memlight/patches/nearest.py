"""The nearest rows found so far, sorted by distance, then by row."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Nearest:
    """The k nearest rows of every query among those that were searched.

    Attributes:
        distances: ``(Q, k)`` float32, ascending; infinity where fewer were found.
        rows: ``(Q, k)`` int64; -1 likewise.
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
