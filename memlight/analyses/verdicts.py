"""What may be said of the rows of a table of effects: adjusted p-values, bands and verdicts, from the table. No torch.

The rows of one command are one family. A table that was written before there were adjusted p-values gets them when it
is read, and the same ones as if it were made now.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, ndtr, ndtri, stdtrit

from memlight.display.words import FAMILY_WISE
from memlight.storage.tables import Table, table_of

Verdict = Literal["costs more", "costs less", "not decidable"]
"""How a treatment compares with a random one of the same size."""

NO_DRAWS = "no random draws"
"""The verdict where nothing was treated at random."""

JUDGED_ANEW = (
    "This result was written before verdicts allowed for the number of comparisons. Those on this page do, and were "
    "made of its table; effects.csv still has those of each row by itself."
)
"""What a page says of a table that `against_draws` has judged anew."""


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values by Holm's step-down Bonferroni, whatever the dependence (Holm 1979, Scand. J. Stat. 6, 65).

    The smallest of m p-values is multiplied by m, the next by m - 1, and so on; none is smaller than the one before.

    Args:
        p: of any shape, one family; tests that were not made (NaN) stay NaN and do not count.
    """
    values = np.asarray(p, dtype=np.float64)
    adjusted = np.full(values.shape, np.nan)
    made = np.flatnonzero(np.isfinite(values))
    order = made[np.argsort(values.flat[made], kind="stable")]
    scaled = values.flat[order] * np.arange(len(order), 0, -1)
    adjusted.flat[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted


def interval_p(value: ArrayLike, low: ArrayLike, high: ArrayLike) -> NDArray[np.float64]:
    """Two-sided p of numbers, each by itself, from their 95 % intervals: normal, by the end that faces 0.

    It is .05 where an end is 0. Of numbers without an interval, or with one of no width, it is NaN.

    Args:
        value: of any shape.
        low: lower ends.
        high: upper ends.
    """
    middle = np.asarray(value, dtype=np.float64)
    half = np.where(middle > 0, middle - np.asarray(low), np.asarray(high) - middle)
    made = np.isfinite(half) & (half > 0)
    z = np.divide(np.abs(middle), half, out=np.zeros(middle.shape), where=made)
    return np.where(made, 2 * ndtr(ndtri(0.025) * z), np.nan)


def effects_table(columns: Iterable[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table of effects with its verdicts (`against_draws`).

    Args:
        columns: of the table.
        rows: of the columns before ``verdict``.
    """
    names = list(columns)
    return against_draws(table_of(names[: names.index("verdict")], rows))


def against_draws(effects: Table) -> Table:
    """Add what may be said of every row of a table of effects: all rows of one command are one family.

    Each row's own two-sided p is the level at which its interval (`memlight.analyses.effects.against_random`) would
    just reach 0: Student's t with T - 1 degrees of freedom for the draws, the normal quantile for the images. Over the
    rows it is adjusted by Holm's step-down Bonferroni, which holds whatever rows have in common (draws, test images). A
    max-T by flips of sign over test images would be less strict, but would leave out that another draw could have cost
    as much. Everything is read from the table, so an older one without adjusted p-values gets them too.

    Args:
        effects: columns ``random``, ``excess``, both with their ends, and ``draws``.

    Returns:
        The table with ``p_adjusted``, the band ``excess_simultaneous_low`` and ``_high`` (Bonferroni), and
        ``verdict``, from the adjusted p: "costs more", "costs less", "not decidable" or "no random draws".
    """
    if "p_adjusted" in effects:
        return effects
    degrees = np.maximum(effects["draws"] - 1.0, 1.0)
    one_more = (effects["random_high"] - effects["random_low"]) / 2 / stdtrit(degrees, 0.975)
    spread = StandardErrors.of_errors(one_more, effects["excess_high"] - effects["excess"], degrees)
    claimed = spread.claims("excess", effects["excess"])
    p_adjusted = claimed.pop("excess_p_adjusted")
    verdicts = [
        NO_DRAWS if not draws else verdict_of(value, p)
        for draws, value, p in zip(effects["draws"], effects["excess"], p_adjusted, strict=True)
    ]
    return {**effects, "verdict": np.array(verdicts, dtype=np.str_), "p_adjusted": p_adjusted, **claimed}


def verdict_of(excess: float, p_adjusted: float) -> Verdict:
    """How a treatment compares with random ones, from its adjusted p; not decidable without one."""
    if not p_adjusted <= FAMILY_WISE:
        return "not decidable"
    return "costs more" if excess > 0 else "costs less"


def against_untreated(effects: Table, aside: Sequence[str]) -> Table:
    """Add what may be said of the drops of copies that are compared with nothing but the untreated one.

    Each row's own two-sided p is exact: of the images that one of the two copies alone classifies correctly, each is
    lost or gained with probability 1/2 where the treatment changes nothing (McNemar 1947, as a sign test). Both counts
    follow from the drop, its interval (`memlight.analyses.effects.paired_drop`) and the number of test images. Over the
    family it is adjusted by Holm's step-down Bonferroni.

    Args:
        effects: columns ``layers``, ``drop`` with its ends, and ``n_test``.
        aside: what ``layers`` names in rows that are no exchange, and not tested: NaN.

    Returns:
        The table with ``p_adjusted`` and the band ``drop_simultaneous_low`` and ``_high`` (Bonferroni).
    """
    if "p_adjusted" in effects:
        return effects
    family = ~np.isin(effects["layers"], aside)
    drop, images = effects["drop"], effects["n_test"].astype(np.float64)
    error = (effects["drop_high"] - drop) / ndtri(0.975)
    net = np.round(np.abs(images * drop))
    changed = np.maximum(net, np.round(error**2 * images * (images - 1) + images * drop**2)).astype(np.int64)
    fewer = np.floor((changed - net) / 2)
    p = np.where(family, np.minimum(1, 2 * bdtr(fewer, changed, 0.5)), np.nan)
    half = np.where(family, -ndtri(FAMILY_WISE / 2 / max(1, int(family.sum()))) * error, np.nan)
    ends = {"drop_simultaneous_low": drop - half, "drop_simultaneous_high": drop + half}
    return {**effects, "p_adjusted": holm(p), **ends}


class StandardErrors(NamedTuple):
    """What blurs differences of accuracy: two standard errors for each row, ``(R,)``.

    Attributes:
        draws: over draws or trials, which are few.
        images: over test images, which are many.
        degrees: of freedom of ``draws``.
    """

    draws: NDArray[np.float64]
    images: NDArray[np.float64]
    degrees: NDArray[np.float64]

    @classmethod
    def of_errors(
        cls, draws: NDArray[np.float64], half_width: NDArray[np.float64], degrees: NDArray[np.float64]
    ) -> "StandardErrors":
        """From the standard error over draws and the half width of the 95 % interval, the root of a sum of squares."""
        over_draws = stdtrit(degrees, 0.975) * draws
        return cls(draws, np.sqrt(np.maximum(half_width**2 - over_draws**2, 0)) / ndtri(0.975), degrees)

    def half_width(self, level: ArrayLike) -> NDArray[np.float64]:
        """Half width of the two-sided interval that leaves out the truth with this probability."""
        tail = np.asarray(level, dtype=np.float64) / 2
        half: NDArray[np.float64] = np.hypot(stdtrit(self.degrees, tail) * self.draws, ndtri(tail) * self.images)
        return half

    def own_p(self, value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Two-sided p-value of each row by itself: the level at which its interval would just reach 0.

        The half width falls as the level rises, so the level is found by bisection, on a logarithmic scale.
        """
        low, high = np.full(value.shape, -700.0), np.zeros(value.shape)  # exp(-700) is the least that floats hold
        for _ in range(60):
            middle = (low + high) / 2
            with np.errstate(invalid="ignore"):  # 0 times infinity, at levels that no value needs
                wide = self.half_width(np.exp(middle)) >= np.abs(value)
            low, high = np.where(wide, middle, low), np.where(wide, high, middle)
        return np.where(np.isfinite(value + self.draws + self.images), np.exp(high), np.nan)

    def claims(self, name: str, value: NDArray[np.float64]) -> Table:
        """Columns of a number's adjusted p (Holm) and of the band that holds all rows at once (Bonferroni)."""
        p = self.own_p(value)
        half = self.half_width(FAMILY_WISE / max(1, int(np.isfinite(p).sum())))
        ends = {f"{name}_simultaneous_low": value - half, f"{name}_simultaneous_high": value + half}
        return {f"{name}_p_adjusted": holm(p), **ends}
