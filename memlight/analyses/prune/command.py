"""`analyze.py prune`, and which copies it makes."""

from dataclasses import dataclass
from typing import Literal

from memlight.analyses.probe.command import ProbeFlags
from memlight.errors import UserError, at_least
from memlight.runs.flags import Member, Place, Results, Trained

Mode = Literal["top", "random", "low"]
Scope = Literal["layer", "model"]


@dataclass(frozen=True)
class PruneOptions:
    """Which copies of an encoder are pruned, and how its units are scored.

    Attributes:
        ratios: shares of the units.
        scope: that share of each layer at once, or of all units together.
        modes: units of the highest UnitMem, random ones, or those of the lowest.
        trials: random draws for each scope and ratio.
        views: views of each image, averaged for the scores.
        activation: applied to every element before averaging over positions; identity for outputs of a ReLU.
        seed: of the views and of the random draws; the training's if unset.

    Raises:
        UserError: a number out of range, or something that is named twice.
    """

    ratios: tuple[float, ...] = (0.1, 0.2)
    scope: tuple[Scope, ...] = ("layer", "model")
    modes: tuple[Mode, ...] = ("top", "random", "low")
    trials: int = 10
    views: int = 10
    activation: Literal["identity", "abs", "relu", "abs_of_mean"] = "abs"
    seed: int | None = None

    def __post_init__(self) -> None:
        at_least(1, views=self.views, trials=self.trials)
        for name in ("ratios", "scope", "modes"):
            values = getattr(self, name)
            twice = [value for position, value in enumerate(values) if value in values[:position]]
            if twice or not values:
                raise UserError(name, twice[0] if twice else None, "named twice" if twice else "names none")
        for ratio in self.ratios:
            if not 0 < ratio < 1:
                raise UserError("ratios", f"{ratio:g}", "must be above 0 and below 1")


def prune(
    run: str,
    member: Member = "candidate",
    layers: list[str] | None = None,
    options: PruneOptions = PruneOptions(),
    evaluation: ProbeFlags = ProbeFlags(),  # noqa: B008 - frozen
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """What pruning costs: units of high, of low UnitMem and random ones, each copy with a new probe.

    Units are scored here, on the member's own images, exactly as `unitmem` does. Probes are trained on the shared
    images and tested on the external ones.

    Args:
        run: run directory.
        member: which encoder is pruned; random is the same architecture with the run's initial weights.
        layers: layers whose units may be pruned, by name or by pattern, as 'layer4.*'; all that can be if unset.
        options: which copies are pruned, and how units are scored
        evaluation: how each copy is evaluated
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    trained.require_for(member)
    from memlight.analyses.prune import ANALYSIS
    from memlight.analyses.prune.study import layers_to_prune, own_split, study_prune
    from memlight.runs.opened import open_run
    from memlight.storage.rundir import member_tag

    with open_run(run, place, network=trained.network) as opened:
        split = own_split(member)
        opened.require_images(split, "external")
        opened.require_images(opened.probe_split, at_least=1)
        encoder = opened.encoder(member, trained.checkpoint)
        names = layers_to_prune(encoder, layers, options)
        opened.read_images(labelled=True)
        probe = evaluation.within(place.max_forward)
        with opened.log(ANALYSIS, results.tag or member_tag(member, trained.tag), results.logger, options.seed) as log:
            study_prune(encoder, opened.data, names, options, probe, log, split=split)
