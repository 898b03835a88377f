"""`analyze.py layermem`."""

from dataclasses import dataclass
from typing import Literal

from memlight.errors import at_least
from memlight.runs.flags import Place, Results, Trained


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
    """

    views: int = 10
    distance: Literal["l2", "l1", "cosine", "angular"] = "l2"
    pairs: Literal["all", "clean"] = "all"
    scale: Literal["ratio", "range", "none"] = "ratio"
    view_set: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        at_least(2, views=self.views)


def layermem(
    run: str,
    layers: list[str] | None = None,
    options: LayerMemOptions = LayerMemOptions(),
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """Where a pair memorises: the contrast, LayerMem and its controls for every layer.

    Args:
        run: run directory of a trained pair.
        layers: layers to measure; all that the encoder has if unset.
        options: scores of the images
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    from memlight.analyses.layermem import ANALYSIS
    from memlight.analyses.layermem.study import study_layermem
    from memlight.runs.opened import open_run

    with open_run(run, place, network=trained.network) as opened:
        opened.require_images("candidate", "independent")
        make_views = opened.data.view_maker(
            opened.views(options.view_set), seed=options.seed, clean_first=options.pairs == "clean"
        )
        f, g = opened.pair(trained.checkpoint)
        names = opened.layers(f, layers)
        opened.read_images()
        with opened.log(ANALYSIS, results.tag or trained.tag, results.logger, options.seed) as log:
            study_layermem(f, g, opened.data, make_views, names, options, log, max_forward=place.max_forward)
