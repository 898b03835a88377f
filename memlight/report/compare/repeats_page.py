"""The HTML page of repetitions of one experiment, with its tables and figures. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from memlight.analyses.layermem.chart import agreement_between_runs
from memlight.analyses.registry import ANALYSES, curves
from memlight.display import page
from memlight.display.page import Cell, decimals
from memlight.display.parts import drawn
from memlight.display.words import joined, named_above, together
from memlight.report.compare.directory import REPEATS_PAGE, save_pictures
from memlight.report.compare.figures import repeats_by_depth
from memlight.report.compare.groups import group_runs
from memlight.report.compare.page import Comparison, missing_section, provenance_section, runs_section
from memlight.report.compare.page import contrast_words as run_words
from memlight.report.compare.repeats import (
    agreement_of_runs,
    in_some_runs,
    repeats_by_layer,
    repeats_of_headlines,
    require_repetitions,
    same_splits,
)
from memlight.report.compare.runs import (
    REPEATS_AGREEMENT,
    REPEATS_LAYERS,
    REPEATS_NUMBERS,
    ComparedRun,
    common_axis,
    compare_layers,
    layers_table,
    runs_table,
    same_encoders,
)
from memlight.storage.tables import Table, write_table, write_text
from memlight.storage.writing import whole_directory


@dataclass(frozen=True)
class Repeats:
    """What the page is made from.

    Attributes:
        runs: at least two, which differ in seeds alone.
        layers: columns ``REPEATS_LAYERS``.
        headlines: columns ``REPEATS_NUMBERS``.
        agreement: columns ``REPEATS_AGREEMENT``; no rows where no two runs share their splits.
    """

    runs: Sequence[ComparedRun]
    layers: Table
    headlines: Table
    agreement: Table

    @property
    def compared(self) -> Comparison:
        """The same runs as one group of a comparison."""
        return Comparison(self.runs, group_runs(self.runs, []), common_axis(self.runs))


def write_repeats(runs: Sequence[ComparedRun], out: Path) -> Path:
    """Write page, tables and figures, the whole directory or nothing.

    Args:
        runs: at least two.
        out: the directory to make or replace; see `memlight.report.compare.directory.require_replaceable`.

    Returns:
        The page's path.

    Raises:
        UserError: they are no repetitions of one experiment, or a table is damaged.
    """
    require_repetitions(runs)
    content = Repeats(runs, repeats_by_layer(runs), repeats_of_headlines(runs), agreement_of_runs(runs))
    of_runs = layers_table(runs, content.compared.axis)
    with whole_directory(out, argument="out") as partial:
        pictures = save_pictures(_figures(content, of_runs), partial / "figures")
        write_table(partial / "runs.csv", *runs_table(runs))
        write_table(partial / "runs_layers.csv", of_runs, compare_layers())
        write_table(partial / "layers.csv", content.layers, REPEATS_LAYERS)
        write_table(partial / "numbers.csv", content.headlines, REPEATS_NUMBERS)
        write_table(partial / "agreement.csv", content.agreement, REPEATS_AGREEMENT)
        write_text(partial / REPEATS_PAGE, repeats_page(content, pictures))
    return out / REPEATS_PAGE


def repeats_page(content: Repeats, pictures: Mapping[str, str]) -> str:
    """The whole document.

    Args:
        content: the runs and what was found over them.
        pictures: figures as HTML, by name.
    """
    compared = content.compared
    sections = [
        ("By layer", _layers(content) + pictures.get("by_layer", "")),
        ("Between seeds", _agreement(content, pictures.get("agreement", ""))),
        ("Headline numbers", _headlines(content)),
        ("Runs", runs_section(compared)),
        ("Not measured", missing_section(compared)),
        ("How it was made", provenance_section(compared)),
    ]
    return page.page(f"{len(content.runs)} repetitions of one experiment", _opening(content), sections)


def agreement_words(agreement: Table) -> str:
    """How far runs agree at the last layer, in words that follow the numbers; empty where none can be compared.

    Args:
        agreement: columns ``REPEATS_AGREEMENT``.
    """
    if len(agreement["layer"]) == 0:
        return ""
    layer = agreement["layer"][agreement["split"] == "candidate"][-1]
    told = []
    for split, words in (("candidate", "candidates"), ("external", "external images, which no encoder saw")):
        rows = (agreement["layer"] == layer) & (agreement["split"] == split)
        if rows.any():
            tau, overlap = agreement["tau"][rows], agreement["overlap"][rows]
            top, chance, limit = (agreement[name][rows][0] for name in ("top", "chance", "chance_p95"))
            ends = f" (from {decimals(tau.min(), 3)} to {decimals(tau.max(), 3)})" if len(tau) > 1 else ""
            told.append(
                f"{words}: {overlap.mean():.1f} of the {top} with the highest score are the same in two runs "
                f"(unrelated rankings: {chance:.1f}, at most {limit} in 95 of 100), Kendall's tau "
                f"{decimals(tau.mean(), 3)}{ends}"
            )
    pairs = int(((agreement["layer"] == layer) & (agreement["split"] == "candidate")).sum())
    return (
        f"In {layer}, {f'mean over {pairs} pairs' if pairs > 1 else 'one pair'} of runs. Of " + ". Of ".join(told) + "."
    )


def contrast_words(means: Table) -> str:
    """Where all runs together memorise, in words that follow the numbers.

    Args:
        means: columns ``REPEATS_LAYERS``, the rows of the contrast.
    """
    runs, layers = int(means["runs"].max()), means["layer"].tolist()
    text = f"Mean of {runs} runs, tested over runs by Student's t ({together(len(layers))}). "
    above, below = (named_above(sign * means["mean"], means["p_adjusted"]) for sign in (1, -1))
    if above.any():
        top, named = int(np.argmax(np.where(above, means["mean"], -np.inf))), means["layer"][above].tolist()
        ends = ("mean", "mean_simultaneous_low", "mean_simultaneous_high")
        mean, low, high = (decimals(means[name][top]) for name in ends)
        most = f", most in {layers[top]}" if len(named) > 1 else ""
        text += (
            f"Memorisation is measured in {joined(named)}{most}: contrast {mean}, interval {low} to {high}, which "
            "holds all layers at once."
        )
    else:
        text += "In no layer is memorisation measured; few runs can show little."
    if below.any():
        names = joined(means["layer"][below].tolist())
        text += f" In {names} the contrast lies below 0, which memorisation cannot explain."
    return text


def _figures(content: Repeats, of_runs: Table) -> dict[str, tuple[Figure, str]]:
    drawn = {}
    if len(content.layers["layer"]):
        caption = (
            "Blue: the mean with its 95 % interval by Student's t over runs, thick for each layer by itself, thin for "
            "all layers at once (cut off where it leaves the panel). Grey: every run by itself."
        )
        drawn["by_layer"] = (repeats_by_depth(content.layers, of_runs), caption)
    if len(content.agreement["layer"]):
        caption = (
            "Left: Kendall's tau of the LayerMem scores of the same images in two runs, mean over the pairs of runs; "
            "the band goes from the lowest pair to the highest, of a single pair it is its 95 % interval over images. "
            "Right: the share of the top that two runs have in common."
        )
        drawn["agreement"] = (agreement_between_runs(content.agreement), caption)
    return drawn


def _opening(content: Repeats) -> str:
    contrast = content.layers["number"] == "contrast"
    measured = page.paragraph(f"The contrast was measured in none of these {len(content.runs)} runs.", "lead")
    if contrast.any():
        of_all = contrast_words({name: column[contrast] for name, column in content.layers.items()})
        of_each = f"Each run by itself. {run_words(content.runs)}"
        measured = page.paragraph(of_all, "lead") + page.paragraph(of_each)
    keys = content.compared.differing
    told = ["The runs do not even differ in a seed: their spread says nothing about other trainings."]
    if keys:
        told = [f"The runs differ in {joined(keys)} alone."]
    told += [f"{' and '.join(names)} hold the same encoder file." for names in same_encoders(content.runs)]
    splits = same_splits(content.runs)
    if len(splits) == 1:
        told.append("All have the same splits: their spread is that of other trainings on the same images.")
    elif splits:
        told.append("Their splits differ: their spread is that of other trainings on other images.")
    return measured + page.paragraph(" ".join(told))


def _layers(content: Repeats) -> str:
    layers = content.layers
    shown = {name: curve for name, curve in curves().items() if (layers["number"] == name).any()}
    names = sorted(shown, key=lambda name: not shown[name].interval)  # those that have an interval of their own first
    if not names:
        return page.paragraph("No layer was measured in any of these runs.", "missing")
    explained = page.paragraph(
        "Mean over runs, in brackets its 95 % interval by Student's t over runs, for each number by itself, then the "
        "lowest and the highest run. With two or three runs that interval is wide, as it should be: two runs give one "
        "degree of freedom. layers.csv has p-values and intervals for all layers together.",
        "soft",
    )
    rows = []
    for depth, layer in sorted(set(zip(layers["depth"].tolist(), layers["layer"].tolist(), strict=True))):
        cells = [Cell(layer, depth, word=True)]
        for name in names:
            (at,) = np.nonzero((layers["layer"] == layer) & (layers["number"] == name))
            cells.append(
                _spread(layers, int(at[0]), shown[name].digits, len(content.runs)) if len(at) else Cell("", None)
            )
        rows.append(cells)
    return explained + page.table(["layer", *(shown[name].title for name in names)], rows)


def _spread(table: Table, row: int, digits: int, runs: int) -> Cell:
    """Mean, its interval, lowest and highest of one row; how many runs have it where that is not all of so many."""
    found = {name: float(table[name][row]) for name in ("mean", "mean_low", "mean_high", "lowest", "highest")}
    text = {name: decimals(value, digits) for name, value in found.items()}
    measured = int(table["runs"][row])
    between = f" [{text['mean_low']}, {text['mean_high']}], {text['lowest']} to {text['highest']}" * (measured > 1)
    return Cell(f"{text['mean']}{between}{f' ({measured} of {runs} runs)' * (measured < runs)}", found["mean"])


def _agreement(content: Repeats, picture: str) -> str:
    agreement, splits = content.agreement, same_splits(content.runs)
    explained = page.paragraph(
        "Do trainings with other seeds memorise the same images? Every run ranks its candidates by their LayerMem "
        "score; a pair of runs is compared by Kendall's tau of the two rankings and by how many of the highest scores "
        "are the same. An image can score high in every training without being memorised, so the same numbers of "
        "external images, which no encoder saw, stand beside. Intervals are 95 % over images, for one pair of runs by "
        "itself.",
        "soft",
    )
    html = explained + page.paragraph(agreement_words(agreement)) if len(agreement["layer"]) else ""
    if len(splits) > 1:
        groups = "; ".join(", ".join(run.name for run in group) for group in splits)
        html += page.paragraph(
            f"The candidates are not the same images in all runs ({groups}), so whether the same ones are memorised "
            "cannot be asked between those. Pairs that share their splits are trained with",
            "missing",
            code="train.py pair --seed_everything 1 --data.split_seed 0",
        )
    if not splits:
        html += page.paragraph("layermem was measured in none of these runs.", "missing")
    if len(agreement["layer"]) == 0:
        return html
    shown = ("layer", "split", "run_a", "run_b", "n", "overlap", "top", "chance", "tau")
    return html + picture + page.folded("Every pair of runs, every layer", drawn(agreement, REPEATS_AGREEMENT, *shown))


def _headlines(content: Repeats) -> str:
    found = content.headlines
    by_layer = [analysis.name for analysis in ANALYSES if analysis.curves]  # so that nothing is said twice
    shown = [row for row, analysis in enumerate(found["analysis"].tolist()) if analysis not in by_layer]
    html = page.paragraph(
        "Headline numbers of every analysis that all runs have, those by layer above aside (numbers.csv has them too): "
        "mean over runs, its 95 % interval by Student's t over runs (each by itself), the lowest and the highest run. "
        "Accuracies are fractions.",
        "soft",
    )
    others = {name: column[shown] for name, column in found.items()}
    html += drawn(others, REPEATS_NUMBERS) if shown else page.paragraph("No other analysis is in all runs.", "missing")
    lacking = "; ".join(f"{name} (not in {', '.join(names)})" for name, names in in_some_runs(content.runs).items())
    return html + (page.paragraph(f"Left out, as not all runs have it: {lacking}.", "missing") if lacking else "")
