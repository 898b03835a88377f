"""Columns of the tables of images that drive units."""

from memlight.storage.schema import Schema, columns, interval

IMAGES_DESCRIBED = (
    "spectral_slope",
    "high_frequency",
    "edge_density",
    "bytes_per_pixel",
    "colourfulness",
    "foreground_share",
    "brightness",
    "rms_contrast",
)
"""What is computed of every image."""

IMAGES_TABLE: Schema = {
    **columns(int, "id"),
    **columns(str, "split"),
    **columns(int, "label", "units", "top_units"),
    **columns(
        float,
        "spectral_slope",
        "high_frequency",
        "edge_density",
        "bytes_per_pixel",
        "colourfulness",
        "foreground_share",
        "brightness",
        "rms_contrast",
    ),
    **columns(int, "cluster"),
}

IMAGES_OWNERSHIP: Schema = {
    **columns(str, "split", "layer", "which"),
    **columns(int, "units", "images"),
    **columns(float, "owners"),
    **interval("owners_null"),
    **columns(float, "top_1"),
    **interval("top_1_null"),
    **columns(float, "top_10"),
    **interval("top_10_null"),
    **columns(float, "most"),
    **interval("most_null"),
}

IMAGES_CURVE: Schema = {
    **columns(float, "share", "units"),
    **interval("null"),
    **columns(float, "held_out_units"),
}

IMAGES_DESCRIPTORS: Schema = {
    **columns(str, "descriptor"),
    **columns(
        float,
        "rho",
        "null_low",
        "null_high",
        "p",
        "q",
        "held_out_rho",
        "held_out_p",
        "held_out_q",
        "beyond",
        "beyond_p",
        "beyond_q",
    ),
}

IMAGES_MATCHED: Schema = {
    **columns(str, "descriptor"),
    **columns(int, "pairs"),
    **columns(bool, "within_class"),
    **columns(float, "difference", "null_low", "null_high", "p", "q", "unmatched", "imbalance", "imbalance_unmatched"),
    **columns(int, "held_out_pairs"),
    **columns(float, "held_out_difference", "held_out_p", "held_out_q"),
}

IMAGES_CLUSTERS: Schema = {
    **columns(int, "cluster", "images", "drivers", "controls"),
    **columns(float, "driver_share", "null_low", "null_high", "p", "q"),
    **columns(int, "units"),
    **columns(float, "unit_share"),
    **columns(str, "class_name"),
    **columns(float, "class_share"),
}

IMAGES_SILHOUETTES: Schema = {
    **columns(int, "k"),
    **columns(float, "silhouette"),
}
