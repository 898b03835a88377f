"""A plan from variances: those of earlier runs, or built-in ones. Arrays only."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from memlight.analyses.layermem.columns import LAYERMEM_TABLE
from memlight.analyses.plan.columns import PLAN_LAYERS, PLAN_RUNS
from memlight.analyses.plan.command import PlanOptions
from memlight.analyses.samples import Scores, comparable_results
from memlight.errors import UserError
from memlight.stats import critical_value
from memlight.stats.families import relabelled_t
from memlight.stats.power import (
    USUAL_VIEWS,
    Components,
    detectable_effect,
    images_needed,
    independent_critical_value,
    power_of,
    training_variance,
    view_components,
    view_factor,
)
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, read_table, table_of

SCORE_SD = 0.025
"""Standard deviation of the score over images with `USUAL_VIEWS`: last layer of ResNet9, SimCLR on CIFAR-10."""

VIEW_SHARE = 0.6
"""Share of a score's variance that `USUAL_VIEWS` views add: 16 pairs on digits, scored with 10 and with 60 views."""

TRAINING_SHARE = 0.15
"""Standard deviation of the true contrast between trainings, over the contrast: .10 and .18 in the same 16 pairs."""

ENOUGH_RUNS = 10
"""Runs with which trainings may be found to differ less than `TRAINING_SHARE` says."""

LAYERS = 10
"""Layers of ResNet9."""

RELABELLINGS = 10_000

Floats = NDArray[np.float64]


class Measured(NamedTuple):
    """One run at one layer.

    Attributes:
        run: where it is.
        scores: its results of layermem that differ in views alone, the plain one first.
        row: of the layer, in all of them.
    """

    run: RunDir
    scores: list[Scores]
    row: int

    @property
    def layer(self) -> str:
        """Its name."""
        return self.scores[0].layers[self.row]

    def groups(self, result: int = 0) -> tuple[Floats, Floats]:
        """Scores ``(N, L)`` of candidates and of independent images in one of the results."""
        splits = self.scores[result].splits
        return splits["candidate"].scores, splits["independent"].scores

    def variances(self) -> list[float]:
        """Of an image's score in each of the results, mean over both groups."""
        return [float(np.mean([g[:, self.row].var(ddof=1) for g in self.groups(n)])) for n in range(len(self.scores))]

    def contrast(self) -> tuple[float, float]:
        """Of the plain result, with its standard error."""
        candidate, independent = self.groups()
        value = (candidate[:, self.row].mean() - independent[:, self.row].mean()) / 2
        return float(value), float(errors(candidate, independent)[self.row])

    def half_width(self) -> float:
        """Half of the contrast's own interval, as layermem's table has it."""
        table = read_table(self.run.analysis("layermem").table(), LAYERMEM_TABLE)
        row = table["layer"].tolist().index(self.layer)
        return float(table["contrast_high"][row] - table["contrast_low"][row]) / 2


class Plan(NamedTuple):
    """What a contrast needs.

    Attributes:
        table: columns ``PLAN_TABLE``.
        runs: columns ``PLAN_RUNS``; no rows without runs.
        layers: columns ``PLAN_LAYERS``, of the first run; no rows without.
        components: variances at the layer.
        critical: value that a statistic must exceed, for all layers at once.
        words: where all of it comes from, a sentence each.
    """

    table: Table
    runs: Table
    layers: Table
    components: Components
    critical: float
    words: list[str]


def make_plan(effect: float, runs: Sequence[RunDir], options: PlanOptions) -> Plan:
    """How many images a contrast needs, for every number of views and seeds.

    Args:
        effect: the contrast.
        runs: whose results of layermem give the variances; built-in ones without any.
        options: what is planned.

    Raises:
        UserError: a run has no result of layermem, or no such layer, or too few images.
    """
    if options.sd is not None and runs:
        raise UserError("sd", options.sd, "the runs give it", "leave out `run` or this")
    measured = [measure_run(run, options.layer) for run in runs]
    components, words = components_of(measured, effect, options.sd)
    critical, said = _critical(measured, options)
    return Plan(
        plan_table(effect, components, critical, options),
        runs_table(measured),
        layers_table(measured[0], critical, options.power) if measured else table_of(PLAN_LAYERS, []),
        components,
        critical,
        [*words, said],
    )


def measure_run(run: RunDir, layer: str | None) -> Measured:
    """Read a run's results of layermem.

    Raises:
        UserError: it has none, no such layer, or too few images.
    """
    scores = list(comparable_results(run))
    layers = scores[0].layers
    if layer is not None and layer not in layers:
        raise UserError("layer", layer, f"{run.root} has not measured it", f"choose one of {', '.join(layers)}")
    for split in ("candidate", "independent"):
        if any(split not in of.splits or len(of.splits[split].ids) < 2 for of in scores):
            raise UserError("run", run.root, f"layermem scored fewer than 2 {split} images", "train with more of them")
    return Measured(run, scores, len(layers) - 1 if layer is None else layers.index(layer))


def components_of(measured: Sequence[Measured], effect: float, sd: float | None = None) -> tuple[Components, list[str]]:
    """Variances for a contrast of this size, and where each comes from.

    Args:
        measured: runs at the layer; none for built-in variances.
        effect: the contrast that is planned; trainings are taken to differ in proportion to it.
        sd: of the score with `USUAL_VIEWS`, in place of the built-in one.
    """
    if measured:
        image, view, words = _of_scores(measured)
    else:
        variance = (SCORE_SD if sd is None else sd) ** 2
        image, view = (1 - VIEW_SHARE) * variance, VIEW_SHARE * variance
        origin = "built in: last layer of ResNet9, SimCLR on CIFAR-10" if sd is None else "as given"
        words = [f"Score of an image: standard deviation {variance**0.5:.4f} with {USUAL_VIEWS} views ({origin})."]
        words.append(_ASSUMED_VIEWS)
    share, said = _of_trainings(measured)
    return Components(image, view, (share * effect) ** 2), [*words, said]


_ASSUMED_VIEWS = (
    f"Views: assumed to make {100 * VIEW_SHARE:.0f} % of that variance where there are {USUAL_VIEWS}, as in 16 pairs "
    "on digits; results of layermem with other --views beside the plain one, under a --tag, replace the assumption."
)


def _of_scores(measured: Sequence[Measured]) -> tuple[float, float, list[str]]:
    """Variances of images and views: means over the runs, each weighted by its images."""
    several = [run for run in measured if len({of.views for of in run.scores}) > 1]
    words = []
    if several:
        parts = [view_components(run.variances(), [of.views for of in run.scores]) for run in several]
        tried = sorted({of.views for run in several for of in run.scores})
        words.append(f"Views: estimated from results of layermem with {', '.join(map(str, tried))} of them.")
    else:
        ratio = VIEW_SHARE / (1 - VIEW_SHARE)
        images = [run.variances()[0] / (1 + ratio * float(view_factor(run.scores[0].views))) for run in measured]
        parts = [(image, ratio * image) for image in images]
        words.append(_ASSUMED_VIEWS)
    sizes = [sum(map(len, run.groups())) for run in several or measured]
    image, view = np.average(parts, axis=0, weights=sizes).tolist()
    names = ", ".join(str(run.run.root) for run in several or measured)
    sd = (image + view) ** 0.5
    said = f"Score of an image: standard deviation {sd:.4f} with {USUAL_VIEWS} views ({measured[0].layer} of {names})."
    return image, view, [said, *words]


def _of_trainings(measured: Sequence[Measured]) -> tuple[float, str]:
    """Standard deviation of the true contrast between trainings, as a share of the contrast, at most 1."""
    if len(measured) < 2:
        return TRAINING_SHARE, (
            f"Trainings: assumed to differ in the true contrast by {100 * TRAINING_SHARE:.0f} % of it (one standard "
            "deviation), as in the 16 pairs on digits; several runs replace the assumption."
        )
    contrasts, of_images = np.array([run.contrast() for run in measured]).T
    deviation, mean = training_variance(contrasts, of_images) ** 0.5, abs(float(contrasts.mean()))
    share = min(1.0, deviation / mean) if mean else 1.0
    said = (
        f"Trainings: {len(measured)} runs differ in the true contrast by {deviation:.5f} around a mean of "
        f"{contrasts.mean():.5f}, which is {100 * share:.0f} % of it (100 % at most)"
    )
    if share < TRAINING_SHARE and len(measured) < ENOUGH_RUNS:
        few = f"so few runs cannot show that it is less than the {100 * TRAINING_SHARE:.0f} % of 16 pairs on digits"
        return TRAINING_SHARE, f"{said}; {few}, which are taken."
    return share, f"{said}; the effect is taken to differ as much."


def _critical(measured: Sequence[Measured], options: PlanOptions) -> tuple[float, str]:
    """What a statistic must exceed, for all layers at once, and where that comes from."""
    if measured and options.layers_count is None:
        found = [critical_value(relabelled_t(*run.groups(), RELABELLINGS, 0), 1 - options.level) for run in measured]
        layers = len(measured[0].scores[0].layers)
        return max(found), (
            f"All layers at once: |contrast| / se must exceed {max(found):.2f}, from {RELABELLINGS} relabellings of "
            f"the images scored, {layers} layers at once."
        )
    layers = options.layers_count or LAYERS
    critical = independent_critical_value(layers, options.level)
    return critical, (
        f"All layers at once: |contrast| / se must exceed {critical:.2f}, as if {layers} layers were independent of "
        "one another (Šidák); layers depend on one another, so that less may be enough."
    )


def plan_table(effect: float, components: Components, critical: float, options: PlanOptions) -> Table:
    """Candidates for every number of views and seeds: columns ``PLAN_TABLE``."""
    views, seeds = (
        grid.ravel() for grid in np.meshgrid(sorted(set(options.views)), sorted(set(options.seeds)), indexing="ij")
    )
    candidates = images_needed(effect, components, views, seeds, critical, options.power)
    error = components.error(candidates, views, seeds)
    return {
        "views": views,
        "seeds": seeds,
        "candidates": candidates,
        "half_width": float(stats.norm.ppf(0.975)) * error,
        "simultaneous_half_width": critical * error,
        "power": power_of(effect, components, candidates, views, seeds, critical),
    }


def runs_table(measured: Sequence[Measured]) -> Table:
    """Each run at the layer, and how well the other runs predict the width of its interval: columns ``PLAN_RUNS``."""
    rows = []
    for number, run in enumerate(measured):
        others = [other for place, other in enumerate(measured) if place != number]
        (candidate, independent), views = run.groups(), run.scores[0].views
        sizes = len(candidate), len(independent)
        predicted = predicted_half_width(components_of(others, 0)[0], *sizes, views) if others else np.nan
        realised = run.half_width()
        numbers = (run.variances()[0] ** 0.5, run.contrast()[0], realised, predicted, predicted / realised)
        rows.append((str(run.run.root), run.layer, *sizes, views, *numbers))
    return table_of(PLAN_RUNS, rows)


def predicted_half_width(components: Components, candidates: int, independents: int, views: int) -> float:
    """Half of the 95 % interval that the contrast of one pair is going to have."""
    error = np.sqrt(components.score(views) * (1 / candidates + 1 / independents)) / 2
    return float(stats.t.ppf(0.975, candidates + independents - 2) * error)


def layers_table(run: Measured, critical: float, power: float) -> Table:
    """What a run could have shown in each layer: columns ``PLAN_LAYERS``."""
    candidate, independent = run.groups()
    error = errors(candidate, independent)
    layers = run.scores[0].layers
    return {
        "layer": np.array(layers),
        "depth": np.arange(len(layers)),
        "sd": np.sqrt((candidate.var(0, ddof=1) + independent.var(0, ddof=1)) / 2),
        "half_width": float(stats.norm.ppf(0.975)) * error,
        "detectable": detectable_effect(error, critical, power),
    }


def errors(candidate_NL: Floats, independent_ML: Floats) -> Floats:
    """Standard error of the contrast of every layer, ``(L,)``."""
    variances = (group.var(0, ddof=1) / len(group) for group in (candidate_NL, independent_ML))
    result: Floats = np.sqrt(sum(variances)) / 2
    return result


def shown(table: Table, name: str = "candidates") -> str:
    """One column of a table ``PLAN_TABLE`` as lines of text: a row for every number of views, a column for seeds."""
    seeds, views = (sorted(set(table[column].tolist())) for column in ("seeds", "views"))
    cells = dict(
        zip(zip(table["views"].tolist(), table["seeds"].tolist(), strict=True), table[name].tolist(), strict=True)
    )
    lines = ["views " + "".join(f"{f'{count} seed' + 's' * (count > 1):>12}" for count in seeds)]
    for view in views:
        numbers = [cells[view, count] for count in seeds]
        lines.append(f"{view:>5} " + "".join(f"{n:12.0f}" if np.isfinite(n) else f"{'-':>12}" for n in numbers))
    return "\n".join(lines)
