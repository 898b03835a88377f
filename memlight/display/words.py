"""Sentences about results, which follow the numbers."""

from collections.abc import Sequence

LONGEST_LIST = 8
"""Names in a sentence; deep networks have many more layers than a reader takes in."""


def joined(names: Sequence[str], instead: str = "") -> str:
    """Names as a list in a sentence: ``a, b and c``; of a long list how many they are, or what is said instead."""
    if len(names) > LONGEST_LIST:
        return instead or f"{len(names)} layers"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
