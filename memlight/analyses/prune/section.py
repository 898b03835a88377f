"""What the report says about pruning: what it costs, and whether the published order holds."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from memlight.analyses.prune.columns import PRUNE_EFFECTS, PRUNE_TABLE
from memlight.analyses.verdicts import JUDGED_ANEW, NO_DRAWS, against_draws
from memlight.display import page
from memlight.display.page import decimals, interval, number, p_value, word
from memlight.display.parts import POINTS, drawn, figures, heading, rows_of, section
from memlight.display.words import together
from memlight.storage.rundir import AnalysisDir
from memlight.storage.tables import Table, read_table

MODES = {"top": "the highest UnitMem", "low": "the lowest UnitMem"}


@section(
    "prune",
    "Some units of a copy of the encoder are made to say 0, a new linear probe is trained on what is left, and its "
    "accuracy on external images is compared with the unpruned encoder's. That says how much the features need "
    "these units, and not that something was forgotten. Random draws of the same size are the measure: "
    "an excess above 0 is what units of this score cost beyond their number. Its interval (95 %, for each row by "
    "itself) holds the draws' spread and the test images'; verdicts are of all rows together, from p-values adjusted "
    "by Holm.",
)
def prune_section(analysis: AnalysisDir) -> str:
    """HTML of all pruning results of a run; empty where there are none."""
    copies = read_table(analysis.table(), PRUNE_TABLE)
    read = read_table(analysis.table("effects"), PRUNE_EFFECTS)
    effects = against_draws(read)
    html = heading(analysis) + "".join(map(page.paragraph, prune_words(copies, effects)))
    html += page.paragraph(JUDGED_ANEW, "soft") if effects is not read else ""
    if len(effects["mode"]):
        html += _effects(effects)
    return html + figures(analysis) + page.folded(f"All {len(copies['mode'])} copies", drawn(copies, PRUNE_TABLE))


def _effects(effects: Table) -> str:
    scopes = {"layer": "each layer", "model": "the model"}
    return drawn(
        effects,
        PRUNE_EFFECTS,
        ("share", lambda row: word(f"{POINTS * row['ratio']:g} % of {scopes[row['scope']]}")),
        ("units pruned", lambda row: word(MODES[row["mode"]].removeprefix("the "))),
        *("units", "dead", "drop"),
        ("random lost", lambda row: number(POINTS * row["random"], 2)),
        ("one more draw", lambda row: interval(POINTS * row["random_low"], POINTS * row["random_high"], 2)),
        "excess",
        ("p, adjusted", lambda row: p_value(row["p_adjusted"])),
        ("against random", lambda row: word(row["verdict"], "yes" if row["verdict"].startswith("costs") else "no")),
    )


def prune_words(copies: Table, effects: Table) -> list[str]:
    """What pruning cost, and what became of the published order, in words that follow the numbers.

    Args:
        copies: columns ``PRUNE_TABLE``.
        effects: columns ``PRUNE_EFFECTS``, with the verdicts of all rows together.

    Returns:
        A paragraph on the copies, then one for each scope and ratio.
    """
    paragraphs = [
        f"{len(copies['mode']) - 1} copies were pruned; the unpruned one's probe classifies "
        f"{decimals(POINTS * copies['probe_top1'][0], 2)} % of the external images correctly."
    ]
    rows = rows_of(effects)
    if tested := int(np.isfinite(effects["p_adjusted"]).sum()):
        paragraphs[0] += f" Against random, {together(tested, 'comparisons')}."
    for scope, ratio in dict.fromkeys(zip(copies["scope"][1:].tolist(), copies["ratio"][1:].tolist(), strict=True)):
        compared = {row["mode"]: row for row in rows if (row["scope"], row["ratio"]) == (scope, ratio)}
        text = _cost(scope, ratio, copies, compared)
        verdicts = {mode: row["verdict"] for mode, row in compared.items() if row["verdict"] != NO_DRAWS}
        if verdicts:
            against = "; ".join(f"{MODES[mode]}: {verdict}" for mode, verdict in verdicts.items())
            text += f" Against random, {against}."
        if len(verdicts) == len(MODES):
            text += f" The published order (top costs more than random, random more than low): {order(**verdicts)}."
        paragraphs.append(text)
    return paragraphs


def order(top: str, low: str) -> str:
    """Whether pruning high scores costs more than random and low ones less (Wang et al. 2024, Table 6).

    Args:
        top: the verdict of the units of the highest score.
        low: of those of the lowest.

    Returns:
        ``holds`` where both comparisons show it, ``does not hold`` where one shows the reverse, else ``not decidable``.
    """
    if top == "costs less" or low == "costs more":
        return "does not hold"
    return "holds" if (top, low) == ("costs more", "costs less") else "not decidable"


def _cost(scope: str, ratio: float, copies: Table, compared: Mapping[str, Mapping[str, Any]]) -> str:
    of_share = (copies["scope"] == scope) & (copies["ratio"] == ratio)
    parts = []
    for mode, name in (("top", MODES["top"]), ("random", "random units"), ("low", MODES["low"])):
        drops = copies["drop"][of_share & (copies["mode"] == mode)]
        if len(drops) == 0:
            continue
        mean = POINTS * float(np.mean(drops))
        text = f"{'fell' if mean >= 0 else 'rose'} by {decimals(abs(mean), 2)} points without {name}"
        if mode == "random":
            text += f" (mean of {len(drops)} draws)" if len(drops) > 1 else " (one draw)"
        elif compared[mode]["dead"]:
            text += f" ({compared[mode]['dead']} of these {compared[mode]['units']} never fired)"
        parts.append(text)
    where = "each layer's units" if scope == "layer" else "all units"
    return f"{POINTS * ratio:g} % of {where} pruned: accuracy {', '.join(parts)}."
