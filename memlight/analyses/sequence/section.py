"""What the report says about sequences: what was learned, kept and forgotten, and against which controls."""

from typing import Any

import numpy as np

from memlight.analyses.sequence import columns
from memlight.display import page
from memlight.display.page import Cell, decimals, interval, number, word
from memlight.display.parts import figures, heading, rows_of, section
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.tables import Table, read_json, read_table

Row = dict[str, Any]


def sequence_section(run: RunDir) -> str:
    """HTML of all results of ``analyze.py sequence``; empty where there are none.

    Raises:
        UserError: a table or summary is damaged.
    """
    explained = (
        "Accuracy is the share of bits that are predicted from those before them, over the sequences as they are "
        "drawn. The floor is a coin; the ceiling is the Bayes posterior that knows the set and its law, which cannot "
        "know bits that tell sequences apart. Intervals are 95 %, over members that differ in their seeds. Savings "
        "say little by themselves: larger logits and a warm optimizer also learn faster, so they stand beside controls."
    )
    return section(run, "sequence", explained, sequence_html)


def sequence_html(analysis: AnalysisDir) -> str:
    """HTML of one result: words, the sets, savings, what was swapped or probed, and the figures.

    Raises:
        UserError: a table or summary is damaged.
    """
    sets = read_table(analysis.table("sets"), columns.SETS)
    savings = read_table(analysis.table("savings"), columns.SAVINGS)
    forgetting = read_table(analysis.table("forgetting"), columns.FORGETTING)
    share = float(read_json(analysis.summary)["headline"]["learned_at"])
    html = heading(analysis) + page.paragraph(sequence_words(sets, savings, forgetting, share)) + _sets(sets)
    if len(np.unique(savings["set"])) > 1:
        html += _savings(savings, share)
    html += _swaps(read_table(analysis.table("swaps"), columns.SWAPS))
    html += _probes(read_table(analysis.table("probes"), columns.PROBES))
    return html + figures(analysis) + _weights(read_table(analysis.table("weights"), columns.WEIGHTS))


def sequence_words(sets: Table, savings: Table, forgetting: Table, share: float) -> str:
    """What a run learned, kept and forgot, in words that follow the numbers.

    Args:
        sets: columns ``SETS``; the first run is the one that is spoken of.
        savings: columns ``SAVINGS``.
        forgetting: columns ``FORGETTING``.
        share: of the way from floor to ceiling at which a set counts as learned.
    """
    run = sets["run"][0]
    first, *later = [row for row in rows_of(sets) if row["run"] == run]
    members = f"{first['members']} members" if first["members"] > 1 else "One member, so no interval"
    text = f"{members}. {_learned(first, 'The first set')}"
    if not later:
        return text
    last = later[-1]
    name = "The set after the switch" if len(later) == 1 else f"The last of {len(later)} sets after switches"
    text += f" {_learned(last, name)}"
    kept = [row for row in rows_of(forgetting) if row["run"] == run and row["set"] == 0][-1]
    text += f" At its end the first set is predicted with accuracy {decimals(kept['accuracy'], 3)}"
    if kept["retained_low"] <= 0:
        text += ": nothing measurable is left of what was learned about it"
    elif np.isfinite(kept["retained"]):
        text += f", {decimals(100 * kept['retained'], 0)} % of what was learned about it"
    return text + f". {_savings_words(savings, share)}"


def _learned(row: Row, name: str) -> str:
    ends = _ends(row, "accuracy", 3)
    ceiling = f", of at most {decimals(row['ceiling_accuracy'], 3)}" if np.isfinite(row["ceiling_accuracy"]) else ""
    text = f"{name} is predicted with accuracy {decimals(row['accuracy'], 3)}{ends}{ceiling}, at step {row['ends']}."
    if row["accuracy_low"] <= row["floor_accuracy"]:
        text += " That is not measurably above a coin."
    if np.isfinite(row["retrieval"]):
        text += f" The best-scoring memory is the right one in {decimals(100 * row['retrieval'], 1)} % of predictions."
    return text


def _savings_words(savings: Table, share: float) -> str:
    rows = rows_of(savings)
    run = rows[0]["run"]
    own = [row for row in rows if row["run"] == run]
    first, last = own[0], own[-1]
    if not np.isfinite(last["savings"]):
        return (
            f"Savings are not defined: {first['reached']} and {last['reached']} of {last['members']} members came "
            f"{100 * share:g} % of the way from floor to ceiling on the first and on the last set."
        )
    text = (
        f"To {100 * share:g} % of the way from floor to ceiling the first set took {decimals(first['steps'], 0)} steps "
        f"and the last {decimals(last['steps'], 0)}: savings {decimals(last['savings'], 2)}{_ends(last, 'savings', 2)}."
    )
    if min(first["reached"], last["reached"]) < last["members"]:
        text += f" Only {min(first['reached'], last['reached'])} of {last['members']} members got there."
    others = dict.fromkeys(row["run"] for row in rows if row["run"] != run)
    for other in others:
        control = [row for row in rows if row["run"] == other][-1]
        text += f" {_against(other, control)}"
    return text if others else f"{text} No control stands beside them (--compare)."


def _against(name: str, control: Row) -> str:
    if not np.isfinite(control["difference"]):
        return f"Against {name} they cannot be compared: it has no savings."
    ends = _ends(control, "difference", 2)
    few = control["reached"] < control["members"]
    rest = f"; of its members {control['reached']} of {control['members']} got there." if few else "."
    if control["difference_low"] > 0:
        return f"They exceed those of {name} by {decimals(control['difference'], 2)}{ends}{rest}"
    if control["difference_high"] < 0:
        ends = _between(-control["difference_high"], -control["difference_low"], 2)
        return f"They fall short of those of {name} by {decimals(-control['difference'], 2)}{ends}{rest}"
    measured = "not measurably" if ends else "without an interval"
    return f"From those of {name} they differ by {decimals(control['difference'], 2)}{ends}, {measured}{rest}"


def _ends(row: Row, name: str, digits: int) -> str:
    return _between(row[f"{name}_low"], row[f"{name}_high"], digits)


def _between(low: float, high: float, digits: int) -> str:
    return f" (95 % interval {decimals(low, digits)} to {decimals(high, digits)})" if np.isfinite(low) else ""


def _sets(sets: Table) -> str:
    header = (
        *("run", "set", "begins", "ends", "members", "accuracy", "95 % interval", "ceiling", "nats per bit", "ceiling"),
        *("retrieval top-1", "accuracy at the very end", "95 % interval", "bits per parameter"),
    )
    rows = [
        [
            word(row["run"]),
            *(number(row[name]) for name in ("set", "begins", "ends", "members")),
            number(row["accuracy"], 3),
            interval(row["accuracy_low"], row["accuracy_high"], 3),
            *(number(row[name], 3) for name in ("ceiling_accuracy", "loss", "ceiling_loss", "retrieval")),
            number(row["last_accuracy"], 3),
            interval(row["last_accuracy_low"], row["last_accuracy_high"], 3),
            number(row["bits_per_parameter"], 2),
        ]
        for row in rows_of(sets)
    ]
    return page.table(header, rows)


def _savings(savings: Table, share: float) -> str:
    header = (
        *("run", "set", "members that got there", f"steps to {100 * share:g} %", "95 % interval"),
        *("savings", "95 % interval", "this run's are larger by", "95 % interval"),
    )
    rows = [
        [
            word(row["run"]),
            number(row["set"]),
            Cell(f"{row['reached']} of {row['members']}", row["reached"]),
            number(row["steps"], 0),
            interval(row["steps_low"], row["steps_high"], 0),
            number(row["savings"], 3),
            interval(row["savings_low"], row["savings_high"], 3),
            number(row["difference"], 3),
            interval(row["difference_low"], row["difference_high"], 3),
        ]
        for row in rows_of(savings)
    ]
    return page.table(header, rows)


def _swaps(swaps: Table) -> str:
    if not len(swaps["run"]):
        return ""
    rows = [
        [
            *(word(row[name]) for name in ("run", "swapped")),
            *(number(row[name]) for name in ("step", "set")),
            number(row["accuracy"], 3),
            interval(row["accuracy_low"], row["accuracy_high"], 3),
            number(row["before"], 3),
        ]
        for row in rows_of(swaps)
    ]
    header = ("run", "swapped in", "at step", "tested on set", "accuracy", "95 % interval", "without the swap")
    return "<h3>Parts of an earlier snapshot swapped in</h3>" + page.table(header, rows)


def _probes(probes: Table) -> str:
    if not len(probes["run"]):
        return ""
    rows = [
        [
            word(row["run"]),
            number(row["step"]),
            Cell(f"{row['reached']} of {row['members']}", row["reached"]),
            number(row["batches"], 1),
            interval(row["low"], row["high"], 1),
            number(row["accuracy"], 3),
        ]
        for row in rows_of(probes)
    ]
    header = ("run", "fork at step", "members that got there", "batches", "95 % interval", "accuracy at its end")
    return "<h3>Forks that learn novel sequences</h3>" + page.table(header, rows)


def _weights(weights: Table) -> str:
    if not len(weights["run"]):
        return ""
    rows = [
        [
            word(row["run"]),
            number(row["step"]),
            word(row["measure"]),
            number(row["value"], 3),
            interval(row["low"], row["high"], 3),
        ]
        for row in rows_of(weights)
    ]
    return page.folded("Weights in numbers", page.table(("run", "step", "measure", "mean", "95 % interval"), rows))
