"""LayerMem of a pair on all four splits: the study behind `analyze.py layermem` and the callback."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from memlight import dist
from memlight.analyses.joined import Measured, write_joined
from memlight.analyses.layermem.agreement import RANKED_SPLITS, layer_agreement
from memlight.analyses.layermem.chart import agreement_between_layers, layermem_by_block, layermem_by_depth
from memlight.analyses.layermem.command import LayerMemOptions
from memlight.analyses.layermem.design import design_of
from memlight.analyses.layermem.membership import (
    Results,
    Scores,
    membership_table,
    placebo_table,
    probe_aucs,
    scores_of,
)
from memlight.analyses.layermem.membership_chart import membership_by_depth
from memlight.analyses.layermem.tables import (
    control_tests,
    layermem_blocks,
    layermem_intervals,
    layermem_samples,
    layermem_table,
    mlp_minus_attention,
)
from memlight.data.images import ImageDataModule
from memlight.data.joining import JoinedScores
from memlight.data.loading import Batches
from memlight.display.pictures import channels_last, image_grid
from memlight.features.passes import device_of, images_at_once
from memlight.metrics.layermem import LayerMemResult, in_one_unit, measure_layermem
from memlight.runs.analysis import numbers_by_layer
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
    layers: Sequence[str],
    options: LayerMemOptions,
    log: AnalysisLog,
    *,
    joined: JoinedScores | None = None,
    max_forward: int = 1024,
    progress: bool = True,
) -> dict[str, float]:
    """Score the images of every split on every layer, and write tables and figures.

    Args:
        encoder_f: the encoder that saw the candidates.
        encoder_g: the encoder that saw the independent images.
        data: splits and images.
        layers: module paths in execution order.
        options: how the images are scored, and on which views.
        log: where the results go.
        joined: scores that others computed of the images; None for none.
        max_forward: most views in one forward.
        progress: show bars.

    Returns:
        What `write_layermem` gives.
    """
    measured = measure_splits(encoder_f, encoder_g, data, layers, options, max_forward=max_forward, progress=progress)
    log.images += sum(len(next(iter(of_layers.values())).ids) for of_layers in measured.values())
    return write_layermem(measured, data, options, log, device_of(encoder_f), joined)


def measure_splits(
    encoder_f: nn.Module,
    encoder_g: nn.Module,
    data: ImageDataModule,
    layers: Sequence[str],
    options: LayerMemOptions,
    *,
    max_forward: int,
    progress: bool,
) -> dict[str, dict[str, LayerMemResult]]:
    """Score the images of every split that has some, with what membership needs; arguments as `study_layermem`."""
    results: dict[str, dict[str, LayerMemResult]] = {}
    make_views = options.view_maker(data)
    for split in SPLITS:
        batches = batches_of(split, data, images_at_once(max_forward, options.views))
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
            traces=True,
            max_forward=max_forward,
            progress=progress,
            title=f"LayerMem {split}",
        )
    return results


def batches_of(split: str, data: ImageDataModule, at_once: int) -> Batches:
    """This process's share of the images of a split that LayerMem scores.

    Of the shared images as many are scored as there are candidates: they are a control, and there are many more.
    """
    limit = len(data.split.candidate) if split == "shared" else None
    return data.batches(split, at_once, dist.rank(), dist.world_size(), limit=limit)


def write_layermem(
    results: Results,
    data: ImageDataModule,
    options: LayerMemOptions,
    log: AnalysisLog,
    device: torch.device,
    joined: JoinedScores | None = None,
) -> dict[str, float]:
    """Write the tables and figures of what was measured.

    Args:
        results: of every split that has images, with traces.
        data: splits and images.
        options: how the images were scored.
        log: where the results go.
        device: where distances between images are computed.
        joined: scores that others computed of the images; None for none.

    Returns:
        Numbers for W&B and the summary: ``contrast/<layer>``, ``layermem/<layer>`` and ``auc_pair/<layer>``.
    """
    results = in_one_unit(results, options.scale)
    layers = list(results["candidate"])
    table, intervals = layermem_table(results), layermem_intervals(results)
    scores = scores_of(results, device)
    log.table("table", table)
    log.table("samples", layermem_samples(results, scores, data.labels_of))
    log.table("tests", control_tests(results))
    log.table("intervals", intervals)
    caption = (
        "Contrast, published LayerMem with its controls, and delta. Bands are 95 % over images: of the contrast the "
        "inner one for each layer by itself (pointwise), the outer one for all layers at once (simultaneous)."
    )
    log.figure("by_depth", layermem_by_depth(table, intervals), caption)
    membership = _membership(results, scores, log)
    _blocks(table, results, log)
    _agreement(results, log)
    _pictures(results["candidate"][layers[-1]], layers[-1], data, log, joined)
    if joined is not None:
        own, other = (_measured(results, split) for split in ("candidate", design_of(results).control))
        write_joined(layers, own, joined, other, data, log)
    numbers = {**numbers_by_layer(table, "contrast", "layermem"), **numbers_by_layer(membership, "auc_pair")}
    log.headline(numbers)
    return numbers


def _membership(results: Results, scores: Scores, log: AnalysisLog) -> Table:
    """Which layers give away what was trained on, and the placebos."""
    layers = list(results["candidate"])
    membership = membership_table(layers, scores, probe_aucs(results))
    placebos = placebo_table(layers, scores)
    log.table("membership", membership)
    log.table("placebos", placebos)
    caption = (
        f"Left: the chance that a candidate scores higher than an {design_of(results).control} image, with the 95 % "
        "bands of each layer by itself (inner) and of all layers at once (outer), and the attack with one reference. "
        "Right: what other numbers give away, and halves of the shared and of the external images, which are chance."
    )
    log.figure("membership", membership_by_depth(membership, placebos), caption)
    return membership


def _blocks(table: Table, results: Results, log: AnalysisLog) -> None:
    """Of a transformer: attention and MLP apart, block by block."""
    blocks = layermem_blocks(table)
    if len(blocks["block"]) == 0:
        return
    log.table("blocks", blocks)
    log.figure(
        "by_block",
        layermem_by_block(blocks, design_of(results)),
        "Attention, MLP and both residual sums, block by block.",
    )
    if (difference := mlp_minus_attention(results)) is not None:
        ends = {"": difference.contrast, "_low": difference.low, "_high": difference.high, "_p": difference.p_adjusted}
        log.headline({f"mlp_minus_attention{end}": float(values[0]) for end, values in ends.items()})


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


def _measured(results: Results, split: str) -> Measured:
    """The scores of a split's images on all layers."""
    of_layers = list(results[split].values())
    scores = np.stack([as_array(result.scores) for result in of_layers], axis=1).astype(np.float64)
    return Measured(split, as_array(of_layers[0].ids), scores, "LayerMem")


def _pictures(
    result: LayerMemResult, layer: str, data: ImageDataModule, log: AnalysisLog, joined: JoinedScores | None
) -> None:
    """The candidates that score highest and lowest: figures, and a table where more is known of them than an id."""
    ranked = as_array(result.scores.argsort(descending=True, stable=True))
    ids, scores = as_array(result.ids), as_array(result.scores).astype(np.float64)
    parts: list[Table] = []
    for which, rows in (("most", ranked[:PICTURED]), ("least", ranked[::-1][:PICTURED])):
        shown = ids[rows]
        others = joined.captions(shown) if joined is not None else [""] * len(shown)
        words = [f"{score:+.3f}" for score in scores[rows].tolist()]
        captions = data.names.captions(shown, map(str, shown.tolist()), words, others)
        title = f"The candidates that score {'highest' if which == 'most' else 'lowest'} at {layer}"
        caption = f"{title}: {data.names.under_pictures}, and the score."
        shades = None
        if joined is not None:
            shades = joined.shades(shown, ids)
            caption += f" Below it {joined.names[0]} of {joined.file}; the darker a bar, the higher that is among all."
        images = channels_last(data.images_of(shown))
        log.figure(f"{which}_memorised", image_grid(images, captions, title=title, shades=shades), caption)
        part: Table = {"which": np.full(len(shown), which), "rank": np.arange(1, len(shown) + 1), "id": shown}
        part |= {"label": data.labels_of(shown), "score": scores[rows]}
        parts.append(part if joined is None else {**part, "joined": joined.of(shown)[:, 0]})
    if data.names.are_files or joined is not None:
        log.table("pictured", {name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
