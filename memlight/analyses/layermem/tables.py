"""The tables of LayerMem, from its results: by layer, by image, by transformer block, intervals and controls."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from memlight.analyses.layermem.columns import LAYERMEM_BLOCKS, LAYERMEM_SAMPLES, LAYERMEM_TABLE, LAYERMEM_TESTS
from memlight.analyses.layermem.design import design_of
from memlight.analyses.layermem.images import NUMBERS
from memlight.analyses.layermem.membership import Results, Scores
from memlight.features.layers import delta_references
from memlight.metrics.functional import delta
from memlight.metrics.layermem import LayerMemResult
from memlight.stats import Family, Interval, as_array, bootstrap_means, family, mean_of, welch
from memlight.storage.tables import Table, table_of

CONTROLS = ("independent", "external", "shared")
"""Splits on which LayerMem measures no memorisation of the candidate encoder alone."""

PARTS = {
    "attention": r"\.(?:attn|self_attention)",
    "residual_attention": r"\.(?:norm2|ln_2)@in",
    "hidden": r"\.mlp\.\w+(?:@in)?",
    "mlp": r"\.mlp",
    "residual_mlp": r"",
}
"""The layers of a transformer block in their order, and what follows the block's name in theirs."""


def contrast_interval(candidate: Tensor, independent: Tensor) -> Interval:
    """Half the difference of two mean scores, with its own 95 % interval over images.

    Args:
        candidate: ``(n,)`` scores of the images that only the first encoder has seen.
        independent: ``(m,)`` scores of those that only the second encoder has seen.

    Returns:
        NaN where a split has fewer than two images.
    """
    found = family(as_array(candidate), as_array(independent), permutations=0)
    return Interval(*(float(values[0]) for values in (found.contrast, found.low, found.high)))


def layermem_table(results: Results, extremes: int = 50) -> Table:
    """LayerMem of every layer beside its controls and the contrast: the columns of ``layermem/table.csv``.

    Args:
        results: of every split; one that is missing gives NaN.
        extremes: how many of the most and least memorised candidates, by their score on the last layer, make up
            ``top50`` and ``least50``; all of them when there are fewer.
    """
    candidate = results["candidate"]
    layers = list(candidate)
    layermem = torch.stack([candidate[layer].layermem for layer in layers])
    steps = as_array(delta(layermem, delta_references(layers)))
    ranked = candidate[layers[-1]].scores.argsort(descending=True, stable=True)
    design = design_of(results)
    own, other = (_scores(results.get(split) or {}, layers) for split in ("candidate", design.control))
    tested = design.contrast(own, other)
    rows = []
    for depth, (layer, result) in enumerate(candidate.items()):
        controls = {split: results[split][layer] for split in CONTROLS if results.get(split)}
        extreme = (ranked[:extremes], ranked[-extremes:])
        rows.append(
            (
                *(layer, depth, float(result.layermem), float(steps[depth])),
                *(float(controls[split].layermem) if split in controls else np.nan for split in CONTROLS),
                *(values[depth] for values in (tested.contrast, tested.low, tested.high)),
                *(float(result.scores[images].mean()) for images in extreme),
                len(result.ids),
                *(values[depth] for values in (tested.p_adjusted, tested.simultaneous_low, tested.simultaneous_high)),
            )
        )
    return table_of(LAYERMEM_TABLE, rows)


def layermem_intervals(results: Results, extremes: int = 50) -> Table:
    """Bootstrap 95 % intervals over images: the columns of ``layermem/intervals.csv``.

    Images are drawn with replacement, the same ones for all layers. Each resample ranks its own images, so the
    intervals of ``top50`` and ``least50`` hold the luck of which images there are to choose from. They say how far a
    mean depends on the images of this pair, and nothing about what another training would give.

    Args:
        results: of every split; one that is missing gives NaN.
        extremes: how many candidates make up ``top50`` and ``least50``, as for `layermem_table`.
    """
    layers = list(results["candidate"])
    values = {split: np.stack([as_array(of[layer].scores) for layer in layers]) for split, of in results.items() if of}
    ranked = values["candidate"][:, np.argsort(-values["candidate"][-1], kind="stable")]
    columns = {"layermem": (ranked, None), "top50": (ranked, extremes), "least50": (ranked[:, ::-1], extremes)}
    missing = np.empty((len(layers), 0))
    columns |= {f"control_{split}": (values.get(split, missing), None) for split in CONTROLS}
    table: Table = {"layer": np.array(layers)}
    for name, (scores, first) in columns.items():
        table[name] = np.array([mean_of(row[:first]) for row in scores])
        table[f"{name}_low"], table[f"{name}_high"] = bootstrap_means(scores, first)
    return table


def layermem_samples(
    results: Results, scores: Scores, labels_of: Callable[[NDArray[np.int64]], NDArray[np.int64]]
) -> Table:
    """The numbers of every image on every layer: the columns of ``layermem/samples.csv``.

    Args:
        results: of the splits that were measured.
        scores: `scores_of` them.
        labels_of: data set ids -> labels.
    """
    columns = [name for name in LAYERMEM_SAMPLES if name != "path"]
    parts = []
    for split, layers in results.items():
        for depth, (layer, result) in enumerate(layers.items()):
            ids = as_array(result.ids)
            own = (scores[split][name][:, depth] for name in NUMBERS)
            parts.append((ids, np.full(len(ids), split), labels_of(ids), np.full(len(ids), layer), *own))
    return {name: np.concatenate(cells) for name, cells in zip(columns, zip(*parts, strict=True), strict=True)}


def control_tests(results: Results) -> Table:
    """Welch's t-test of the candidates' scores against those of each control split ([P0] does this).

    Returns:
        Columns ``layer``, ``control``, ``t`` and two-sided ``p``; no rows without a control.
    """
    rows = [
        (layer, split, *welch(as_array(result.scores), as_array(results[split][layer].scores)))
        for layer, result in results["candidate"].items()
        for split in CONTROLS
        if results.get(split)
    ]
    return table_of(LAYERMEM_TESTS, rows)


def layers_by_block(layers: Sequence[str]) -> list[dict[str, str]]:
    """The layers of each transformer block, by part (`PARTS`), in execution order.

    Args:
        layers: names in execution order; what belongs to no block that has an attention is left out.
    """
    blocks: dict[str, dict[str, str]] = {}
    for layer in layers:
        for part, pattern in PARTS.items():
            if match := re.fullmatch(rf"(.*\d){pattern}", layer):
                blocks.setdefault(match[1], {})[part] = layer
    return [parts for parts in blocks.values() if "attention" in parts]


def layermem_blocks(table: Table) -> Table:
    """The rows of ``layermem/table.csv`` that belong to transformer blocks, with block (from 1, as [P]) and part.

    Args:
        table: columns ``LAYERMEM_TABLE``.

    Returns:
        Columns ``LAYERMEM_BLOCKS`` ([P] Table 10); no rows for other architectures.
    """
    row_of = {layer: row for row, layer in enumerate(table["layer"].tolist())}
    rows = [
        (number, part, *(table[name][row_of[layer]] for name in [*LAYERMEM_BLOCKS][2:]))
        for number, parts in enumerate(layers_by_block(list(row_of)), start=1)
        for part, layer in parts.items()
    ]
    return table_of(LAYERMEM_BLOCKS, rows)


def mlp_minus_attention(results: Results) -> Family | None:
    """Contrast of the difference between MLP and attention, averaged over blocks, with its interval and p.

    Scores of one image in two layers are dependent, so the difference is taken image by image before anything is
    averaged: ``d(x) = mean over blocks of SSLMem'(x, mlp) - SSLMem'(x, attention)``.

    Args:
        results: candidates and their control scored on the same layers.

    Returns:
        A family of one; None where no block has both, or a split is missing.
    """
    design = design_of(results)
    pairs = [
        (parts["mlp"], parts["attention"])
        for parts in layers_by_block(list(results["candidate"]))
        if parts.keys() >= {"mlp", "attention"}
    ]
    if not pairs or not results.get(design.control):
        return None
    candidate, control = (
        torch.stack([results[split][mlp].scores - results[split][attention].scores for mlp, attention in pairs]).mean(0)
        for split in ("candidate", design.control)
    )
    return design.contrast(as_array(candidate), as_array(control))


def _scores(of_layers: Mapping[str, LayerMemResult], layers: Sequence[str]) -> NDArray[np.float64]:
    """``(N, L)``; no rows for a split that was not measured."""
    if not of_layers:
        return np.empty((0, len(layers)))
    return np.stack([as_array(of_layers[layer].scores) for layer in layers], axis=1).astype(np.float64)
