"""Columns of the tables of a plan."""

from collections.abc import Mapping

from memlight.storage.schema import Column, Schema, columns, titled

PLAN_TABLE: Schema = {
    **titled(int, views="views", seeds="seeds"),
    "candidates": Column(float, "candidates", digits=0),
    "half_width": Column(float, "half of the interval"),
    "simultaneous_half_width": Column(float, "of all layers at once"),
    "power": Column(float, "power, %", digits=1, percent=True),
}
"""``candidates`` is how many candidates each pair needs, and as many independent images: infinite where no number is
enough."""

PLAN_RUNS: Schema = {
    "run": Column(str, "run"),
    "layer": Column(str, "layer"),
    **titled(int, candidates="candidates", independents="independent", views="views"),
    **titled(float, 4, sd="sd of a score", contrast="contrast", half_width="half of the interval"),
    "predicted": Column(float, "as predicted from the other runs"),
    **titled(float, 3, ratio="predicted / realised"),
}

PLAN_LAYERS: Schema = {
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    **titled(float, 4, sd="sd of a score", half_width="half of the interval", detectable="least contrast that shows"),
}

TABLES: Mapping[str, Schema] = {"table": PLAN_TABLE, "runs": PLAN_RUNS, "layers": PLAN_LAYERS}
"""Columns of every table by the name of its file."""
