"""What the report says about fine-tuning: which layers gained, and whether a ranking found better ones than chance."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from memlight.analyses.finetune.claims import gains_claimed
from memlight.analyses.finetune.columns import FINETUNE_EFFECTS, FINETUNE_TABLE
from memlight.display import page
from memlight.display.page import Cell, decimals, p_value, word
from memlight.display.parts import Shown, drawn, figures, heading, rows_of, section
from memlight.display.words import FAMILY_WISE, named_above, together
from memlight.storage.run_files import Summary
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_json, read_table


@section(
    "finetune",
    "Copies of the encoder, each with a new linear classifier, trained on labelled images of another data set: the "
    "chosen layers and the classifier learn, all else stays as it was. Gain is accuracy above that of the "
    "classifier alone, paired over trials and test images; intervals in the table are 95 %, for each row by itself, "
    "and hold for these training images; p-values are adjusted by Holm for all arms together. "
    "Wang et al. claim that the layers of highest delta are the ones worth fine-tuning: that is tested against "
    "random layers of the same number, and holds where one more random draw would hardly have done as well. Layers "
    "differ in their number of parameters, and a larger one can learn more whatever it has memorised.",
)
def finetune_section(analysis: AnalysisDir) -> str:
    """HTML of all fine-tuning results of a run; empty where there are none."""
    effects = read_table(analysis.table("effects"), FINETUNE_EFFECTS)
    effects = gains_claimed(effects, read_table(analysis.table(), FINETUNE_TABLE))
    layers = ("layers", lambda row: word(row["layers"] or "none"))
    size = ("trained parameters", lambda row: Cell(f"{row['trained_parameters']:,.0f}", row["trained_parameters"]))
    gain, over_random = (("p, adjusted", _p(name)) for name in ("gain", "over_random"))
    compared: list[Shown] = ["over_random", over_random] if np.isfinite(effects["over_random"]).any() else []
    words = page.paragraph(finetune_words(effects, read_json(analysis.summary, Summary)["headline"]))
    table = drawn(effects, FINETUNE_EFFECTS, "arm", layers, size, "top1", "gain", gain, *compared)
    return heading(analysis) + words + table + figures(analysis)


def finetune_words(effects: Table, headline: Mapping[str, Any]) -> str:
    """What was gained, in words that follow the numbers.

    Args:
        effects: columns ``FINETUNE_EFFECTS``, with what may be said of all arms together.
        headline: of the summary: the data set and its sizes.
    """
    head, *arms = rows_of(effects)
    said = [
        f"On {headline['dataset']} ({headline['train_images']} images trained on, {headline['test_images']} tested on, "
        f"{head['trials']} trials) a linear classifier alone classifies {decimals(100 * head['top1'], 1)} % correctly."
    ]
    best = max(arms, key=lambda row: float(row["gain"]))
    which = f"{_layers(best)} drawn at random" if best["rank_by"] == "random" else best["layers"]
    said.append(f"The highest mean gain is that of {which}: {_points(best, 'gain')}.")
    if np.isfinite(best["gain_p_adjusted"]):
        gained = sum(named_above([row["gain"] for row in arms], [row["gain_p_adjusted"] for row in arms]))
        said.append(f"{gained} of {len(arms)} arms gain over the classifier alone ({together(len(arms), 'arms')}).")
    compared = [row for row in arms if np.isfinite(row["over_random"])]
    said += [
        f"The {_layers(row)} of highest {row['rank_by']} against as many "
        f"random ones: {_points(row, 'over_random')}. That they are better worth fine-tuning "
        f"{ranking_verdict(row['over_random'], row['over_random_p_adjusted'])}."
        for row in compared
    ]
    if len(compared) > 1:
        said.append(f"The intervals are those of {together(len(compared), 'rankings')}.")
    return " ".join(said)


def _p(name: str) -> Callable[[Mapping[str, Any]], Cell]:
    return lambda row: p_value(row[f"{name}_p_adjusted"])


def ranking_verdict(over_random: float, p_adjusted: float) -> str:
    """What the gain over random layers says of the claim that a ranking finds better ones, from its adjusted p."""
    if not p_adjusted <= FAMILY_WISE:
        return "is not decidable"
    return "holds" if over_random > 0 else "does not hold"


def _layers(row: Mapping[str, Any]) -> str:
    return f"{row['count']} {'layer' if row['count'] == 1 else 'layers'}"


def _points(row: Mapping[str, Any], name: str) -> str:
    """A gain with the interval that holds all of its family at once, as arms are chosen by what they gain."""
    low, high = row[f"{name}_simultaneous_low"], row[f"{name}_simultaneous_high"]
    bounds = f"{decimals(100 * low, 1)} to {decimals(100 * high, 1)}" if np.isfinite(low) else "no interval, one trial"
    return f"{decimals(100 * row[name], 1)} points ({bounds})"
