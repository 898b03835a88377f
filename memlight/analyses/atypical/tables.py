"""The tables of atypical images: scores and measures of four groups of images, compared. Arrays only."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from memlight.analyses.atypical.columns import ATYPICAL_GROUPS
from memlight.data.splits import Ids
from memlight.stats import family
from memlight.stats.ranks import FIFTHS, fifths_means_parts, fifths_parts, spearman_parts
from memlight.storage.tables import Table, table_of

Floats = NDArray[np.float64]

PLACEBOS = ("external", "shared")
"""Neither member was trained on the first, both were on the second."""

STATISTICS = ("rho", "fifths")


class Group(NamedTuple):
    """The scored images of one split, and how atypical each is.

    Attributes:
        ids: ``(N,)``.
        scores: ``(N, L)`` of the candidate member; those of the independent member are their negatives.
        for_f: ``(N, M)`` measures beside the candidate member's score: none is made of its own features alone.
        for_g: ``(N, M)`` measures beside the independent member's score.
    """

    ids: Ids
    scores: Floats
    for_f: Floats
    for_g: Floats

    def parts(self, member: str) -> Floats:
        """Pseudo-values ``(2, N, L, M)`` of rho and of top minus bottom fifth, of one member's score."""
        score, measure = (self.scores, self.for_f) if member == "f" else (-self.scores, self.for_g)
        return np.stack([spearman_parts(score, measure), fifths_parts(score, measure)])

    def same(self) -> NDArray[np.bool_]:
        """``(M,)`` which measures are the same beside both members' scores."""
        result: NDArray[np.bool_] = ((self.for_f == self.for_g) | np.isnan(self.for_f)).all(0)
        return result


def own_parts(groups: Mapping[str, Group]) -> Floats:
    """Pseudo-values ``(2, N, L, M)`` of each member's score on the images that it alone was trained on."""
    return np.concatenate([groups["candidate"].parts("f"), groups["independent"].parts("g")], axis=1)


def placebo_parts(group: Group) -> Floats:
    """The same on images that tell the members apart in nothing: for each image, the mean over both members' scores.

    One score is the negative of the other. So of a measure that is the same for both members nothing is left, and
    candidates and independent images are each other's control; of one that is made of a member's features there remains
    what the features and the score have in common without any memory.
    """
    parts: Floats = (group.parts("f") + group.parts("g")) / 2
    parts[..., group.same()] = 0
    return parts


def atypical_table(
    groups: Mapping[str, Group], layers: Sequence[str], measures: Sequence[str], *, seed: int = 0
) -> Table:
    """Every measure on every layer against each placebo: the columns of ``atypical/table.csv``.

    Both statistics are means of pseudo-values over images (`memlight.stats.ranks`), so that their differences between
    groups are tested as the contrast is: the pseudo-values are relabelled between own and placebo images, for all
    layers, all measures and both statistics at once, and studentised anew. Relabelling the pseudo-values, and not the
    images, keeps what is no question here out of the null: groups may differ in their mean score (that is
    memorisation), in its spread, and in how atypical they are; permuting the measure would ask whether a correlation is
    0, which on the placebo it need not be.

    Args:
        groups: by split; ``candidate``, ``independent`` and at least one of `PLACEBOS`.
        layers: L names.
        measures: M names.
        seed: of the relabellings.
    """
    own = own_parts(groups)
    kinds, images, *shape = own.shape
    rows = []
    for placebo in PLACEBOS:
        if placebo not in groups:
            continue
        other = placebo_parts(groups[placebo])
        of_own, of_other = (part.transpose(1, 0, 2, 3).reshape(part.shape[1], -1) for part in (own, other))
        found = family(of_own, of_other, seed=seed)
        columns: Table = {}
        for kind, name in enumerate(STATISTICS):
            columns[f"{name}_own"], columns[f"{name}_placebo"] = own[kind].mean(0), other[kind].mean(0)
            for end, values in (
                ("", found.contrast),
                ("_low", found.low),
                ("_high", found.high),
                ("_simultaneous_low", found.simultaneous_low),
                ("_simultaneous_high", found.simultaneous_high),
            ):
                difference = 2 * values.reshape(kinds, *shape)[kind]
                columns[f"{name}_difference{end}"] = difference.clip(-2, 2)  # of two numbers from -1 to 1
            columns[f"{name}_difference_p_adjusted"] = found.p_adjusted.reshape(kinds, *shape)[kind]
        count = len(layers) * len(measures)
        rows.append(
            {
                "measure": np.repeat(np.array(measures), len(layers)),
                "layer": np.tile(np.array(layers), len(measures)),
                "depth": np.tile(np.arange(len(layers)), len(measures)),
                "placebo": np.full(count, placebo),
                **{name: values.T.ravel() for name, values in columns.items()},
                "n_own": np.full(count, images),
                "n_placebo": np.full(count, other.shape[1]),
            }
        )
    return {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}


def groups_table(groups: Mapping[str, Group], layers: Sequence[str], measures: Sequence[str]) -> Table:
    """Every group by itself, with normal 95 % intervals: the columns of ``atypical/groups.csv``."""
    rows: list[tuple[object, ...]] = []
    z = float(stats.norm.ppf(0.975))
    for name, group in groups.items():
        for member in {"candidate": "f", "independent": "g"}.get(name, "fg"):
            score, measure = (group.scores, group.for_f) if member == "f" else (-group.scores, group.for_g)
            images, rho = len(score), spearman_parts(score, measure)
            value, half = rho.mean(0), z * rho.std(0, ddof=1) / np.sqrt(len(score))
            for column, called in enumerate(measures):
                if np.isnan(measure[:, column]).any():
                    continue
                means = fifths_means_parts(score, measure[:, column]).mean(1)
                for row, layer in enumerate(layers):
                    ends = (value[row, column] - half[row, column], value[row, column] + half[row, column])
                    numbers = (value[row, column], *ends, means[-1, row], means[0, row], images)
                    rows.append((called, name, member, layer, row, *numbers))
    return table_of(ATYPICAL_GROUPS, rows)


def fifths_table(groups: Mapping[str, Group], layers: Sequence[str], measures: Sequence[str]) -> Table:
    """Mean score of each fifth by each measure, in the last layer: the columns of ``atypical/fifths.csv``.

    Of placebos it is the mean over both members' scores, which are each other's negatives; NaN without the placebo.
    """
    z = float(stats.norm.ppf(0.975))

    def means(part_FN: Floats) -> list[Floats]:
        mean, half = part_FN.mean(1), z * part_FN.std(1, ddof=1) / np.sqrt(part_FN.shape[1])
        return [mean, mean - half, mean + half]

    def last(group: Group, member: str, column: int) -> Floats:
        score, measure = (group.scores, group.for_f) if member == "f" else (-group.scores, group.for_g)
        return fifths_means_parts(score[:, -1:], measure[:, column])[:, :, 0]

    parts = []
    for column, name in enumerate(measures):
        own = [last(groups["candidate"], "f", column), last(groups["independent"], "g", column)]
        table: Table = {"measure": np.full(FIFTHS, name), "layer": np.full(FIFTHS, layers[-1])}
        table["fifth"] = np.arange(1, FIFTHS + 1)
        found = {"own": means(np.concatenate(own, axis=1))}
        for placebo in PLACEBOS:
            found[placebo] = [np.full(FIFTHS, np.nan)] * 3
            if (group := groups.get(placebo)) is not None:
                both = (last(group, "f", column) + last(group, "g", column)) / 2
                found[placebo] = means(both if not group.same()[column] else np.zeros_like(both))
        for group_name, values in found.items():
            table |= {f"{group_name}{end}": value for end, value in zip(("", "_low", "_high"), values, strict=True)}
        parts.append(table)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
