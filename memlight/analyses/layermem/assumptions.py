"""What the contrast of a run is, and what its reading rests on: how the groups were dealt, and who said so."""

from memlight.analyses.layermem.design import HALF, PAIR, Design
from memlight.storage.run_files import AdoptedFile, SplitsFile
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json


def explained(run: RunDir) -> str:
    """What the contrast is, and what its sentences rest on."""
    return (
        f"{design_of_run(run).words} Layers are tested together: where nothing is memorised, a sentence names a layer "
        "in at most 5 of 100 cases (max-T over relabelled images). Intervals in the table are 95 %, for each layer by "
        "itself."
    )


def design_of_run(run: RunDir) -> Design:
    """Whether a run is of a pair or of half a pair, by its splits."""
    half = run.splits.is_file() and not read_json(run.splits, SplitsFile)["independent"]
    return HALF if half else PAIR


def dealt_words(run: RunDir) -> str:
    """Whether the groups were dealt at random, which is what makes the contrast an experiment."""
    splits = read_json(run.splits, SplitsFile) if run.splits.is_file() else None
    if splits is not None and not splits["independent"]:
        return _of_half(run)
    order, known = ("index", None) if splits is None else (splits["order"], splits.get("randomised"))
    if order == "random" or (order == "file" and known is True):
        by_whom = ", as whoever gave the splits says," if order == "file" else ""
        return (
            f"Candidates and independent images were dealt at random{by_whom or ','} so the contrast is a randomised "
            "difference-in-differences: two trainings times two groups of images."
        )
    if order == "file" and known is None:
        how = "Whether candidates and independent images were dealt at random is not known"
    else:
        consecutive = " (consecutive images of the data set)" if order == "index" else ""
        how = f"Candidates and independent images were not dealt at random{consecutive}"
    return (
        f"{how}: that both groups would score alike without memorisation is an assumption here, which the placebos "
        "cannot check."
    )


def _of_half(run: RunDir) -> str:
    saw = read_json(run.adopted, AdoptedFile)["reference_saw"] if run.adopted.is_file() else "the shared images alone"
    seen = f"the reference saw {saw}" if saw else "what the reference saw is not known"
    return (
        f"Half a pair: {seen}. If it saw candidates, the contrast is too small; if it saw external images, it is too "
        "large. That candidates and external images would score alike without memorisation is an assumption, which "
        "holds where both were drawn at random from one source; the placebos show no more than that halves of one "
        "group do not differ."
    )
