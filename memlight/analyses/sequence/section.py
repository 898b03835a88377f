"""The page of a sequence experiment: what was learned, kept and forgotten, and against which controls.

It is a page of its own: an experiment has members that differ in seeds, and no encoders, splits or images.
"""

from pathlib import Path
from typing import Any

import numpy as np

from memlight.analyses.sequence import columns
from memlight.display import page
from memlight.display.page import Cell, decimals, interval, number
from memlight.display.parts import Row, Shown, drawn, figures, heading, provenance, rows_of, section
from memlight.storage.run_files import SequenceEvent, SequenceSummary, Summary
from memlight.storage.rundir import AnalysisDir, RunDir
from memlight.storage.schema import Column, Schema
from memlight.storage.tables import Table, read_json, read_table, table_of, write_text

EVENTS: Schema = {
    "step": Column(int, "gradient step"),
    "kind": Column(str, "event"),
    "words": Column(str, "what happened"),
}

REACHED: Shown = ("members that got there", lambda row: Cell(f"{row['reached']} of {row['members']}", row["reached"]))


def write_sequence_report(run: RunDir) -> Path:
    """Write ``report.html`` of a sequence experiment.

    Args:
        run: a run directory with ``results.npz``.

    Returns:
        The page's path.

    Raises:
        UserError: a table or summary is damaged.
    """
    made = read_json(run.root / "summary.json", SequenceSummary)
    measured = sequence_section(run) or page.paragraph(
        "Not measured yet. Make it with", "missing", code=f"python analyze.py sequence --run {run.root}"
    )
    sections = [
        ("Sequences", measured),
        ("What was done", _events(made["events"])),
        ("How it was made", provenance(run, ("sequence",), _made, "Nothing is recorded.")),
    ]
    count, sets = made["members"], len(made["sets"])
    opening = f"{count} {'member' if count == 1 else 'members'} trained together, {sets} sequence set"
    opening += "." if sets == 1 else "s one after the other."
    write_text(run.report, page.page(f"What {run.name} learned", page.paragraph(opening, "soft"), sections))
    return run.report


@section(
    "sequence",
    "Accuracy is the share of bits that are predicted from those before them, over the sequences as they are "
    "drawn. The floor is a coin; the ceiling is the Bayes posterior that knows the set and its law, which cannot "
    "know bits that tell sequences apart. Intervals are 95 %, over members that differ in their seeds. Savings "
    "say little by themselves: larger logits and a warm optimizer also learn faster, so they stand beside "
    "controls.",
)
def sequence_section(analysis: AnalysisDir) -> str:
    """Words, the sets, savings, what was swapped or probed, and the figures of every result of a run."""
    sets = read_table(analysis.table("sets"), columns.SETS)
    savings = read_table(analysis.table("savings"), columns.SAVINGS)
    forgetting = read_table(analysis.table("forgetting"), columns.FORGETTING)
    share = float(read_json(analysis.summary, Summary)["headline"]["learned_at"])
    html = heading(analysis) + page.paragraph(sequence_words(sets, savings, forgetting, share))
    names = ("run", "set", "begins", "ends", "members", "accuracy", "ceiling_accuracy", "loss", "ceiling_loss")
    html += drawn(sets, columns.SETS, *names, "retrieval", "last_accuracy", "bits_per_parameter")
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


def _savings(savings: Table, share: float) -> str:
    steps = (f"steps to {100 * share:g} %", lambda row: number(row["steps"], 0))
    ends = ("95 % interval", lambda row: interval(row["steps_low"], row["steps_high"], 0))
    return drawn(savings, columns.SAVINGS, "run", "set", REACHED, steps, ends, "savings", "difference")


def _swaps(swaps: Table) -> str:
    title = "<h3>Parts of an earlier snapshot swapped in</h3>"
    names = ("run", "swapped", "step", "set", "accuracy", "before")
    return title + drawn(swaps, columns.SWAPS, *names) if len(swaps["run"]) else ""


def _probes(probes: Table) -> str:
    title = "<h3>Forks that learn novel sequences</h3>"
    ends = ("95 % interval", lambda row: interval(row["low"], row["high"], 1))
    shown = drawn(probes, columns.PROBES, "run", "step", REACHED, "batches", ends, "accuracy")
    return title + shown if len(probes["run"]) else ""


def _weights(weights: Table) -> str:
    ends = ("95 % interval", lambda row: interval(row["low"], row["high"], 3))
    shown = drawn(weights, columns.WEIGHTS, "run", "step", "measure", "value", ends)
    return page.folded("Weights in numbers", shown) if len(weights["run"]) else ""


def _events(events: list[SequenceEvent]) -> str:
    if not events:
        return page.paragraph("One set from beginning to end: no switch, no intervention.")
    return drawn(table_of(EVENTS, [[event["step"], event["kind"], event["words"]] for event in events]), EVENTS)


def _made(summary: Any) -> list[tuple[str, str]]:
    return [
        ("finished", f"{summary['finished']}, {summary['seconds']:.1f} s"),
        ("results, sha256", summary["checkpoints"]["sequence"][:12]),
        ("first member's seed", str(summary["seed"])),
    ]
