"""The tables of `analyze.py images`, and which images own units: an image owns those whose strongest image it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from memlight.analyses.images.appearance import MatchedComparison, Statistics, matched_comparison, rank_correlations
from memlight.analyses.images.columns import IMAGES_CLUSTERS, IMAGES_DESCRIBED, IMAGES_OWNERSHIP
from memlight.analyses.joined import ALL_LAYERS
from memlight.analyses.unitmem.tables import joined_tables
from memlight.data.splits import Ids
from memlight.stats import benjamini_hochberg, permutation_p
from memlight.storage.tables import Table, table_of

NO_CLUSTER = -1

CURVE_POINTS = 60
CURVE_DRAWS = 200

CONCENTRATION = ("owners", "top_1", "top_10", "most")
"""What `concentration` gives, in order."""

_DRAWS_AT_ONCE = 100
_TAILS = (0.025, 0.975)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Owned:
    """The images of a split, and the units they own.

    Attributes:
        split: its name.
        ids: ``(N,)`` ascending.
        labels: ``(N,)``; -1 where there is none.
        table: columns ``UNITMEM_TABLE``.
        units: ``(N,)`` living units that each image owns.
        top_units: ``(N,)`` those of them among the 10 % with the highest scores.
        descriptors: name -> ``(N,)``.
    """

    split: str
    ids: Ids
    labels: Ids
    table: Table
    units: Ints
    top_units: Ints
    descriptors: dict[str, Floats]

    def matrix(self) -> Floats:
        """Descriptors ``(N, D)``."""
        return np.stack([self.descriptors[name] for name in IMAGES_DESCRIBED], axis=1)


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


def image_table(owned: Mapping[str, Owned], clustered: Ids, labels: Ints) -> Table:
    """Every image: columns ``IMAGES_TABLE``; `NO_CLUSTER` for those that were not clustered.

    Args:
        owned: split -> its images; no image is in two splits.
        clustered: ids, ascending.
        labels: cluster of each.
    """
    parts = []
    for part in owned.values():
        counts = {"label": part.labels, "units": part.units, "top_units": part.top_units}
        parts.append({"id": part.ids, "split": np.full(len(part.ids), part.split), **counts, **part.descriptors})
    table = joined_tables(parts)
    cluster = np.full(len(table["id"]), NO_CLUSTER, dtype=np.int64)
    cluster[np.isin(table["id"], clustered)] = labels
    return {**table, "cluster": cluster}


def ownership_table(owned: Mapping[str, Owned], seed: int) -> Table:
    """How few images own how many units: columns ``IMAGES_OWNERSHIP``.

    Of all layers together the top 10 % of units by score, all, and the bottom 10 %; then the top 10 % of each layer.

    Args:
        owned: split -> its images, the scored ones first.
        seed: of the null.
    """
    rows = []
    for part in owned.values():
        table = part.table
        everywhere = np.ones(len(table["unit"]), dtype=bool)
        groups = [(ALL_LAYERS, which, everywhere) for which in ("top 10 %", "all", "bottom 10 %")]
        groups += [(layer, "top 10 %", table["layer"] == layer) for layer in dict.fromkeys(table["layer"].tolist())]
        for layer, which, among in groups:
            share, lowest = (1.0 if which == "all" else 0.1), which == "bottom 10 %"
            chosen = extreme_units(table["unitmem"], table["dead"] | ~among, share=share, lowest=lowest)
            if len(chosen):
                shares = concentration(owned_units(table["max_id"][chosen], part.ids)[None])[0]
                null = concentration_null(len(chosen), len(part.ids), seed=seed)
                of_null = (null.mean(0), *np.quantile(null, _TAILS, axis=0))
                numbers = np.stack([shares, *of_null], axis=1).ravel()
                rows.append((part.split, layer, which, len(chosen), len(part.ids), *numbers.tolist()))
    assert len(IMAGES_OWNERSHIP) == 5 + 4 * len(CONCENTRATION)
    return table_of(IMAGES_OWNERSHIP, rows)


def curve_table(scored: Owned, held_out: Owned | None, seed: int) -> Table:
    """Share of the top units that belong to the first images, from the one that owns most: ``IMAGES_CURVE``.

    The null is drawn from a seed; without held-out images their column is NaN.
    """
    images = len(scored.ids)
    first = np.unique(np.geomspace(1, images, CURVE_POINTS).round().astype(np.int64))
    counts = drawn_counts(int(scored.top_units.sum()), images, draws=CURVE_DRAWS, seed=seed)
    null = units_by_images(counts)[:, first - 1]
    low, high = np.quantile(null, _TAILS, axis=0)
    unseen = np.full(len(first), np.nan)
    if held_out is not None:
        others = len(held_out.ids)
        unseen = units_by_images(held_out.top_units[None])[0, np.ceil(first / images * others).astype(int) - 1]
    return {
        "share": first / images,
        "units": units_by_images(scored.top_units[None])[0, first - 1],
        "null": null.mean(0),
        "null_low": low,
        "null_high": high,
        "held_out_units": unseen,
    }


def correlation_table(scored: Owned, held_out: Owned | None, seed: int) -> Table:
    """Each descriptor's rank correlation with the number of top units that an image owns: ``IMAGES_DESCRIPTORS``.

    ``beyond`` is the correlation minus that among held-out images, tested by permuting both. Each of the three p is
    adjusted over the descriptors. Permutations are drawn from the seed; without held-out images their columns are NaN.
    """
    rho = rank_correlations(scored.matrix(), scored.top_units, seed=seed)
    unseen = _undefined(rho)
    if held_out is not None:
        unseen = rank_correlations(held_out.matrix(), held_out.top_units, seed=seed + 1)
    beyond = Statistics(rho.value - unseen.value, rho.null - unseen.null)
    return {
        "descriptor": np.array(IMAGES_DESCRIBED),
        **_tested("rho", "", rho, band=True),
        **_tested("held_out_rho", "held_out_", unseen),
        **_tested("beyond", "beyond_", beyond),
    }


def matched_table(scored: Owned, held_out: Owned | None, seed: int) -> Table:
    """Images that own a top unit against others that agree in all descriptors but one: ``IMAGES_MATCHED``.

    The null is drawn from a seed; without held-out images their columns are 0 pairs and NaN.
    """

    def compare(images: Owned) -> MatchedComparison:
        return matched_comparison(images.matrix(), images.top_units > 0, images.labels, seed=seed)

    owners = compare(scored)
    unseen_pairs, unseen = np.zeros_like(owners.pairs), _undefined(owners.difference)
    if held_out is not None:
        others = compare(held_out)
        unseen_pairs, unseen = others.pairs, others.difference
    return {
        "descriptor": np.array(IMAGES_DESCRIBED),
        "pairs": owners.pairs,
        "within_class": owners.within_class,
        **_tested("difference", "", owners.difference, band=True),
        **{name: getattr(owners, name) for name in ("unmatched", "imbalance", "imbalance_unmatched")},
        "held_out_pairs": unseen_pairs,
        **_tested("held_out_difference", "held_out_", unseen),
    }


def cluster_table(scored: Owned, clustered: Ids, labels: Ints, classes: Sequence[str]) -> Table:
    """Each cluster of driving images and others: columns ``IMAGES_CLUSTERS``.

    The clusters do not know which images drive units, so if driving were chance each would hold them in proportion:
    a hypergeometric number, whose central 95 % and Fisher's exact test are given.

    Args:
        scored: the images scored.
        clustered: ids, ascending.
        labels: cluster of each.
        classes: names, none where images have no classes.
    """
    place = np.searchsorted(scored.ids, clustered)
    units = scored.top_units[place]
    drives, total = units > 0, len(clustered)
    rows = []
    for cluster in range(labels.max(initial=-1) + 1):
        inside = labels == cluster
        size, driving = int(inside.sum()), int((drives & inside).sum())
        low, high = stats.hypergeom.ppf(_TAILS, total, drives.sum(), size) / size
        outside = (int(drives.sum()) - driving, total - size - int((drives & ~inside).sum()))
        p = stats.fisher_exact([[driving, size - driving], outside]).pvalue
        named = np.bincount(scored.labels[place[inside & drives]]) if classes and driving else np.zeros(1)
        common = (classes[int(named.argmax())], named.max() / driving) if named.any() else ("", np.nan)
        owned = int(units[inside].sum())
        counts = (cluster, size, driving, size - driving, driving / size, low, high, p)
        rows.append((*counts, np.nan, owned, owned / max(1, int(scored.top_units.sum())), *common))
    table = table_of(IMAGES_CLUSTERS, rows)
    return table | {"q": benjamini_hochberg(table["p"])}


def _tested(name: str, prefix: str, statistics: Statistics, *, band: bool = False) -> Table:
    """A statistic with its p and q, and where asked for the central 95 % of its null."""
    p = permutation_p(statistics.value, statistics.null)
    table = {name: statistics.value}
    if band:
        table["null_low"], table["null_high"] = np.quantile(statistics.null, _TAILS, axis=0)
    return table | {f"{prefix}p": p, f"{prefix}q": benjamini_hochberg(p)}


def _undefined(like: Statistics) -> Statistics:
    return Statistics(np.full_like(like.value, np.nan), np.full_like(like.null, np.nan))
