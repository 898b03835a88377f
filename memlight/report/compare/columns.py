"""Columns of the tables of several runs."""

from memlight.analyses.registry import ANALYSES
from memlight.storage.schema import Schema, columns, interval

COMPARE_GROUPS: Schema = {
    **columns(str, "number"),
    **columns(int, "runs"),
    **columns(float, "mean", "lowest", "highest", "mean_low", "mean_high"),
}

REPEATS_LAYERS: Schema = {
    **columns(str, "layer"),
    **columns(int, "depth"),
    **columns(str, "number"),
    **columns(int, "runs"),
    **columns(float, "mean", "lowest", "highest", "mean_low", "mean_high"),
}

REPEATS_NUMBERS: Schema = {
    **columns(str, "analysis", "number"),
    **columns(int, "runs"),
    **columns(float, "mean", "lowest", "highest", "mean_low", "mean_high"),
}

REPEATS_AGREEMENT: Schema = {
    **columns(str, "split", "layer", "run_a", "run_b"),
    **columns(int, "n", "top", "overlap"),
    **columns(float, "chance"),
    **columns(int, "chance_p95"),
    **interval("tau"),
}


def compare_layers() -> Schema:
    """The columns of ``layers.csv``: what every analysis has by layer."""
    found = [column for analysis in ANALYSES for column in analysis.compared_columns()]
    return {
        **columns(str, "run", "layer"),
        **columns(int, "depth"),
        **columns(float, "relative_depth", *found),
    }
