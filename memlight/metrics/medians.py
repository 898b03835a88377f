"""Medians of a table of mu that is too large for the memory: a block of units at a time, each process its share."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memlight import dist
from memlight.metrics.functional import max_and_rest

_ENTRIES = 1 << 24
"""Entries of the largest block that is sorted."""


def rest_medians(parts: Sequence[NDArray[np.float32]], device: torch.device) -> Tensor:
    """Median of each unit's mu over the images other than its strongest ([C]; the middle two averaged).

    Args:
        parts: mu ``(n, U)`` of images, each image once over all parts, the same parts on every process; they may be
            mapped from the disk.
        device: where blocks are sorted.

    Returns:
        ``(U,)`` float64, on every process.
    """
    images, units = sum(len(part) for part in parts), parts[0].shape[1]
    share = -(-units // dist.world_size())
    first = dist.rank() * share
    step = max(1, _ENTRIES // images)
    medians = [torch.empty(0, dtype=torch.float64, device=device)]
    for start in range(first, min(first + share, units), step):
        block = np.concatenate([part[:, start : min(start + step, first + share)] for part in parts])
        medians.append(max_and_rest(torch.from_numpy(block).to(device), "median")[1])
    return dist.gather_cat(torch.cat(medians))
