"""Train one unit on a few images and see what it answers to: the study behind `analyze.py unit`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from memlight import dist
from memlight.analyses.probe.accuracy import measure_accuracy
from memlight.analyses.probe.command import ProbeOptions
from memlight.analyses.unit.chart import unit_training
from memlight.analyses.unit.columns import UNIT_ACCURACY, UNIT_TABLE
from memlight.analyses.unit.command import UnitOptions
from memlight.analyses.unit.objectives import COMPARES_IMAGES, Steps, activation_loss, training_loss
from memlight.analyses.unitmem.excess import layer_null
from memlight.data.images import ImageDataModule
from memlight.data.splits import SPLITS, PairSplit
from memlight.display.pictures import channels_last, rows_grid
from memlight.errors import UserError, named
from memlight.features.passes import device_of, images_at_once
from memlight.interventions.parts import unit_entries, unit_weights
from memlight.interventions.prune import restore_units
from memlight.interventions.train_unit import train_unit
from memlight.metrics.unitmem import UnitMemResult, measure_unitmem
from memlight.modules.base import SSLModule
from memlight.runs.log import AnalysisLog
from memlight.stats import as_array
from memlight.storage.schema import required
from memlight.storage.tables import Table, table_of

COLUMNS = 8
"""Images in a picture."""


class Point(NamedTuple):
    """One measurement: what training did until then, and what the layer's units are now."""

    method: str
    epoch: int
    loss: float
    result: UnitMemResult


def require_one_process() -> None:
    """Refuse to train the same unit several times over.

    Raises:
        UserError: torchrun or srun started several processes.
    """
    if dist.world_size() > 1:
        raise UserError(f"unit: trains one unit, in one process; start it without torchrun (here {dist.world_size()}).")


def require_unit(encoder: nn.Module, layer: str, unit: int | None) -> None:
    """Refuse a layer whose units have no weights of their own, and a unit that it does not have.

    Raises:
        UserError: names the layer or the unit.
    """
    with named(layers="layer"):
        weights = unit_weights(encoder, [layer])[layer]
    units = len(encoder.get_parameter(f"{weights.producer}.weight"))
    if unit is not None and not 0 <= unit < units:
        raise UserError("unit", unit, f"{layer} has units 0 to {units - 1}")


def require_chosen(split: PairSplit, options: UnitOptions, measured: str) -> dict[str, str]:
    """Refuse images that no member could have been trained on, and more context than there is.

    Args:
        split: the run's.
        options: names the chosen images, and how many images stand beside them.
        measured: the split that UnitMem is measured on.

    Returns:
        The split of each chosen image by its id; "none" for training images that the run left out.

    Raises:
        UserError: names the image, or the number of images beside the chosen ones.
    """
    ids = options.ids
    for position, id_ in enumerate(ids):
        if not 0 <= id_ < split.num_train:
            test = "is a test image" if split.num_train <= id_ < split.num_train + split.num_test else "no such image"
            raise UserError("ids", id_, f"{test}; training images have ids 0 to {split.num_train - 1}")
        if id_ in ids[:position]:
            raise UserError("ids", id_, "named twice")
    beside = options.context_split(measured)
    others = len(np.setdiff1d(split.ids(beside), ids))
    if options.context > others:
        why = f"there are {others} {beside} images besides the chosen"
        raise UserError("context", options.context, why, "use fewer")
    return {str(id_): next((name for name in SPLITS if id_ in split.ids(name)), "none") for id_ in ids}


def unit_tag(member: str, network: str | None, objective: str) -> str | None:
    """What tells a result apart from that of the finished candidate encoder and its own loss.

    Args:
        member: whose unit.
        network: which network; None for the default one.
        objective: what it is trained for.
    """
    plain = ("candidate", None, "training")
    return "-".join(part for part in (member, network, objective) if part not in plain) or None


def study_unit(
    encoder: nn.Module,
    method: SSLModule | None,
    data: ImageDataModule,
    layer: str,
    options: UnitOptions,
    log: AnalysisLog,
    *,
    split: str = "candidate",
    first_epoch: int = 0,
    max_forward: int = 1024,
    progress: bool = True,
) -> Table:
    """Train one unit by each method, from the same encoder; write tables and figures.

    Args:
        encoder: the encoder, which is left bit-identical.
        method: the training method whose ``encoder`` has the same weights; None with the activation objective.
        data: splits and images.
        layer: module path.
        options: how the unit is trained and measured.
        log: where the results go.
        split: the images that UnitMem is measured on, besides the chosen ones.
        first_epoch: the first epoch whose views no step of the training has seen.
        max_forward: most views in one forward.
        progress: show bars.

    Returns:
        One row per method and measurement (``UNIT_TABLE``).

    Raises:
        UserError: the unit never fires, the training diverges, or the activations are not finite.
    """
    scored = data.batches(split, images_at_once(max_forward, options.views))
    scored = replace(scored, ids=np.union1d(scored.ids, options.ids))

    def measure(network: nn.Module) -> UnitMemResult:
        log.images += len(scored.ids)
        return measure_unitmem(
            network,
            scored,
            data.view_maker(),
            [layer],
            num_views=options.views,
            activation=options.activation,
            topk=COLUMNS,
            keep_table=True,
            max_forward=max_forward,
            progress=False,
        )[layer]

    def to_train(unit: int) -> tuple[nn.Module, Callable[[int], Tensor]]:
        """A copy of the encoder, and the loss that looks at it."""
        whole = deepcopy(method)
        context = options.context if whole is None or isinstance(whole, COMPARES_IMAGES) else 0
        others = data.split.ids(options.context_split(split))
        steps = Steps(data, options.ids, others, context, first_epoch, device_of(encoder))
        if whole is None:
            copy = deepcopy(encoder)
            return copy, activation_loss(copy, layer, unit, options.activation, options.views, steps)
        copy = whole.eval().encoder
        return copy, training_loss(whole, encoder, steps)

    start = measure(encoder)
    unit = chosen_unit(start, options.unit)
    if start.dead[unit]:
        why = "never fires on these images, so nothing would teach it"
        raise UserError("unit", unit, why, "choose another")
    others = [other for other in range(len(start.unitmem)) if other != unit]
    points: list[Point] = []
    trained: dict[str, nn.Module] = {}
    for name in options.methods:
        points.append(Point(name, 0, float("nan"), start))
        copy, loss_of = to_train(unit)
        entries = unit_entries(copy, {layer: [unit] if name == "masked" else range(len(start.unitmem))})
        for epoch, loss in _train(copy, loss_of, entries, options, name, progress):
            trained[name] = copy if name == "masked" else restore_units(copy, encoder, {layer: others})
            points.append(Point(name, epoch, loss, measure(trained[name])))
    ends = {point.method: point.result for point in points}
    of = f"{layer} unit {unit}"
    table, units = unit_table(points, unit, options.ids), units_table(start, ends, unit)
    log.table("table", table)
    log.table("units", units)
    log.headline({"layer": layer, "unit": unit, "ids": list(options.ids), **unit_headline(table, units)})
    log.figure("training", unit_training(table, of), f"{of} while it is trained, by each method.")
    _pictures(start, ends, of, unit, options.ids, data, log)
    if data.classes:
        encoders = {"original": encoder, **trained}
        measured = measure_accuracy(
            encoders.values(), data, ProbeOptions(max_forward=max_forward), log, progress=progress
        )
        rows = [
            (name, linear.top1, knn, linear.n_train, linear.n_test)
            for name, (linear, knn) in zip(encoders, measured, strict=True)
        ]
        log.table("accuracy", table_of(UNIT_ACCURACY, rows))
        log.headline({f"probe_top1/{name}": top1 for name, top1, *_ in rows})
    return table


def _train(
    copy: nn.Module,
    loss_of: Callable[[int], Tensor],
    entries: Mapping[str, Tensor],
    options: UnitOptions,
    title: str,
    progress: bool,
) -> Iterator[tuple[int, float]]:
    """Train entries of an encoder in place; pause with epoch and loss wherever it is to be measured."""
    points = min(options.points, options.epochs)
    at = set(np.linspace(0, options.epochs, points + 1).round().astype(int).tolist())
    steps = train_unit(copy, loss_of, entries, epochs=options.epochs, lr=options.lr)
    for epoch, loss in enumerate(tqdm(steps, title, options.epochs, unit="epoch", disable=not progress), start=1):
        if epoch not in at:
            continue
        if not torch.isfinite(loss):
            raise UserError("lr", options.lr, f"the loss is {float(loss)} at epoch {epoch}", "choose a lower one")
        yield epoch, float(loss)


def chosen_unit(start: UnitMemResult, unit: int | None) -> int:
    """The unit asked for, or the median one by UnitMem of those that fire: the lower of the middle two.

    Raises:
        UserError: no unit fires.
    """
    if unit is not None:
        return unit
    alive = (~start.dead).nonzero().flatten()
    if not len(alive):
        raise UserError("layer", None, "none of its units fires on these images", "choose another")
    order = start.unitmem[alive].argsort(stable=True)
    return int(alive[order[(len(alive) - 1) // 2]])


def unit_table(points: Sequence[Point], unit: int, ids: Sequence[int]) -> Table:
    """What the unit answers to at each measurement, with the score expected of exchangeable images (``UNIT_TABLE``).

    Args:
        points: measurements with the table of mu kept.
        unit: the unit.
        ids: the chosen images.
    """
    rows = []
    for method, epoch, loss, result in points:
        assert result.mu is not None
        mu_N = result.mu[:, unit].double()
        of_ids = mu_N[torch.isin(result.ids, torch.tensor(ids, device=result.ids.device))]
        scores = [float(values[unit]) for values in (result.unitmem, result.mu_max, result.mu_rest)]
        nulls = [float(values[unit]) for values in layer_null(result)]
        rank = rank_of(mu_N, result.ids, ids)
        rows.append((method, epoch, *scores, int(result.max_id[unit]), float(of_ids.mean()), rank, *nulls, loss))
    return table_of(required(UNIT_TABLE), rows)


def rank_of(mu_N: Tensor, ids_N: Tensor, chosen: Sequence[int]) -> int:
    """How many images the best of the chosen ones has above it; of equal images the lowest id comes first.

    Args:
        mu_N: ``(N,)`` one unit's activation on each image.
        ids_N: ``(N,)`` ids, ascending.
        chosen: ids, at least one of which is among them.
    """
    order = mu_N.argsort(descending=True, stable=True)
    return int(torch.isin(ids_N[order], torch.tensor(chosen, device=ids_N.device)).to(torch.uint8).argmax())


def units_table(start: UnitMemResult, ends: Mapping[str, UnitMemResult], unit: int) -> Table:
    """UnitMem of all units of the layer before and after (``UNIT_OTHERS``); only the trained one should differ."""

    def column(results: Sequence[UnitMemResult], name: str) -> NDArray[Any]:
        return np.concatenate([as_array(getattr(result, name)) for result in results])

    count = len(start.unitmem)
    before, after = [start] * len(ends), list(ends.values())
    return {
        "method": np.repeat(list(ends), count),
        "unit": np.tile(np.arange(count), len(ends)),
        "trained": np.tile(np.arange(count) == unit, len(ends)),
        "unitmem_before": column(before, "unitmem"),
        "unitmem_after": column(after, "unitmem"),
        "max_id_before": column(before, "max_id"),
        "max_id_after": column(after, "max_id"),
    }


def unit_headline(table: Table, units: Table) -> dict[str, float]:
    """Numbers for W&B and the summary, by method: UnitMem and rank before and after, and how many others changed.

    Args:
        table: columns ``UNIT_TABLE``.
        units: columns ``UNIT_OTHERS``.
    """
    numbers: dict[str, float] = {}
    for name in dict.fromkeys(table["method"].tolist()):
        rows = np.flatnonzero(table["method"] == name)
        for when, row in (("before", rows[0]), ("after", rows[-1])):
            numbers[f"unitmem_{when}/{name}"] = float(table["unitmem"][row])
            numbers[f"rank_{when}/{name}"] = int(table["rank"][row])
        changed = (units["unitmem_before"] != units["unitmem_after"]) & (units["method"] == name) & ~units["trained"]
        numbers[f"others_changed/{name}"] = int(changed.sum())
    return numbers


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
    captions = [data.names.captions(ids[0], map(str, ids[0]))]
    for row, result in zip(ids[1:], results.values(), strict=True):
        mu = result.topk_mu[:, unit].tolist()
        marked = [f"{id_}{' *' * (id_ in chosen)}" for id_ in row]
        captions.append(data.names.captions(row, marked, [f"{value:.3g}" for value in mu]))
    images = [list(channels_last(data.images_of(row))) for row in ids]
    labels = ["chosen", *(f"{name}\n{float(result.unitmem[unit]):.3f}" for name, result in results.items())]
    figure = rows_grid(images, labels, captions, title=f"Strongest images of {of}")
    beside = f"{data.names.under_pictures} (* chosen), and mu; UnitMem on the left."
    log.figure("images", figure, f"The images that drive {of}: {beside}")
