"""What the report says about the images that drive units: how few they are, what sets them apart, of which kinds."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from memlight.analyses.images.columns import (
    FOUND,
    IMAGES_CLUSTERS,
    IMAGES_DESCRIPTORS,
    IMAGES_MATCHED,
    IMAGES_OWNERSHIP,
)
from memlight.analyses.section_joined import joined_part
from memlight.display import page
from memlight.display.page import decimals, interval, number, word
from memlight.display.parts import POINTS, Shown, drawn, figures, heading, rows_of, section
from memlight.display.words import joined
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_table


@section(
    "images",
    "An image owns a unit if it is the unit's strongest. Units of one network are alike, so few images own many "
    "even where nothing is memorised: owners drawn at random show what chance would give, and held-out images, "
    "which nobody was trained on, what merely striking images give. Descriptors are compared with the units that "
    "an image owns by rank correlation (p by permuting the images), and between owners and controls that agree in "
    "all other descriptors. q is p adjusted over the descriptors: the false-discovery rate (Benjamini and "
    "Hochberg).",
)
def images_section(analysis: AnalysisDir) -> str:
    """HTML of all results of `analyze.py images`; empty where there are none."""
    ownership = read_table(analysis.table("ownership"), IMAGES_OWNERSHIP)
    descriptors = read_table(analysis.table("descriptors"), IMAGES_DESCRIPTORS)
    matched = read_table(analysis.table("matched"), IMAGES_MATCHED)
    clusters = read_table(analysis.table("clusters"), IMAGES_CLUSTERS)
    return (
        heading(analysis)
        + page.paragraph(ownership_words(ownership))
        + page.paragraph(descriptor_words(descriptors, matched))
        + page.paragraph(cluster_words(clusters))
        + _ownership(ownership)
        + _descriptors(descriptors)
        + _matched(matched)
        + _clusters(clusters)
        + joined_part(analysis, "the number of units that an image owns", "held-out images")
        + figures(analysis)
    )


def ownership_words(ownership: Table) -> str:
    """How few images own the top units, in words that follow the numbers of a table ``IMAGES_OWNERSHIP``."""
    rows = rows_of(ownership)
    top = rows[0]
    text = (
        f"{top['units']} units make up the top 10 %. Of {top['images']} images {_percent(top['owners'])} own any of "
        f"them ({_percent(top['owners_null'])} if owners were drawn at random), and the 10 % of images that own most "
        f"own {_percent(top['top_10'])} of them ({_percent(top['top_10_null'])})."
    )
    unseen = [row for row in rows if row["split"] != top["split"]]
    if unseen:
        text += (
            f" On held-out images the same numbers are {_percent(unseen[0]['owners'])} and "
            f"{_percent(unseen[0]['top_10'])}."
        )
    return text


def descriptor_words(descriptors: Table, matched: Table) -> str:
    """What sets owners apart, in words, from tables ``IMAGES_DESCRIPTORS`` and ``IMAGES_MATCHED``."""
    found = descriptors["q"] < FOUND
    if not found.any():
        text = "No descriptor is correlated with how many top units an image owns"
    else:
        named = zip(descriptors["descriptor"][found], descriptors["rho"][found], strict=True)
        which = joined([f"{_spaced(name)} ({decimals(rho, 2)})" for name, rho in named])
        text = f"How many top units an image owns is correlated with {which}"
    text += f" at a false-discovery rate of {FOUND:g}."
    beyond = descriptors["descriptor"][descriptors["beyond_q"] < FOUND].tolist()
    if not np.isfinite(descriptors["held_out_rho"]).any():
        text += " There are no held-out images to tell memorised images from striking ones."
    elif beyond:
        text += f" Among held-out images the correlation with {joined([_spaced(name) for name in beyond])} is another."
    else:
        text += (
            " No correlation differs from that among held-out images, so nothing here tells memorised images from "
            "striking ones."
        )
    apart = matched["descriptor"][matched["q"] < FOUND].tolist()
    which = joined([_spaced(name) for name in apart]) if apart else "no descriptor"
    return f"{text} With all other descriptors matched, owners and controls differ in {which}."


def cluster_words(clusters: Table) -> str:
    """Which kinds of images drive units, in words that follow the numbers of a table ``IMAGES_CLUSTERS``."""
    count = len(clusters["cluster"])
    drivers, controls = int(clusters["drivers"].sum()), int(clusters["controls"].sum())
    text = (
        f"{drivers} driving images and {controls} others make up {count} cluster{'s' * (count != 1)} by what the "
        "encoder gives for them"
    )
    expected = drivers / max(1, drivers + controls)
    found = clusters["q"] < FOUND
    if not found.any():
        return f"{text}; in none is the share of driving images other than chance would make it."
    parts = [
        f"cluster {row['cluster']} ({row['drivers']} of {row['images']})"
        for row in rows_of(clusters)
        if row["q"] < FOUND
    ]
    return f"{text}; the share of driving images is other than {_percent(expected)} in {joined(parts)}."


def _ownership(ownership: Table) -> str:
    names = ("owners", "top_1", "top_10", "most")
    shares = [shown for name in names for shown in (name, _chance("random", f"{name}_null", 1, POINTS))]
    together = ownership["layer"] == ownership["layer"][0]  # the first rows are of all layers

    def table(rows: NDArray[np.bool_]) -> str:
        chosen = {name: column[rows] for name, column in ownership.items()}
        return drawn(chosen, IMAGES_OWNERSHIP, "split", "layer", "which", "units", "images", *shares)

    return "<h3>How few images own units</h3>" + table(together) + page.folded("layer by layer", table(~together))


def _descriptors(descriptors: Table) -> str:
    shown = drawn(
        descriptors,
        IMAGES_DESCRIPTORS,
        *(DESCRIPTOR, "rho", _chance("random, 95 %", "null"), "p", _q("q")),
        *("held_out_rho", _q("held_out_q"), "beyond", _q("beyond_q")),
    )
    return f"<h3>Descriptors and the number of top units that an image owns</h3>{shown}"


def _matched(matched: Table) -> str:
    shown = drawn(
        matched,
        IMAGES_MATCHED,
        *(DESCRIPTOR, "pairs", "within_class", "difference", _chance("random, 95 %", "null"), "p", _q("q")),
        *("unmatched", "imbalance", "imbalance_unmatched"),
        *("held_out_pairs", "held_out_difference", _q("held_out_q")),
    )
    explained = page.paragraph(
        "Differences of owner minus control in standard deviations of all images. The imbalance is the largest mean "
        "difference in any other descriptor, which should be small after matching (.1 is a common bound).",
        "soft",
    )
    return f"<h3>Owners against matched controls</h3>{shown}{explained}"


def _clusters(clusters: Table) -> str:
    shown = drawn(
        clusters,
        IMAGES_CLUSTERS,
        *("cluster", "images", "drivers", "controls", "driver_share", _chance("random, 95 %", "null", 1, POINTS)),
        *("p", _q("q"), "units", "unit_share", "class_name", "class_share"),
    )
    return f"<h3>Clusters by the encoder's last layer</h3>{shown}"


def _chance(title: str, name: str, digits: int = 3, scale: float = 1) -> Shown:
    """The central 95 % of what chance gives: columns ``<name>_low`` and ``<name>_high``."""
    return title, lambda row: interval(scale * row[f"{name}_low"], scale * row[f"{name}_high"], digits)


def _q(name: str) -> Shown:
    """An adjusted p-value, marked where it counts as found."""
    return "q", lambda row: replace(number(row[name]), mark="yes" if row[name] < FOUND else "")


def _percent(share: float) -> str:
    return f"{POINTS * share:.1f} %"


def _spaced(name: str) -> str:
    return name.replace("_", " ")


DESCRIPTOR: Shown = ("descriptor", lambda row: word(_spaced(row["descriptor"])))
