"""What leaving candidates out costs, the most memorised against random ones: the study behind `analyze.py removal`."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor, nn

from memlight.analyses.effects import effect_row
from memlight.analyses.probe.accuracy import Accuracy, ProbeOptions, measure_accuracy
from memlight.analyses.removal.arms import Arm, class_shift
from memlight.analyses.removal.chart import removal_costs
from memlight.analyses.removal.columns import REMOVAL_ARMS, REMOVAL_CLASSES, REMOVAL_EFFECTS, REMOVAL_TABLE
from memlight.data.images import ImageDataModule
from memlight.data.loading import TrainingOrder
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table, table_of


def study_removal(
    none: nn.Module,
    encoders: Sequence[tuple[Arm, nn.Module]],
    layer: str,
    data: ImageDataModule,
    options: ProbeOptions,
    log: AnalysisLog,
    *,
    progress: bool = True,
) -> None:
    """Train a new probe for the run's candidate and for every arm; write tables and the figure.

    Args:
        none: the run's own candidate encoder, trained on every candidate.
        encoders: what each arm left out, and the encoder that was trained so.
        layer: by whose score the candidates were ranked.
        data: splits and images, of the candidate member.
        options: how encoders are tested.
        log: where the results go.
        progress: show bars.
    """
    arms = [arm for arm, _ in encoders]
    trained = (none, *(encoder for _, encoder in encoders))
    whole, *without = measure_accuracy(trained, data, options, log, progress=progress, title="removal arms")
    table = removal_table(arms, whole, without)
    effects = removal_effects(arms, whole.linear.right, [accuracy.linear.right for accuracy in without])
    about, classes = removal_arms(arms, layer, data), removed_classes(arms, data)
    log.table("table", table)
    log.table("effects", effects)
    log.table("arms", about)
    log.table("classes", classes)
    caption = "What the probe loses when candidates are left out of the training, and which classes these were of."
    log.figure("costs", removal_costs(table, effects, classes), caption)
    log.headline(removal_headline(table, effects))


def removal_table(arms: Sequence[Arm], none: Accuracy, without: Sequence[Accuracy]) -> Table:
    """Accuracy of every arm, the run's own candidate first (``REMOVAL_TABLE``); accuracies and drops are shares."""
    rows = [("none", 0, 0, none.linear.top1, none.knn, 0.0)]
    for arm, accuracy in zip(arms, without, strict=True):
        top1 = accuracy.linear.top1
        rows.append((arm.kind, arm.trial, len(arm.ids), top1, accuracy.knn, none.linear.top1 - top1))
    return table_of(REMOVAL_TABLE, rows)


def removal_effects(arms: Sequence[Arm], none: Tensor, without: Sequence[Tensor]) -> Table:
    """What leaving out by score costs, and how much more than random draws of as many (``REMOVAL_EFFECTS``).

    Args:
        arms: what was left out.
        none: ``(M,)`` bool, which test images the probe of the run's own candidate names rightly.
        without: ``(M,)`` bool for each of ``arms``, which of the same images its probe names rightly.
    """
    drawn = [right for arm, right in zip(arms, without, strict=True) if arm.kind == "random"]
    rows = [
        (arm.kind, len(arm.ids), *effect_row(none, right, drawn))
        for arm, right in zip(arms, without, strict=True)
        if arm.kind != "random"
    ]
    return table_of(REMOVAL_EFFECTS, rows)


def removal_arms(arms: Sequence[Arm], layer: str, data: ImageDataModule) -> Table:
    """How the arms differ besides their score (``REMOVAL_ARMS``), the run's own candidate first.

    ``in_top`` counts the removed images that arm top removes too, and ``class_shift`` says how far their classes are
    from those of all candidates, see `class_shift`. With fewer images an epoch has fewer steps, equally many in all
    arms, but not in arm none.
    """
    candidates = data.split.candidate
    labels = data.labels_of(candidates)
    top = next((arm.ids for arm in arms if arm.kind == "top"), np.empty(0, np.int64))
    rows = [("none", 0, 0, layer, np.nan, 0, 0.0, *_epoch(data, 0))]
    for arm in arms:
        in_top = int(np.isin(arm.ids, top).sum())
        shift = class_shift(data.labels_of(arm.ids), labels, data.num_classes)
        count, mean_score = len(arm.ids), float(arm.scores.mean())
        rows.append((arm.kind, arm.trial, count, layer, mean_score, in_top, shift, *_epoch(data, count)))
    return table_of(REMOVAL_ARMS, rows)


def removed_classes(arms: Sequence[Arm], data: ImageDataModule) -> Table:
    """How many images of each class every arm removes, of how many candidates (``REMOVAL_CLASSES``)."""
    present = np.bincount(data.labels_of(data.split.candidate), minlength=data.num_classes)
    rows = [
        (arm.kind, arm.trial, number, data.classes[number], removed, present[number])
        for arm in arms
        for number, removed in enumerate(np.bincount(data.labels_of(arm.ids), minlength=data.num_classes))
    ]
    return table_of(REMOVAL_CLASSES, rows)


def removal_headline(table: Table, effects: Table) -> dict[str, float]:
    """Numbers for W&B and the summary, in shares of the test images.

    ``probe_top1`` of the run's own candidate; ``drop/<arm>`` (the mean over draws for random); and ``excess/<arm>``,
    what it costs more than random, with ``excess_low`` and ``excess_high``.
    """
    numbers = {"probe_top1": float(table["probe_top1"][0])}
    for kind in dict.fromkeys(table["arm"][1:].tolist()):
        numbers[f"drop/{kind}"] = float(table["drop"][table["arm"] == kind].mean())
    for row, kind in enumerate(effects["arm"].tolist()):
        numbers |= {f"{name}/{kind}": float(effects[name][row]) for name in ("excess", "excess_low", "excess_high")}
    return {name: value for name, value in numbers.items() if np.isfinite(value)}


def _epoch(data: ImageDataModule, removed: int) -> tuple[int, int]:
    """Images and steps of an epoch of the candidate member without so many of its own images."""
    own = data.split.candidate[removed:]
    order = TrainingOrder(data.split.shared, own, data.repeat, data.batch_size, data.seed)
    return order.images_per_epoch, len(order)
