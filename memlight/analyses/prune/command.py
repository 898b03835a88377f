"""`analyze.py prune`."""

from typing import Literal

from memlight.errors import UserError
from memlight.runs.flags import Member, Place, Results, Trained, at_least


def prune(
    run: str,
    member: Member = "candidate",
    layers: list[str] | None = None,
    ratios: tuple[float, ...] = (0.1, 0.2),
    scope: tuple[Literal["layer", "model"], ...] = ("layer", "model"),
    modes: tuple[Literal["top", "random", "low"], ...] = ("top", "random", "low"),
    trials: int = 10,
    views: int = 10,
    activation: Literal["identity", "abs", "relu", "abs_of_mean"] = "abs",
    k: int = 20,
    temperature: float = 0.1,
    l2: float = 1e-3,
    seed: int | None = None,
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
        layers: layers whose units may be pruned; all that can be if unset.
        ratios: shares of the units.
        scope: that share of each layer at once, or of all units together.
        modes: units of the highest UnitMem, random ones, or those of the lowest.
        trials: random draws for each scope and ratio.
        views: views of each image, averaged for the scores.
        activation: applied to every element before averaging over positions; identity for outputs of a ReLU.
        k: neighbours.
        temperature: of the neighbours' votes.
        l2: penalty of the linear probe.
        seed: of the views and of the random draws; the training's if unset.
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    at_least(1, views=views, trials=trials, k=k)
    at_least(0, l2=l2)
    if temperature <= 0:
        raise UserError(f"--temperature {temperature}: must be above 0.")
    trained.require_for(member)
    from memlight.analyses.probe.command import ProbeOptions
    from memlight.analyses.prune import ANALYSIS
    from memlight.analyses.prune.study import PruneOptions, layers_to_prune, own_split, study_prune
    from memlight.runs.opened import open_run
    from memlight.storage.rundir import member_tag

    options = PruneOptions(
        ratios=ratios,
        scopes=scope,
        modes=modes,
        trials=trials,
        split=own_split(member),
        num_views=views,
        activation=activation,
        seed=seed,
        probe=ProbeOptions(k=k, temperature=temperature, l2=l2, max_forward=place.max_forward),
    )
    with open_run(run, place, network=trained.network) as opened:
        opened.require_images(options.split, "external")
        opened.require_images(opened.probe_split, at_least=1)
        encoder = opened.encoder(member, trained.checkpoint)
        names = layers_to_prune(encoder, layers, options)
        opened.read_images(labelled=True)
        with opened.log(ANALYSIS, results.tag or member_tag(member, trained.tag), results.logger, seed) as log:
            study_prune(encoder, opened.data, names, options, log)
