"""UnitMem of one encoder with its baselines: the study behind `analyze.py unitmem` and the callback."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from memlight import dist
from memlight.analyses.joined import ALL_LAYERS, Measured, write_joined
from memlight.analyses.unitmem.chart import unitmem_figures
from memlight.analyses.unitmem.command import UnitMemOptions
from memlight.analyses.unitmem.contrast import Results, unit_contrasts
from memlight.analyses.unitmem.excess import excess_over_other
from memlight.analyses.unitmem.pictures import draw_units
from memlight.analyses.unitmem.resume import PassProgress, UnitMemProgress, rest_medians
from memlight.analyses.unitmem.tables import (
    ALL,
    Scores,
    unit_scores,
    unitmem_curve,
    unitmem_tables,
)
from memlight.data.images import ImageDataModule
from memlight.data.joining import JoinedScores
from memlight.data.loading import Batches
from memlight.data.splits import PARTNERS, Ids
from memlight.features.passes import device_of, images_at_once
from memlight.metrics.unitmem import measure_unitmem
from memlight.runs.analysis import numbers_by_layer
from memlight.runs.log import AnalysisLog
from memlight.stats import as_array
from memlight.storage.tables import Table

CURVE_SIZES = (10, 30, 100, 300, 1000, 3000, 10_000)
"""Numbers of images at which the curve of mean UnitMem is drawn, besides all of them."""


def study_unitmem(
    encoder: nn.Module,
    data: ImageDataModule,
    layers: Sequence[str],
    options: UnitMemOptions,
    log: AnalysisLog,
    *,
    partner: nn.Module | None = None,
    kept: UnitMemProgress | None = None,
    joined: JoinedScores | None = None,
    max_forward: int = 1024,
    progress: bool = True,
) -> Table:
    """Score every unit of every layer, beside its null and as many held-out images; write tables and figures.

    Args:
        encoder: the encoder studied.
        data: splits and images.
        layers: module paths in execution order.
        options: how UnitMem is measured, and of which images.
        log: where the results go.
        partner: the other member of the pair, which adds the unit contrast. With it ``options.split`` is candidate and
            ``encoder`` the candidate encoder, or the split is independent and it is the independent one.
        kept: where a study without a partner keeps what is done of it, and the table of mu for the median.
        joined: scores that others computed of the images; None for none.
        max_forward: most views in one forward.
        progress: show bars.

    Returns:
        The table by layer (``UNITMEM_LAYERS``).
    """
    alone = kept if partner is None else None
    passes = _Passes(data, layers, options, log, max_forward, progress, alone, keep_mu=partner is not None)
    results = passes.measure(encoder, options.split)
    count = len(data.split.ids(options.split))
    held_out, curve = None, None
    if options.split != "external" and len(data.split.external) > 1:
        held_out = passes.measure(encoder, "external", limit=count)
    if partner is not None:
        other = PARTNERS[options.split]
        own, others = passes.measure(partner, other), passes.measure(encoder, other)
        pair = UnitsOfPair(results, others, passes.measure(partner, options.split), own)
        return write_unitmem(pair, held_out, data, options, log, joined=joined)
    if kept is not None and options.reference == "median":
        curve = unitmem_curve(results, (*CURVE_SIZES, count), columns=kept.table(options.split).columns)
    return write_unitmem(results, held_out, data, options, log, curve=curve, joined=joined)


class UnitsOfPair(NamedTuple):
    """UnitMem of both members on the images of both, with the table of mu; ``encoder`` is the one that is studied.

    Attributes:
        results: of the encoder on its own images.
        on_others: of the encoder on its partner's images.
        partner_on_others: of the partner on the encoder's images.
        partner_on_own: of the partner on its own images.
    """

    results: Results
    on_others: Results
    partner_on_others: Results
    partner_on_own: Results


def write_unitmem(
    measured: Results | UnitsOfPair,
    held_out: Results | None,
    data: ImageDataModule,
    options: UnitMemOptions,
    log: AnalysisLog,
    *,
    curve: Table | None = None,
    joined: JoinedScores | None = None,
) -> Table:
    """Write the tables and figures of what was measured.

    Args:
        measured: of the encoder studied, or of a pair.
        held_out: of the encoder on external images; None without any.
        data: splits and images.
        options: how it was measured.
        log: where the results go.
        curve: mean score against the number of images; that of a pair is computed here.
        joined: scores that others computed of the images; None for none.

    Returns:
        The table by layer (``UNITMEM_LAYERS``).
    """
    pair, over_other, results = None, None, measured
    if isinstance(measured, UnitsOfPair):
        results = measured.results
        pair, over_other = unit_contrasts(*measured), excess_over_other(results, measured.on_others)
        curve = unitmem_curve(results, (*CURVE_SIZES, len(data.split.ids(options.split))))
    assert not isinstance(results, UnitsOfPair)
    tables = unitmem_tables(results, held_out, pair, curve, over_other)
    for name, table in tables.items():
        log.table(name, table)
    scores = unit_scores(results, tables["excess"], held_out)
    for name, figure, caption in unitmem_figures(tables, scores):
        log.figure(name, figure, caption)
    draw_units(results, held_out, tables["excess"], data, log, joined)
    if joined is not None:
        own = _maximised(options.split, data.split.ids(options.split), results)
        unseen = None
        if held_out is not None:
            among = data.batches("external", limit=len(own.ids)).ids
            unseen = _maximised("external", among, held_out)
        write_joined([*results, ALL_LAYERS], own, joined, unseen, data, log)
    log.headline({**_overall(tables, scores), **unitmem_headline(tables["layers"]), "precision": options.precision})
    return tables["layers"]


def _maximised(split: str, ids: Ids, results: Results) -> Measured:
    """How many living units of each layer, and of all, each image is the strongest of."""
    counts = np.zeros((len(ids), len(results) + 1))
    for column, result in enumerate(results.values()):
        strongest = as_array(result.max_id)[~as_array(result.dead)]
        counts[:, column] = np.bincount(np.searchsorted(ids, strongest), minlength=len(ids))
    counts[:, -1] = counts[:, :-1].sum(1)
    return Measured(split, ids, counts, "units an image is the strongest of")


def unitmem_headline(by_layer: Table) -> dict[str, float]:
    """Numbers for W&B and the summary, by layer: means of the scores, the null and held-out images; unit contrast."""
    return numbers_by_layer(by_layer, "mean", "null_mean", "held_out_mean", "unit_contrast")


def unitmem_tag(member: str, split: str, checkpoint: str | None) -> str | None:
    """What tells a result apart from that of the finished candidate encoder on its own split.

    Args:
        member: whose units.
        split: which images.
        checkpoint: name of the checkpoint; None for the finished encoder.
    """
    parts = [] if member == split == "candidate" else [f"{member}-on-{split}"]
    return "-".join([*parts, *filter(None, [checkpoint])]) or None


@dataclass(frozen=True)
class _Passes:
    """How every pass over images of one study is made.

    Attributes:
        data: splits and images.
        layers: module paths in execution order.
        options: how UnitMem is measured, and of which images.
        log: counts the images.
        max_forward: most views in one forward.
        progress: show bars.
        kept: where what is done is kept; None keeps nothing.
        keep_mu: whether mu of every image stays in memory.
    """

    data: ImageDataModule
    layers: Sequence[str]
    options: UnitMemOptions
    log: AnalysisLog
    max_forward: int
    progress: bool
    kept: UnitMemProgress | None
    keep_mu: bool

    def measure(self, network: nn.Module, split: str, *, limit: int | None = None) -> Results:
        """Score the units on the images of a split, or on so many of them."""
        options, keeper = self.options, None
        at_once = images_at_once(self.max_forward, options.views)
        batches = self.data.batches(split, at_once, dist.rank(), dist.world_size(), limit=limit)
        self.log.images += len(batches.ids)
        if self.kept is not None:
            batches, keeper = self._left(split, batches, self.kept)
            self.log.images -= keeper.done * dist.world_size()
        results = measure_unitmem(
            network,
            batches,
            options.view_maker(self.data),
            self.layers,
            num_views=options.views,
            reference=options.reference if keeper is None else "mean",
            activation=options.activation,
            tokens=options.tokens,
            topk=options.topk,
            keep_table=self.keep_mu,
            max_forward=self.max_forward,
            precision=options.precision,
            keeper=keeper,
            progress=self.progress,
            title=f"UnitMem {split}",
        )
        if self.kept is not None and options.reference == "median":
            _add_medians(results, rest_medians(self.kept.table(split), device_of(network)))
        return results

    def _left(self, split: str, batches: Batches, kept: UnitMemProgress) -> tuple[Batches, PassProgress]:
        """The images of this process that no call before this one has measured, and what keeps those that are done."""
        mine = batches.ids[dist.rank() :: dist.world_size()]
        keeper = kept.of(split, len(mine), table=self.options.reference == "median")
        if keeper.done and dist.rank() == 0:
            print(f"UnitMem {split}: {keeper.done} of {len(mine)} images were measured by a call that was cut short")
        return replace(batches, ids=mine[keeper.done :], rank=0, world_size=1), keeper


def _add_medians(results: Results, rest_U: Tensor) -> None:
    start = 0
    for result in results.values():
        result.set_median(rest_U[start : start + result.mu_max.numel()])
        start += result.mu_max.numel()


def _overall(tables: Mapping[str, Table], scores: Scores) -> dict[str, float]:
    """Numbers over the units of all layers: mean scores, and how the form against the median agrees."""
    numbers = {f"all/{name}_mean": float(np.nanmean(values)) for name, values in scores.items()}
    if "medians" in tables:
        medians = tables["medians"]
        (row,) = np.flatnonzero((medians["layer"] == ALL) & (medians["scores"] == "scored"))
        numbers |= {f"all/{name}": float(medians[name][row]) for name in ("median", "pearson", "spearman")}
    return numbers
