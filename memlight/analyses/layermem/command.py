"""`analyze.py layermem`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from memlight.errors import UserError, at_least
from memlight.runs.flags import Place, Results, Trained

if TYPE_CHECKING:
    from memlight.batch import ViewMaker
    from memlight.data.images import ImageDataModule


@dataclass(frozen=True)
class LayerMemOptions:
    """How LayerMem is measured; `memlight.metrics.functional` has the formulas.

    Attributes:
        views: views of each image.
        distance: between the features of two views.
        pairs: all pairs of views, or each view against the untouched image (clean, as in the authors' code).
        scale: ratio (paper, eq 2), range (authors' code; here one range over the images of all splits) or none (eq 1).
        view_set: augmentation set; the one that was trained with if unset.
        seed: of the views; the training's if unset.
        view_epoch: score the views that were trained on in this epoch, counted from 0, in place of fresh ones; the
            training drew data.num_views of each image, and further views are fresh.
    """

    views: int = 10
    distance: Literal["l2", "l1", "cosine", "angular"] = "l2"
    pairs: Literal["all", "clean"] = "all"
    scale: Literal["ratio", "range", "none"] = "ratio"
    view_set: str | None = None
    seed: int | None = None
    view_epoch: int | None = None

    def __post_init__(self) -> None:
        at_least(2, views=self.views)
        if self.view_epoch is not None:
            at_least(0, view_epoch=self.view_epoch)

    def view_maker(self, data: "ImageDataModule") -> "ViewMaker":
        """What both encoders are shown of each image."""
        views = None if self.view_set is None else data.make_views(self.view_set)
        epoch = {} if self.view_epoch is None else {"epoch": self.view_epoch}
        return data.view_maker(views, seed=self.seed, clean_first=self.pairs == "clean", **epoch)

    def require_epoch(self, epochs: int | None, adopted: bool = False) -> None:
        """Refuse a `view_epoch` that the training did not have.

        Args:
            epochs: how many the encoders were trained for; None where that is not known.
            adopted: whether somebody else trained them.

        Raises:
            UserError: it was trained for fewer, or elsewhere.
        """
        if self.view_epoch is not None and adopted:
            why = "the encoders were not trained here, so the views of their training cannot be made again"
            raise UserError("view_epoch", self.view_epoch, why, "leave it out")
        if self.view_epoch is not None and epochs is not None and self.view_epoch >= epochs:
            why = f"the encoders were trained for {epochs} epochs"
            raise UserError("view_epoch", self.view_epoch, why, f"choose 0 to {epochs - 1}")


def layermem(
    run: str,
    layers: list[str] | None = None,
    join: str | None = None,
    options: LayerMemOptions = LayerMemOptions(),
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """Where a pair memorises: the contrast, LayerMem and its controls for every layer.

    Args:
        run: run directory of a trained pair.
        layers: layers to measure, by name or by pattern, as 'layer4.*'; all that the encoder has if unset.
        join: file of scores that others computed of these images (.csv with id or path, .npz, .npy, .json), to compare.
        options: scores of the images
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    from memlight.analyses.joined import joined_with
    from memlight.analyses.layermem import ANALYSIS
    from memlight.analyses.layermem.study import study_layermem
    from memlight.data.score_files import ScoreFile
    from memlight.runs.opened import open_run

    others = None if join is None else ScoreFile.read(Path(join))
    with open_run(run, place, network=trained.network) as opened:
        opened.require_groups()
        opened.views(options.view_set)  # refuses an unknown set before the encoders are loaded
        options.require_epoch(opened.metadata["candidate"].get("epochs"), opened.adopted)
        f, g = opened.pair(trained.checkpoint)
        names = opened.layers(f, layers)
        opened.read_images()
        joined = joined_with(opened, others, "candidate")
        with opened.log(ANALYSIS, results.tag or trained.tag, results.logger, options.seed) as log:
            study_layermem(f, g, opened.data, names, options, log, joined=joined, max_forward=place.max_forward)
