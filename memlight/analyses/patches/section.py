"""The page of a patch search: which training patches a set of images reuses."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from memlight.analyses.patches.columns import PATCHES_COMPARE, PATCHES_ORIGINS, PATCHES_TABLE
from memlight.display import page
from memlight.display.page import Cell, decimals, interval, number, word
from memlight.display.parts import figures, rows_of
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, read_json, read_table, write_text

NAMES = {
    "mean_distance": "mean distance",
    "median_distance": "median distance",
    "same_position": "same-position share",
    "top_contributor_share": "top contributor's share of an image",
    "sources_per_image": "sources of an image",
    "entropy_bits": "entropy (bits)",
    "effective_sources": "effective sources (2^entropy)",
    "collision": "collision index",
    "collision_sources": "effective sources (1 / collision)",
    "unique_sources": "sources that occur",
    "gini": "Gini of those",
    "top_1_percent_share": "share of their top 1 %",
}

MOST_ORIGINS = 50


def write_patches_page(run: RunDir, browser: str) -> None:
    """Write ``report.html`` of a run directory that holds a patch search.

    Args:
        run: the run directory.
        browser: HTML of `memlight.analyses.patches.browser.patch_browser`.

    Raises:
        UserError: a table or summary is damaged.
    """
    analysis = run.analysis("patches")
    about = read_json(analysis.search)
    table = read_table(analysis.table(), PATCHES_TABLE)
    compared = run.analysis("patches_compare")
    beside = read_table(compared.table(), PATCHES_COMPARE) if compared.summary.is_file() else None
    held_out = read_json(compared.summary)["headline"].get("held_out") if beside is not None else None
    opening = page.paragraph(patches_words(table, about, beside, run.name, held_out), "lead")
    images = about["query_patches"] // about["grid"] ** 2
    sources = about["index_patches"] // about["grid"] ** 2
    opening += page.paragraph(
        f"{images} images of {about['grid']} x {about['grid']} patches, {sources} sources.", "soft"
    )
    explained = (
        "Images from the lowest mean distance to the highest. Point at a patch: on the right is the training image "
        "that holds the nearest one, framed in red; frames in yellow are the other patches with that source."
    )
    sections = [
        ("Patches and their sources", page.paragraph(explained, "soft") + browser),
        ("Statistics", _statistics(table) + (_compared(beside) if beside is not None else "")),
        *([("Beside other images", figures(compared))] if beside is not None else []),
        ("Pictures", figures(analysis)),
        ("Most used sources", _origins(read_table(analysis.table("origins"), PATCHES_ORIGINS))),
        ("How it was made", _made(about, read_json(analysis.summary))),
    ]
    write_text(run.report, page.page(f"Where the patches of {run.name} come from", opening, sections))


def patches_words(
    table: Table, about: Mapping[str, Any], beside: Table | None = None, name: str = "", held_out: str | None = None
) -> str:
    """What a search shows, in words that follow the numbers.

    Args:
        table: columns ``PATCHES_TABLE``.
        about: what the search wrote down.
        beside: columns ``PATCHES_COMPARE``; None where nothing is compared.
        name: of this set of images among those compared.
        held_out: of the baseline.
    """
    value = dict(zip(table["statistic"].tolist(), table["value"].tolist(), strict=True))
    null = dict(zip(table["statistic"].tolist(), table["null"].tolist(), strict=True))
    sentences = [
        f"The nearest training patch is at a mean {about['metric']} distance of {value['mean_distance']:.3g}.",
        f"The patches of an image come from {value['sources_per_image']:.2f} training images on average "
        f"({null['sources_per_image']:.2f} if every patch had a random source), and its top contributor gives "
        f"{value['top_contributor_share']:.1%} of them ({null['top_contributor_share']:.1%}).",
        f"{value['same_position']:.1%} of the patches have their nearest at the same place "
        f"({null['same_position']:.1%} by chance).",
    ]
    if beside is not None and held_out is not None:
        rows = [row for row in rows_of(beside) if row["model"] == name]
        apart = [NAMES[row["statistic"]] for row in rows if row["over_low"] > 0 or row["over_high"] < 0]
        sentences.append(
            f"Against as many held-out images ({held_out}) "
            + (f"these differ beyond chance: {', '.join(apart)}." if apart else "no statistic differs beyond chance.")
        )
    return " ".join(sentences)


def _statistics(table: Table) -> str:
    explained = (
        "Null: what the same number of patches would give if each had a random source and place, with the central 95 % "
        "of such draws. Intervals of means are over images. Entropy is at most its maximum, and with few patches close "
        "to it whatever they are; the collision index (the chance that two patches have the same source) is not."
    )
    rows = [
        [
            word(NAMES[row["statistic"]]),
            _number(row["value"]),
            _range(row["low"], row["high"]),
            _number(row["null"]),
            _range(row["null_low"], row["null_high"]),
            _number(row["maximum"]),
        ]
        for row in rows_of(table)
    ]
    return page.paragraph(explained, "soft") + page.table(
        ("statistic", "value", "95 % over images", "null", "95 % of draws", "maximum"), rows
    )


def _compared(beside: Table) -> str:
    explained = (
        "All sets of images at the size of the smallest. Over held-out: the difference from as many held-out images, "
        "with the interval of a permutation test that deals whole images out anew; 0 within it is no difference."
    )
    rows = [
        [
            word(NAMES[row["statistic"]]),
            word(row["model"]),
            _number(row["value"]),
            _number(row["null"]),
            _number(row["over_held_out"]),
            _range(row["over_low"], row["over_high"]),
            _verdict(row["over_low"], row["over_high"]),
        ]
        for name in NAMES
        for row in rows_of(beside)
        if row["statistic"] == name
    ]
    header = ("statistic", "images", "value", "null", "over held-out", "95 % interval", "")
    return "<h3>Beside other images</h3>" + page.paragraph(explained, "soft") + page.table(header, rows)


def _verdict(low: float, high: float) -> Cell:
    if not np.isfinite(low):
        return word("")
    if low > 0 or high < 0:
        return word("higher" if low > 0 else "lower", "yes")
    return word("not told apart", "no")


def _origins(origins: Table) -> str:
    rows = [
        [word(row["name"]), *(number(row[name]) for name in ("source", "patches", "images"))]
        for row in rows_of({name: column[:MOST_ORIGINS] for name, column in origins.items()})
    ]
    return page.table(("source", "id", "patches nearest to it", "images they are in"), rows)


def _made(about: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    extraction = about["extraction"]
    weights = extraction.get("weights_sha256")
    how = f"approximate, {about['approximate']}" if about["approximate"] else f"exact, {about['backend']}"
    facts = [
        ("command", str(summary["command_line"])),
        ("images", str(about["query_images"])),
        ("sources", str(about["index_images"])),
        ("extractor", f"{extraction['extractor']}, {extraction['mode']} mode"),
        ("weights, sha256", str(weights) if weights else "random weights: nothing was learned"),
        ("search", f"{how}; {about['metric']}; {about['seconds']:.1f} s on {summary['device']}"),
    ]
    if about["approximate"]:
        facts.append(("recall", f"{about['recall_first']:.2%} of the nearest, on {about['recall_queries']} patches"))
    return page.facts(facts)


def _digits(value: float) -> int:
    return 0 if abs(value) >= 1000 else 2 if abs(value) >= 1 else 4 if abs(value) >= 0.01 or value == 0 else 6


def _number(value: float) -> Cell:
    return Cell(decimals(value, _digits(value)), value) if np.isfinite(value) else Cell("", None)


def _range(low: float, high: float) -> Cell:
    return interval(low, high, min(_digits(low), _digits(high))) if np.isfinite(low) else Cell("", None)
