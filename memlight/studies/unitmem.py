"""UnitMem of one encoder with its baselines: the study behind `analyze.py unitmem` and the callback."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

from memlight import dist
from memlight.charts.units import unitmem_excess, unitmem_reliability
from memlight.data.augment import Views
from memlight.data.images import ImageDataModule
from memlight.data.splits import PARTNERS
from memlight.features import Activation, Tokens
from memlight.figures import spread_over, unitmem_by_layer, unitmem_heatmap, unitmem_histogram
from memlight.logs import AnalysisLog
from memlight.metrics.functional import Reference
from memlight.metrics.passes import images_at_once
from memlight.metrics.reliability import split_half, unitmem_curve
from memlight.metrics.summaries import excess_table, null_table, unitmem_layers, unitmem_table, unitmem_top
from memlight.metrics.unitcontrast import UnitContrast, unit_contrast
from memlight.metrics.unitmem import UnitMemResult, measure_unitmem
from memlight.pictures import rows_grid
from memlight.tables import (
    UNITMEM_CURVE,
    UNITMEM_EXCESS,
    UNITMEM_LAYERS,
    UNITMEM_NULL,
    UNITMEM_RELIABILITY,
    UNITMEM_TABLE,
    UNITMEM_TOP,
    Table,
)

ROWS, COLUMNS = 12, 8
"""Units and images in a picture."""

CURVE_SIZES = (10, 30, 100, 300, 1000, 3000, 10_000)
"""Numbers of images at which the curve of mean UnitMem is drawn, besides all of them."""

Results = Mapping[str, UnitMemResult]
Unit = tuple[str, int]
"""Layer and channel."""


@dataclass(frozen=True)
class UnitMemOptions:
    """How UnitMem is measured; see `memlight.features.capture` and `memlight.metrics.unitmem` for the choices.

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


def study_unitmem(
    encoder: nn.Module,
    data: ImageDataModule,
    layers: Sequence[str],
    options: UnitMemOptions,
    log: AnalysisLog,
    *,
    partner: nn.Module | None = None,
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
        progress: show bars.

    Returns:
        The table by layer (``UNITMEM_LAYERS``).
    """

    def measure(network: nn.Module, split: str, *, limit: int | None = None) -> Results:
        at_once = images_at_once(options.max_forward, options.num_views)
        batches = data.batches(split, at_once, dist.rank(), dist.world_size(), limit=limit)
        log.images += len(batches.ids)
        return measure_unitmem(
            network,
            batches,
            data.view_maker(options.views, seed=options.seed),
            layers,
            num_views=options.num_views,
            reference=options.reference,
            activation=options.activation,
            tokens=options.tokens,
            topk=options.topk,
            keep_table=partner is not None,
            max_forward=options.max_forward,
            progress=progress,
            title=f"UnitMem {split}",
        )

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
    log.table("table", table, UNITMEM_TABLE)
    log.table("layers", by_layer, UNITMEM_LAYERS)
    excess, null = excess_table(results, held_out), null_table(results, held_out)
    log.table("excess", excess, UNITMEM_EXCESS)
    log.table("null", null, UNITMEM_NULL)
    log.table("top", unitmem_top(results), UNITMEM_TOP)
    halves = {"layer": np.array(list(results)), "split_half": np.array([split_half(r) for r in results.values()])}
    log.table("reliability", halves, UNITMEM_RELIABILITY)
    curve = None
    if partner is not None:  # the curve needs the table of mu, which the contrast keeps
        curve = unitmem_curve(results, (*CURVE_SIZES, scored))
        log.table("curve", curve, UNITMEM_CURVE)
    log.figure("by_layer", unitmem_by_layer(by_layer), "UnitMem by layer beside its null and held-out images.")
    caption = "Excess of UnitMem over what exchangeable images would score; bars are 95 % intervals over images."
    log.figure("excess", unitmem_excess(null, excess), caption)
    log.figure("histogram", unitmem_histogram(table), "UnitMem of all units, layer by layer.")
    log.figure("reliability", unitmem_reliability(halves, curve), "How far the scores depend on the views and on N.")
    log.figure("heatmap", unitmem_heatmap(table), "Every unit, sorted within its layer.")
    _pictures(results, data, log)
    log.headline(unitmem_headline(by_layer))
    return by_layer


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


def _pictures(results: Results, data: ImageDataModule, log: AnalysisLog) -> None:
    """The strongest unit of each layer, and the strongest units of all, with the images that drive them."""
    for name, units in units_shown({layer: result.unitmem for layer, result in results.items()}).items():
        _unit_rows(name, units, results, data, log)


def units_shown(scores: Mapping[str, Tensor]) -> dict[str, list[Unit]]:
    """Which units are worth a picture: the strongest one of each layer, and the strongest of all; ``ROWS`` of either.

    Args:
        scores: layer -> ``(U,)``.

    Returns:
        The picture's name -> layer and channel of each unit.
    """
    best = [(layer, int(of_layer.argmax())) for layer, of_layer in scores.items()]
    candidates = [
        (layer, unit)
        for layer, of_layer in scores.items()
        for unit in of_layer.topk(min(ROWS, of_layer.numel())).indices.tolist()
    ]
    ranked = sorted(candidates, key=lambda named: -float(scores[named[0]][named[1]]))
    return {"top_unit_of_each_layer": spread_over(best, ROWS), "top_units": ranked[:ROWS]}


def _unit_rows(name: str, units: Sequence[Unit], results: Results, data: ImageDataModule, log: AnalysisLog) -> None:
    images, labels, captions = [], [], []
    for layer, unit in units:
        result = results[layer]
        ids = result.topk_ids[:COLUMNS, unit].tolist()
        images.append(data.images_of(ids).permute(0, 2, 3, 1).numpy())
        labels.append(f"{layer} unit {unit}\n{float(result.unitmem[unit]):.3f}")
        captions.append(
            [f"{id_}\n{mu:.3g}" for id_, mu in zip(ids, result.topk_mu[:COLUMNS, unit].tolist(), strict=True)]
        )
    title = name.replace("_", " ").capitalize()
    figure = rows_grid(np.stack(images), labels, captions, title=title)
    log.figure(name, figure, f"{title}, with the images that drive them: id and mu.")
