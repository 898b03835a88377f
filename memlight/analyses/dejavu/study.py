"""Deja Vu of a pair on both members' own images and on placebos: the study behind `analyze.py dejavu`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from memlight import dist
from memlight.analyses.dejavu.chart import dejavu_by_depth
from memlight.analyses.dejavu.tables import Group, placebo_table, samples_table, trained_table
from memlight.batch import ImageBatch, ViewMaker
from memlight.data.images import ImageDataModule
from memlight.data.splits import Ids
from memlight.features.hooks import count_units
from memlight.features.passes import images_at_once
from memlight.metrics.retrieval import CORNERS, CornerResult, corner_crop, measure_retrieval
from memlight.random import ANALYSIS, permutation
from memlight.runs.analysis import numbers_by_layer
from memlight.runs.log import AnalysisLog
from memlight.stats import as_array
from memlight.storage.tables import Table

PLACEBOS = ("external", "shared")
"""Splits of which halves are compared as candidates and independent images are: neither member saw the first, both the
second, so that there is nothing to find."""

BUDGET = 2 << 30
"""Bytes of features that are held at once, which sets how many layers share a pass; it changes no number."""


def study_dejavu(
    encoder_f: nn.Module,
    encoder_g: nn.Module,
    data: ImageDataModule,
    layers: Sequence[str],
    log: AnalysisLog,
    *,
    max_forward: int = 1024,
    progress: bool = True,
) -> Table:
    """Retrieve the other corner of every image by every layer of both members, and write tables and figure.

    Candidates and independent images are searched together: an image has the same competitors whichever group it was
    dealt into, so that under permuted labels nothing else changes. Of a placebo as many images are taken, where there
    are so many, and dealt into two halves at random.

    Args:
        encoder_f: the encoder that saw the candidates.
        encoder_g: the encoder that saw the independent images.
        data: splits and images.
        layers: module paths in execution order.
        log: where the results go.
        max_forward: most crops in one forward.
        progress: show bars.

    Returns:
        The table by layer (``DEJAVU_TABLE``).
    """
    own = {name: data.split.ids(name) for name in ("candidate", "independent")}
    count = sum(map(len, own.values()))
    measure = _Measure([encoder_f, encoder_g], data, list(layers), log, max_forward, progress)
    trained = measure(np.sort(np.concatenate(list(own.values()))), "own images")
    scored = [trained.among(name, ids) for name, ids in own.items()]
    table, placebos = trained_table(*scored, seed=data.seed), []
    for name in PLACEBOS:
        ids = data.batches(name, limit=count).ids
        if len(ids) < 4:
            continue
        measured = measure(ids, name)
        halves = [measured.among(name, half) for half in _halves(ids, data.seed)]
        placebos.append(placebo_table(name, *halves, seed=data.seed))
        scored.append(measured._replace(split=name))
    log.table("table", table)
    joined = {column: np.concatenate([placebo[column] for placebo in placebos]) for column in (placebos or [{}])[0]}
    if placebos:
        log.table("placebos", joined)
    log.table("samples", samples_table(scored, data.labels_of))
    caption = (
        "Which layers find the other corner of an image better where their encoder was trained on it. Inner band: 95 % "
        "interval of each layer by itself; outer band: of all layers at once. Right: mean reciprocal rank of both "
        "members on both groups."
    )
    log.figure("by_depth", dejavu_by_depth(table, joined), caption)
    log.headline(numbers_by_layer(table, "difference", "p_adjusted"))
    return table


def corner_maker(data: ImageDataModule) -> ViewMaker:
    """Crops as they are, enlarged to the size of a view and without augmentation."""
    clean = data.view_maker(data.make_views("clean"))

    def make(batch: ImageBatch, corner: int) -> Tensor:
        return clean(batch._replace(images=corner_crop(batch.images, corner)), 0)

    return make


class _Measure:
    """Both members on any images; layers whose features do not fit the `BUDGET` together take a pass of their own."""

    def __init__(
        self,
        encoders: list[nn.Module],
        data: ImageDataModule,
        layers: list[str],
        log: AnalysisLog,
        max_forward: int,
        progress: bool,
    ) -> None:
        self.encoders, self.data, self.log = encoders, data, log
        self.max_forward, self.progress = max_forward, progress
        self.widths = count_units(encoders[0], layers, data.view_size)
        self.crops = corner_maker(data)

    def __call__(self, ids: Ids, title: str) -> Group:
        """What both members find among these images, which are their only competitors."""
        at_once = images_at_once(self.max_forward, CORNERS)
        batches = replace(self.data.batches("candidate", at_once, dist.rank(), dist.world_size()), ids=ids)
        results: list[list[CornerResult]] = [[] for _ in self.encoders]
        for widths in _groups(self.widths, BUDGET // (4 * CORNERS * len(self.encoders) * max(1, len(ids)))):
            found = measure_retrieval(
                self.encoders,
                batches,
                self.crops,
                widths,
                max_forward=self.max_forward,
                progress=self.progress,
                title=f"corners of {title}",
            )
            self.log.images += len(ids)
            for of_member, of_layers in zip(results, found, strict=True):
                of_member += of_layers.values()
        ranks, top1 = (
            [as_array(torch.stack([getattr(result, name) for result in of_member], dim=1)) for of_member in results]
            for name in ("reciprocal_rank", "top1")
        )
        return Group("", list(self.widths), ids, *ranks, *top1)


def _groups(widths: dict[str, int], most: int) -> Iterator[dict[str, int]]:
    """Neighbouring layers that have at most so many units together; a wider one is alone."""
    group: dict[str, int] = {}
    for layer, width in widths.items():
        if group and sum(group.values()) + width > most:
            yield group
            group = {}
        group[layer] = width
    yield group


def _halves(ids: Ids, seed: int) -> tuple[Ids, Ids]:
    """Dealt at random, the same ones on every machine, each by ascending id."""
    order = permutation(seed, ANALYSIS, len(ids)).numpy()
    half = len(ids) // 2
    return np.sort(ids[order[:half]]), np.sort(ids[order[half:]])
