"""Which images own units, and how few of them own most: an image owns the units whose strongest image it is."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONCENTRATION = ("owners", "top_1", "top_10", "most")
"""What `concentration` gives, in order."""

_DRAWS_AT_ONCE = 100

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def extreme_units(unitmem_U: ArrayLike, dead_U: ArrayLike, *, share: float = 0.1, lowest: bool = False) -> Ints:
    """Positions of the units with the highest scores, or the lowest, ties in the order given.

    Args:
        unitmem_U: scores.
        dead_U: units that never fired, which have no strongest image and are left out.
        share: of the living units, rounded down; at least one unit where there is any.
        lowest: those with the lowest scores.
    """
    scores = np.asarray(unitmem_U, dtype=np.float64)
    alive = np.flatnonzero(~np.asarray(dead_U, dtype=bool))
    count = max(1, int(share * len(alive)))
    order = np.argsort(scores[alive] if lowest else -scores[alive], kind="stable")
    chosen: Ints = alive[order[:count]]
    return chosen


def owned_units(owners_U: ArrayLike, ids_N: ArrayLike) -> Ints:
    """How many units each image owns, ``(N,)``.

    Args:
        owners_U: id of the strongest image of each unit.
        ids_N: the images measured, ascending; every owner is among them.
    """
    ids = np.asarray(ids_N, dtype=np.int64)
    return np.bincount(np.searchsorted(ids, np.asarray(owners_U, dtype=np.int64)), minlength=len(ids)).astype(np.int64)


def concentration(counts_RN: ArrayLike) -> Floats:
    """How few images own how many of the units.

    Args:
        counts_RN: units that each image owns, under R assignments of owners.

    Returns:
        ``(R, 4)``, the shares of `CONCENTRATION`: of images that own any unit; of units that belong to the 1 % and to
        the 10 % of images (of all N, rounded down, at least one) that own most; and to the one that owns most.
    """
    ranked = np.sort(np.asarray(counts_RN), axis=1)[:, ::-1]
    images = ranked.shape[1]
    units = ranked.sum(1, dtype=np.int64)
    firsts = [max(1, int(share * images)) for share in (0.01, 0.1)]
    parts = [ranked[:, :first].sum(1, dtype=np.int64) / units for first in (*firsts, 1)]
    return np.stack([(ranked > 0).mean(1), *parts], axis=1)


def drawn_counts(units: int, images: int, *, draws: int, seed: int | tuple[int, int]) -> NDArray[np.int32]:
    """Units that each image owns if every unit's owner were drawn at random, ``(draws, N)``."""
    owners = np.random.default_rng(seed).integers(images, size=(draws, units))
    place = owners + images * np.arange(draws)[:, None]
    return np.bincount(place.ravel(), minlength=draws * images).astype(np.int32).reshape(draws, images)


def concentration_null(units: int, images: int, *, draws: int = 1000, seed: int = 0) -> Floats:
    """`concentration` when every unit's owner is drawn at random and apart from the others, ``(draws, 4)``.

    Units of one network are alike, so real ones share owners more than this even where nothing is memorised: held-out
    images, and units with low scores, show how much more.

    Args:
        units: how many have an owner.
        images: how many there are to draw from.
        draws: repetitions.
        seed: of the draws.
    """
    sizes = [min(_DRAWS_AT_ONCE, draws - start) for start in range(0, draws, _DRAWS_AT_ONCE)]
    parts = [
        concentration(drawn_counts(units, images, draws=size, seed=(seed, part))) for part, size in enumerate(sizes)
    ]
    return np.concatenate(parts)


def units_by_images(counts_RN: ArrayLike) -> Floats:
    """Share of the units that belong to the first n images, from the one that owns most: ``(R, N)`` for n from 1."""
    ranked = np.sort(np.asarray(counts_RN), axis=1)[:, ::-1].cumsum(1, dtype=np.int64)
    share: Floats = ranked / ranked[:, -1:]
    return share
