"""What pruning costs, by UnitMem against random units: the study behind `analyze.py prune` and the callback."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from memlight import dist
from memlight.analyses.effects import effect_row
from memlight.analyses.probe.accuracy import Accuracy, measure_accuracy
from memlight.analyses.probe.command import ProbeOptions
from memlight.analyses.prune.chart import accuracy_lost
from memlight.analyses.prune.columns import PRUNE_EFFECTS, PRUNE_TABLE, PRUNE_UNITS
from memlight.analyses.prune.command import Mode, PruneOptions, Scope
from memlight.analyses.unitmem.tables import unitmem_table
from memlight.analyses.verdicts import effects_table
from memlight.data.images import ImageDataModule
from memlight.errors import UserError
from memlight.features.hooks import count_units
from memlight.features.layers import choose_layers
from memlight.features.passes import images_at_once
from memlight.interventions import prune_units
from memlight.interventions.parts import prunable_layers, unit_weights
from memlight.metrics.unitmem import measure_unitmem
from memlight.runs.log import AnalysisLog
from memlight.stats import as_array
from memlight.storage.tables import Table, table_of

_SCOPE_KEYS: dict[Scope, int] = {"layer": 1, "model": 2}
"""What tells the random draws of the two scopes apart."""


class PrunedCopy(NamedTuple):
    """What one copy of an encoder loses.

    Attributes:
        mode: the highest scores, the lowest ones, or random units.
        scope: a share of each layer, or of all units together.
        ratio: the share.
        trial: which random draw; 0 for the other modes.
        units: channels of each layer, ascending; a layer may lose none.
    """

    mode: Mode
    scope: Scope
    ratio: float
    trial: int
    units: dict[str, list[int]]


def own_split(member: str) -> str:
    """The images that a member alone was trained on; the candidates for every other encoder."""
    return "independent" if member == "independent" else "candidate"


def layers_to_prune(encoder: nn.Module, chosen: Sequence[str] | None, options: PruneOptions) -> list[str]:
    """The chosen layers in execution order, or all that can be pruned; checked with every share of their units.

    Raises:
        UserError: a layer that is unknown or cannot be pruned, or a share that is no unit of it.
    """
    prunable = prunable_layers(encoder)
    names = prunable
    if chosen is not None:
        chosen = choose_layers(chosen, prunable)
        makers = [weights.producer for weights in unit_weights(encoder, chosen).values()]
        for position, layer in enumerate(chosen):
            if (first := makers.index(makers[position])) < position:
                raise UserError("layers", layer, f"has the same units as {chosen[first]}", "name one of the two")
        order = {layer: position for position, layer in enumerate(prunable)}
        names = sorted(chosen, key=lambda layer: order.get(layer, len(order)))
    sizes = count_units(encoder, names)
    for scope in options.scope:
        for ratio in options.ratios:
            require_pruned(sizes, scope, ratio)
    return names


def require_pruned(sizes: Mapping[str, int], scope: Scope, ratio: float) -> None:
    """Refuse a share that leaves a layer (or, in scope ``model``, the encoder) as it is.

    Args:
        sizes: units of each layer.
        scope: whether ``ratio`` is a share of each layer, or of all units together.
        ratio: the share.

    Raises:
        UserError: names the smallest layer, and the share that takes one unit of it.
    """
    smallest = min(sizes, key=lambda layer: sizes[layer])
    where, units = (smallest, sizes[smallest]) if scope == "layer" else ("the model", sum(sizes.values()))
    if pruned_count(ratio, units) == 0:
        enough = math.ceil(1000 / units) / 1000
        raise UserError("ratios", ratio, f"is none of the {units} units of {where}", f"use {enough:g} or more")


def pruned_count(ratio: float, units: int) -> int:
    """So many of ``units`` are a share: ``int(ratio * units)``, as in the paper, but 29 of 100 for 0.29."""
    return int(ratio * units + 1e-9)


def choose_units(
    scores: Mapping[str, NDArray[np.float64]], mode: Mode, scope: Scope, ratio: float, *, seed: int = 0, trial: int = 0
) -> PrunedCopy:
    """Choose ``int(ratio * U)`` of the U units of each layer, or of all layers together.

    Among equal scores the units that come first go first: by layer, then by channel, in every mode. Dead units have
    score 0 and can be chosen like all others. A random draw depends on (seed, scope, ratio, trial) and, in scope
    ``layer``, on the layer's name: neither on the scores nor on which other layers are pruned.

    Args:
        scores: ``(U,)`` of each layer, in execution order.
        mode: the highest scores, the lowest ones, or random units.
        scope: a share of each layer, or of all units together.
        ratio: the share.
        seed: of the random draws.
        trial: which draw.
    """
    groups = [[layer] for layer in scores] if scope == "layer" else [list(scores)]
    chosen: dict[str, list[int]] = {}
    for group in groups:
        values = np.concatenate([scores[layer] for layer in group])
        if mode == "random":
            key = [seed % 2**64, _SCOPE_KEYS[scope], round(ratio * 1e9), trial]
            key += [crc32(group[0].encode())] if scope == "layer" else []
            order = np.random.default_rng(key).permutation(len(values))
        else:
            order = np.argsort(-values if mode == "top" else values, kind="stable")
        lost = np.sort(order[: pruned_count(ratio, len(values))])
        ends = np.cumsum([len(scores[layer]) for layer in group])
        parts = np.split(lost, np.searchsorted(lost, ends[:-1]))
        starts = [0, *ends[:-1].tolist()]
        chosen |= {layer: (part - start).tolist() for layer, part, start in zip(group, parts, starts, strict=True)}
    return PrunedCopy(mode, scope, ratio, trial, chosen)


def study_prune(
    encoder: nn.Module,
    data: ImageDataModule,
    layers: Sequence[str],
    options: PruneOptions,
    evaluation: ProbeOptions,
    log: AnalysisLog,
    *,
    split: str = "candidate",
    progress: bool = True,
) -> tuple[Table, Table]:
    """Score the units, prune copies, and train a new probe for each; write tables and figures.

    Args:
        encoder: the encoder studied; it is left bit-identical.
        data: splits and images.
        layers: module paths in execution order, see `layers_to_prune`.
        options: which copies are pruned, and how units are scored.
        evaluation: how copies are tested, and the most views or images in one forward.
        log: where the results go.
        split: the images that units are scored on: the encoder's own, see `own_split`.
        progress: show bars.

    Returns:
        Every copy (``PRUNE_TABLE``), and what pruning by score costs against random units (``PRUNE_EFFECTS``).
    """
    at_once = images_at_once(evaluation.max_forward, options.views)
    batches = data.batches(split, at_once, dist.rank(), dist.world_size())
    log.images += len(batches.ids)
    scores = measure_unitmem(
        encoder,
        batches,
        data.view_maker(seed=options.seed),
        layers,
        num_views=options.views,
        activation=options.activation,
        max_forward=evaluation.max_forward,
        progress=progress,
        title=f"UnitMem {split}",
    )
    values = {layer: as_array(result.unitmem) for layer, result in scores.items()}
    seed = data.seed if options.seed is None else options.seed
    copies = [
        choose_units(values, mode, scope, ratio, seed=seed, trial=trial)
        for scope in options.scope
        for ratio in options.ratios
        for mode in options.modes
        for trial in range(options.trials if mode == "random" else 1)
    ]
    encoders = (prune_units(encoder, units) for units in ({}, *(copy.units for copy in copies)))
    none, *pruned = measure_accuracy(encoders, data, evaluation, log, progress=progress, title="pruned copies")
    dead = {layer: as_array(result.dead) for layer, result in scores.items()}
    table, effects, units = prune_tables(copies, none, pruned, dead)
    log.table("table", table)
    log.table("effects", effects)
    log.table("units", units)
    log.table("unitmem", unitmem_table(scores))
    log.figure("accuracy_lost", accuracy_lost(table, effects), "What the probe loses, by which units were pruned.")
    log.headline(prune_headline(table, effects))
    return table, effects


def prune_tables(
    copies: Sequence[PrunedCopy], none: Accuracy, pruned: Sequence[Accuracy], dead: Mapping[str, NDArray[np.bool_]]
) -> tuple[Table, Table, Table]:
    """Accuracies, what pruning by score costs against random draws of the same size, and what every copy lost.

    Args:
        copies: what was pruned.
        none: of the unpruned copy.
        pruned: of each of ``copies``.
        dead: ``(U,)`` of each layer, which units never fired on the images scored.

    Returns:
        ``PRUNE_TABLE``, the unpruned copy first; ``PRUNE_EFFECTS`` of the copies that are not random; ``PRUNE_UNITS``
        with a row for each copy and layer. Accuracies and drops are shares.
    """
    accuracies = [("none", "none", 0.0, 0, 0, none.linear.top1, none.knn, 0.0)]
    effects: list[tuple[object, ...]] = []
    units = []
    draws: dict[tuple[Scope, float], list[Tensor]] = {}
    for copy, accuracy in zip(copies, pruned, strict=True):
        if copy.mode == "random":
            draws.setdefault((copy.scope, copy.ratio), []).append(accuracy.linear.right)
    for copy, (linear, knn) in zip(copies, pruned, strict=True):
        of_layers = [(layer, len(lost), int(dead[layer][lost].sum())) for layer, lost in copy.units.items()]
        count, silent = (sum(numbers) for numbers in zip(*(row[1:] for row in of_layers), strict=True))
        accuracies.append((*copy[:4], count, linear.top1, knn, none.linear.top1 - linear.top1))
        units += [(*copy[:4], *row, " ".join(map(str, copy.units[row[0]]))) for row in of_layers]
        if copy.mode != "random":
            effect = effect_row(none.linear.right, linear.right, draws.get((copy.scope, copy.ratio), []))
            effects.append((copy.scope, copy.ratio, copy.mode, count, silent, *effect))
    return table_of(PRUNE_TABLE, accuracies), effects_table(PRUNE_EFFECTS, effects), table_of(PRUNE_UNITS, units)


def prune_headline(table: Table, effects: Table) -> dict[str, float]:
    """Numbers for W&B and the summary, in shares of the test images.

    ``probe_top1`` of the unpruned copy; ``drop/<mode>/<scope>-<ratio>`` (the mean over draws for random); and
    ``excess/<mode>/<scope>-<ratio>``, what it costs more than random, with ``excess_low`` and ``excess_high``.
    """
    numbers = {"probe_top1": float(table["probe_top1"][0])}
    drops: dict[str, list[float]] = {}
    copies = zip(*(table[name][1:].tolist() for name in ("mode", "scope", "ratio", "drop")), strict=True)
    for mode, scope, ratio, drop in copies:
        drops.setdefault(f"drop/{mode}/{scope}-{ratio:g}", []).append(drop)
    numbers |= {name: float(np.mean(values)) for name, values in drops.items()}
    for row, (scope, ratio, mode) in enumerate(zip(effects["scope"], effects["ratio"], effects["mode"], strict=True)):
        for name in ("excess", "excess_low", "excess_high"):
            numbers[f"{name}/{mode}/{scope}-{ratio:g}"] = float(effects[name][row])
    return {name: value for name, value in numbers.items() if np.isfinite(value)}
