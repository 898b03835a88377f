"""Linear probe and nearest neighbours on frozen encoders: the study behind `analyze.py probe`."""

from collections.abc import Mapping

import numpy as np
from torch import nn

from memlight import dist
from memlight.data.images import ImageDataModule
from memlight.logs import AnalysisLog
from memlight.metrics.knn import embed, knn_accuracy
from memlight.metrics.probe import linear_probe
from memlight.tables import PROBE_TABLE, Table


def study_probe(
    encoders: Mapping[str, nn.Module],
    data: ImageDataModule,
    log: AnalysisLog,
    *,
    train_split: str = "shared",
    k: int = 20,
    temperature: float = 0.1,
    l2: float = 1e-3,
    max_forward: int = 1024,
    progress: bool = True,
) -> Table:
    """Accuracy of each encoder's features on external images, from probes trained on another split.

    Both members of a pair were trained on the shared images, so probes of these favour neither. Images are seen as they
    are (centred, without augmentation).

    Args:
        encoders: name and frozen encoder.
        data: splits and images.
        log: where the results go.
        train_split: the images that probes are trained on.
        k: neighbours.
        temperature: of the neighbours' votes.
        l2: penalty of the linear probe.
        max_forward: most images in one forward.
        progress: show bars.

    Returns:
        One row per encoder and evaluation (``PROBE_TABLE``).

    Raises:
        UserError: when the data set has no labels, or the external split is empty.
    """
    rows = []
    clean = data.view_maker(data.make_views("clean"))
    for name, encoder in encoders.items():
        sets = []
        for split in (train_split, "external"):
            batches = data.batches(split, max_forward, dist.rank(), dist.world_size())
            log.images += len(batches.ids)
            z, labels, _ = embed(
                encoder, batches, clean, max_forward=max_forward, progress=progress, title=f"{name} {split}"
            )
            sets += [z, labels]
        train_z, train_y, test_z, test_y = sets
        nearest = knn_accuracy(
            train_z, train_y, test_z, test_y, k=k, temperature=temperature, num_classes=data.num_classes
        )
        linear = linear_probe(train_z, train_y, test_z, test_y, num_classes=data.num_classes, l2=l2)
        rows.append((name, "output", "linear", linear.top1, linear.top5, linear.n_train, linear.n_test))
        rows.append((name, "output", "knn", nearest, np.nan, linear.n_train, linear.n_test))
    table = {column: np.array(values) for column, values in zip(PROBE_TABLE, zip(*rows, strict=True), strict=True)}
    log.table("table", table, PROBE_TABLE)
    log.headline({f"{row[2]}_top1/{row[0]}": row[3] for row in rows})
    return table
