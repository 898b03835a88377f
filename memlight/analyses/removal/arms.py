"""Which candidates a removal study leaves out, and how the classes of those differ from the others'."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memlight.random import permutation

Ids = NDArray[np.int64]


class Arm(NamedTuple):
    """One training of a removal study.

    Attributes:
        name: of its directory: top, low, random-1, ...
        trial: number of the random draw, from 1; 0 for top and low.
        ids: ``int64 (k,)`` ascending ids that are left out.
        scores: ``(k,)`` their memorisation scores.
    """

    name: str
    trial: int
    ids: Ids
    scores: NDArray[np.float64]

    @property
    def kind(self) -> str:
        """top, low or random."""
        return "random" if self.trial else self.name


def choose_arms(ids: Ids, scores: NDArray[np.float64], remove: int, trials: int, seed: int) -> list[Arm]:
    """The highest scores, the lowest, and random draws of as many images (Wang et al., ICLR 2024).

    Ties go to the lowest id. A random draw is a function of seed, trial and the number of candidates, so more trials
    leave the earlier ones as they are.

    Args:
        ids: ``int64 (C,)`` ascending candidate ids.
        scores: ``(C,)`` memorisation score of each.
        remove: how many are left out, from 1 to C.
        trials: random draws.
        seed: of the draws.

    Raises:
        ValueError: fewer candidates than are to be removed, or none is.
    """
    if not 1 <= remove <= len(ids):
        raise ValueError(f"remove must be between 1 and {len(ids)}, got {remove}")
    chosen = [("top", 0, np.argsort(-scores, kind="stable")), ("low", 0, np.argsort(scores, kind="stable"))]
    for trial in range(1, trials + 1):
        chosen.append((f"random-{trial}", trial, permutation(seed, trial, len(ids)).numpy()))
    kept = ((name, trial, np.sort(order[:remove])) for name, trial, order in chosen)
    return [Arm(name, trial, ids[rows], scores[rows]) for name, trial, rows in kept]


def class_shift(removed: Ids, candidates: Ids, num_classes: int) -> float:
    """How far the removed images' classes are from those of all candidates: total variation distance.

        1/2 sum over classes c of |share of c among removed - share of c among candidates|

    0 where the classes are as among all candidates, 1 where no class is in both. A random draw is above 0 too.

    Args:
        removed: ``int64 (k,)`` classes of the removed images, k >= 1.
        candidates: ``int64 (C,)`` classes of all candidates.
        num_classes: how many classes there are.
    """
    shares = [np.bincount(labels, minlength=num_classes) / len(labels) for labels in (removed, candidates)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)
