"""Columns of the tables of patches."""

from memlight.storage.schema import Column, Schema, claimed, columns, interval

PATCHES_TABLE: Schema = {
    **columns(str, "statistic"),
    **columns(float, "value", "low", "high"),
    **interval("null"),
    **columns(float, "maximum"),
}

PATCHES_IMAGES: Schema = {
    **columns(int, "image"),
    **columns(str, "name"),
    **columns(float, "mean_distance", "median_distance"),
    **columns(int, "sources", "top_source"),
    **columns(str, "top_name"),
    **columns(float, "top_share", "entropy", "same_position"),
}

PATCHES_ORIGINS: Schema = {
    "source": Column(int, "id"),
    "name": Column(str, "source"),
    "patches": Column(int, "patches nearest to it"),
    "images": Column(int, "images they are in"),
}

PATCHES_RAREFACTION: Schema = {
    **columns(int, "patches"),
    **columns(float, "sources", "null"),
}

PATCHES_NEAREST: Schema = {
    **columns(int, "image", "patch", "source", "source_patch"),
    **columns(float, "distance"),
}

PATCHES_COMPARE: Schema = {
    "model": Column(str, "images"),
    **columns(int, "images"),
    **columns(str, "statistic"),
    **columns(float, "value", "low", "high"),
    **interval("null"),
    **columns(float, "maximum", "over_held_out", "over_low", "over_high"),
    **claimed("over"),
}
