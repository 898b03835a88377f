"""The study behind `analyze.py sequence`: tables and figures of a sequence experiment and of those beside it."""

from collections.abc import Sequence

import numpy as np

from memlight.analyses.sequence import chart, chart_sets, tables
from memlight.analyses.sequence.experiment import ATTENTION, Experiment
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
    every = {
        "table": tables.curves_table(experiments),
        "sets": tables.sets_table(experiments),
        "members": tables.members_table(experiments, share),
        "training": tables.training_table(experiments),
        "positions": tables.positions_table(experiments),
        "ranks": tables.ranks_table(experiments),
        "appearances": tables.appearances_table(experiments),
        "rank_time": tables.rank_time_table(run),
        "learned": tables.learned_table(experiments),
        "forgetting": tables.forgetting_table(experiments),
        "savings": tables.savings_table(experiments, share),
        "weights": tables.weights_table(experiments),
        "probes": tables.probes_table(experiments),
        "swaps": tables.swaps_table(experiments),
    }
    for name, table in every.items():
        log.table(name, table)
    own = {name: _of_run(table, run.name) for name, table in every.items() if name != "rank_time"}
    _curves(every, own, log, compared=len(experiments) > 1)
    _ranks(run, every["rank_time"], own, log)
    _sets(every, own, share, log)
    _weights(run, own["weights"], log)
    log.headline(_headline(run, own, share))


def _curves(every: dict[str, Table], own: dict[str, Table], log: AnalysisLog, *, compared: bool) -> None:
    log.figure(
        "switches",
        chart.sequence_switches(own["table"], own["sets"]),
        "Every set while it is trained, from the switch that began it. Lines, where they are known, at what the Bayes "
        f"posterior that knows the set and its law gets, and at what a coin gets. {OVER_MEMBERS}",
    )
    log.figure(
        "time",
        chart.sequence_time(own["table"], own["sets"], own["training"]),
        "Every set over the whole training, also after another took its place at a dotted line; the loss of the "
        f"batches trained on. {OVER_MEMBERS}",
    )
    if compared:
        log.figure(
            "runs",
            chart.sequence_runs(every["table"], every["sets"]),
            f"The runs beside one another while the first and the last set are trained. {OVER_MEMBERS}",
        )
    if np.isfinite(own["positions"]["accuracy"]).any():
        log.figure(
            "positions",
            chart.sequence_positions(own["positions"], own["sets"]),
            f"How well each bit is predicted from those before it. {OVER_MEMBERS}",
        )


def _ranks(run: Experiment, rank_time: Table, own: dict[str, Table], log: AnalysisLog) -> None:
    ranks = tables.ranks_table([run], grouped=True)
    if not len(ranks["rank"]):
        return
    log.figure(
        "ranks",
        chart.sequence_ranks(ranks, own["appearances"], own["learned"], own["sets"], uneven=run.drawn_unevenly),
        "The test sequences (every tenth rank) at the end of their set's training: which are learned, and after how "
        "many draws; neighbouring ranks together. Learned: more than 90 % of a sequence's bits are right. "
        f"{OVER_MEMBERS}",
    )
    log.figure(
        "rank_time",
        chart.sequence_rank_time(rank_time, own["sets"]),
        "Accuracy by rank over the training, neighbouring ranks together; grey before a set exists. Mean over members "
        "(intervals are in rank_time.csv).",
    )


def _sets(every: dict[str, Table], own: dict[str, Table], share: float, log: AnalysisLog) -> None:
    if len(np.unique(own["sets"]["set"])) > 1:
        log.figure(
            "forgetting",
            chart_sets.sequence_forgetting(own["forgetting"]),
            "A row for the end of each set's training, a column for each set; left of what was learned is (accuracy - "
            f"floor) / (accuracy when its own training ended - floor). {OVER_MEMBERS}",
        )
        if np.isfinite(every["savings"]["steps"]).any():
            log.figure(
                "savings",
                chart_sets.sequence_savings(every["savings"], share),
                f"Gradient steps from the switch to the first evaluation at {100 * share:g} % of the way from floor to "
                "ceiling, of the members that got there, and 1 - steps / steps of the first set. Only against controls "
                f"do savings say what carried over. {OVER_MEMBERS}",
            )
    if len(own["swaps"]["run"]) or len(own["probes"]["run"]):
        log.figure(
            "interventions",
            chart_sets.sequence_interventions(own["swaps"], own["probes"]),
            "What an earlier snapshot's parts do to accuracy, and how many batches a fork of the model needs for novel "
            f"sequences. {OVER_MEMBERS}",
        )


def _weights(run: Experiment, weights: Table, log: AnalysisLog) -> None:
    named = run.results.weights
    steps = [step for step, arrays in named.items() if "A_logits" in arrays and "B_logits" in arrays]
    if steps:
        rows = {step: tables.attention_rows(named[step]["A_logits"][:1])[0] for step in (steps[0], steps[-1])}
        heads = [f"head {head}" for head in range(len(rows[steps[-1]]))]
        log.figure(
            "attention",
            chart_sets.attention_maps(rows[steps[-1]], heads, "bits already seen"),
            f"What each head looks at after {steps[-1]} steps, a row for every number of bits seen. {ONE_MEMBER}; the "
            "spread over members is in the next figure.",
        )
        pictures = {}
        for step, row in rows.items():
            pictures[f"A over the longest prefix, step {step}"] = row[:, -1]
            pictures[f"B, step {step}"] = tables.keys(named[step]["B_logits"][:1])[0]
        log.figure(
            "keys",
            chart_sets.attention_and_keys(pictures, weights),
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
            chart_sets.attention_maps(np.where(hidden, np.nan, flat), names, "position"),
            f"What each head looks at after {steps[-1]} steps, mean over the sequences of the set trained last. "
            f"{ONE_MEMBER}.",
        )


def _headline(run: Experiment, own: dict[str, Table], share: float) -> dict[str, object]:
    """The numbers that a reader looks for first, of the first and of the last set."""
    numbers: dict[str, object] = {
        "members": run.members,
        "sets": run.sets,
        "parameters": run.used_parameters,
        "learned_at": share,
    }
    sets, savings = own["sets"], own["savings"]
    last = sets["set"].tolist()[-1] if len(sets["set"]) else 0
    for place, index in {"first": 0, **({"last": last} if last else {})}.items():
        for table, names in (
            (sets, ("accuracy", "loss", "retrieval", "last_accuracy", "bits_per_parameter")),
            (savings, ("steps", "savings") if index else ("steps",)),
        ):
            row = {column: values[table["set"] == index][0] for column, values in table.items()}
            numbers |= {f"{name}/{place}{end}": row[f"{name}{end}"] for name in names for end in ("", "_low", "_high")}
        numbers[f"ceiling_accuracy/{place}"] = sets["ceiling_accuracy"][sets["set"] == index][0]
    return {name: value for name, value in numbers.items() if value is not None and np.isfinite(float(str(value)))}


def _of_run(table: Table, name: str) -> Table:
    return {column: values[table["run"] == name] for column, values in table.items()}
