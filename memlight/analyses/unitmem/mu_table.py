"""The table of mu when it is too large for the memory: on the disk, read a block of units at a time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memlight import dist
from memlight.metrics.functional import max_and_rest

_ENTRIES = 1 << 24
"""Entries of the largest block that is sorted."""


class MuTable:
    """Mu of every image, float32 `.npy` files.

    Args:
        parts: ``(n, U)`` each; images in ascending order of id were dealt to them in turn.

    Attributes:
        images: N, of all parts.
        units: U.
    """

    def __init__(self, parts: Sequence[Path]) -> None:
        self._parts: list[NDArray[np.float32]] = [np.load(part, mmap_mode="r") for part in parts]
        self.images, self.units = sum(len(part) for part in self._parts), self._parts[0].shape[1]

    def columns(self, units: slice) -> Tensor:
        """Mu of some units on all images, ``(N, u)`` float32, images in ascending order of id."""
        block = torch.empty(self.images, len(range(*units.indices(self.units))))
        for number, part in enumerate(self._parts):
            block[number :: len(self._parts)] = torch.from_numpy(part[:, units].copy())
        return block


def rest_medians(table: MuTable, device: torch.device) -> Tensor:
    """Median of each unit's mu over the images other than its strongest ([C]; the middle two averaged).

    Every process sorts its share of the units.

    Args:
        table: the same on every process.
        device: where blocks are sorted.

    Returns:
        ``(U,)`` float64, on every process.
    """
    share = -(-table.units // dist.world_size())
    first, last = (min((dist.rank() + more) * share, table.units) for more in (0, 1))
    step = max(1, _ENTRIES // table.images)
    medians = [torch.empty(0, dtype=torch.float64, device=device)]
    for start in range(first, last, step):
        block = table.columns(slice(start, min(start + step, last)))
        medians.append(max_and_rest(block.to(device), "median")[1])
    return dist.gather_cat(torch.cat(medians))
