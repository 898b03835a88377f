"""Sentences about results, which follow the numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LONGEST_LIST = 8
"""Names in a sentence; deep networks have many more layers than a reader takes in."""


def joined(names: Sequence[str], instead: str = "") -> str:
    """Names as a list in a sentence: ``a, b and c``; of a long list how many they are, or what is said instead."""
    if len(names) > LONGEST_LIST:
        return instead or f"{len(names)} layers"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


FAMILY_WISE = 0.05
"""Adjusted p up to which a layer, a unit or a choice is named."""


def named_above(values: ArrayLike, p_adjusted: ArrayLike, expected: float = 0.0) -> NDArray[np.bool_]:
    """Which of a family are claimed to lie above what is expected; with both negated, which lie below it."""
    with np.errstate(invalid="ignore"):
        above: NDArray[np.bool_] = (np.asarray(p_adjusted) <= FAMILY_WISE) & (np.asarray(values) > expected)
    return above


def layers_apart(table: Any, name: str) -> tuple[list[str], list[str]]:
    """The layers of a table whose number is claimed to lie above 0, and those where it lies below.

    Args:
        table: with columns ``layer``, the number's and ``<name>_p_adjusted``.
        name: of the number.
    """
    values, p = table[name], table[f"{name}_p_adjusted"]
    above, below = (table["layer"][named_above(sign * values, p)].tolist() for sign in (1, -1))
    return above, below


def together(count: int, what: str = "layers") -> str:
    """How many were tested together, as it stands in brackets behind a claim; ``what`` is a plural in s."""
    return f"{count} {what} tested together at a family-wise 5 %" if count > 1 else f"1 {what[:-1]} tested at 5 %"
