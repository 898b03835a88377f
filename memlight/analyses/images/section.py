"""What the report says about the images that drive units: how few they are, what sets them apart, of which kinds."""

import numpy as np

from memlight.analyses.images.columns import IMAGES_CLUSTERS, IMAGES_DESCRIPTORS, IMAGES_MATCHED, IMAGES_OWNERSHIP
from memlight.display import page
from memlight.display.page import Cell, decimals, interval, number, word
from memlight.display.parts import POINTS, figures, heading, rows_of, section
from memlight.display.words import joined
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import Table, read_table

FOUND = 0.05
"""What has a false-discovery rate below this counts as found."""


def images_section(run: RunDir) -> str:
    """HTML of all results of `analyze.py images`; empty where there are none.

    Raises:
        UserError: a table or summary is damaged.
    """
    explained = (
        "An image owns a unit if it is the unit's strongest. Units of one network are alike, so few images own many "
        "even where nothing is memorised: owners drawn at random show what chance would give, and held-out images, "
        "which nobody was trained on, what merely striking images give. Descriptors are compared with the units that "
        "an image owns by rank correlation (p by permuting the images), and between owners and controls that agree in "
        "all other descriptors. q is p adjusted over the descriptors: the false-discovery rate (Benjamini and "
        "Hochberg)."
    )
    return section(run, "images", explained, images_html)


def images_html(analysis: AnalysisDir) -> str:
    """HTML of one result: words, tables and figures.

    Raises:
        UserError: a table or summary is damaged.
    """
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
        + figures(analysis)
    )


def ownership_words(ownership: Table) -> str:
    """How few images own the top units, in words that follow the numbers.

    Args:
        ownership: columns ``IMAGES_OWNERSHIP``.
    """
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
    """What sets owners apart, in words that follow the numbers.

    Args:
        descriptors: columns ``IMAGES_DESCRIPTORS``.
        matched: columns ``IMAGES_MATCHED``.
    """
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
    """Which kinds of images drive units, in words that follow the numbers.

    Args:
        clusters: columns ``IMAGES_CLUSTERS``.
    """
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
    rows = {
        (row["split"], row["layer"], row["which"]): [
            *(word(row[name]) for name in ("split", "layer", "which")),
            *(number(row[name]) for name in ("units", "images")),
            *(
                cell
                for name in ("owners", "top_1", "top_10", "most")
                for cell in (
                    number(POINTS * row[name], 1),
                    interval(POINTS * row[f"{name}_null_low"], POINTS * row[f"{name}_null_high"], 1),
                )
            ),
        ]
        for row in rows_of(ownership)
    }
    together = ownership["layer"][0]  # the first rows are of all layers
    header = ["images of", "layer", "units by score", "units", "images", "images that own any, %", "random"]
    header += ["units of the top 1 % of images, %", "random", "of the top 10 %, %", "random"]
    header += ["of the one that owns most, %", "random"]
    first = page.table(header, [cells for (_, layer, _), cells in rows.items() if layer == together])
    by_layer = page.table(header, [cells for (_, layer, _), cells in rows.items() if layer != together])
    return "<h3>How few images own units</h3>" + first + page.folded("layer by layer", by_layer)


def _descriptors(descriptors: Table) -> str:
    rows = [
        [
            word(_spaced(row["descriptor"])),
            number(row["rho"], 3),
            interval(row["null_low"], row["null_high"], 3),
            number(row["p"]),
            _q(row["q"]),
            number(row["held_out_rho"], 3),
            _q(row["held_out_q"]),
            number(row["beyond"], 3),
            _q(row["beyond_q"]),
        ]
        for row in rows_of(descriptors)
    ]
    header = ("descriptor", "rho", "random, 95 %", "p", "q", "held-out rho", "q", "rho minus held-out", "q")
    return "<h3>Descriptors and the number of top units that an image owns</h3>" + page.table(header, rows)


def _matched(matched: Table) -> str:
    rows = [
        [
            word(_spaced(row["descriptor"])),
            number(row["pairs"]),
            word("yes" if row["within_class"] else "no"),
            number(row["difference"], 3),
            interval(row["null_low"], row["null_high"], 3),
            number(row["p"]),
            _q(row["q"]),
            number(row["unmatched"], 3),
            *(number(row[name], 3) for name in ("imbalance", "imbalance_unmatched")),
            number(row["held_out_pairs"]),
            number(row["held_out_difference"], 3),
            _q(row["held_out_q"]),
        ]
        for row in rows_of(matched)
    ]
    header = ["descriptor", "pairs", "within class", "difference", "random, 95 %", "p", "q", "not matched"]
    header += ["imbalance of the others", "before matching", "held-out pairs", "held-out difference", "q"]
    explained = page.paragraph(
        "Differences of owner minus control in standard deviations of all images. The imbalance is the largest mean "
        "difference in any other descriptor, which should be small after matching (.1 is a common bound).",
        "soft",
    )
    return "<h3>Owners against matched controls</h3>" + page.table(header, rows) + explained


def _clusters(clusters: Table) -> str:
    rows = [
        [
            *(number(row[name]) for name in ("cluster", "images", "drivers", "controls")),
            number(POINTS * row["driver_share"], 1),
            interval(POINTS * row["null_low"], POINTS * row["null_high"], 1),
            number(row["p"]),
            _q(row["q"]),
            number(row["units"]),
            number(POINTS * row["unit_share"], 1),
            word(row["class_name"]),
            number(POINTS * row["class_share"], 1),
        ]
        for row in rows_of(clusters)
    ]
    header = ["cluster", "images", "driving", "others", "driving, %", "random, 95 %", "p", "q", "top units owned"]
    header += ["of all, %", "most frequent class of the driving", "its share, %"]
    return "<h3>Clusters by the encoder's last layer</h3>" + page.table(header, rows)


def _q(value: float) -> Cell:
    """An adjusted p-value, marked where it counts as found."""
    cell = number(value)
    return Cell(cell.text, cell.value, mark="yes" if value < FOUND else "")


def _percent(share: float) -> str:
    return f"{POINTS * share:.1f} %"


def _spaced(name: str) -> str:
    return name.replace("_", " ")
