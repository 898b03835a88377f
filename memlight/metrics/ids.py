"""Counting each image once, over batches and over processes."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


def distinct(ids_N: Tensor) -> Tensor:
    """Positions of the first appearance of each id, by ascending id."""
    order = ids_N.argsort(stable=True)
    ordered = ids_N[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return order[first]


class ImageMetric(Metric):
    """A metric of images with a row of values for each; it keeps their ids.

    Some processes may see no image: torchmetrics would gather their empty lists as float32 vectors, so rows are
    declared with their width and type, and go out as empty rows of that kind.
    """

    full_state_update = False
    ids: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self._no_rows: dict[str, Tensor] = {}
        self.add_rows("ids", torch.int64)

    def add_rows(self, name: str, dtype: torch.dtype, *width: int) -> None:
        """Add a state: a list of ``(n, *width)`` tensors, concatenated over processes."""
        self._no_rows[name] = torch.empty(0, *width, dtype=dtype)
        self.add_state(name, default=[], dist_reduce_fx="cat")

    def rows(self, name: str) -> Tensor:
        """All rows of a state so far."""
        state: list[Tensor] | Tensor = getattr(self, name)
        parts = state if isinstance(state, list) else [state]
        return torch.cat([self._no_rows[name].to(self.device), *parts])

    def unseen(self, ids_B: Tensor) -> Tensor:
        """Positions of the images of a batch that are new, each id once."""
        positions = distinct(ids_B)
        seen = self.rows("ids")
        self.ids = [seen]  # one tensor: joining thousands of small ones again for every batch takes longest
        return positions[~torch.isin(ids_B[positions], seen)]

    def require_disjoint(self) -> None:
        """Refuse ids that two processes saw: their sums cannot be told apart any more.

        Raises:
            ValueError: names the first such id.
        """
        ids = self.rows("ids").sort().values
        twice = ids[1:][ids[1:] == ids[:-1]]
        if twice.numel():
            raise ValueError(f"id {int(twice[0])} was seen by two processes; give each its own ids, without padding")

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any | None = None,
        should_sync: bool = True,
        distributed_available: Callable[[], bool] | None = None,
    ) -> None:
        """Gather the states of all processes, those without images included."""
        for name, empty in self._no_rows.items():
            if not len(getattr(self, name)):
                setattr(self, name, [empty.to(self.device)])
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)
