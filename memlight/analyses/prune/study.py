"""What pruning costs, by UnitMem against random units: the study behind `analyze.py prune` and the callback."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from memlight import dist
from memlight.analyses.effects import effect_row
from memlight.analyses.probe.accuracy import Accuracy, measure_accuracy
from memlight.analyses.probe.command import ProbeOptions
from memlight.analyses.prune.chart import accuracy_lost
from memlight.analyses.prune.choice import Mode, PrunedCopy, Scope, choose_units, require_pruned
from memlight.analyses.prune.columns import PRUNE_EFFECTS, PRUNE_TABLE, PRUNE_UNITS
from memlight.analyses.unitmem.tables import unitmem_table
from memlight.data.images import ImageDataModule
from memlight.errors import UserError
from memlight.features.hooks import Activation, count_units
from memlight.features.passes import images_at_once
from memlight.interventions import prune_units
from memlight.interventions.parts import prunable_layers, unit_weights
from memlight.metrics.unitmem import measure_unitmem
from memlight.metrics.unitmem_result import UnitMemResult
from memlight.runs.log import AnalysisLog
from memlight.stats import as_array
from memlight.storage.tables import Table, table_of


@dataclass(frozen=True)
class PruneOptions:
    """Which copies are pruned, how units are scored and how copies are tested.

    Attributes:
        ratios: shares of the units, each above 0 and below 1.
        scopes: a share of each layer at once, of all units together, or both.
        modes: the highest UnitMem, random units, the lowest.
        trials: random draws for each scope and ratio.
        split: the images that units are scored on: the encoder's own.
        num_views: views of each image, averaged.
        activation: applied to every element before averaging over positions.
        seed: of the views and of the random draws; None is the data module's.
        probe: how copies are tested.

    Raises:
        UserError: a share that is none, or something that is named twice.
    """

    ratios: Sequence[float] = (0.1, 0.2)
    scopes: Sequence[Scope] = ("layer", "model")
    modes: Sequence[Mode] = ("top", "random", "low")
    trials: int = 10
    split: str = "candidate"
    num_views: int = 10
    activation: Activation = "abs"
    seed: int | None = None
    probe: ProbeOptions = field(default_factory=ProbeOptions)

    def __post_init__(self) -> None:
        named: dict[str, Sequence[float] | Sequence[str]]
        named = {"--ratios": self.ratios, "--scope": self.scopes, "--modes": self.modes}
        for flag, values in named.items():
            twice = [value for position, value in enumerate(values) if value in values[:position]]
            if twice or not values:
                raise UserError(f"{flag} {twice[0]}: named twice." if twice else f"{flag}: names none.")
        for ratio in self.ratios:
            if not 0 < ratio < 1:
                raise UserError(f"--ratios {ratio:g}: must be above 0 and below 1.")
        if self.trials < 1:
            raise UserError(f"--trials {self.trials}: must be 1 or more.")


def layers_to_prune(encoder: nn.Module, chosen: Sequence[str] | None, options: PruneOptions) -> list[str]:
    """The chosen layers in execution order, or all that can be pruned; checked with every share of their units.

    Raises:
        UserError: a layer that is unknown or cannot be pruned, or a share that is no unit of it.
    """
    prunable = prunable_layers(encoder)
    names = prunable
    if chosen is not None:
        makers = [weights.producer for weights in unit_weights(encoder, chosen).values()]
        for position, layer in enumerate(chosen):
            if (first := makers.index(makers[position])) < position:
                raise UserError(f"--layers {layer}: has the same units as {chosen[first]}; name one of the two.")
        order = {layer: position for position, layer in enumerate(prunable)}
        names = sorted(chosen, key=lambda layer: order.get(layer, len(order)))
    sizes = count_units(encoder, names)
    for scope in options.scopes:
        for ratio in options.ratios:
            require_pruned(sizes, scope, ratio)
    return names


def study_prune(
    encoder: nn.Module,
    data: ImageDataModule,
    layers: Sequence[str],
    options: PruneOptions,
    log: AnalysisLog,
    *,
    progress: bool = True,
) -> tuple[Table, Table]:
    """Score the units, prune copies, and train a new probe for each; write tables and figures.

    Args:
        encoder: the encoder studied; it is left bit-identical.
        data: splits and images.
        layers: module paths in execution order, see `layers_to_prune`.
        options: how.
        log: where the results go.
        progress: show bars.

    Returns:
        Every copy (``PRUNE_TABLE``), and what pruning by score costs against random units (``PRUNE_EFFECTS``).
    """
    at_once = images_at_once(options.probe.max_forward, options.num_views)
    batches = data.batches(options.split, at_once, dist.rank(), dist.world_size())
    log.images += len(batches.ids)
    scores = measure_unitmem(
        encoder,
        batches,
        data.view_maker(seed=options.seed),
        layers,
        num_views=options.num_views,
        activation=options.activation,
        max_forward=options.probe.max_forward,
        progress=progress,
        title=f"UnitMem {options.split}",
    )
    copies = plan_copies(scores, options, data.seed if options.seed is None else options.seed)
    encoders = (prune_units(encoder, units) for units in ({}, *(copy.units for copy in copies)))
    none, *pruned = measure_accuracy(encoders, data, options.probe, log, progress=progress, title="pruned copies")
    table = prune_table(copies, none, pruned)
    dead = {layer: as_array(result.dead) for layer, result in scores.items()}
    units = pruned_units(copies, dead)
    effects = prune_effects(copies, none.linear.right, [accuracy.linear.right for accuracy in pruned], dead)
    log.table("table", table)
    log.table("effects", effects)
    log.table("units", units)
    log.table("unitmem", unitmem_table(scores))
    log.figure("accuracy_lost", accuracy_lost(table, effects), "What the probe loses, by which units were pruned.")
    log.headline(prune_headline(table, effects))
    return table, effects


def plan_copies(scores: Mapping[str, UnitMemResult], options: PruneOptions, seed: int) -> list[PrunedCopy]:
    """Every copy to make: scopes, ratios and modes in the order given, random draws one after the other."""
    values = {layer: as_array(result.unitmem) for layer, result in scores.items()}
    return [
        choose_units(values, mode, scope, ratio, seed=seed, trial=trial)
        for scope in options.scopes
        for ratio in options.ratios
        for mode in options.modes
        for trial in range(options.trials if mode == "random" else 1)
    ]


def prune_table(copies: Sequence[PrunedCopy], none: Accuracy, pruned: Sequence[Accuracy]) -> Table:
    """Accuracy of every copy, the unpruned one first (``PRUNE_TABLE``); accuracies and drops are shares."""
    rows = [("none", "none", 0.0, 0, 0, none.linear.top1, none.knn, 0.0)]
    for copy, accuracy in zip(copies, pruned, strict=True):
        count = sum(map(len, copy.units.values()))
        top1 = accuracy.linear.top1
        rows.append((*copy[:4], count, top1, accuracy.knn, none.linear.top1 - top1))
    return table_of(PRUNE_TABLE, rows)


def pruned_units(copies: Sequence[PrunedCopy], dead: Mapping[str, NDArray[np.bool_]]) -> Table:
    """What every copy lost, a row per layer (``PRUNE_UNITS``): how many units, how many dead ones, and their channels.

    Args:
        copies: what was pruned.
        dead: ``(U,)`` of each layer, which units never fired on the images scored.
    """
    rows = [
        (*copy[:4], layer, len(units), int(dead[layer][units].sum()), " ".join(map(str, units)))
        for copy in copies
        for layer, units in copy.units.items()
    ]
    return table_of(PRUNE_UNITS, rows)


def prune_effects(
    copies: Sequence[PrunedCopy], none: Tensor, pruned: Sequence[Tensor], dead: Mapping[str, NDArray[np.bool_]]
) -> Table:
    """What pruning by score costs, and how much more than random draws of the same size (``PRUNE_EFFECTS``).

    Args:
        copies: what was pruned.
        none: ``(M,)`` bool, which test images the unpruned copy's probe names rightly.
        pruned: likewise for each of ``copies``.
        dead: ``(U,)`` of each layer, which units never fired on the images scored.
    """
    rows = []
    for copy, right in zip(copies, pruned, strict=True):
        if copy.mode == "random":
            continue
        drawn = [
            other_right
            for other, other_right in zip(copies, pruned, strict=True)
            if (other.mode, other.scope, other.ratio) == ("random", copy.scope, copy.ratio)
        ]
        count = sum(map(len, copy.units.values()))
        silent = sum(int(dead[layer][units].sum()) for layer, units in copy.units.items())
        rows.append((copy.scope, copy.ratio, copy.mode, count, silent, *effect_row(none, right, drawn)))
    return table_of(PRUNE_EFFECTS, rows)


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


def own_split(member: str) -> str:
    """The images that a member alone was trained on; the candidates for every other encoder."""
    return "independent" if member == "independent" else "candidate"
