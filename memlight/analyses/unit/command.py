"""`analyze.py unit`, and how a unit is trained and measured."""

from dataclasses import dataclass
from typing import Literal

from memlight.errors import at_least, positive
from memlight.runs.flags import Place, Results

Method = Literal["masked", "restore"]
Objective = Literal["training", "activation"]


@dataclass(frozen=True)
class UnitOptions:
    """How a unit is trained on chosen images, and measured.

    Attributes:
        ids: the images that teach, by id (splits.json); of any split but the external one.
        unit: channel of the layer; the median one by UnitMem if unset.
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

    Raises:
        UserError: a number out of range.
    """

    ids: list[int]
    unit: int | None = None
    epochs: int = 100
    points: int = 10
    method: list[Method] | None = None
    objective: Objective = "training"
    lr: float = 1e-4
    context: int = 128
    views: int = 10
    activation: Literal["identity", "abs", "relu", "abs_of_mean"] = "abs"

    def __post_init__(self) -> None:
        at_least(1, epochs=self.epochs, points=self.points, context=self.context, views=self.views)
        positive(lr=self.lr)

    @property
    def methods(self) -> list[Method]:
        """Each method to train by, once."""
        return list(dict.fromkeys(self.method or ("masked", "restore")))

    def context_split(self, split: str) -> str:
        """The split that context images are drawn from.

        Args:
            split: the images that UnitMem is measured on.
        """
        return "shared" if self.objective == "training" else split


def unit(
    run: str,
    layer: str,
    options: UnitOptions,
    member: Literal["candidate", "independent", "all"] = "candidate",
    network: str | None = None,
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """Train one unit on chosen images, all else unchanged: does UnitMem find what was put there?

    Args:
        run: run directory.
        layer: the unit's layer; one whose units are rows of one weight.
        options: how the unit is trained and measured
        member: whose unit.
        network: teacher or student, of methods that have both (DINO).
        place: data and device
        results: results
    """
    from memlight.analyses.unit import ANALYSIS
    from memlight.analyses.unit.objectives import method_of
    from memlight.analyses.unit.study import require_chosen, require_one_process, require_unit, study_unit, unit_tag
    from memlight.runs.opened import open_run

    with open_run(run, place, network=network) as opened:
        require_one_process()
        split = "independent" if member == "independent" else "candidate"
        opened.require_images(split)
        split_of_ids = require_chosen(opened.split, options, split)
        encoder = opened.encoder(member)
        require_unit(encoder, layer, options.unit)
        whole = method_of(opened, member, encoder) if options.objective == "training" else None
        opened.read_images()
        tag = results.tag or unit_tag(member, opened.network, options.objective)
        with opened.log(ANALYSIS, tag, results.logger, None) as log:
            log.headline({"objective": options.objective, "split_of_ids": split_of_ids})
            study_unit(
                encoder,
                whole,
                opened.data,
                layer,
                options,
                log,
                split=split,
                first_epoch=int(opened.metadata[member].get("epochs", 0)) * opened.data.repeat,
                max_forward=place.max_forward,
            )
