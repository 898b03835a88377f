"""LayerMem of a pair on all four splits: the study behind `analyze.py layermem` and the callback."""

from collections.abc import Sequence

import numpy as np
from torch import nn

from memlight import dist
from memlight.analyses.layermem.agreement import RANKED_SPLITS, layer_agreement
from memlight.analyses.layermem.chart import agreement_between_layers, layermem_by_block, layermem_by_depth
from memlight.analyses.layermem.command import LayerMemOptions
from memlight.analyses.layermem.tables import (
    Results,
    control_tests,
    layermem_blocks,
    layermem_intervals,
    layermem_samples,
    layermem_table,
    mlp_minus_attention,
)
from memlight.batch import ViewMaker
from memlight.data.images import ImageDataModule
from memlight.display.pictures import image_grid
from memlight.features.passes import images_at_once
from memlight.metrics.layermem import LayerMemResult, in_one_unit, measure_layermem
from memlight.runs.log import AnalysisLog
from memlight.stats import as_array
from memlight.storage.tables import Table

SPLITS = ("candidate", "independent", "external", "shared")
PICTURED = 20
"""How many of the most and of the least memorised candidates are shown."""


def study_layermem(
    encoder_f: nn.Module,
    encoder_g: nn.Module,
    data: ImageDataModule,
    make_views: ViewMaker,
    layers: Sequence[str],
    options: LayerMemOptions,
    log: AnalysisLog,
    *,
    max_forward: int = 1024,
    progress: bool = True,
) -> Table:
    """Score the images of every split on every layer, and write tables and figures.

    Of the shared images as many are scored as there are candidates: they are a control, and there are many more.

    Args:
        encoder_f: the encoder that saw the candidates.
        encoder_g: the encoder that saw the independent images.
        data: splits and images.
        make_views: ``(batch, view index) -> (B, 3, h, w)``.
        layers: module paths in execution order.
        options: how the images are scored; its set of views and their seed are those of ``make_views``.
        log: where the results go.
        max_forward: most views in one forward.
        progress: show bars.

    Returns:
        The table by layer (``LAYERMEM_TABLE``).
    """
    results: dict[str, dict[str, LayerMemResult]] = {}
    for split in SPLITS:
        limit = len(data.split.candidate) if split == "shared" else None
        at_once = images_at_once(max_forward, options.views)
        batches = data.batches(split, at_once, dist.rank(), dist.world_size(), limit=limit)
        if len(batches.ids) == 0:
            continue
        results[split] = measure_layermem(
            encoder_f,
            encoder_g,
            batches,
            make_views,
            layers,
            num_views=options.views,
            distance=options.distance,
            pairs=options.pairs,
            scale=options.scale,
            max_forward=max_forward,
            progress=progress,
            title=f"LayerMem {split}",
        )
        log.images += len(batches.ids)
    results = in_one_unit(results, options.scale)
    table, intervals = layermem_table(results), layermem_intervals(results)
    log.table("table", table)
    log.table("samples", layermem_samples(results, data.labels_of))
    log.table("tests", control_tests(results))
    log.table("intervals", intervals)
    caption = "Contrast, published LayerMem with its controls, and delta; bands are 95 % intervals over images."
    log.figure("by_depth", layermem_by_depth(table, intervals), caption)
    _blocks(table, results, log)
    _agreement(results, log)
    _pictures(results["candidate"][layers[-1]], layers[-1], data, log)
    log.headline(layermem_headline(table))
    return table


def layermem_headline(table: Table) -> dict[str, float]:
    """One number a layer for W&B and the summary: ``contrast/<layer>`` and ``layermem/<layer>``."""
    return {
        f"{name}/{layer}": float(value)
        for name in ("contrast", "layermem")
        for layer, value in zip(table["layer"], table[name], strict=True)
    }


def _blocks(table: Table, results: Results, log: AnalysisLog) -> None:
    """Of a transformer: attention and MLP apart, block by block."""
    blocks = layermem_blocks(table)
    if len(blocks["block"]) == 0:
        return
    log.table("blocks", blocks)
    log.figure("by_block", layermem_by_block(blocks), "Attention, MLP and both residual sums, block by block.")
    if (difference := mlp_minus_attention(results)) is not None:
        names = ("mlp_minus_attention", "mlp_minus_attention_low", "mlp_minus_attention_high")
        log.headline(dict(zip(names, difference, strict=True)))


def _agreement(results: Results, log: AnalysisLog) -> None:
    """Whether layers rank the same images highest, beside images that neither encoder saw."""
    if len(results["candidate"]) < 2:
        return
    scores = {
        split: {layer: as_array(result.scores) for layer, result in results[split].items()}
        for split in RANKED_SPLITS
        if split in results
    }
    agreement = layer_agreement(scores)
    log.table("agreement", agreement)
    caption = (
        "Do layers rank the same images highest? Below the diagonal candidates; above it external images, which no "
        "encoder saw: layers that agree as much on those do not agree for what was memorised."
    )
    log.figure("agreement", agreement_between_layers(agreement), caption)


def _pictures(result: LayerMemResult, layer: str, data: ImageDataModule, log: AnalysisLog) -> None:
    ranked = result.scores.argsort(descending=True, stable=True)
    for name, which in (("most_memorised", ranked[:PICTURED]), ("least_memorised", ranked.flip(0)[:PICTURED])):
        ids, scores = result.ids[which].tolist(), result.scores[which].tolist()
        images = data.images_of(ids).permute(0, 2, 3, 1).numpy()
        captions = [f"{id_}\n{score:+.3f}" for id_, score in zip(ids, scores, strict=True)]
        title = f"The candidates that score {'highest' if name == 'most_memorised' else 'lowest'} at {layer}"
        log.figure(name, image_grid(np.ascontiguousarray(images), captions, title=title), f"{title}: id and score.")
