"""Train one unit on a few images and see what it answers to: the study behind `analyze.py unit`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from memlight.analyses.probe.accuracy import ProbeOptions, measure_accuracy
from memlight.analyses.unit.chart import unit_training
from memlight.analyses.unit.columns import UNIT_ACCURACY
from memlight.analyses.unit.objectives import COMPARES_IMAGES, Objective, Steps, activation_loss, training_loss
from memlight.analyses.unit.tables import Point, chosen_unit, unit_headline, unit_table, units_table
from memlight.data.images import ImageDataModule
from memlight.display.pictures import channels_last, rows_grid
from memlight.errors import UserError
from memlight.features.hooks import Activation
from memlight.features.passes import device_of, images_at_once
from memlight.interventions.parts import unit_entries
from memlight.interventions.train_unit import train_unit
from memlight.interventions.units import restore_units
from memlight.metrics.unitmem import measure_unitmem
from memlight.metrics.unitmem_result import UnitMemResult
from memlight.modules.base import SSLModule
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table, table_of

Method = Literal["masked", "restore"]

COLUMNS = 8
"""Images in a picture."""


@dataclass(frozen=True)
class UnitOptions:
    """How a unit is trained and measured.

    Attributes:
        ids: the images that teach.
        unit: channel of the layer; None takes the median unit by UnitMem among those that fire.
        epochs: steps, each with every chosen image.
        points: measurements after the one before training, evenly spaced.
        methods: `masked` trains the unit's own weights; `restore` trains the layer and puts the other units back.
        objective: the run's own loss, or the unit's contrast between the images and others.
        lr: learning rate of Adam.
        context: images beside the chosen ones, where the objective compares images: shared ones for the run's own
            loss, others of ``split`` for the unit's contrast.
        first_epoch: whose views no step of the training has seen.
        split: the images that UnitMem is measured on, besides the chosen ones.
        num_views: views of each image, averaged.
        activation: applied to every element before averaging over positions.
        max_forward: most views in one forward.
    """

    ids: Sequence[int]
    unit: int | None = None
    epochs: int = 100
    points: int = 10
    methods: Sequence[Method] = ("masked", "restore")
    objective: Objective = "training"
    lr: float = 1e-4
    context: int = 128
    first_epoch: int = 0
    split: str = "candidate"
    num_views: int = 10
    activation: Activation = "abs"
    max_forward: int = 1024


def study_unit(
    encoder: nn.Module,
    method: SSLModule | None,
    data: ImageDataModule,
    layer: str,
    options: UnitOptions,
    log: AnalysisLog,
    *,
    progress: bool = True,
) -> Table:
    """Train one unit by each method, from the same encoder; write tables and figures.

    Args:
        encoder: the encoder, which is left bit-identical.
        method: the training method whose ``encoder`` has the same weights; None with the activation objective.
        data: splits and images.
        layer: module path.
        options: how.
        log: where the results go.
        progress: show bars.

    Returns:
        One row per method and measurement (``UNIT_TABLE``).

    Raises:
        UserError: the unit never fires, the training diverges, or the activations are not finite.
    """
    scored = data.batches(options.split, images_at_once(options.max_forward, options.num_views))
    scored = replace(scored, ids=np.union1d(scored.ids, options.ids))

    def measure(network: nn.Module) -> UnitMemResult:
        log.images += len(scored.ids)
        return measure_unitmem(
            network,
            scored,
            data.view_maker(),
            [layer],
            num_views=options.num_views,
            activation=options.activation,
            topk=COLUMNS,
            keep_table=True,
            max_forward=options.max_forward,
            progress=False,
        )[layer]

    start = measure(encoder)
    unit = chosen_unit(start, options.unit)
    if start.dead[unit]:
        raise UserError(f"--unit {unit}: never fires on these images, so nothing would teach it; choose another")
    training = _Training(encoder, method, data, layer, unit, len(start.unitmem), options)
    points: list[Point] = []
    trained: dict[str, nn.Module] = {}
    for name in options.methods:
        points.append(Point(name, 0, float("nan"), start))
        for measured in training.run(name, measure, progress):
            points.append(measured.point)
            trained[name] = measured.encoder
    ends = {point.method: point.result for point in points}
    of = f"{layer} unit {unit}"
    table, units = unit_table(points, unit, options.ids), units_table(start, ends, unit)
    log.table("table", table)
    log.table("units", units)
    log.headline({"layer": layer, "unit": unit, "ids": list(options.ids), **unit_headline(table, units)})
    log.figure("training", unit_training(table, of), f"{of} while it is trained, by each method.")
    _pictures(start, ends, of, unit, options.ids, data, log)
    if data.classes:
        accuracy = _accuracy({"original": encoder, **trained}, data, options, log, progress)
        log.table("accuracy", accuracy)
        log.headline(
            {f"probe_top1/{name}": top1 for name, top1 in zip(accuracy["encoder"], accuracy["probe_top1"], strict=True)}
        )
    return table


class _Measured(NamedTuple):
    point: Point
    encoder: nn.Module


@dataclass(frozen=True)
class _Training:
    """From where every method starts."""

    encoder: nn.Module
    method: SSLModule | None
    data: ImageDataModule
    layer: str
    unit: int
    units: int
    options: UnitOptions

    def run(self, name: Method, measure: Callable[[nn.Module], UnitMemResult], progress: bool) -> Iterator[_Measured]:
        """Train a copy, and measure it on the way; what is measured differs from ``encoder`` in the unit alone."""
        options = self.options
        others = [other for other in range(self.units) if other != self.unit]
        copy, loss_of = self._objective()
        entries = unit_entries(copy, {self.layer: [self.unit] if name == "masked" else range(self.units)})
        at = set(np.linspace(0, options.epochs, options.points + 1).round().astype(int).tolist())
        steps = train_unit(copy, loss_of, entries, epochs=options.epochs, lr=options.lr)
        for epoch, loss in enumerate(tqdm(steps, name, options.epochs, unit="epoch", disable=not progress), start=1):
            if epoch not in at:
                continue
            if not torch.isfinite(loss):
                raise UserError(f"--lr {options.lr}: the loss is {float(loss)} at epoch {epoch}; choose a lower one")
            result = copy if name == "masked" else restore_units(copy, self.encoder, {self.layer: others})
            yield _Measured(Point(name, epoch, float(loss), measure(result)), result)

    def _objective(self) -> tuple[nn.Module, Callable[[int], Tensor]]:
        """A copy to be trained, and the loss that looks at it."""
        options = self.options
        if self.method is None:
            copy, steps = deepcopy(self.encoder), self._steps(options.split, options.context)
            return copy, activation_loss(copy, self.layer, self.unit, options.activation, options.num_views, steps)
        whole = deepcopy(self.method).eval()
        copy = whole.encoder
        steps = self._steps("shared", options.context if isinstance(whole, COMPARES_IMAGES) else 0)
        return copy, training_loss(whole, self.encoder, steps)

    def _steps(self, split: str, context: int) -> Steps:
        options, others = self.options, self.data.split.ids(split)
        return Steps(self.data, options.ids, others, context, options.first_epoch, device_of(self.encoder))


def _pictures(
    start: UnitMemResult,
    ends: Mapping[str, UnitMemResult],
    of: str,
    unit: int,
    chosen: Sequence[int],
    data: ImageDataModule,
    log: AnalysisLog,
) -> None:
    """The chosen images, and the strongest images of the unit before and after each method."""
    results = {"before": start, **{f"after, {name}": result for name, result in ends.items()}}
    ids = [list(chosen[:COLUMNS]), *(result.topk_ids[:, unit].tolist() for result in results.values())]
    captions = [[str(id_) for id_ in ids[0]]]
    for row, result in zip(ids[1:], results.values(), strict=True):
        mu = result.topk_mu[:, unit].tolist()
        captions.append([f"{id_}{' *' * (id_ in chosen)}\n{value:.3g}" for id_, value in zip(row, mu, strict=True)])
    images = [list(channels_last(data.images_of(row))) for row in ids]
    labels = ["chosen", *(f"{name}\n{float(result.unitmem[unit]):.3f}" for name, result in results.items())]
    figure = rows_grid(images, labels, captions, title=f"Strongest images of {of}")
    log.figure("images", figure, f"The images that drive {of}: id (* chosen) and mu; UnitMem on the left.")


def _accuracy(
    encoders: Mapping[str, nn.Module], data: ImageDataModule, options: UnitOptions, log: AnalysisLog, progress: bool
) -> Table:
    """A new probe and nearest neighbours for the encoder before training and after each method."""
    found = measure_accuracy(
        encoders.values(), data, ProbeOptions(max_forward=options.max_forward), log, progress=progress
    )
    rows = [
        (name, one.linear.top1, one.knn, one.linear.n_train, one.linear.n_test)
        for name, one in zip(encoders, found, strict=True)
    ]
    return table_of(UNIT_ACCURACY, rows)
