"""`analyze.py sequence`."""

from pathlib import Path

from memlight.errors import UserError
from memlight.runs.flags import Results


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
    from memlight.analyses.sequence.experiment import Experiment, opened
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
