"""What an exchange of layers did, as the tables that are written, drawn and reported."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from memlight.analyses.effects import paired_drop
from memlight.analyses.exchange.columns import EXCHANGE_EFFECTS, EXCHANGE_LAYERS, EXCHANGE_TABLE
from memlight.analyses.layermem.tables import contrast_interval
from memlight.analyses.probe.accuracy import Accuracy
from memlight.metrics.layermem import LayerMemResult
from memlight.stats import Interval
from memlight.storage.tables import Table, table_of

NONE, DONOR = "none", "donor"
"""In place of layers: the recipient as it was trained, and the donor."""

MEAN = "mean"
"""In place of a layer: the mean over the layers that are exchanged together."""


class Scores(NamedTuple):
    """LayerMem of one layer, and its contrast with a 95 % interval over images."""

    layermem: float
    contrast: Interval


class Measured(NamedTuple):
    """One encoder, measured.

    Attributes:
        name: the exchanged layers, joined by commas; `NONE` or `DONOR`.
        accuracy: data set -> accuracy.
        before: exchanged layer (and `MEAN` of several) -> its scores in the unexchanged pair.
        after: the same layers' scores with the copy in the recipient's place.
    """

    name: str
    accuracy: Mapping[str, Accuracy]
    before: Mapping[str, Scores]
    after: Mapping[str, Scores]


def scores_by_layer(
    own: Mapping[str, LayerMemResult], other: Mapping[str, LayerMemResult], layers: Sequence[str]
) -> dict[str, Scores]:
    """LayerMem and contrast of each layer, and of the mean over layers where there are several.

    Args:
        own: layer -> result on the images that only the recipient was trained on.
        other: layer -> result on those that only its partner was trained on.
        layers: which layers.
    """
    images = {layer: (own[layer].scores, other[layer].scores) for layer in layers}
    if len(layers) > 1:
        a, b = (torch.stack([pair[side] for pair in images.values()]).mean(0) for side in (0, 1))
        images[MEAN] = a, b
    return {
        name: Scores(float(a.mean(dtype=torch.float64)), contrast_interval(a, b)) for name, (a, b) in images.items()
    }


def exchange_table(measured: Sequence[Measured]) -> Table:
    """Accuracy on each data set and LayerMem of the exchanged layers (their mean): ``EXCHANGE_TABLE``."""
    rows = [
        (one.name, dataset, accuracy.linear.top1, _layermem(one.before), _layermem(one.after))
        for one in measured
        for dataset, accuracy in one.accuracy.items()
    ]
    return table_of(EXCHANGE_TABLE, rows)


def effects_table(plain: Sequence[Measured], recalibrated: Sequence[Measured]) -> Table:
    """Accuracy lost against the unexchanged encoder of the same form, paired over test images: ``EXCHANGE_EFFECTS``.

    Args:
        plain: the encoders as they are, the unexchanged one first.
        recalibrated: the same with BatchNorm statistics measured anew; none where there is no BatchNorm.
    """
    rows = [
        (
            *(one.name, dataset, again, accuracy.linear.top1),
            *paired_drop(none.accuracy[dataset].linear.right, accuracy.linear.right),
            *(accuracy.knn, accuracy.linear.n_train, accuracy.linear.n_test),
        )
        for again, form in ((False, plain), (True, recalibrated))
        for none in form[:1]
        for one in form
        for dataset, accuracy in one.accuracy.items()
    ]
    return table_of(EXCHANGE_EFFECTS, rows)


def layers_table(plain: Sequence[Measured], recalibrated: Sequence[Measured]) -> Table:
    """LayerMem and contrast of every exchanged layer before and after: ``EXCHANGE_LAYERS``.

    Args:
        plain: the encoders as they are.
        recalibrated: the same with BatchNorm statistics measured anew; none where there is no BatchNorm.
    """
    rows = [
        (
            *(one.name, layer, again, one.before[layer].layermem, after.layermem),
            *(*one.before[layer].contrast, *after.contrast),
        )
        for again, form in ((False, plain), (True, recalibrated))
        for one in form
        for layer, after in one.after.items()
    ]
    return table_of(EXCHANGE_LAYERS, rows)


def exchange_headline(effects: Table) -> dict[str, float | str]:
    """Accuracy of both encoders on every data set, and which exchange costs most and least there.

    Args:
        effects: columns ``EXCHANGE_EFFECTS``; encoders as they are count, and those with new statistics do not.
    """
    numbers: dict[str, float | str] = {}
    for dataset in dict.fromkeys(effects["dataset"].tolist()):
        of_dataset = (effects["dataset"] == dataset) & ~effects["recalibrated"]
        copies = of_dataset
        for name in (NONE, DONOR):
            of_name = effects["layers"] == name
            numbers[f"{name}_top1/{dataset}"] = float(effects["top1"][of_dataset & of_name][0])
            copies = copies & ~of_name
        rows = np.flatnonzero(copies)
        ranked = rows[np.argsort(effects["drop"][rows], kind="stable")]
        for name, row in (("largest_drop", ranked[-1]), ("smallest_drop", ranked[0])):
            numbers[f"{name}/{dataset}"] = float(effects["drop"][row])
            numbers[f"{name}_layers/{dataset}"] = str(effects["layers"][row])
    return numbers


def _layermem(scores: Mapping[str, Scores]) -> float:
    """Of the mean over layers; NaN where nothing was exchanged, or there is no partner."""
    return list(scores.values())[-1].layermem if scores else np.nan
