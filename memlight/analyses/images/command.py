"""`analyze.py images`."""

from pathlib import Path

from memlight.runs.flags import EncoderFlags, Member, Place, Results, Split, Trained


def images(
    run: str | None = None,
    member: Member = "candidate",
    split: Split = "candidate",
    join: str | None = None,
    released: EncoderFlags = EncoderFlags(),  # noqa: B008 - frozen
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """What the images that drive units look like: who owns the top 10 % of units, and what sets these images apart.

    Looks at a result of unitmem, with the same --member, --split and --tag (and --external), and goes beside it.

    Args:
        run: run directory; with --encoder where its results are, runs/ENCODER if unset.
        member: whose units.
        split: which images.
        join: file of scores that others computed of these images (.csv with id or path, .npz, .npy, .json), to compare.
        released: an encoder that was not trained in a run
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    trained.require_for(member)
    from memlight.analyses.images.study import look_at_images
    from memlight.analyses.joined import joined_with
    from memlight.analyses.unitmem.study import unitmem_tag
    from memlight.data.score_files import ScoreFile
    from memlight.runs.released import open_chosen

    others = None if join is None else ScoreFile.read(Path(join))
    with open_chosen(run, released, trained, place) as opened:
        opened.require_images(split, argument="split")
        tag = results.tag or unitmem_tag(member, split, trained.tag)
        encoder = opened.encoder(member, trained.checkpoint)
        measured = opened.run.analysis("unitmem", tag)
        opened.read_images()
        joined = joined_with(opened, others, split)
        look_at_images(opened, encoder, measured, split, place.max_forward, results.logger, joined)
