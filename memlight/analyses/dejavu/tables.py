"""The tables of Deja Vu, from the ranks of all images: differences of differences with what may be said of them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memlight.data.splits import Ids
from memlight.stats import family
from memlight.storage.tables import Table

Floats = NDArray[np.float64]

MEASURES = {"mrr": "rank", "top1": "top1"}
"""What the columns of a mean are called -> of what it is the mean, in `Group`."""


class Group(NamedTuple):
    """Images, and what both members found of them on every layer; each array is ``(N, L)``.

    Attributes:
        split: where they are from; empty where they are from several.
        layers: in execution order.
        ids: ``(N,)`` ascending.
        rank_f: mean over both directions of 1 / rank of the other corner, by the candidate member.
        rank_g: the same by the independent member.
        top1_f: share of both directions in which it comes first, by the candidate member.
        top1_g: the same by the independent member.
    """

    split: str
    layers: list[str]
    ids: Ids
    rank_f: Floats
    rank_g: Floats
    top1_f: Floats
    top1_g: Floats

    def advantage(self, values: str) -> Floats:
        """By how much f finds each image better than g, ``(N, L)``: by ``rank``, or by ``top1``."""
        result: Floats = getattr(self, f"{values}_f") - getattr(self, f"{values}_g")
        return result

    def among(self, split: str, ids: Ids) -> "Group":
        """Those of a split, whose ids are among them; they keep the ranks that they have among all."""
        rows = np.searchsorted(self.ids, ids)
        return Group(split, self.layers, ids, *(values[rows] for values in self[3:]))


def trained_table(candidate: Group, independent: Group, *, seed: int = 0) -> Table:
    """Both members on both groups, and the difference of differences: the columns of ``dejavu/table.csv``.

    Args:
        candidate: images that only f was trained on.
        independent: images that only g was trained on.
        seed: of the relabellings.
    """
    layers = candidate.layers
    table: Table = {"layer": np.array(layers), "depth": np.arange(len(layers))}
    for name, values in MEASURES.items():
        for group in (candidate, independent):
            for member in "fg":
                table[f"{name}_{member}_{group.split}"] = getattr(group, f"{values}_{member}").mean(0)
    return table | differences(candidate, independent, seed=seed)


def placebo_table(name: str, first: Group, second: Group, *, seed: int = 0) -> Table:
    """Two halves of images that both members saw, or neither: the columns of ``dejavu/placebos.csv``.

    Args:
        name: of the split.
        first: one half, in the place of the candidates.
        second: the other, in the place of the independent images.
        seed: of the relabellings.
    """
    layers = first.layers
    both = {
        f"{name}_{member}": np.concatenate([getattr(half, f"{values}_{member}") for half in (first, second)]).mean(0)
        for name, values in MEASURES.items()
        for member in "fg"
    }
    places = {"placebo": np.full(len(layers), name), "layer": np.array(layers), "depth": np.arange(len(layers))}
    return places | both | differences(first, second, seed=seed)


def differences(first: Group, second: Group, *, seed: int = 0) -> Table:
    """The difference of differences of every layer, with the intervals and p-values of all layers together.

    With r the reciprocal rank of an image's other corner (or whether it comes first),

        difference(l) = [mean over first of (r_f - r_g) - mean over second of (r_f - r_g)] / 2

    is by how much a member finds an image better that it was trained on, averaged over members. All layers are one
    family; the reciprocal rank is what layers are named by, and top-1, which says less of each image, a family of its
    own.
    """
    table: Table = {}
    for prefix, values in (("", "rank"), ("top1_", "top1")):
        found = family(first.advantage(values), second.advantage(values), seed=seed)
        name = f"{prefix}difference"
        table |= {name: found.contrast, f"{prefix}p_adjusted": found.p_adjusted}
        for end in ("low", "high", "simultaneous_low", "simultaneous_high"):
            table[f"{name}_{end}"] = np.clip(
                getattr(found, end), -1, 1
            )  # where hardly an image is found, it is endless
    return table | {"n": np.full(len(first.layers), len(first.ids) + len(second.ids))}


def samples_table(groups: list[Group], labels_of: Callable[[Ids], Ids]) -> Table:
    """Every image on every layer: the columns of ``dejavu/samples.csv``.

    Args:
        groups: of each split that was measured.
        labels_of: data set ids -> labels.
    """
    parts = []
    for group in groups:
        images, layers = group.rank_f.shape
        parts.append(
            {
                "id": np.tile(group.ids, layers),
                "split": np.full(images * layers, group.split),
                "label": np.tile(labels_of(group.ids), layers),
                "layer": np.repeat(np.array(group.layers), images),
                "reciprocal_rank_f": group.rank_f.T.ravel(),
                "reciprocal_rank_g": group.rank_g.T.ravel(),
                "top1_f": group.top1_f.T.ravel(),
                "top1_g": group.top1_g.T.ravel(),
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
