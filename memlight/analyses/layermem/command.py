"""`analyze.py layermem`."""

from typing import Literal

from memlight.runs.flags import Place, Results, Trained, at_least


def layermem(
    run: str,
    layers: list[str] | None = None,
    views: int = 10,
    distance: Literal["l2", "l1", "cosine", "angular"] = "l2",
    pairs: Literal["all", "clean"] = "all",
    scale: Literal["ratio", "range", "none"] = "ratio",
    view_set: str | None = None,
    seed: int | None = None,
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """Where a pair memorises: the contrast, LayerMem and its controls for every layer.

    Args:
        run: run directory of a trained pair.
        layers: layers to measure; all that the encoder has if unset.
        views: views of each image.
        distance: between the features of two views.
        pairs: all pairs of views, or each view against the untouched image (clean, as in the authors' code).
        scale: ratio (paper, eq 2), range (authors' code) or none (eq 1).
        view_set: augmentation set; the one that was trained with if unset.
        seed: of the views; the training's if unset.
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    at_least(2, views=views)
    from memlight.analyses.layermem import ANALYSIS
    from memlight.analyses.layermem.study import LayerMemOptions, study_layermem
    from memlight.runs.opened import open_run

    with open_run(run, place, network=trained.network) as opened:
        opened.require_images("candidate", "independent")
        options = LayerMemOptions(
            num_views=views,
            distance=distance,
            pairs=pairs,
            scale=scale,
            views=opened.views(view_set),
            seed=seed,
            max_forward=place.max_forward,
        )
        f, g = opened.pair(trained.checkpoint)
        names = opened.layers(f, layers)
        opened.read_images()
        with opened.log(ANALYSIS, results.tag or trained.tag, results.logger, seed) as log:
            study_layermem(f, g, opened.data, names, options, log)
