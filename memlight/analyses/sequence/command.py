"""`analyze.py sequence`."""

from pathlib import Path
from typing import TYPE_CHECKING

from memlight.errors import UserError, named
from memlight.runs.flags import Results

if TYPE_CHECKING:
    from memlight.analyses.sequence.experiment import Experiment


def sequence(
    run: str,
    compare: list[str] | None = None,
    learned: float = 0.8,
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """What a model of sequences learned, kept and forgot: curves since each switch, ranks, forgetting, savings.

    Args:
        run: run directory of a sequence experiment.
        compare: others to stand beside it: run directories, such as its controls, and result files of the authors'
            code (.pkl, .pt; no code in them is run).
        learned: a set counts as learned so far on the way from the accuracy of a coin to the highest possible.
        results: results
    """
    if not 0 < learned <= 1:
        raise UserError("learned", learned, "must be above 0 and at most 1")
    from memlight.analyses.sequence import ANALYSIS
    from memlight.analyses.sequence.experiment import Experiment
    from memlight.analyses.sequence.study import study_sequence
    from memlight.runs.checkpoints import file_sha256
    from memlight.runs.log import AnalysisLog
    from memlight.sequences.results import SequenceResults
    from memlight.storage.rundir import RunDir

    directory = RunDir(Path(run))
    measured = SequenceResults.read(directory.root)
    directory.require_writable()
    experiments = [Experiment(directory.name, measured)]
    for path in map(Path, compare or []):
        experiments.append(opened(path, [one.name for one in experiments]))
    with AnalysisLog(
        directory,
        ANALYSIS,
        tag=results.tag,
        logger=results.logger,
        seed=int(measured.seeds[0]),
        split_sha256=None,
        checkpoints={"sequence": file_sha256(directory.results)},
        device="CPU",
    ) as log:
        study_sequence(experiments, learned, log)
    print(f"{log.final.dir}: tables, figures, summary.json")


def opened(path: Path, taken: list[str]) -> "Experiment":
    """A run directory or a result file of the authors' code, named apart from the others.

    Args:
        path: of either.
        taken: names of the experiments before it.

    Raises:
        UserError: it is neither, or cannot be read.
    """
    from memlight.analyses.sequence.experiment import Experiment
    from memlight.analyses.sequence.reader import SUFFIXES, read_authors_results
    from memlight.sequences.results import SequenceResults
    from memlight.storage.rundir import RunDir

    if path.is_dir():
        with named(run="compare"):
            name, measured = RunDir(path).name, SequenceResults.read(path)
    elif path.suffix in SUFFIXES:
        with named(path="compare"):
            name, measured = path.stem, read_authors_results(path)
    else:
        raise UserError("compare", path, f"neither a run directory nor a result file ({', '.join(SUFFIXES)})")
    alike = sum(other == name or other.startswith(f"{name} (") for other in taken)
    return Experiment(f"{name} ({alike + 1})" if alike else name, measured)
