"""Tables of sequence experiments: mean over members with its interval, one row for each run, set and place."""

from collections.abc import Sequence

import numpy as np

from memlight.analyses.sequence import columns
from memlight.analyses.sequence.ceilings import Ceilings
from memlight.analyses.sequence.experiment import Array, Experiment, difference_of_means, joined, over_members, spread
from memlight.storage.tables import Table


def curves_table(experiments: Sequence[Experiment]) -> Table:
    """Accuracy, loss and retrieval of every set at every evaluation since it exists: columns ``TABLE``."""
    blocks = []
    for experiment in experiments:
        found = experiment.results
        for index in range(experiment.sets):
            at, own = experiment.seen(index), experiment.phase(index)
            steps = found.eval_steps[at]
            tested = found.test_accuracy[:, index, at]
            test = tested.mean(axis=-1) if tested.shape[-1] else np.full(tested.shape[:2], np.nan)
            blocks.append(
                {
                    "run": experiment.name,
                    "set": index,
                    "step": steps,
                    "since_switch": steps - experiment.begins(index),
                    "trained": np.isin(at, own),
                    **spread("accuracy", found.set_accuracy[:, index, at]),
                    **spread("loss", found.set_loss[:, index, at]),
                    **spread("test_accuracy", test),
                    **spread("retrieval", _retrieval(experiment, index)[:, at]),
                }
            )
    return joined(columns.TABLE, blocks)


def sets_table(experiments: Sequence[Experiment], bits: Sequence[Sequence[Array]]) -> Table:
    """Every set at the end of its own training, beside ceiling and floor, and at the very end: columns ``SETS``.

    Args:
        experiments: the experiments.
        bits: for each experiment and set the members' bits per parameter ``(E,)`` at the end of its own training.
    """
    blocks = []
    for experiment, of_experiment in zip(experiments, bits, strict=True):
        found = experiment.results
        for index, phase in experiment.phases():
            bounds = {
                f"{bound}_{name}": np.mean(getattr(found, f"{bound}_{name}")[:, index])
                for name in ("accuracy", "loss")
                for bound in ("ceiling", "floor")
            }
            blocks.append(
                {
                    "run": experiment.name,
                    "set": index,
                    "begins": experiment.begins(index),
                    "ends": found.eval_steps[phase[-1]],
                    "members": experiment.members,
                    **spread("accuracy", found.set_accuracy[:, index, phase[-1:]]),
                    **spread("loss", found.set_loss[:, index, phase[-1:]]),
                    **bounds,
                    **spread("retrieval", _retrieval(experiment, index)[:, phase[-1:]]),
                    **spread("last_accuracy", found.set_accuracy[:, index, -1:]),
                    **spread("bits_per_parameter", of_experiment[index][:, None]),
                }
            )
    return joined(columns.SETS, blocks)


def members_table(experiments: Sequence[Experiment], share: float) -> Table:
    """Every member by itself: columns ``MEMBERS``.

    Args:
        experiments: the experiments.
        share: see `Experiment.criterion`.
    """
    blocks = []
    for experiment in experiments:
        found = experiment.results
        for index, phase in experiment.phases():
            blocks.append(
                {
                    "run": experiment.name,
                    "seed": found.seeds,
                    "set": index,
                    "accuracy": found.set_accuracy[:, index, phase[-1]],
                    "loss": found.set_loss[:, index, phase[-1]],
                    "retrieval": _retrieval(experiment, index)[:, phase[-1]],
                    "last_accuracy": found.set_accuracy[:, index, -1],
                    "steps": experiment.steps_to_criterion(index, share),
                    "savings": _savings(experiment, index, share),
                }
            )
    return joined(columns.MEMBERS, blocks)


def training_table(experiments: Sequence[Experiment]) -> Table:
    """The training loss as it was logged: columns ``TRAINING``."""
    blocks = [
        {"run": one.name, "step": one.results.train_steps, **spread("loss", one.results.train_loss)}
        for one in experiments
    ]
    return joined(columns.TRAINING, blocks)


def positions_table(experiments: Sequence[Experiment], ceilings: Sequence[Sequence[Ceilings]]) -> Table:
    """Accuracy by the number of bits already seen, at the end of each set's own training: columns ``POSITIONS``.

    Args:
        experiments: the experiments.
        ceilings: of every set of each.
    """
    blocks = []
    for experiment, of_experiment in zip(experiments, ceilings, strict=True):
        for index, phase in experiment.phases():
            accuracy = experiment.results.position_accuracy[:, index, phase[-1]]
            blocks.append(
                {
                    "run": experiment.name,
                    "set": index,
                    "position": np.arange(accuracy.shape[-1]),
                    **spread("accuracy", accuracy),
                    "ceiling": of_experiment[index].by_position_N,
                }
            )
    return joined(columns.POSITIONS, blocks)


def forgetting_table(experiments: Sequence[Experiment]) -> Table:
    """Accuracy on every set at the end of every phase, and the share of what was learned that is left.

    Returns:
        Columns ``FORGETTING``; ``retained`` is (accuracy - floor) / (accuracy at the end of its own phase - floor).
    """
    blocks = []
    for experiment in experiments:
        found = experiment.results
        ends = {index: phase[-1] for index, phase in experiment.phases()}
        for after, at in ends.items():
            for index in (index for index in ends if index <= after):
                accuracy = found.set_accuracy[:, index, at]
                floor = found.floor_accuracy[:, index]
                learned = found.set_accuracy[:, index, ends[index]] - floor
                retained = (accuracy - floor) / np.where(learned > 0, learned, np.nan)
                blocks.append(
                    {
                        "run": experiment.name,
                        "after": after,
                        "set": index,
                        **spread("accuracy", accuracy[:, None]),
                        **spread("retained", retained[:, None]),
                    }
                )
    return joined(columns.FORGETTING, blocks)


def savings_table(experiments: Sequence[Experiment], share: float) -> Table:
    """How much faster a later set is learned than the first, beside the runs that are compared: columns ``SAVINGS``.

    Savings are 1 - steps / steps of the first set (Ebbinghaus), member by member where both reached the criterion;
    ``difference`` is the first experiment's mean savings minus this one's.

    Args:
        experiments: the experiment, then those it is compared with, such as its controls.
        share: see `Experiment.criterion`.
    """
    blocks = []
    for experiment in experiments:
        for index in range(experiment.sets):
            steps = experiment.steps_to_criterion(index, share)
            compared = (float("nan"),) * 3
            if index and experiment is not experiments[0] and index < experiments[0].sets:
                own = _savings(experiments[0], index, share)
                compared = difference_of_means(own, _savings(experiment, index, share))
            blocks.append(
                {
                    "run": experiment.name,
                    "set": index,
                    "members": experiment.members,
                    "reached": np.isfinite(steps).sum(),
                    **spread("steps", steps[:, None]),
                    **spread("savings", _savings(experiment, index, share)[:, None]),
                    **dict(zip(("difference", "difference_low", "difference_high"), compared, strict=True)),
                }
            )
    return joined(columns.SAVINGS, blocks)


def probes_table(experiments: Sequence[Experiment]) -> Table:
    """Relearning probes: columns ``PROBES``; batches are a mean over the members that reached the criterion."""
    blocks = []
    for experiment in experiments:
        found = experiment.results
        if found.relearn_steps is None or found.relearn_needed is None or found.relearn_accuracy is None:
            continue
        batches, low, high = over_members(found.relearn_needed)
        blocks.append(
            {
                "run": experiment.name,
                "step": found.relearn_steps,
                "members": experiment.members,
                "reached": np.isfinite(found.relearn_needed).sum(axis=0),
                "batches": batches,
                "low": low,
                "high": high,
                "accuracy": over_members(found.relearn_accuracy)[0],
            }
        )
    return joined(columns.PROBES, blocks)


def swaps_table(experiments: Sequence[Experiment]) -> Table:
    """Accuracy with parts of an earlier snapshot swapped in, beside that without it: columns ``SWAPS``."""
    blocks = []
    for experiment in experiments:
        found = experiment.results
        if found.swap_steps is None or found.swap_accuracy is None:
            continue
        for at, (step, name) in enumerate(zip(found.swap_steps.tolist(), found.swap_names, strict=True)):
            column = int(np.searchsorted(found.eval_steps, step, side="right")) - 1
            for index in np.flatnonzero(np.isfinite(found.swap_accuracy[:, :, at]).any(axis=0)).tolist():
                before = found.set_accuracy[:, index, column] if column >= 0 else np.full(experiment.members, np.nan)
                blocks.append(
                    {
                        "run": experiment.name,
                        "step": step,
                        "swapped": name,
                        "set": index,
                        **spread("accuracy", found.swap_accuracy[:, index, at][:, None]),
                        "before": over_members(before)[0],
                    }
                )
    return joined(columns.SWAPS, blocks)


def _retrieval(experiment: Experiment, index: int) -> Array:
    """``(E, T)`` retrieval top-1 of one set; NaN of models without a memory."""
    found = experiment.results.retrieval_top1
    return (
        np.full((experiment.members, len(experiment.results.eval_steps)), np.nan) if found is None else found[:, index]
    )


def _savings(experiment: Experiment, index: int, share: float) -> Array:
    """``(E,)`` savings of a later set against the first; NaN of the first itself, and where either was not learned."""
    if index == 0:
        return np.full(experiment.members, np.nan)
    first, later = (experiment.steps_to_criterion(which, share) for which in (0, index))
    return 1 - later / np.where(first > 0, first, np.nan)
