"""The study behind `analyze.py sequence`: tables and figures of a sequence experiment and of those beside it."""

from collections.abc import Sequence

import numpy as np

from memlight.analyses.sequence.ceilings import set_ceilings
from memlight.analyses.sequence.chart import sequence_positions, sequence_runs, sequence_switches, sequence_time
from memlight.analyses.sequence.chart_ranks import sequence_rank_time, sequence_ranks
from memlight.analyses.sequence.chart_sets import sequence_forgetting, sequence_interventions, sequence_savings
from memlight.analyses.sequence.chart_weights import attention_and_keys, attention_maps
from memlight.analyses.sequence.experiment import Experiment
from memlight.analyses.sequence.ranks import (
    appearances_table,
    drawn_unevenly,
    learned_table,
    rank_time_table,
    ranks_table,
)
from memlight.analyses.sequence.tables import (
    curves_table,
    forgetting_table,
    members_table,
    positions_table,
    probes_table,
    savings_table,
    sets_table,
    swaps_table,
    training_table,
)
from memlight.analyses.sequence.weights import (
    ATTENTION,
    attention_rows,
    bits_per_parameter,
    keys,
    used_parameters,
    weights_table,
)
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table

OVER_MEMBERS = "Mean over members with its 95 % interval."

ONE_MEMBER = "Pictures are of the first member"


def study_sequence(experiments: Sequence[Experiment], share: float, log: AnalysisLog) -> None:
    """Write every table, figure and headline number.

    Args:
        experiments: the run, then those it is compared with.
        share: of the way from floor to ceiling at which a set counts as learned.
        log: where they go.
    """
    run = experiments[0]
    bits = [[bits_per_parameter(one, index) for index in range(one.sets)] for one in experiments]
    ceilings = [[set_ceilings(one, index) for index in range(one.sets)] for one in experiments]
    tables = {
        "table": curves_table(experiments),
        "sets": sets_table(experiments, bits),
        "members": members_table(experiments, share),
        "training": training_table(experiments),
        "positions": positions_table(experiments, ceilings),
        "ranks": ranks_table(experiments, ceilings),
        "appearances": appearances_table(experiments),
        "rank_time": rank_time_table(run),
        "learned": learned_table(experiments),
        "forgetting": forgetting_table(experiments),
        "savings": savings_table(experiments, share),
        "weights": weights_table(experiments),
        "probes": probes_table(experiments),
        "swaps": swaps_table(experiments),
    }
    for name, table in tables.items():
        log.table(name, table)
    own = {name: _of_run(table, run.name) for name, table in tables.items() if name != "rank_time"}
    _curves(tables, own, log, compared=len(experiments) > 1)
    _ranks(run, ranks_table([run], ceilings[:1], grouped=True), tables["rank_time"], own, log)
    _sets(tables, own, share, log)
    _weights(run, own["weights"], log)
    log.headline(_headline(run, own, share))


def _curves(every: dict[str, Table], own: dict[str, Table], log: AnalysisLog, *, compared: bool) -> None:
    log.figure(
        "switches",
        sequence_switches(own["table"], own["sets"]),
        "Every set while it is trained, from the switch that began it. Lines, where they are known, at what the Bayes "
        f"posterior that knows the set and its law gets, and at what a coin gets. {OVER_MEMBERS}",
    )
    log.figure(
        "time",
        sequence_time(own["table"], own["sets"], own["training"]),
        "Every set over the whole training, also after another took its place at a dotted line; the loss of the "
        f"batches trained on. {OVER_MEMBERS}",
    )
    if compared:
        log.figure(
            "runs",
            sequence_runs(every["table"], every["sets"]),
            f"The runs beside one another while the first and the last set are trained. {OVER_MEMBERS}",
        )
    if np.isfinite(own["positions"]["accuracy"]).any():
        log.figure(
            "positions",
            sequence_positions(own["positions"], own["sets"]),
            f"How well each bit is predicted from those before it. {OVER_MEMBERS}",
        )


def _ranks(run: Experiment, ranks: Table, rank_time: Table, own: dict[str, Table], log: AnalysisLog) -> None:
    if not len(ranks["rank"]):
        return
    uneven = drawn_unevenly(run)
    log.figure(
        "ranks",
        sequence_ranks(ranks, own["appearances"], own["learned"], own["sets"], uneven=uneven),
        "The test sequences (every tenth rank) at the end of their set's training: which are learned, and after how "
        "many draws; neighbouring ranks together. Learned: more than 90 % of a sequence's bits are right. "
        f"{OVER_MEMBERS}",
    )
    log.figure(
        "rank_time",
        sequence_rank_time(rank_time, own["sets"]),
        "Accuracy by rank over the training, neighbouring ranks together; grey before a set exists. Mean over members "
        "(intervals are in rank_time.csv).",
    )


def _sets(every: dict[str, Table], own: dict[str, Table], share: float, log: AnalysisLog) -> None:
    if len(np.unique(own["sets"]["set"])) > 1:
        log.figure(
            "forgetting",
            sequence_forgetting(own["forgetting"]),
            "A row for the end of each set's training, a column for each set; left of what was learned is (accuracy - "
            f"floor) / (accuracy when its own training ended - floor). {OVER_MEMBERS}",
        )
        if np.isfinite(every["savings"]["steps"]).any():
            log.figure(
                "savings",
                sequence_savings(every["savings"], share),
                f"Gradient steps from the switch to the first evaluation at {100 * share:g} % of the way from floor to "
                "ceiling, of the members that got there, and 1 - steps / steps of the first set. Only against controls "
                f"do savings say what carried over. {OVER_MEMBERS}",
            )
    if len(own["swaps"]["run"]) or len(own["probes"]["run"]):
        log.figure(
            "interventions",
            sequence_interventions(own["swaps"], own["probes"]),
            "What an earlier snapshot's parts do to accuracy, and how many batches a fork of the model needs for novel "
            f"sequences. {OVER_MEMBERS}",
        )


def _weights(run: Experiment, weights: Table, log: AnalysisLog) -> None:
    named = run.results.weights
    steps = [step for step, arrays in named.items() if "A_logits" in arrays and "B_logits" in arrays]
    if steps:
        rows = {step: attention_rows(named[step]["A_logits"][:1])[0] for step in (steps[0], steps[-1])}
        heads = [f"head {head}" for head in range(len(rows[steps[-1]]))]
        log.figure(
            "attention",
            attention_maps(rows[steps[-1]], heads, "bits already seen"),
            f"What each head looks at after {steps[-1]} steps, a row for every number of bits seen. {ONE_MEMBER}; the "
            "spread over members is in the next figure.",
        )
        pictures = {}
        for step, row in rows.items():
            pictures[f"A over the longest prefix, step {step}"] = row[:, -1]
            pictures[f"B, step {step}"] = keys(named[step]["B_logits"][:1])[0]
        log.figure(
            "keys",
            attention_and_keys(pictures, weights),
            "A, which summarises what was seen, and B, which summarises what is in memory; a memory is found where "
            f"they agree. {ONE_MEMBER}; below, all members: mean with its 95 % interval.",
        )
        return
    steps = [step for step, arrays in named.items() if ATTENTION in arrays]
    if steps:
        maps = named[steps[-1]][ATTENTION][0]
        names = [f"layer {layer}, head {head}" for layer in range(maps.shape[0]) for head in range(maps.shape[1])]
        flat = maps.reshape(-1, *maps.shape[-2:]).astype(np.float64)
        hidden = np.arange(flat.shape[-1]) > np.arange(flat.shape[-1])[:, None]
        log.figure(
            "attention",
            attention_maps(np.where(hidden, np.nan, flat), names, "position"),
            f"What each head looks at after {steps[-1]} steps, mean over the sequences of the set trained last. "
            f"{ONE_MEMBER}.",
        )


def _headline(run: Experiment, own: dict[str, Table], share: float) -> dict[str, object]:
    """The numbers that a reader looks for first, of the first and of the last set."""
    found: dict[str, object] = {
        "members": run.members,
        "sets": run.sets,
        "parameters": used_parameters(run),
        "learned_at": share,
    }
    sets, savings = own["sets"], own["savings"]
    last = sets["set"].tolist()[-1] if len(sets["set"]) else 0
    for place, index in {"first": 0, "last": last}.items():
        if place == "last" and index == 0:
            break
        for name in ("accuracy", "loss", "retrieval", "last_accuracy", "bits_per_parameter"):
            for end in ("", "_low", "_high"):
                found[f"{name}/{place}{end}"] = sets[f"{name}{end}"][sets["set"] == index][0]
        for name in ("steps", "savings") if index else ("steps",):
            for end in ("", "_low", "_high"):
                found[f"{name}/{place}{end}"] = savings[f"{name}{end}"][savings["set"] == index][0]
        found[f"ceiling_accuracy/{place}"] = sets["ceiling_accuracy"][sets["set"] == index][0]
    return {name: value for name, value in found.items() if value is not None and np.isfinite(float(str(value)))}


def _of_run(table: Table, name: str) -> Table:
    return {column: values[table["run"] == name] for column, values in table.items()}
