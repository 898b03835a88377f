"""Membership by layer and the placebos, from the scores of the images of every split.

What each number is: ``auc_pair`` is a contrast, not an attack, since the reference encoder was trained on the other
group; ``auc_attack`` is an attack with one reference model; ``auc_alone`` an attack without any. Norm, density and
probe need the encoders' layers, and are contrasts of two encoders (norm, density) or a white-box attack (probe).
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from memlight.analyses.layermem.columns import MEMBERSHIP, PLACEBOS
from memlight.analyses.layermem.design import design_of
from memlight.analyses.layermem.images import NUMBERS, images_by_split
from memlight.metrics.layermem import LayerMemResult
from memlight.metrics.membership import auc, auc_family, auc_if_normal, mean_auc, tpr_over
from memlight.metrics.traces import Traces, membership_probe, nearest_distance
from memlight.stats import as_array, critical_value
from memlight.stats.families import relabelled_t
from memlight.storage.tables import Table, table_of

Floats = NDArray[np.float64]

Scores = Mapping[str, Mapping[str, Floats]]
"""Split -> name of a number in ``samples.csv`` -> ``(N, L)``, layers in execution order."""

Results = Mapping[str, Mapping[str, LayerMemResult]]
"""Split -> layer -> result."""

PLACEBO_SPLITS = 200
"""How often each control split is halved at random."""

PLACEBO_RELABELLINGS = 2000

_RATES = {"tpr_at_1": 0.01, "tpr_at_01": 0.001}


def scores_of(results: Results, device: torch.device | str = "cpu") -> Scores:
    """The numbers of every image, ``(N, L)`` by split and name; norm and density where traces were kept.

    Args:
        results: of every split that was measured.
        device: where distances to the shared images are computed.
    """
    found = {}
    for split, layers in results.items():
        columns: dict[str, list[Floats]] = {name: [] for name in NUMBERS}
        for layer, result in layers.items():
            for name in ("align_f", "align_g"):
                columns[name].append(as_array(getattr(result, name)))
            columns["score"].append(as_array(result.scores))
            shared = results["shared"][layer].traces if results.get("shared") and split != "shared" else None
            for end, encoder in (("f", 0), ("g", 1)):
                traces = None if result.traces is None else result.traces[encoder]
                reference = None if shared is None else shared[encoder]
                columns[f"log_norm_{end}"].append(_or_nan(result, traces and as_array(traces.log_norm)))
                columns[f"density_{end}"].append(_or_nan(result, _density(traces, reference, device)))
        found[split] = {name: np.stack(column, axis=1).astype(np.float64) for name, column in columns.items()}
    return found


def scores_in(samples: Table) -> Scores:
    """The same from ``samples.csv``, such as that of a run that was analysed before there was a membership table."""
    return {split: images.numbers for split, images in images_by_split(samples)[1].items()}


def membership_table(layers: list[str], scores: Scores, probes: Floats | None = None, seed: int = 0) -> Table:
    """How well a layer tells the images it was trained on from others: the columns of ``membership.csv``.

    * ``auc_pair``: AUC of the score, candidates against independent images; ``auc_pair_normal`` is what normal scores
      of that contrast and spread would have; ``p_adjusted`` and the simultaneous band are over all layers.
    * ``auc_attack``: the score tells candidates from external images for f, the turned score independent images from
      external ones for g; mean of both. ``tpr_at_1`` and ``tpr_at_01`` are of this attack, both members' images
      counted together.
    * ``auc_alone``: the same from the target's alignment without the other encoder; ``auc_alone_placebo`` asks the
      other encoder, which saw neither group.
    * ``auc_norm``, ``auc_density``: f minus g of the log norm, and of the mean distance to the nearest shared images,
      candidates against independent images.

    In half a pair candidates are compared with external images throughout, and f is the only member: ``auc_pair`` is
    then the attack itself.

    Args:
        layers: in execution order.
        scores: of `scores_of` or `scores_in`.
        probes: ``(L,)`` AUC of the white-box probe; NaN if None.
        seed: of the relabellings.

    Returns:
        A row for each layer; NaN where a split is missing.
    """
    names, design = list(MEMBERSHIP), design_of(scores)
    candidate = scores["candidate"]
    none = {name: np.empty((0, len(layers))) for name in candidate}
    control, independent, external = (scores.get(name, none) for name in (design.control, "independent", "external"))
    tested = auc_family(candidate["score"], control["score"], seed=seed)
    rows = []
    for depth, layer in enumerate(layers):
        c, other, i, e = (
            {name: values[:, depth] for name, values in split.items()}
            for split in (candidate, control, independent, external)
        )
        attack = [(c["score"], e["score"]), (-i["score"], -e["score"])][: design.members]
        alone = [(-c["align_f"], -e["align_f"]), (-i["align_g"], -e["align_g"])][: design.members]
        placebo = [(-c["align_g"], -e["align_g"]), (-i["align_f"], -e["align_f"])][: design.members]
        rates = {name: tpr_over(attack, rate) for name, rate in _RATES.items()}
        row = {
            "layer": layer,
            "depth": depth,
            **_ends("auc_pair", *(values[depth] for values in tested[:3])),
            **_ends("auc_attack", *mean_auc(attack, same_negatives=True)[:3]),
            **_ends("auc_alone", *mean_auc(alone)[:3]),
            **{f"auc_{name}": _of_difference(c, other, name) for name in ("norm", "density")},
            "auc_probe": np.nan if probes is None else probes[depth],
            **{name: rate.value for name, rate in rates.items()},
            "p_adjusted": tested.p_adjusted[depth],
            "n": len(c["score"]),
            "auc_pair_simultaneous_low": tested.simultaneous_low[depth],
            "auc_pair_simultaneous_high": tested.simultaneous_high[depth],
            "auc_pair_normal": _if_normal(c["score"], other["score"]),
            "auc_alone_placebo": mean_auc(placebo).value,
            **{f"{name}_{end}": getattr(rate, end) for name, rate in rates.items() for end in ("low", "high")},
        }
        rows.append(tuple(row[name] for name in names))
    return table_of(MEMBERSHIP, rows)


def probe_aucs(results: Results, seed: int = 0) -> Floats | None:
    """AUC of the white-box probe by layer: f on candidates against independent images, g turned; mean of both.

    In half a pair f alone is probed, on candidates against external images. The AUC of each fold is taken by itself,
    since the folds' probes are different ones.

    Args:
        results: with traces of the candidates and their control.
        seed: of the folds.

    Returns:
        ``(L,)``; None where traces were not kept, or a split has fewer images than folds.
    """
    design = design_of(results)
    candidate, control = results["candidate"], results.get(design.control) or {}
    areas = []
    for layer, own in candidate.items():
        other = control.get(layer)
        if own.traces is None or other is None or other.traces is None or min(len(own.ids), len(other.ids)) < 10:
            return None
        member = torch.arange(len(own.ids) + len(other.ids)) < len(own.ids)
        of_members = []
        for encoder, truth in ((0, member), (1, ~member))[: design.members]:
            both = (own.traces[encoder], other.traces[encoder])
            traces = Traces(*(torch.cat(parts) for parts in zip(*both, strict=True)))
            odds, fold = membership_probe(traces, truth, seed=seed).numpy()
            known = truth.numpy()
            of_members += [
                auc(odds[known & (fold == part)], odds[~known & (fold == part)]).value for part in np.unique(fold)
            ]
        areas.append(np.mean(of_members))
    return np.array(areas)


def placebo_table(layers: list[str], scores: Scores, seed: int = 0) -> Table:
    """Contrast and AUC of groups that no encoder tells apart: the columns of ``placebos.csv``.

    Both members saw the shared images and neither saw the external ones. Each is halved at random: the halves of the
    first halving have a contrast, an AUC and adjusted p-values as the pair has them, and of `PLACEBO_SPLITS` halvings
    the share ``outside`` has a layer outside the simultaneous 95 % band.

    Args:
        layers: in execution order.
        scores: of `scores_of` or `scores_in`.
        seed: of the halvings.

    Returns:
        A row for each layer of ``shared`` and of ``external``; none for a split of fewer than four images.
    """
    rows: list[tuple[object, ...]] = []
    design = design_of(scores)
    for split in ("shared", "external"):
        values = scores[split]["score"] if split in scores else np.empty((0, len(layers)))
        if len(values) < 4:
            continue
        values = values[np.random.default_rng([seed, 2]).permutation(len(values))]
        half = len(values) // 2
        first, second = values[:half], values[half:]
        tested = design.contrast(first, second, PLACEBO_RELABELLINGS, seed)
        outside = _share_outside(first, second, seed)
        for depth, layer in enumerate(layers):
            contrast = (tested.contrast[depth], tested.low[depth], tested.high[depth], tested.p_adjusted[depth])
            area = auc(first[:, depth], second[:, depth])
            rows.append((split, layer, depth, *contrast, *area[:3], outside, len(values)))
    return table_of(PLACEBOS, rows)


def _share_outside(first: Floats, second: Floats, seed: int) -> float:
    spread = np.ptp(np.concatenate([first, second]), axis=0) > 0
    if not spread.any():
        return float("nan")
    groups = first[:, spread], second[:, spread]
    limit = critical_value(relabelled_t(*groups, PLACEBO_RELABELLINGS, seed))
    halvings = relabelled_t(*groups, PLACEBO_SPLITS, seed + 1)
    return float((np.abs(halvings).max(1) > limit).mean())


def _ends(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def _of_difference(candidate: Mapping[str, Floats], independent: Mapping[str, Floats], name: str) -> float:
    f, g = ("log_norm_f", "log_norm_g") if name == "norm" else ("density_f", "density_g")
    if f not in candidate or not all(np.isfinite(split[f]).all() for split in (candidate, independent)):
        return float("nan")
    return auc(candidate[f] - candidate[g], independent[f] - independent[g]).value


def _if_normal(candidate: Floats, independent: Floats) -> float:
    if min(len(candidate), len(independent)) < 2:
        return float("nan")
    half = (candidate.mean() - independent.mean()) / 2
    return float(auc_if_normal(half, candidate.var(ddof=1), independent.var(ddof=1)))


def _density(traces: Traces | None, shared: Traces | None, device: torch.device | str) -> Floats | None:
    if traces is None or shared is None:
        return None
    return as_array(nearest_distance(traces.sketch.to(device), shared.sketch.to(device)))


def _or_nan(result: LayerMemResult, values: Floats | None) -> Floats:
    return np.full(len(result.ids), np.nan) if values is None else values
