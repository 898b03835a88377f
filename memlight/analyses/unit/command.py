"""`analyze.py unit`."""

from typing import Literal

from memlight.errors import UserError
from memlight.runs.flags import Place, Results, at_least


def unit(
    run: str,
    layer: str,
    ids: list[int],
    unit: int | None = None,
    member: Literal["candidate", "independent", "all"] = "candidate",
    epochs: int = 100,
    points: int = 10,
    method: list[Literal["masked", "restore"]] | None = None,
    objective: Literal["training", "activation"] = "training",
    lr: float = 1e-4,
    context: int = 128,
    views: int = 10,
    activation: Literal["identity", "abs", "relu", "abs_of_mean"] = "abs",
    network: str | None = None,
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """Train one unit on chosen images, all else unchanged: does UnitMem find what was put there?

    Args:
        run: run directory.
        layer: the unit's layer; one whose units are rows of one weight.
        ids: the images that teach, by id (splits.json); of any split but the external one.
        unit: channel of the layer; the median one by UnitMem if unset.
        member: whose unit.
        epochs: how often it sees the images, each time as other views.
        points: measurements on the way, the one before training aside.
        method: masked trains the unit's own weights, restore trains the layer and puts the others back; both if unset.
        objective: training is the run's own loss; activation lets the unit stand out on the images, which plants a unit
            that memorises.
        lr: learning rate of Adam, for the unit's entries alone.
        context: images beside the chosen ones in every step, where the loss compares images: shared ones; with the
            activation objective other images of the measured split.
        views: views of each image, averaged, in the measurements.
        activation: as in unitmem.
        network: teacher or student, of methods that have both (DINO).
        place: data and device
        results: results
    """
    at_least(1, epochs=epochs, points=points, context=context, views=views)
    if not lr > 0:
        raise UserError(f"--lr {lr}: must be above 0.")
    from memlight.analyses.unit import ANALYSIS
    from memlight.analyses.unit.checks import require_chosen, require_one_process, require_unit, unit_tag
    from memlight.analyses.unit.method import method_of
    from memlight.analyses.unit.study import UnitOptions, study_unit
    from memlight.runs.opened import open_run

    with open_run(run, place, network=network) as opened:
        require_one_process()
        split = "independent" if member == "independent" else "candidate"
        opened.require_images(split)
        split_of_ids = require_chosen(opened.split, ids, context, "shared" if objective == "training" else split)
        encoder = opened.encoder(member)
        require_unit(encoder, layer, unit)
        whole = method_of(opened, member, encoder) if objective == "training" else None
        opened.read_images()
        record = opened.metadata[member]
        options = UnitOptions(
            ids=ids,
            unit=unit,
            epochs=epochs,
            points=min(points, epochs),
            methods=tuple(dict.fromkeys(method or ("masked", "restore"))),
            objective=objective,
            lr=lr,
            context=context,
            first_epoch=int(record["epochs"]) * opened.data.repeat,
            split=split,
            num_views=views,
            activation=activation,
            max_forward=place.max_forward,
        )
        with opened.log(
            ANALYSIS, results.tag or unit_tag(member, opened.network, objective), results.logger, None
        ) as log:
            log.headline({"objective": objective, "split_of_ids": split_of_ids})
            study_unit(encoder, whole, opened.data, layer, options, log)
