"""What leaving candidates out costs, the most memorised against random ones: the study behind `analyze.py removal`."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from memlight.analyses.effects import effect_row
from memlight.analyses.probe.accuracy import Accuracy, measure_accuracy
from memlight.analyses.probe.command import ProbeOptions
from memlight.analyses.removal.arms import Arm, class_shift
from memlight.analyses.removal.chart import removal_costs
from memlight.analyses.removal.columns import REMOVAL_ARMS, REMOVAL_CLASSES, REMOVAL_EFFECTS, REMOVAL_TABLE
from memlight.analyses.verdicts import effects_table
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
    accuracies = list(measure_accuracy(trained, data, options, log, progress=progress, title="removal arms"))
    tables = removal_tables(arms, layer, data, accuracies)
    for name, table in tables.items():
        log.table(name, table)
    caption = "What the probe loses when candidates are left out of the training, and which classes these were of."
    log.figure("costs", removal_costs(tables["table"], tables["effects"], tables["classes"]), caption)
    log.headline(removal_headline(tables["table"], tables["effects"]))


def removal_tables(
    arms: Sequence[Arm], layer: str, data: ImageDataModule, accuracies: Sequence[Accuracy]
) -> dict[str, Table]:
    """Every table of a study by name; accuracies and drops are shares of the test images.

    ``table`` holds the accuracy of every arm, the run's own candidate (none) first, and ``effects`` what leaving out by
    score costs, and how much more than random draws of as many. ``arms`` says how arms differ besides their score:
    ``in_top`` counts the removed images that arm top removes too, and ``class_shift`` is how far their classes are from
    those of all candidates; with fewer images an epoch has fewer steps, equally many in all arms, but not in arm none.
    ``classes`` counts how many of the candidates of each class an arm removes.

    Args:
        arms: what was left out.
        layer: by whose score the candidates were ranked.
        data: splits and images, of the candidate member.
        accuracies: of the run's own candidate, then of each of ``arms``.
    """
    whole, *without = accuracies
    candidates, classes = data.labels_of(data.split.candidate), data.num_classes
    top = next((arm.ids for arm in arms if arm.kind == "top"), np.empty(0, np.int64))
    drawn = [accuracy.linear.right for arm, accuracy in zip(arms, without, strict=True) if arm.kind == "random"]
    table: list[tuple[object, ...]] = [("none", 0, 0, whole.linear.top1, whole.knn, 0.0)]
    about: list[tuple[object, ...]] = [("none", 0, 0, layer, np.nan, 0, 0.0, *_epoch(data, 0))]
    effects, by_class = [], []
    for arm, accuracy in zip(arms, without, strict=True):
        same, labels, top1 = (arm.kind, arm.trial, len(arm.ids)), data.labels_of(arm.ids), accuracy.linear.top1
        table.append((*same, top1, accuracy.knn, whole.linear.top1 - top1))
        in_top, shift = int(np.isin(arm.ids, top).sum()), class_shift(labels, candidates, classes)
        about.append((*same, layer, float(arm.scores.mean()), in_top, shift, *_epoch(data, len(arm.ids))))
        if arm.kind != "random":
            effects.append((arm.kind, len(arm.ids), *effect_row(whole.linear.right, accuracy.linear.right, drawn)))
        counts = (np.bincount(of, minlength=classes).tolist() for of in (labels, candidates))
        for number, (removed, present) in enumerate(zip(*counts, strict=True)):
            by_class.append((arm.kind, arm.trial, number, data.classes[number], removed, present))
    return {
        "table": table_of(REMOVAL_TABLE, table),
        "effects": effects_table(REMOVAL_EFFECTS, effects),
        "arms": table_of(REMOVAL_ARMS, about),
        "classes": table_of(REMOVAL_CLASSES, by_class),
    }


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
