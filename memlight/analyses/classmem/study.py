"""ClassMem of one encoder with its baselines: the study behind `analyze.py classmem`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from memlight import dist
from memlight.analyses.classmem.chart import classmem_by_layer, classmem_scatter
from memlight.analyses.classmem.command import ClassMemOptions
from memlight.analyses.classmem.labels import ClassLabels
from memlight.analyses.unitmem.pictures import COLUMNS, Driving, Unit, draw_rows, units_shown
from memlight.analyses.unitmem.study import unitmem_tag
from memlight.analyses.unitmem.tables import layer_columns, score_summary, unit_columns, unitmem_table
from memlight.batch import ImageBatch, ViewMaker
from memlight.data.images import ImageDataModule
from memlight.data.loading import Batches
from memlight.data.splits import Ids
from memlight.features.hooks import Activation, Tokens
from memlight.features.passes import device_of, images_at_once, one_pass
from memlight.metrics.classmem import ClassMemResult, measure_classmem
from memlight.metrics.ids import distinct
from memlight.runs.analysis import numbers_by_layer
from memlight.runs.log import AnalysisLog
from memlight.stats import as_array, mean_of
from memlight.storage.tables import Table

Results = Mapping[str, ClassMemResult]
"""Layer -> what was found of its units; layers in execution order."""

Strongest = Callable[[Mapping[Unit, int]], Mapping[Unit, Driving]]
"""Gives the images that drive units most, among those of the class that each of them prefers."""


def study_classmem(
    encoder: nn.Module,
    data: ImageDataModule,
    layers: Sequence[str],
    labels: ClassLabels,
    options: ClassMemOptions,
    log: AnalysisLog,
    *,
    max_forward: int = 1024,
    progress: bool = True,
) -> Table:
    """Score every unit of every layer, beside shuffled labels, held-out images and its UnitMem; write all of it.

    Held-out images are left out, with a line that says why, where not every class has one.

    Args:
        encoder: the encoder studied.
        data: splits and images.
        layers: module paths in execution order.
        labels: a class for every image of the split.
        options: which images, views, activation and controls; see `ClassMemOptions`.
        log: where the results go.
        max_forward: most views in one forward.
        progress: show bars.

    Returns:
        The table by layer (``CLASSMEM_LAYERS``).

    Raises:
        UserError: an image has no class, or a class no image.
    """
    passes = _Passes(encoder, data, layers, labels, options, log, max_forward, progress)
    scored = passes.batches(options.split)
    labels.require(options.split, scored.ids)
    results = passes.measure(scored, options.split, options.permutations)
    unseen = passes.batches("external", limit=len(scored.ids))
    held_out = None
    if options.split != "external" and len(unseen.ids) > 1:
        if (why := labels.lacking(unseen.ids)) is None:
            held_out = passes.measure(unseen, "external", 0)
        elif dist.rank() == 0:
            print(f"held-out column left empty: {why}")
    return write_classmem(results, held_out, data, labels, scored.ids, partial(passes.strongest, scored), log)


def write_classmem(
    results: Results,
    held_out: Results | None,
    data: ImageDataModule,
    labels: ClassLabels,
    ids: Ids,
    strongest: Strongest,
    log: AnalysisLog,
) -> Table:
    """Write the tables and figures of what was measured.

    Args:
        results: layer -> result, with its null and UnitMem.
        held_out: the same units on external images; None without any.
        data: splits and images.
        labels: the classes.
        ids: of the images that were scored.
        strongest: gives the images that drive some units most, among those of one class each.
        log: where the results go.

    Returns:
        The table by layer (``CLASSMEM_LAYERS``).
    """
    table, by_layer = classmem_table(results), classmem_layers(results, held_out)
    unitmem = unitmem_table({layer: result.unitmem for layer, result in results.items() if result.unitmem})
    log.table("table", table)
    log.table("layers", by_layer)
    log.table("unitmem", unitmem)
    log.table("classes", _classes(labels, ids))
    log.figure("by_layer", classmem_by_layer(by_layer), "ClassMem by layer beside shuffled labels and held-out images.")
    log.figure("scatter", classmem_scatter(table, unitmem), "ClassMem of all units against their UnitMem.")
    _draw_units(results, strongest, labels, data, log)
    log.headline(numbers_by_layer(by_layer, "mean", "null_mean", "held_out_mean"))
    return by_layer


def classmem_tag(member: str, split: str, checkpoint: str | None, labels: str | None) -> str | None:
    """What tells a result apart from that of the finished candidate encoder on its own split and classes.

    Args:
        member: whose units.
        split: which images.
        checkpoint: name of the checkpoint; None for the finished encoder.
        labels: file of the classes; None for the data set's.
    """
    parts = [unitmem_tag(member, split, checkpoint), None if labels is None else f"by-{Path(labels).stem}"]
    return "-".join(filter(None, parts)) or None


def classmem_table(results: Results) -> Table:
    """Every unit of every layer: the columns of ``classmem/table.csv``."""
    table = unit_columns({layer: result.classmem.numel() for layer, result in results.items()})
    for name in ("classmem", "max_class", "mu_max", "mu_rest"):
        table[name] = np.concatenate([as_array(getattr(result, name)) for result in results.values()])
    return table


def classmem_layers(results: Results, held_out: Results | None = None) -> Table:
    """ClassMem by layer beside shuffled labels and unseen images: the columns of ``classmem/layers.csv``.

    Dead units are counted and left out of every mean. ``null_mean`` is the mean over units and shuffles of what a unit
    scores when the labels say nothing, and ``null_p95`` the mean over units of the 95th percentile of its shuffles.

    Args:
        results: layer -> result, with its null and UnitMem where they were measured.
        held_out: the same units on images that no member was trained on, which makes ClassMem class selectivity; NaN
            when missing.
    """
    rows = [_layer_row(result, held_out[layer] if held_out else None) for layer, result in results.items()]
    return layer_columns(list(results), rows)


def _layer_row(result: ClassMemResult, held_out: ClassMemResult | None) -> dict[str, float]:
    alive = ~result.dead
    scores, null_PU = as_array(result.classmem[alive]), as_array(result.null[:, alive])
    unitmem = None if result.unitmem is None else result.unitmem.unitmem[~result.unitmem.dead]
    return {
        **score_summary(as_array(result.dead), scores),
        "null_mean": mean_of(null_PU),
        "null_p95": float(np.quantile(null_PU, 0.95, axis=0).mean()) if null_PU.size else np.nan,
        "held_out_mean": mean_of(as_array(held_out.classmem[~held_out.dead])) if held_out is not None else np.nan,
        "unitmem_mean": mean_of(as_array(unitmem)) if unitmem is not None else np.nan,
    }


def _classes(labels: ClassLabels, ids: Ids) -> Table:
    return {
        "class": np.arange(len(labels.names)),
        "class_name": np.array(labels.names),
        "images": np.bincount(labels.of(ids), minlength=len(labels.names)),
    }


@dataclass(frozen=True)
class _Passes:
    """How every pass over images of one study is made; the attributes are arguments of `study_classmem`."""

    encoder: nn.Module
    data: ImageDataModule
    layers: Sequence[str]
    labels: ClassLabels
    options: ClassMemOptions
    log: AnalysisLog
    max_forward: int
    progress: bool

    def batches(self, split: str, limit: int | None = None) -> Batches:
        """This process's share of a split, as many images at a time as fit a forward."""
        at_once = images_at_once(self.max_forward, self.options.forwards)
        return self.data.batches(split, at_once, dist.rank(), dist.world_size(), limit=limit)

    def measure(self, batches: Batches, split: str, permutations: int) -> Results:
        """Score the units on these images of a split, beside so many shuffles of the labels."""
        options = self.options
        self.log.images += len(batches.ids)
        return measure_classmem(
            self.encoder,
            batches,
            options.view_maker(self.data),
            self.layers,
            ids=torch.from_numpy(batches.ids),
            labels=torch.from_numpy(self.labels.of(batches.ids)),
            num_classes=len(self.labels.names),
            num_views=options.forwards,
            reference=options.reference,
            activation=options.activation,
            tokens=options.tokens,
            permutations=permutations,
            seed=self.data.seed if options.seed is None else options.seed,
            max_forward=self.max_forward,
            progress=self.progress,
            title=f"ClassMem {split}",
        )

    def strongest(self, batches: Batches, class_of: Mapping[Unit, int]) -> dict[Unit, Driving]:
        """The images that drive some units most, among those of one class each, which are seen once more.

        Args:
            batches: the images that were scored.
            class_of: the class that each unit prefers.
        """
        wanted = np.isin(self.labels.of(batches.ids), list(class_of.values()))
        self.log.images += int(wanted.sum())
        mu_NR, ids_N = unit_activations(
            self.encoder,
            replace(batches, ids=batches.ids[wanted]),
            self.options.view_maker(self.data),
            list(class_of),
            num_views=self.options.forwards,
            activation=self.options.activation,
            tokens=self.options.tokens,
            max_forward=self.max_forward,
            progress=self.progress,
            title="images of their classes",
        )
        ids = as_array(ids_N)
        return driven_most(as_array(mu_NR), ids, self.labels.of(ids), class_of)


def driven_most(
    mu_NR: NDArray[np.float32], ids: Ids, classes: Ids, class_of: Mapping[Unit, int]
) -> dict[Unit, Driving]:
    """The images that drive some units most, among those of one class each.

    Args:
        mu_NR: activation of each of these units on each image.
        ids: of the images.
        classes: of the images.
        class_of: the class that each unit prefers.
    """
    found: dict[Unit, Driving] = {}
    for column, (unit, number) in enumerate(class_of.items()):
        of_class = np.flatnonzero(classes == number)
        order = of_class[np.argsort(-mu_NR[of_class, column], kind="stable")[:COLUMNS]]
        found[unit] = [(int(ids[i]), float(mu_NR[i, column])) for i in order]
    return found


def _draw_units(
    results: Results, strongest: Strongest, labels: ClassLabels, data: ImageDataModule, log: AnalysisLog
) -> None:
    """The strongest unit of each layer, and the strongest of all, with the images of their class that drive them.

    Which class a unit prefers is known after the pass alone.
    """
    shown = units_shown({layer: result.classmem for layer, result in results.items()})
    units = dict.fromkeys(unit for rows in shown.values() for unit in rows)
    class_of = {(layer, unit): int(results[layer].max_class[unit]) for layer, unit in units}
    driving = strongest(class_of)
    words = "with the images of their strongest class that drive them: "
    words += f"{data.names.under_pictures}, and mean activation."
    for name, rows in shown.items():
        names = [labels.names[class_of[unit]] for unit in rows]
        scores = [float(results[layer].classmem[unit]) for layer, unit in rows]
        captions = [
            f"{layer} unit {unit}\n{class_name} {score:.3f}"
            for (layer, unit), class_name, score in zip(rows, names, scores, strict=True)
        ]
        draw_rows(name, captions, [driving[unit] for unit in rows], data, log, words)


def unit_activations(
    encoder: nn.Module,
    batches: Iterable[ImageBatch],
    make_views: ViewMaker,
    units: Sequence[tuple[str, int]],
    *,
    num_views: int = 1,
    activation: Activation = "abs",
    tokens: Tokens = "mean",
    max_forward: int = 512,
    progress: bool = True,
    title: str = "activations",
) -> tuple[Tensor, Tensor]:
    """Average the activation of each unit over the views of each image, in one pass.

    The encoder, its buffers, its mode and the random generators are left as they were; with a process group up,
    every process gets all, each image once.

    Args:
        encoder: any encoder that `memlight.features.hooks.capture` can read.
        batches: images (this process's share of them).
        make_views: ``(batch, view index) -> (B, 3, h, w)``.
        units: layer and channel of each, R of them; a unit may be named twice.
        num_views: V, views whose activations are averaged.
        activation: see `memlight.features.hooks.capture`.
        tokens: which tokens count, for token models.
        max_forward: most views in one forward.
        progress: show a bar.
        title: the bar's text.

    Returns:
        ``(N, R)`` float32 and ids ``(N,)``, by ascending id, on the encoder's device.

    Raises:
        UserError: an unknown layer.
    """
    device = device_of(encoder)
    layers = list(dict.fromkeys(layer for layer, _ in units))
    activations = [torch.empty(0, len(units), device=device)]  # a process may have no image
    ids = [torch.empty(0, dtype=torch.int64, device=device)]
    with one_pass(
        [encoder],
        [layers],
        batches,
        make_views,
        num_views=num_views,
        activation=activation,
        tokens=tokens,
        max_forward=max_forward,
        progress=progress,
        title=title,
        begun=True,
    ) as forwards:
        for batch, (captured,), _ in forwards:
            of_views = torch.stack([captured[layer][:, unit] for layer, unit in units], dim=1)
            activations.append(of_views.view(num_views, -1, len(units)).mean(0))
            ids.append(batch.ids)
    all_ids = dist.gather_cat(torch.cat(ids))
    order = distinct(all_ids)
    return dist.gather_cat(torch.cat(activations))[order], all_ids[order]
