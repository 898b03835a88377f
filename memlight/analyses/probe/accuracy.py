"""A fresh linear probe and nearest neighbours for each of many frozen encoders, which share passes over the images.

Also the study behind `analyze.py probe`, and what others test their copies with.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import NamedTuple

from torch import Tensor, nn

from memlight import dist
from memlight.analyses.probe.columns import PROBE_TABLE
from memlight.analyses.probe.command import ProbeFlags, ProbeOptions
from memlight.data.images import ImageDataModule
from memlight.metrics.knn import embed_many, knn_accuracy
from memlight.metrics.probe import ProbeResult, linear_probe
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table, table_of

BUDGET = 2 << 30
"""Bytes of weights and features that are held at once, which sets how many encoders share a pass."""


class Accuracy(NamedTuple):
    """How good an encoder's features are on test images.

    Attributes:
        linear: of a new linear probe.
        knn: share of test images that their nearest training images classify correctly.
    """

    linear: ProbeResult
    knn: float


def measure_accuracy(
    encoders: Iterable[nn.Module],
    data: ImageDataModule,
    options: ProbeOptions,
    log: AnalysisLog | None = None,
    *,
    train_split: str = "shared",
    test_split: str = "external",
    progress: bool = True,
    title: str = "probe",
) -> Iterator[Accuracy]:
    """Evaluate frozen encoders of one architecture, each by a probe and neighbours of its own.

    Images are seen as they are (centred, without augmentation). As many encoders as `BUDGET` allows share a pass over
    the images; that changes no number. An iterable that makes its encoders when they are asked for needs memory for
    those of one pass only.

    Args:
        encoders: on the device of the first.
        data: splits and images.
        options: neighbours, penalty, and the most images in one forward.
        log: counts the images that are read; None for no count.
        train_split: the images that probes are trained on.
        test_split: the images that they are tested on.
        progress: show bars.
        title: the bars' text.

    Yields:
        The accuracy of each encoder, in order.

    Raises:
        UserError: the data set has no labels, or a split is empty.
    """
    clean = data.view_maker(data.make_views("clean"))
    images = len(data.split.ids(train_split)) + len(data.split.ids(test_split))
    waiting = iter(encoders)
    for first in waiting:
        at_once = encoders_at_once(first, images)
        group = list(chain([first], islice(waiting, at_once - 1)))
        sets = []
        for split in (train_split, test_split):
            batches = data.batches(split, options.max_forward, dist.rank(), dist.world_size())
            features, labels, _ = embed_many(
                group,
                batches,
                clean,
                max_forward=options.max_forward,
                progress=progress,
                title=f"{title} {split}" if len(group) == 1 else f"{title} {split} x {len(group)}",
            )
            sets.append((features, labels))
            if log is not None:
                log.images += len(batches.ids) * len(group)
        (train, train_y), (test, test_y) = sets
        for train_z, test_z in zip(train, test, strict=True):
            yield accuracy_of((train_z, train_y), (test_z, test_y), data.num_classes, options)


def accuracy_of(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], num_classes: int, options: ProbeFlags
) -> Accuracy:
    """Evaluate features by a probe and neighbours; images without a class (-1) do not count.

    Args:
        train: features ``(N, D)`` and labels ``(N,)`` that probes are trained on.
        test: features ``(M, D)`` and labels ``(M,)`` that they are tested on.
        num_classes: how many classes there are.
        options: neighbours and penalty.
    """
    train, test = _labelled(*train), _labelled(*test)
    linear = linear_probe(*train, *test, num_classes=num_classes, l2=options.l2)
    nearest = knn_accuracy(*train, *test, k=options.k, temperature=options.temperature, num_classes=num_classes)
    return Accuracy(linear, nearest)


def _labelled(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    has_class = labels >= 0
    return (features, labels) if has_class.all() else (features[has_class], labels[has_class])


def encoders_at_once(encoder: nn.Module, images: int) -> int:
    """How many copies of an encoder, with their features of so many images, fit the `BUDGET`; at least one."""
    tensors: dict[str, Tensor] = encoder.state_dict()
    weights = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    width: int = getattr(getattr(encoder, "spec", None), "num_features", 2048)
    return max(1, BUDGET // (weights + 4 * width * images))


def study_probe(
    encoders: Mapping[str, nn.Module],
    data: ImageDataModule,
    options: ProbeOptions,
    log: AnalysisLog,
    *,
    train_split: str = "shared",
    progress: bool = True,
) -> Table:
    """Accuracy of each encoder's features on external images, from probes trained on another split.

    Both members of a pair were trained on the shared images, so probes of these favour neither.

    Args:
        encoders: name and frozen encoder.
        data: splits and images.
        options: neighbours, penalty, and the most images in one forward.
        log: where the results go.
        train_split: the images that probes are trained on.
        progress: show bars.

    Returns:
        One row per encoder and evaluation (``PROBE_TABLE``).

    Raises:
        UserError: when the data set has no labels, or the external split is empty.
    """
    accuracies = measure_accuracy(encoders.values(), data, options, log, train_split=train_split, progress=progress)
    return write_probe(dict(zip(encoders, accuracies, strict=True)), log)


def write_probe(accuracies: Mapping[str, Accuracy], log: AnalysisLog) -> Table:
    """Write the accuracy of each encoder: one row per encoder and evaluation (``PROBE_TABLE``)."""
    rows: list[tuple[object, ...]] = []
    for name, (linear, nearest) in accuracies.items():
        rows.append((name, "output", "linear", linear.top1, linear.top5, linear.n_train, linear.n_test))
        rows.append((name, "output", "knn", nearest, math.nan, linear.n_train, linear.n_test))
    table = table_of(PROBE_TABLE, rows)
    log.table("table", table)
    log.headline({f"{row[2]}_top1/{row[0]}": row[3] for row in rows})
    return table
