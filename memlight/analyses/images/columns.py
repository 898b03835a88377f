"""Columns of the tables of images that drive units."""

from collections.abc import Mapping

from memlight.analyses.columns_joined import JOINED
from memlight.storage.schema import Column, Schema, columns, interval, path_of, titled

IMAGES_DESCRIBED = (
    *("spectral_slope", "high_frequency", "edge_density", "bytes_per_pixel"),
    *("colourfulness", "foreground_share", "brightness", "rms_contrast"),
)
"""What is computed of every image."""

FOUND = 0.05
"""What has a false-discovery rate below this counts as found."""

IMAGES_TABLE: Schema = {
    **columns(int, "id"),
    **columns(str, "split"),
    **columns(int, "label", "units", "top_units"),
    **columns(float, *IMAGES_DESCRIBED),
    **columns(int, "cluster"),
    **path_of("id"),
}

IMAGES_OWNERSHIP: Schema = {
    **titled(str, split="images of", layer="layer", which="units by score"),
    **titled(int, units="units", images="images"),
    "owners": Column(float, "images that own any, %", digits=1, percent=True),
    **interval("owners_null"),
    "top_1": Column(float, "units of the top 1 % of images, %", digits=1, percent=True),
    **interval("top_1_null"),
    "top_10": Column(float, "of the top 10 %, %", digits=1, percent=True),
    **interval("top_10_null"),
    "most": Column(float, "of the one that owns most, %", digits=1, percent=True),
    **interval("most_null"),
}

IMAGES_CURVE: Schema = {**columns(float, "share", "units"), **interval("null"), **columns(float, "held_out_units")}

IMAGES_DESCRIPTORS: Schema = {
    **columns(str, "descriptor"),
    "rho": Column(float, "rho", digits=3),
    **columns(float, "null_low", "null_high"),
    "p": Column(float, "p"),
    **columns(float, "q"),
    "held_out_rho": Column(float, "held-out rho", digits=3),
    **columns(float, "held_out_p", "held_out_q"),
    "beyond": Column(float, "rho minus held-out", digits=3),
    **columns(float, "beyond_p", "beyond_q"),
}

IMAGES_MATCHED: Schema = {
    **columns(str, "descriptor"),
    "pairs": Column(int, "pairs"),
    "within_class": Column(bool, "within class"),
    "difference": Column(float, "difference", digits=3),
    **columns(float, "null_low", "null_high"),
    "p": Column(float, "p"),
    **columns(float, "q"),
    **titled(
        float, 3, unmatched="not matched", imbalance="imbalance of the others", imbalance_unmatched="before matching"
    ),
    "held_out_pairs": Column(int, "held-out pairs"),
    "held_out_difference": Column(float, "held-out difference", digits=3),
    **columns(float, "held_out_p", "held_out_q"),
}

IMAGES_CLUSTERS: Schema = {
    **titled(int, cluster="cluster", images="images", drivers="driving", controls="others"),
    "driver_share": Column(float, "driving, %", digits=1, percent=True),
    **columns(float, "null_low", "null_high"),
    "p": Column(float, "p"),
    **columns(float, "q"),
    "units": Column(int, "top units owned"),
    "unit_share": Column(float, "of all, %", digits=1, percent=True),
    "class_name": Column(str, "most frequent class of the driving"),
    "class_share": Column(float, "its share, %", digits=1, percent=True),
}

IMAGES_SILHOUETTES: Schema = {**columns(int, "k"), **columns(float, "silhouette")}

TABLES: Mapping[str, Schema] = {
    "images": IMAGES_TABLE,
    "ownership": IMAGES_OWNERSHIP,
    "curve": IMAGES_CURVE,
    "descriptors": IMAGES_DESCRIPTORS,
    "matched": IMAGES_MATCHED,
    "clusters": IMAGES_CLUSTERS,
    "silhouettes": IMAGES_SILHOUETTES,
    "joined": JOINED,
}
"""Columns of every table by the name of its file."""
