"""`analyze.py images`."""

from typing import TYPE_CHECKING

from memlight.errors import UserError
from memlight.runs.flags import EncoderFlags, Logger, Member, Place, Results, Split, Trained

if TYPE_CHECKING:
    from torch import nn

    from memlight.runs.opened import OpenedRun
    from memlight.storage.rundir import AnalysisDir
    from memlight.storage.tables import Table


def images(
    run: str | None = None,
    member: Member = "candidate",
    split: Split = "candidate",
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
        released: an encoder that was not trained in a run
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    trained.require_for(member)
    from memlight.analyses.unitmem.study import unitmem_tag
    from memlight.runs.released import open_chosen

    with open_chosen(run, released, trained, place) as opened:
        opened.require_images(split, argument="split")
        tag = results.tag or unitmem_tag(member, split, trained.tag)
        encoder = opened.encoder(member, trained.checkpoint)
        measured = opened.run.analysis("unitmem", tag)
        opened.read_images()
        look_at_images(opened, encoder, measured, split, place.max_forward, results.logger)


def look_at_images(
    opened: "OpenedRun",
    encoder: "nn.Module",
    measured: "AnalysisDir",
    split: str,
    max_forward: int,
    logger: Logger,
) -> None:
    """Look at the images behind one result of unitmem; the result goes beside it. `analyze.py unitmem` ends so as well.

    Args:
        opened: the run, its images read.
        encoder: whose units were measured.
        measured: the result.
        split: the images that it is of.
        max_forward: most images in one forward.
        logger: where numbers go.

    Raises:
        UserError: there is no such result, or it is of another encoder or of other images.
    """
    from memlight import dist
    from memlight.analyses.images import ANALYSIS
    from memlight.analyses.images.study import study_images

    dist.barrier()  # the first process may just have written the result
    units = measured_units(opened, measured, split)
    with opened.log(ANALYSIS, measured.tag, logger, None) as log:
        study_images(encoder, opened.data, units, split, log, max_forward=opened.at_once(max_forward))


def measured_units(opened: "OpenedRun", measured: "AnalysisDir", split: str) -> dict[str, "Table"]:
    """The units of a result of unitmem on its split, and on the held-out images where it has those, as ``external``.

    Raises:
        UserError: there is no such result, or it is of another encoder or of other images.
    """
    import numpy as np

    from memlight.analyses.unitmem.columns import UNITMEM_TABLE
    from memlight.storage.tables import read_json, read_table

    root = opened.run.root
    again = f"make it again with `python analyze.py unitmem --run {root}` and the same flags"
    if not measured.summary.is_file():
        raise UserError("run", root, f"no {measured.dir}, whose units this command looks at", again)
    hashes = read_json(measured.summary)["checkpoints"]  # a callback measures before there is a file to hash
    if hashes and any(hashes.get(role) != digest for role, digest in opened.hashes.items()):
        raise UserError("run", root, f"{measured.dir} is of another encoder than the run has now", again)
    units = {split: read_table(measured.table(), UNITMEM_TABLE)}
    if split != "external" and measured.table("held_out").is_file():
        units["external"] = read_table(measured.table("held_out"), UNITMEM_TABLE)
    for name, table in units.items():
        limit = None if name == split else len(opened.split.ids(split))
        ids = opened.data.batches(name, limit=limit).ids
        if not np.isin(table["max_id"][~table["dead"]], ids).all():
            argument, value = ("split", split) if name == split else ("external", None)
            raise UserError(argument, value, f"{measured.dir} was measured on other {name} images", again)
    return units
