"""ClassMem of one encoder with its baselines: the study behind `analyze.py classmem`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from memlight import dist
from memlight.analyses.classmem.activations import unit_activations
from memlight.analyses.classmem.chart import classmem_by_layer, classmem_scatter
from memlight.analyses.classmem.labels import ClassLabels
from memlight.analyses.classmem.tables import classmem_layers, classmem_table
from memlight.analyses.unitmem.pictures import COLUMNS, units_shown
from memlight.analyses.unitmem.study import unitmem_headline, unitmem_tag
from memlight.analyses.unitmem.tables import unitmem_table
from memlight.batch import ViewMaker
from memlight.data.augment import Views
from memlight.data.images import ImageDataModule
from memlight.data.loading import Batches
from memlight.data.splits import Ids
from memlight.display.pictures import rows_grid
from memlight.features.hooks import Activation, Tokens
from memlight.features.passes import images_at_once
from memlight.metrics.classmem import ClassMemResult, measure_classmem
from memlight.metrics.functional import Reference
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table

Results = Mapping[str, ClassMemResult]


@dataclass(frozen=True)
class ClassMemOptions:
    """How ClassMem is measured; see `memlight.features.hooks.capture` and `memlight.metrics.classmem` for the choices.

    Attributes:
        split: the images scored.
        num_views: views of each image, averaged; 0 for the untouched image.
        reference: what the strongest class is compared with.
        activation: applied to every element before averaging over positions.
        tokens: which tokens count, for token models.
        permutations: how many times labels are shuffled for the null.
        views: augmentation set; None is the one that was trained with.
        seed: of views and shuffles; None is the data module's.
        max_forward: most views in one forward.
    """

    split: str = "candidate"
    num_views: int = 0
    reference: Reference = "mean"
    activation: Activation = "abs"
    tokens: Tokens = "mean"
    permutations: int = 20
    views: Views | None = None
    seed: int | None = None
    max_forward: int = 1024

    @property
    def forwards(self) -> int:
        """Forwards of each image."""
        return max(1, self.num_views)

    def view_maker(self, data: ImageDataModule) -> ViewMaker:
        """What the encoder is shown of each image."""
        return data.view_maker(self.views if self.num_views else data.make_views("clean"), seed=self.seed)

    def batches(self, data: ImageDataModule, split: str, limit: int | None = None) -> Batches:
        """This process's share of a split, as many images at a time as fit a forward."""
        at_once = images_at_once(self.max_forward, self.forwards)
        return data.batches(split, at_once, dist.rank(), dist.world_size(), limit=limit)


def study_classmem(
    encoder: nn.Module,
    data: ImageDataModule,
    layers: Sequence[str],
    labels: ClassLabels,
    options: ClassMemOptions,
    log: AnalysisLog,
    *,
    progress: bool = True,
) -> Table:
    """Score every unit of every layer, beside shuffled labels, held-out images and its UnitMem; write all of it.

    Held-out images are left out, with a line that says why, where not every class has one.

    Args:
        encoder: the encoder studied.
        data: splits and images.
        layers: module paths in execution order.
        labels: a class for every image of the split.
        options: how.
        log: where the results go.
        progress: show bars.

    Returns:
        The table by layer (``CLASSMEM_LAYERS``).

    Raises:
        UserError: an image has no class, or a class no image.
    """

    def measure(split: str, batches: Batches, permutations: int) -> Results:
        log.images += len(batches.ids)
        return measure_classmem(
            encoder,
            batches,
            options.view_maker(data),
            layers,
            ids=torch.from_numpy(batches.ids),
            labels=torch.from_numpy(labels.of(batches.ids)),
            num_classes=len(labels.names),
            num_views=options.forwards,
            reference=options.reference,
            activation=options.activation,
            tokens=options.tokens,
            permutations=permutations,
            seed=data.seed if options.seed is None else options.seed,
            max_forward=options.max_forward,
            progress=progress,
            title=f"ClassMem {split}",
        )

    scored = options.batches(data, options.split)
    labels.require(options.split, scored.ids)
    results = measure(options.split, scored, options.permutations)
    unseen = options.batches(data, "external", limit=len(scored.ids))
    held_out = None
    if options.split != "external" and len(unseen.ids) > 1:
        if (why := labels.lacking(unseen.ids)) is None:
            held_out = measure("external", unseen, 0)
        elif dist.rank() == 0:
            print(f"held-out column left empty: {why}")
    table, by_layer = classmem_table(results), classmem_layers(results, held_out)
    unitmem = unitmem_table({layer: result.unitmem for layer, result in results.items() if result.unitmem})
    log.table("table", table)
    log.table("layers", by_layer)
    log.table("unitmem", unitmem)
    log.table("classes", _classes(labels, scored.ids))
    log.figure("by_layer", classmem_by_layer(by_layer), "ClassMem by layer beside shuffled labels and held-out images.")
    log.figure("scatter", classmem_scatter(table, unitmem), "ClassMem of all units against their UnitMem.")
    _pictures(encoder, results, data, labels, scored, options, log, progress)
    log.headline(unitmem_headline(by_layer))  # its columns are called the same
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


def _classes(labels: ClassLabels, ids: Ids) -> Table:
    return {
        "class": np.arange(len(labels.names)),
        "class_name": np.array(labels.names),
        "images": np.bincount(labels.of(ids), minlength=len(labels.names)),
    }


def _pictures(
    encoder: nn.Module,
    results: Results,
    data: ImageDataModule,
    labels: ClassLabels,
    scored: Batches,
    options: ClassMemOptions,
    log: AnalysisLog,
    progress: bool,
) -> None:
    """The strongest unit of each layer, and the strongest of all, with the images of their class that drive them.

    Which class a unit prefers is known after the pass alone, so the images of these few classes are seen once more.
    """
    shown = units_shown({layer: result.classmem for layer, result in results.items()})
    units = list(dict.fromkeys(unit for rows in shown.values() for unit in rows))
    class_of = {(layer, unit): int(results[layer].max_class[unit]) for layer, unit in units}
    wanted = np.isin(labels.of(scored.ids), list(class_of.values()))
    mu_NR, ids_N = unit_activations(
        encoder,
        replace(scored, ids=scored.ids[wanted]),
        options.view_maker(data),
        units,
        num_views=options.forwards,
        activation=options.activation,
        tokens=options.tokens,
        max_forward=options.max_forward,
        progress=progress,
        title="images of their classes",
    )
    log.images += int(wanted.sum())
    mu, ids = mu_NR.cpu().numpy(), ids_N.cpu().numpy()
    classes = labels.of(ids)
    strongest = {}
    for column, unit in enumerate(units):
        own = np.flatnonzero(classes == class_of[unit])
        order = own[np.argsort(-mu[own, column], kind="stable")[:COLUMNS]]
        strongest[unit] = [(int(ids[i]), float(mu[i, column])) for i in order]
    for name, rows in shown.items():
        titles = [
            f"{layer} unit {unit}\n{labels.names[class_of[layer, unit]]} {float(results[layer].classmem[unit]):.3f}"
            for layer, unit in rows
        ]
        _grid(name, titles, [strongest[unit] for unit in rows], data, log)


def _grid(
    name: str,
    titles: Sequence[str],
    rows: Sequence[Sequence[tuple[int, float]]],
    data: ImageDataModule,
    log: AnalysisLog,
) -> None:
    """A row of images per unit; classes of fewer images leave white at the end."""
    longest = max(len(row) for row in rows)
    pictures, captions = [], []
    for row in rows:
        images = data.images_of([id_ for id_, _ in row]).permute(0, 2, 3, 1).numpy()
        white = np.full((longest - len(row), *images.shape[1:]), 255, dtype=np.uint8)
        pictures.append(np.concatenate([images, white]))
        captions.append([f"{id_}\n{mu:.3g}" for id_, mu in row] + [""] * len(white))
    title = name.replace("_", " ").capitalize()
    caption = f"{title}, with the images of their strongest class that drive them: id and mean activation."
    log.figure(name, rows_grid(np.stack(pictures), titles, captions, title=title), caption)
