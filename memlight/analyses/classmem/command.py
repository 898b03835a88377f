"""`analyze.py classmem`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from memlight.errors import at_least
from memlight.runs.flags import EncoderFlags, Member, Place, Results, Split, Trained, require_views_for

if TYPE_CHECKING:
    from memlight.batch import ViewMaker
    from memlight.data.images import ImageDataModule


@dataclass(frozen=True)
class ClassMemOptions:
    """How ClassMem is measured; see `memlight.features.hooks.capture` and `memlight.metrics.classmem` for the choices.

    Attributes:
        split: which images.
        views: views of each image, averaged; 0 for the untouched image.
        reference: the strongest class against the mean or the median of the other classes.
        activation: applied to every element before averaging over positions; identity for outputs of a ReLU.
        tokens: which tokens count, for token models.
        permutations: how many times labels are shuffled for the null.
        view_set: augmentation set, with --views; the one that was trained with if unset.
        seed: of the views and of the shuffles; the training's if unset.
    """

    split: Split = "candidate"
    views: int = 0
    reference: Literal["mean", "median"] = "mean"
    activation: Literal["identity", "abs", "relu", "abs_of_mean"] = "abs"
    tokens: Literal["mean", "patch", "cls"] = "mean"
    permutations: int = 20
    view_set: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        at_least(0, views=self.views)
        at_least(1, permutations=self.permutations)
        require_views_for(self.view_set, self.views)

    @property
    def forwards(self) -> int:
        """Forwards of each image."""
        return max(1, self.views)

    def view_maker(self, data: "ImageDataModule") -> "ViewMaker":
        """What the encoder is shown of each image."""
        view_set = self.view_set if self.views else "clean"
        return data.view_maker(None if view_set is None else data.make_views(view_set), seed=self.seed)


def classmem(
    run: str | None = None,
    member: Member = "candidate",
    layers: list[str] | None = None,
    options: ClassMemOptions = ClassMemOptions(),
    released: EncoderFlags = EncoderFlags(),  # noqa: B008 - frozen
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """Which units answer to a class: ClassMem of every unit beside shuffled labels, held-out images and UnitMem.

    Results other than the candidate's on its own split are tagged by member and split, unless --tag says otherwise.

    Args:
        run: run directory; with --encoder where its results go, runs/ENCODER if unset.
        member: whose units; random is the same architecture with the run's initial weights.
        layers: layers to measure, by name or by pattern, as 'layer4.*'; all that the encoder has if unset.
        options: how ClassMem is measured
        released: an encoder that was not trained in a run
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    trained.require_for(member)
    split = options.split
    from memlight.analyses.classmem import ANALYSIS
    from memlight.analyses.classmem.labels import own_labels
    from memlight.analyses.classmem.study import classmem_tag, study_classmem
    from memlight.runs.released import open_chosen

    with open_chosen(run, released, trained, place) as opened:
        opened.require_images(split, argument="split")
        opened.views(options.view_set)  # refuses an unknown set before the encoder is loaded
        encoder = opened.encoder(member, trained.checkpoint)
        names = opened.layers(encoder, layers)
        opened.read_images()
        classes = own_labels(opened.data, split)
        classes.require(split, opened.split.ids(split))
        tag = results.tag or classmem_tag(member, split, trained.tag, place.labels)
        at_once = opened.at_once(place.max_forward)
        with opened.log(ANALYSIS, tag, results.logger, options.seed) as log:
            study_classmem(encoder, opened.data, names, classes, options, log, max_forward=at_once)
