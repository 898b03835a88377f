"""Linear probe and nearest neighbours on frozen encoders: the study behind `analyze.py probe`."""

from collections.abc import Mapping

import numpy as np
from torch import nn

from memlight.analyses.probe.accuracy import measure_accuracy
from memlight.analyses.probe.columns import PROBE_TABLE
from memlight.analyses.probe.command import ProbeOptions
from memlight.data.images import ImageDataModule
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table, table_of


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
        options: how.
        log: where the results go.
        train_split: the images that probes are trained on.
        progress: show bars.

    Returns:
        One row per encoder and evaluation (``PROBE_TABLE``).

    Raises:
        UserError: when the data set has no labels, or the external split is empty.
    """
    rows: list[tuple[object, ...]] = []
    accuracies = measure_accuracy(encoders.values(), data, options, log, train_split=train_split, progress=progress)
    for name, (linear, nearest) in zip(encoders, accuracies, strict=True):
        rows.append((name, "output", "linear", linear.top1, linear.top5, linear.n_train, linear.n_test))
        rows.append((name, "output", "knn", nearest, np.nan, linear.n_train, linear.n_test))
    table = table_of(PROBE_TABLE, rows)
    log.table("table", table)
    log.headline({f"{row[2]}_top1/{row[0]}": row[3] for row in rows})
    return table
