"""What an exchange of layers did, as the tables that are written, drawn and reported."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from memlight.analyses.effects import paired_drop
from memlight.analyses.exchange.columns import DONOR, EXCHANGE_EFFECTS, EXCHANGE_LAYERS, EXCHANGE_TABLE, NONE, by_cost
from memlight.analyses.layermem.tables import contrast_interval
from memlight.analyses.probe.accuracy import Accuracy
from memlight.metrics.layermem import LayerMemResult
from memlight.stats import Interval
from memlight.storage.tables import Table, table_of

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


def exchange_tables(plain: Sequence[Measured], recalibrated: Sequence[Measured]) -> dict[str, Table]:
    """Every table of an exchange by name; those without a row are left out.

    ``table`` and ``recalibrated`` hold accuracy and LayerMem of the exchanged layers (their mean) in one form each,
    ``layers`` holds LayerMem and contrast of every exchanged layer, and ``effects`` the accuracy lost against the
    unexchanged encoder of the same form, paired over test images.

    Args:
        plain: the encoders as they are, the unexchanged one first.
        recalibrated: the same with BatchNorm statistics measured anew; none where there is no BatchNorm.
    """
    forms = ((False, plain), (True, recalibrated))
    effects = [
        (
            *(one.name, dataset, again, accuracy.linear.top1),
            *paired_drop(form[0].accuracy[dataset].linear.right, accuracy.linear.right),
            *(accuracy.knn, accuracy.linear.n_train, accuracy.linear.n_test),
        )
        for again, form in forms
        for one in form
        for dataset, accuracy in one.accuracy.items()
    ]
    layers = [
        (
            *(one.name, layer, again, one.before[layer].layermem, after.layermem),
            *(*one.before[layer].contrast, *after.contrast),
        )
        for again, form in forms
        for one in form
        for layer, after in one.after.items()
    ]
    tables = {
        "table": _by_dataset(plain),
        "recalibrated": _by_dataset(recalibrated),
        "effects": table_of(EXCHANGE_EFFECTS, effects),
        "layers": table_of(EXCHANGE_LAYERS, layers),
    }
    return {name: table for name, table in tables.items() if len(table["layers"])}


def exchange_headline(effects: Table) -> dict[str, float | str]:
    """Accuracy of both encoders on every data set, and which exchange costs most and least there.

    Args:
        effects: columns ``EXCHANGE_EFFECTS``; encoders as they are count, and those with new statistics do not.
    """
    numbers: dict[str, float | str] = {}
    for dataset in dict.fromkeys(effects["dataset"].tolist()):
        row_of = by_cost(effects, dataset)
        for name in (NONE, DONOR):
            numbers[f"{name}_top1/{dataset}"] = float(effects["top1"][row_of[name]])
        copies = [*row_of][2:]
        for name, layers in (("largest_drop", copies[-1]), ("smallest_drop", copies[0])):
            numbers[f"{name}/{dataset}"] = float(effects["drop"][row_of[layers]])
            numbers[f"{name}_layers/{dataset}"] = layers
    return numbers


def _by_dataset(form: Sequence[Measured]) -> Table:
    rows = [
        (
            *(one.name, dataset, accuracy.linear.top1),
            *(list(scores.values())[-1].layermem if scores else np.nan for scores in (one.before, one.after)),
        )
        for one in form
        for dataset, accuracy in one.accuracy.items()
    ]
    return table_of(EXCHANGE_TABLE, rows)
