"""`analyze.py patches report`."""

from memlight.runs.flags import Results


def report(
    run: str,
    compare: list[str] | None = None,
    held_out: str | None = None,
    query_images: str | None = None,
    index_images: str | None = None,
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """One page on which pointing at a patch shows where its nearest is from; several searches beside one another.

    Args:
        run: run directory of a search.
        compare: those of searches with other images in the same index.
        held_out: that of real images which no generator has learned from; differences from it are tested.
        query_images: where the images of the run's queries lie now; where they were at extraction if unset.
        index_images: likewise of the index.
        results: results of the comparison
    """
    from memlight.analyses.patches.page import run_report

    run_report(run, compare or [], held_out, query_images, index_images, results)
