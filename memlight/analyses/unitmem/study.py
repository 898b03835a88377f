"""UnitMem of one encoder with its baselines: the study behind `analyze.py unitmem` and the callback."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from memlight import dist
from memlight.analyses.unitmem.chart import unitmem_excess, unitmem_reliability
from memlight.analyses.unitmem.chart_layers import unitmem_by_layer, unitmem_histogram
from memlight.analyses.unitmem.chart_medians import unitmem_mean_and_median
from memlight.analyses.unitmem.chart_overview import unitmem_extremes, unitmem_heatmap, unitmem_overall
from memlight.analyses.unitmem.columns import (
    UNITMEM_CURVE,
)
from memlight.analyses.unitmem.contrast import UnitContrast, unit_contrast
from memlight.analyses.unitmem.pictures import draw_units
from memlight.analyses.unitmem.reliability import split_half, unitmem_curve
from memlight.analyses.unitmem.resume import MuTable, UnitMemProgress, rest_medians
from memlight.analyses.unitmem.tables import excess_table, null_table, unitmem_layers, unitmem_table, unitmem_top
from memlight.analyses.unitmem.tables_overall import (
    ALL,
    Scores,
    extreme_shares,
    extreme_tests,
    highest_units,
    median_agreement,
    unit_scores,
)
from memlight.data.augment import Views
from memlight.data.images import ImageDataModule
from memlight.data.splits import PARTNERS
from memlight.features.hooks import Activation, Tokens
from memlight.features.passes import Precision, device_of, images_at_once
from memlight.metrics.functional import Reference, unitmem_from_extremes
from memlight.metrics.unitmem import UnitMemResult, measure_unitmem
from memlight.runs.log import AnalysisLog
from memlight.storage.tables import Table

CURVE_SIZES = (10, 30, 100, 300, 1000, 3000, 10_000)
"""Numbers of images at which the curve of mean UnitMem is drawn, besides all of them."""

Results = Mapping[str, UnitMemResult]


@dataclass(frozen=True)
class UnitMemOptions:
    """How UnitMem is measured; see `memlight.features.hooks.capture` and `memlight.metrics.unitmem` for the choices.

    Attributes:
        split: the images scored.
        num_views: views of each image, averaged.
        reference: what the strongest image is compared with.
        activation: applied to every element before averaging over positions.
        tokens: which tokens count, for token models.
        topk: how many of the strongest images to keep for each unit.
        views: augmentation set; None is the one that was trained with.
        seed: of the views; None is the data module's.
        max_forward: most views in one forward.
        precision: of the forwards.
    """

    split: str = "candidate"
    num_views: int = 10
    reference: Reference = "mean"
    activation: Activation = "abs"
    tokens: Tokens = "mean"
    topk: int = 10
    views: Views | None = None
    seed: int | None = None
    max_forward: int = 1024
    precision: Precision = "fp32"

    def decisive(self, data: ImageDataModule) -> dict[str, Any]:
        """What decides the numbers, with nothing left to the data module; JSON-able."""
        chosen = asdict(replace(self, views=None))
        del chosen["max_forward"]
        return {
            **chosen,
            "views": (self.views or data.views).spec(),
            "seed": data.seed if self.seed is None else self.seed,
        }


def study_unitmem(
    encoder: nn.Module,
    data: ImageDataModule,
    layers: Sequence[str],
    options: UnitMemOptions,
    log: AnalysisLog,
    *,
    partner: nn.Module | None = None,
    kept: UnitMemProgress | None = None,
    progress: bool = True,
) -> Table:
    """Score every unit of every layer, beside its null and as many held-out images; write tables and figures.

    Args:
        encoder: the encoder studied.
        data: splits and images.
        layers: module paths in execution order.
        options: how.
        log: where the results go.
        partner: the other member of the pair, which adds the unit contrast; it needs ``options.split`` to be
            candidate (and ``encoder`` the candidate encoder) or independent (likewise).
        kept: where a study without a partner keeps what is done of it, and the table of mu for the median.
        progress: show bars.

    Returns:
        The table by layer (``UNITMEM_LAYERS``).
    """

    def measure(network: nn.Module, split: str, *, limit: int | None = None) -> Results:
        at_once = images_at_once(options.max_forward, options.num_views)
        batches = data.batches(split, at_once, dist.rank(), dist.world_size(), limit=limit)
        log.images += len(batches.ids)
        keeper = None
        if kept is not None and partner is None:
            own = batches.ids[dist.rank() :: dist.world_size()]
            keeper = kept.of(split, len(own), table=options.reference == "median")
            batches = replace(batches, ids=own[keeper.done :], rank=0, world_size=1)
            log.images -= keeper.done * dist.world_size()
            if keeper.done and dist.rank() == 0:
                print(f"UnitMem {split}: {keeper.done} of {len(own)} images were measured by a call that was cut short")
        results = measure_unitmem(
            network,
            batches,
            data.view_maker(options.views, seed=options.seed),
            layers,
            num_views=options.num_views,
            reference=options.reference if keeper is None else "mean",
            activation=options.activation,
            tokens=options.tokens,
            topk=options.topk,
            keep_table=partner is not None,
            max_forward=options.max_forward,
            precision=options.precision,
            keeper=keeper,
            progress=progress,
            title=f"UnitMem {split}",
        )
        if kept is not None and keeper is not None and options.reference == "median":
            _add_medians(results, rest_medians(kept.table(split), device_of(network)))
        return results

    results = measure(encoder, options.split)
    scored = len(data.split.ids(options.split))
    with_held_out = options.split != "external" and len(data.split.external) > 1
    held_out = measure(encoder, "external", limit=scored) if with_held_out else None
    pair = None
    if partner is not None:
        other = PARTNERS[options.split]
        own_g = measure(partner, other)
        pair = _contrasts(results, measure(encoder, other), measure(partner, options.split), own_g)
    table, by_layer = unitmem_table(results), unitmem_layers(results, held_out, pair)
    log.table("table", table)
    log.table("layers", by_layer)
    if held_out is not None:
        log.table("held_out", unitmem_table(held_out))
    excess, null = excess_table(results, held_out), null_table(results, held_out)
    log.table("excess", excess)
    log.table("null", null)
    log.table("top", unitmem_top(results))
    halves = {"layer": np.array(list(results)), "split_half": np.array([split_half(r) for r in results.values()])}
    log.table("reliability", halves)
    curve = None  # it needs the table of mu, which the contrast and the median keep
    if partner is not None:
        curve = unitmem_curve(results, (*CURVE_SIZES, scored))
    elif kept is not None and options.reference == "median":
        curve = _curve(kept.table(options.split), results, (*CURVE_SIZES, scored))
    if curve is not None:
        log.table("curve", curve)
    log.figure("by_layer", unitmem_by_layer(by_layer), "UnitMem by layer beside its null and held-out images.")
    caption = "Excess of UnitMem over what exchangeable images would score; bars are 95 % intervals over images."
    log.figure("excess", unitmem_excess(null, excess), caption)
    log.figure("histogram", unitmem_histogram(table), "UnitMem of all units, layer by layer.")
    _overview(table, excess, unit_scores(results, excess, held_out), log)
    if "unitmem_median" in table:
        _medians(table, median_agreement(results, held_out), log)
    log.figure("reliability", unitmem_reliability(halves, curve), "How far the scores depend on the views and on N.")
    draw_units(results, held_out, excess, data, log)
    log.headline(unitmem_headline(by_layer) | {"precision": options.precision})
    return by_layer


def _curve(mu: MuTable, results: Results, sizes: Sequence[int]) -> Table:
    """`unitmem_curve` with the table of one layer at a time in memory."""
    parts, start = [], 0
    for layer, result in results.items():
        end = start + result.unitmem.numel()
        result.mu = mu.columns(slice(start, end)).to(result.unitmem.device)
        parts.append(unitmem_curve({layer: result}, sizes))
        result.mu, start = None, end
    return {name: np.concatenate([part[name] for part in parts]) for name in UNITMEM_CURVE}


def _overview(table: Table, excess: Table, scores: Scores, log: AnalysisLog) -> None:
    """All units together, beside what the null and held-out images give."""
    log.table("highest", highest_units(table, excess))
    log.table("tests", extreme_tests(table["layer"], scores))
    extremes = extreme_shares(table["layer"], scores)
    log.table("extremes", extremes)
    if not scores:
        return
    caption = "Every unit, sorted within its layer; in the null each unit has one draw of what it would score."
    log.figure("heatmap", unitmem_heatmap(table["layer"], scores), caption)
    caption = "Only the top and bottom 10 % of all units, sorted within their layers; each panel has its own limits."
    log.figure("extremes", unitmem_extremes(table["layer"], scores), caption)
    caption = "All units of all layers, and which share of each layer is among their top 10 %."
    log.figure("overall", unitmem_overall(scores, extremes), caption)
    log.headline({f"all/{name}_mean": float(np.nanmean(values)) for name, values in scores.items()})


def _medians(table: Table, medians: Table, log: AnalysisLog) -> None:
    log.table("medians", medians)
    caption = "UnitMem against the mean and against the median of the other images, and how alike they order units."
    log.figure("mean_and_median", unitmem_mean_and_median(table, medians), caption)
    overall = (medians["layer"] == ALL) & (medians["scores"] == "scored")
    log.headline({f"all/{name}": float(medians[name][overall][0]) for name in ("median", "pearson", "spearman")})


def _add_medians(results: Results, rest_U: Tensor) -> None:
    start = 0
    for result in results.values():
        rest = rest_U[start : start + result.unitmem.numel()]
        result.mu_rest_median, result.unitmem_median = rest, unitmem_from_extremes(result.mu_max, rest)
        start += rest.numel()


def unitmem_headline(by_layer: Table) -> dict[str, float]:
    """Numbers for W&B and the summary: ``mean/<layer>``, ``null_mean/<layer>``, ``held_out_mean/<layer>``."""
    return {
        f"{name}/{layer}": float(value)
        for name in ("mean", "null_mean", "held_out_mean", "unit_contrast")
        if name in by_layer
        for layer, value in zip(by_layer["layer"], by_layer[name], strict=True)
    }


def unitmem_tag(member: str, split: str, checkpoint: str | None) -> str | None:
    """What tells a result apart from that of the finished candidate encoder on its own split.

    Args:
        member: whose units.
        split: which images.
        checkpoint: name of the checkpoint; None for the finished encoder.
    """
    parts = [] if member == split == "candidate" else [f"{member}-on-{split}"]
    return "-".join([*parts, *filter(None, [checkpoint])]) or None


def _contrasts(f_own: Results, f_other: Results, g_other: Results, g_own: Results) -> dict[str, UnitContrast]:
    return {layer: unit_contrast(f_own[layer], f_other[layer], g_other[layer], g_own[layer]) for layer in f_own}
