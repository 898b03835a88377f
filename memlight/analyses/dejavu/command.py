"""`analyze.py dejavu`."""

from memlight.runs.flags import Place, Results, Trained


def dejavu(
    run: str,
    layers: list[str] | None = None,
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """Which layers find the other corner of an image better where their encoder was trained on it: Deja Vu.

    Needs no labels. The upper left quarter of an image is given, and the lower right ones of all images are ranked by
    cosine similarity, and the other way round.

    Args:
        run: run directory of a trained pair.
        layers: layers to measure, by name or by pattern, as 'layer4.*'; all that the encoder has if unset.
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    from memlight.analyses.dejavu import ANALYSIS
    from memlight.analyses.dejavu.study import study_dejavu
    from memlight.runs.opened import open_run

    with open_run(run, place, network=trained.network) as opened:
        opened.require_images("candidate", "independent")
        f, g = opened.pair(trained.checkpoint)
        names = opened.layers(f, layers)
        opened.read_images()
        with opened.log(ANALYSIS, results.tag or trained.tag, results.logger, None) as log:
            study_dejavu(f, g, opened.data, names, log, max_forward=place.max_forward)
