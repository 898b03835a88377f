"""Columns of ``joined.csv``: how scores of others go together with what is measured here."""

from collections.abc import Mapping
from typing import Any

from memlight.runs.analysis import with_ends
from memlight.storage.schema import Column, Schema, columns, interval, path_of

JOINED: Schema = {
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    "score": Column(str, "score"),
    **interval("spearman", title="rank correlation", digits=3),
    "p_adjusted": Column(float, "adjusted p"),
    "n": Column(int, "images"),
    "control": Column(float, "control", digits=3),
    "n_control": Column(int, "its images"),
}
"""``control`` is the same correlation among images that the encoder was not trained on; NaN where they have no such
score."""

PICTURED: Schema = {
    "which": Column(str, "which"),
    "rank": Column(int, "rank"),
    "id": Column(int, "id"),
    "label": Column(int, "label"),
    "score": Column(float, "score"),
    "joined": Column(float, "joined score", digits=3, optional=True),
    **path_of("id"),
}
"""The images of a figure, from the highest score on or from the lowest: ``which`` is most or least."""


def joined_headline(table: Mapping[str, Any]) -> dict[str, float]:
    """The correlation with the first score in the last row, with its own interval and its adjusted p.

    Args:
        table: columns ``JOINED``.
    """
    scores = table["score"].tolist()
    row = scores.count(scores[0]) - 1
    return {**with_ends(table, row, "spearman", "joined/last"), "joined/last_p": float(table["p_adjusted"][row])}
