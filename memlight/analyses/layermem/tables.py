"""The tables of LayerMem, from its results: by layer, by image, intervals, controls."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from memlight.features.layers import delta_references
from memlight.metrics.functional import contrast, delta
from memlight.metrics.layermem import LayerMemResult
from memlight.stats import as_array, bootstrap_means, mean_of, normal_interval, welch
from memlight.storage.tables import Table

CONTROLS = ("independent", "external", "shared")
"""Splits on which LayerMem measures no memorisation of the candidate encoder alone."""


def layermem_table(results: Mapping[str, Mapping[str, LayerMemResult]], extremes: int = 50) -> Table:
    """LayerMem of every layer beside its controls and the contrast: the columns of ``layermem/table.csv``.

    Args:
        results: split -> layer -> result, layers in execution order. ``candidate`` is required; a split that is
            missing gives NaN.
        extremes: how many of the most and least memorised candidates, by their score on the last layer, make up
            ``top50`` and ``least50``; all of them when there are fewer.
    """
    candidate = results["candidate"]
    layers = list(candidate)
    layermem = torch.stack([candidate[layer].layermem for layer in layers])
    intervals = [_contrast_interval(candidate[layer], results.get("independent", {}).get(layer)) for layer in layers]
    ranked = candidate[layers[-1]].scores.argsort(descending=True, stable=True)
    top, least = ranked[:extremes], ranked[-extremes:]
    table: Table = {
        "layer": np.array(layers),
        "depth": np.arange(len(layers)),
        "layermem": as_array(layermem),
        "delta": as_array(delta(layermem, delta_references(layers))),
    }
    for split in CONTROLS:
        means = [float(results[split][layer].layermem) if results.get(split) else np.nan for layer in layers]
        table[f"control_{split}"] = np.array(means)
    for position, name in enumerate(("contrast", "contrast_low", "contrast_high")):
        table[name] = np.array([interval[position] for interval in intervals])
    table["top50"] = np.array([float(candidate[layer].scores[top].mean()) for layer in layers])
    table["least50"] = np.array([float(candidate[layer].scores[least].mean()) for layer in layers])
    table["n"] = np.array([candidate[layer].ids.numel() for layer in layers])
    return table


def layermem_intervals(results: Mapping[str, Mapping[str, LayerMemResult]], extremes: int = 50) -> Table:
    """Bootstrap 95 % intervals over images: the columns of ``layermem/intervals.csv``.

    Images are drawn with replacement, the same ones for all layers. Each resample ranks its own images, so the
    intervals of ``top50`` and ``least50`` hold the luck of which images there are to choose from. They say how far a
    mean depends on the images of this pair, and nothing about what another training would give.

    Args:
        results: as `layermem_table` takes.
        extremes: likewise.
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
    results: Mapping[str, Mapping[str, LayerMemResult]],
    labels_of: Callable[[NDArray[np.int64]], NDArray[np.int64]],
) -> Table:
    """The score of every image on every layer: the columns of ``layermem/samples.csv``.

    Args:
        results: split -> layer -> result.
        labels_of: data set ids -> labels.
    """
    parts: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("id", "split", "label", "layer", "align_f", "align_g", "score")
    }
    for split, layers in results.items():
        for layer, result in layers.items():
            ids = result.ids.cpu().numpy()
            parts["id"].append(ids)
            parts["split"].append(np.full(len(ids), split))
            parts["label"].append(labels_of(ids))
            parts["layer"].append(np.full(len(ids), layer))
            parts["align_f"].append(as_array(result.align_f))
            parts["align_g"].append(as_array(result.align_g))
            parts["score"].append(as_array(result.scores))
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def control_tests(results: Mapping[str, Mapping[str, LayerMemResult]]) -> Table:
    """Welch's t-test of the candidates' scores against those of each control split ([P0] does this).

    Returns:
        Columns ``layer``, ``control``, ``t`` and two-sided ``p``.
    """
    rows = [
        (layer, split, *welch(as_array(result.scores), as_array(results[split][layer].scores)))
        for layer, result in results["candidate"].items()
        for split in CONTROLS
        if results.get(split)
    ]
    layer, control, t, p = zip(*rows, strict=True) if rows else ((), (), (), ())
    return {
        "layer": np.array(layer, dtype=np.str_),
        "control": np.array(control, dtype=np.str_),
        "t": np.array(t, dtype=np.float64),
        "p": np.array(p, dtype=np.float64),
    }


def _contrast_interval(candidate: LayerMemResult, independent: LayerMemResult | None) -> tuple[float, float, float]:
    if independent is None or min(candidate.scores.numel(), independent.scores.numel()) < 2:
        return np.nan, np.nan, np.nan
    value, error = contrast(candidate.scores, independent.scores)
    return normal_interval(float(value), float(error))
