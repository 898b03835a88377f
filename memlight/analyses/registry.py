"""Every analysis there is: the one list that the command line, the report, W&B and the comparison of runs follow."""

from memlight.analyses import (
    atypical,
    classmem,
    dejavu,
    exchange,
    features,
    finetune,
    images,
    layermem,
    patches,
    plan,
    probe,
    prune,
    removal,
    sequence,
    unit,
    unitmem,
)
from memlight.runs.analysis import Curve, Number

ANALYSES = (
    layermem.ANALYSIS,
    dejavu.ANALYSIS,
    atypical.ANALYSIS,
    plan.ANALYSIS,
    unitmem.ANALYSIS,
    images.ANALYSIS,
    classmem.ANALYSIS,
    unit.ANALYSIS,
    prune.ANALYSIS,
    exchange.ANALYSIS,
    finetune.ANALYSIS,
    removal.ANALYSIS,
    probe.ANALYSIS,
    features.ANALYSIS,
    patches.ANALYSIS,
    sequence.ANALYSIS,
)
"""In the order of the report."""


def headline_numbers() -> dict[str, Number]:
    """Every headline number by its name, in the order of the analyses."""
    return {name: number for analysis in ANALYSES for name, number in analysis.numbers.items()}


def headline_columns() -> list[str]:
    """Every key that a headline can have: numbers with the ends of their intervals, then words."""
    numbers = [
        column
        for name, number in headline_numbers().items()
        for column in (name, *((f"{name}_low", f"{name}_high") if number.interval else ()))
    ]
    return [*numbers, *headline_words()]


def headline_words() -> list[str]:
    """The keys of headlines that are no numbers."""
    return [word for analysis in ANALYSES for word in analysis.words]


def curves() -> dict[str, Curve]:
    """Every number by layer that runs are compared by."""
    return {name: curve for analysis in ANALYSES for name, curve in analysis.curves.items()}


def as_markdown(docs: str = "") -> str:
    """The rows that list every analysis in README.md (``docs/``) and in docs/README.md.

    Args:
        docs: where the pages lie, seen from the file that the rows are for.
    """
    rows = (f"| [`analyze.py {analysis.name}`]({docs}{analysis.docs}) | {analysis.answers} |" for analysis in ANALYSES)
    return "\n".join(rows)
