"""What the report says about units: scores by layer beside null and held-out images, extremes, the median form."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlight.analyses.section_joined import joined_part
from memlight.analyses.unitmem.columns import (
    TABLES,
    UNITMEM_HIGHEST,
    UNITMEM_LAYERS,
    UNITMEM_MEDIANS,
    UNITMEM_NULL,
    UNITMEM_TESTS,
)
from memlight.display import page
from memlight.display.page import Cell, decimals, interval, word
from memlight.display.parts import Shown, drawn, figures, heading, rows_of, section
from memlight.display.words import joined, layers_apart, together
from memlight.metrics.null import FEWEST_UNITS
from memlight.storage.run_files import Summary
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_json, read_table

SCORES = {"scored": "images scored", "null": "null", "held_out": "held-out images"}
"""Whose scores a row is of, by the word that the tables have for it."""

WHOSE: Shown = ("scores", lambda row: word(SCORES[row["scores"]]))


@section(
    "unitmem",
    "UnitMem is high for a unit that answers to one image far more than to the others. It is not 0 for noise: the "
    "null is what exchangeable images would score, and the held-out column is the same units on images held out "
    "from training.",
)
def unitmem_section(analysis: AnalysisDir) -> str:
    """HTML of all UnitMem results of a run; empty where there are none."""
    layers = read_table(analysis.table("layers"), UNITMEM_LAYERS)
    return (
        heading(analysis)
        + page.paragraph(unitmem_words(layers))
        + page.paragraph(overall_words(read_json(analysis.summary, Summary)["headline"]))
        + _layers(layers)
        + excess_html(analysis)
        + figures(analysis)
        + _highest(analysis)
        + _tests(analysis)
        + _medians(analysis)
        + joined_part(analysis, "the number of units that an image is the strongest of", "held-out images")
    )


def overall_words(headline: Mapping[str, Any]) -> str:
    """Means over all units of all layers, in words, from a headline of ``summary.json``; empty if it lacks them."""
    if headline.get("all/scored_mean") is None:
        return ""
    precision = ", forwards in bfloat16" if headline.get("precision") == "bf16" else ""
    text = f"Over all units the mean is {headline['all/scored_mean']:.3f}{precision}"
    beside = [
        f"{headline[f'all/{name}_mean']:.3f} {words}"
        for name, words in (("null", "of exchangeable images"), ("held_out", "on held-out images"))
        if headline.get(f"all/{name}_mean") is not None
    ]
    return f"{text}, beside {' and '.join(beside)}." if beside else f"{text}."


def _newer(analysis: AnalysisDir, name: str) -> Table | None:
    """A table that not every result has; None where it is missing."""
    path = analysis.table(name)
    return read_table(path, TABLES[name]) if path.is_file() else None


def _layers(layers: Table) -> str:
    pair: list[Shown] = []
    if "unit_contrast" in layers:
        share: Shown = ("95 % interval", lambda row: interval(row["own_max_low"], row["own_max_high"], 3))
        p = [[f"{name}_p_adjusted"] if f"{name}_p_adjusted" in layers else [] for name in ("unit_contrast", "own_max")]
        pair = ["unit_contrast", *p[0], "own_max_share", share, *p[1]]
    scores = ("mean", "held_out_mean", "null_mean", "null_p95", "max")
    return drawn(layers, UNITMEM_LAYERS, "layer", "units", "dead", *scores, *pair, "top_mean", "bottom_mean")


def excess_html(analysis: AnalysisDir) -> str:
    """Words and a table about the null of UnitMem; empty where a result was made before there was that table."""
    if (null := _newer(analysis, "null")) is None:
        return ""
    unseen = ("95 % interval", lambda row: interval(row["held_out_low"], row["held_out_high"]))
    other = [name for name in ("other_excess", "over_other", "over_other_p_adjusted") if name in null]
    names = ("layer", "mean", "null_mean", "excess", "held_out_excess")
    newer = [name for name in ("held_out_above_null_p95", "tail_shape", "p95_calibrated") if name in null]
    shown = drawn(null, UNITMEM_NULL, *names, unseen, *other, "above_null_p95", *newer)
    text = (
        "Excess is UnitMem minus its null, the mean over a layer's units; intervals are clustered by the units' "
        "strongest image, for each layer by itself, and approximate: they held 0 in 78 to 91 of 100 cases where images "
        "were exchangeable. The null is fitted to the tail of the other images. Where it misfits, images that nobody "
        "was trained on exceed it too: that is the held-out excess. " + calibration_words(null)
    )
    if other:
        text += (
            " The excess over theirs, on own minus on the other member's images, is tested by relabelling: nothing but "
            "chance says which images were whose, as long as they were dealt to the members at random."
        )
    explained = page.paragraph(text, "soft")
    return "<h3>Excess over the null</h3>" + page.paragraph(excess_words(null)) + shown + explained


def calibration_words(null: Table) -> str:
    """Where 5 % of the units exceed the 95th percentile of their null by chance, and where that is not known."""
    if "p95_calibrated" not in null:
        return (
            "This result was made before it was tested whether the null's 95th percentile is calibrated; it is not for "
            "units with heavy or bounded tails."
        )
    text = "By chance 5 to 9 % of the units lie above the 95th percentile of their null"
    if (trusted := null["p95_calibrated"]).all():
        return f"{text}."
    where = joined(null["layer"][~trusted].tolist()) if trusted.any() else "any layer"
    return (
        f"{text} where it is calibrated. It is not in {where}: units' tails differ in shape there, or there are fewer "
        f"than {FEWEST_UNITS} units, or few images fire some of them. A share above .05 says nothing there; that of "
        "held-out images shows what the misfit makes of it."
    )


def excess_words(null: Table) -> str:
    """What the excess shows, in words that follow the numbers of a table ``UNITMEM_NULL``."""
    if not np.isfinite(null["excess"]).any():
        return "There are too few images to say what exchangeable ones would score."
    text = f"UnitMem exceeds what exchangeable images would score by {_range(null['excess'])}"
    if np.isfinite(null["held_out_excess"]).any():
        text += f", on held-out images, which nobody was trained on, by {_range(null['held_out_excess'])}"
    if "over_other" not in null:
        return (
            f"{text}. These intervals are approximate and for each layer by itself, so no layer is named: the test is "
            "against the other member's images, which `analyze.py unitmem` makes of a trained pair."
        )
    above, below = layers_apart(null, "over_other")
    among = together(len(null["layer"]))
    if not above:
        text += f". It is not larger on own images than on those of the other member in any layer ({among})."
    else:
        text += f". It is larger on own images than on those of the other member in {joined(above)} ({among})."
    return f"{text} In {joined(below)} it is smaller." if below else text


def _range(values: NDArray[np.float64]) -> str:
    low, high = np.nanmin(values), np.nanmax(values)
    return f"{decimals(low)} to {decimals(high)} by layer"


def _highest(analysis: AnalysisDir) -> str:
    """The units with the highest scores."""
    if (table := _newer(analysis, "highest")) is None:
        return ""
    median = [name for name in ("unitmem_median",) if name in table]
    scores = ("unitmem", "null", "null_p95", "held_out", *median)
    names = [name for name in ("path",) if name in table]
    shown = drawn(table, UNITMEM_HIGHEST, "rank", "layer", "unit", *scores, "mu_max", "mu_rest", "max_id", *names)
    return f"<h3>The {len(table['rank'])} units with the highest scores</h3>{shown}"


def _tests(analysis: AnalysisDir) -> str:
    """The published test of each layer's extremes and the same of null and held-out scores."""
    if (tests := _newer(analysis, "tests")) is None:
        return ""
    names = ("k", "top_mean", "top_std", "bottom_mean", "bottom_std", "t")
    shown = drawn(tests, UNITMEM_TESTS, "layer", WHOSE, *names, ("p", lambda row: _p(row["p"])))
    title = "Welch's t-test of each layer's top against its bottom 10 % of units, as published"
    return page.folded(title, page.paragraph(welch_words(tests), "soft") + shown)


def _p(value: float) -> Cell:
    return Cell(f"{value:.1e}", value) if np.isfinite(value) else Cell("", None)


def welch_words(tests: Table) -> str:
    """What the test is worth, in words that follow the numbers of a table ``UNITMEM_TESTS``."""

    def below(name: str) -> tuple[int, int]:
        p = tests["p"][(tests["scores"] == name) & np.isfinite(tests["p"])]
        return int((p < 0.05).sum()), len(p)

    text = (
        "The test chooses both groups by the quantity that it compares, so it finds a difference where there is none:"
    )
    parts = [
        f"{words} give p < .05 in {below(name)[0]} of {below(name)[1]} layers"
        for name, words in (
            ("scored", "the scores"),
            ("null", "scores drawn from the null, where no image is special,"),
            ("held_out", "scores of held-out images"),
        )
        if below(name)[1]
    ]
    return f"{text} {'; '.join(parts)}." if parts else "Layers have too few units for the test."


def _medians(analysis: AnalysisDir) -> str:
    """The form against the median beside that against the mean, where it was asked for."""
    if (medians := _newer(analysis, "medians")) is None:
        return ""
    names = ("units", "mean", "null", "median", "null_median", "pearson", "spearman")
    shown = drawn(medians, UNITMEM_MEDIANS, "layer", WHOSE, *names)
    title = "<h3>The strongest image against the median of the others</h3>"
    return title + page.paragraph(medians_words(medians)) + page.folded("By layer", shown)


def medians_words(medians: Table) -> str:
    """How both forms agree, in words that follow the numbers of a table ``UNITMEM_MEDIANS``."""
    of = {row["scores"]: row for row in rows_of(medians) if row["layer"] == "all"}
    scored = of["scored"]
    within = medians["spearman"][(medians["scores"] == "scored") & (medians["layer"] != "all")]
    text = (
        f"Against the median the mean score is {decimals(scored['median'], 3)} (null "
        f"{decimals(scored['null_median'], 3)}), against the mean {decimals(scored['mean'], 3)} (null "
        f"{decimals(scored['null'], 3)}). Over all units both forms correlate by {decimals(scored['pearson'], 3)}, in "
        f"rank by {decimals(scored['spearman'], 3)}"
    )
    if np.isfinite(within).any():
        text += f" (within a layer {decimals(np.nanmin(within), 3)} to {decimals(np.nanmax(within), 3)})"
    if "held_out" in of:
        text += f"; on held-out images by {decimals(of['held_out']['pearson'], 3)}, in rank by "
        text += f"{decimals(of['held_out']['spearman'], 3)}"
    return text + "."


def unitmem_words(layers: Table) -> str:
    """What the units show, in words that follow the numbers of a table ``UNITMEM_LAYERS``."""
    last = {name: column[-1] for name, column in layers.items()}
    held_out = f"on held-out images the units of {last['layer']} score {last['held_out_mean']:.3f}, and "
    text = (
        f"Mean UnitMem goes from {layers['mean'][0]:.3f} in {layers['layer'][0]} to {last['mean']:.3f} in "
        f"{last['layer']}; {held_out if np.isfinite(last['held_out_mean']) else ''}exchangeable images would score "
        f"{last['null_mean']:.3f}."
    )
    if "unit_contrast" in layers:
        text += f" {contrast_words(layers)}"
    return text


def contrast_words(layers: Table) -> str:
    """Where a pair's units memorise, in words that follow the numbers of a table ``UNITMEM_LAYERS``."""
    whose = "The unit contrast of the pair, which is free of which images are striking,"
    if "unit_contrast_p_adjusted" not in layers:
        return (
            f"{whose} was measured before its verdict allowed for the number of layers: the intervals are for each "
            "layer by itself and name none. `analyze.py unitmem`, run again, tests the layers together."
        )
    above, below = layers_apart(layers, "unit_contrast")
    where = f"above 0 in {joined(above)}" if above else "not above 0 in any layer"
    text = f"{whose} is {where} ({together(len(layers['layer']))})."
    return f"{text} In {joined(below)} it lies below 0, which memorisation cannot explain." if below else text
