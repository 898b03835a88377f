"""Columns of the tables of atypical images, and the names of the measures."""

from collections.abc import Mapping

from memlight.storage.schema import Column, Schema, claimed, columns, interval, path_of, titled

FEATURES = ("other", "random")
"""Whose features a measure is made of: the member that was not trained on the image, or random weights."""

LABELLED = ("centroid", "disagreement")
"""What is measured in features, which needs classes."""

WORDS = {
    "centroid": "distance to the class (other member)",
    "centroid_random": "distance to the class (random weights)",
    "disagreement": "neighbours of other classes (other member)",
    "disagreement_random": "neighbours of other classes (random weights)",
    "bytes": "compressed bytes",
}
"""What each measure is called on a page; one of a file goes by its column."""

_STATISTICS: Schema = {
    **titled(float, 3, rho_own="rho", rho_placebo="rho of the placebo"),
    **interval("rho_difference", title="rho, difference", digits=3),
    **claimed("rho_difference"),
    **columns(float, "fifths_own", "fifths_placebo"),
    **interval("fifths_difference", title="top minus bottom fifth, difference"),
    **claimed("fifths_difference"),
}

ATYPICAL_TABLE: Schema = {
    "measure": Column(str, "atypical by"),
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    **columns(str, "placebo"),
    **_STATISTICS,
    **columns(int, "n_own", "n_placebo"),
}

ATYPICAL_GROUPS: Schema = {
    **titled(str, measure="atypical by", group="images", member="scored member"),
    "layer": Column(str, "layer"),
    **columns(int, "depth"),
    **interval("rho", title="rho", digits=3),
    **titled(float, 4, top="top fifth", bottom="bottom fifth"),
    "n": Column(int, "images"),
}

ATYPICAL_FIFTHS: Schema = {
    **columns(str, "measure", "layer"),
    **columns(int, "fifth"),
    **interval("own"),
    **interval("external"),
    **interval("shared"),
}

ATYPICAL_IMAGES: Schema = {
    **columns(int, "id"),
    **columns(str, "split"),
    **columns(int, "label"),
    **columns(float, "centroid_f", "centroid_g", "centroid_random"),
    **columns(float, "disagreement_f", "disagreement_g", "disagreement_random"),
    **columns(int, "bytes"),
    **path_of("id"),
}

TABLES: Mapping[str, Schema] = {
    "table": ATYPICAL_TABLE,
    "groups": ATYPICAL_GROUPS,
    "fifths": ATYPICAL_FIFTHS,
    "images": ATYPICAL_IMAGES,
}
"""Columns of every table by the name of its file."""
