"""`analyze.py atypical`."""

from memlight.errors import at_least
from memlight.runs.flags import Place, Results, Trained

FEWEST = 10
"""Images of a group: with fewer there are no fifths to speak of."""


def atypical(
    run: str,
    scores: str | None = None,
    k: int = 20,
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """Whether atypical images are memorised more: rank correlations with the score of layermem, beside placebos.

    Looks at a result of layermem, with the same --tag, and goes beside it. How atypical an image is, is measured in the
    features of the member that was not trained on it and in those of random weights, by its compressed bytes, and by
    whatever numbers --scores has.

    Args:
        run: run directory of a trained pair.
        scores: CSV file with a column id and one or more columns of numbers, which should be high for atypical images.
        k: nearest neighbours.
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    at_least(1, k=k)
    from pathlib import Path

    from memlight.analyses.atypical import ANALYSIS
    from memlight.analyses.atypical.scores import ScoreFile
    from memlight.analyses.atypical.study import require_scored, study_atypical
    from memlight.analyses.samples import read_scores
    from memlight.runs.opened import open_run

    with open_run(run, place, network=trained.network) as opened:
        opened.require_images("candidate", "independent", at_least=FEWEST)
        tag = results.tag or trained.tag
        scored = read_scores(opened.run, tag)
        file = None if scores is None else ScoreFile.read(Path(scores))
        if file is not None:
            file.require(opened.split)
        f, g = opened.pair(trained.checkpoint)
        opened.read_images()
        require_scored(opened, scored)
        with opened.log(ANALYSIS, tag, results.logger, None) as log:
            encoders = {"f": f, "g": g, "random": opened.encoder("random")}
            study_atypical(encoders, opened.data, scored, file, log, k=k, max_forward=place.max_forward)
