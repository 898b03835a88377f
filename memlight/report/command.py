"""`analyze.py all`, `analyze.py report` and `analyze.py compare`."""

from dataclasses import dataclass
from pathlib import Path

from memlight.errors import UserError, at_least
from memlight.runs.flags import Place, Results, Trained


@dataclass(frozen=True)
class AllOptions:
    """Views that every measurement of `analyze.py all` has in common.

    Attributes:
        views: views of each image.
        view_set: augmentation set; the one that was trained with if unset.
        seed: of the views; the training's if unset.
    """

    views: int = 10
    view_set: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        at_least(2, views=self.views)


def everything(
    run: str,
    layers: list[str] | None = None,
    options: AllOptions = AllOptions(),
    trained: Trained = Trained(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """Every measurement of a pair in one pass over its images, then the report.

    The results are those of layermem, unitmem (of both members), classmem and probe with their defaults, in their
    places; classmem and probe are left out where images have no classes.

    Args:
        run: run directory of a trained pair.
        layers: layers to measure, by name or by pattern, as 'layer4.*'; all that the encoder has if unset.
        options: views
        trained: which state of the trained networks
        place: data and device
        results: results
    """
    from memlight import dist
    from memlight.analyses.classmem.labels import own_labels
    from memlight.analyses.layermem.command import LayerMemOptions
    from memlight.analyses.together import study_everything
    from memlight.runs.opened import open_run

    own = LayerMemOptions(views=options.views, view_set=options.view_set, seed=options.seed)
    with open_run(run, place, network=trained.network) as opened:
        opened.require_groups()
        opened.views(options.view_set)  # refuses an unknown set before the encoders are loaded
        encoders = opened.pair(trained.checkpoint)
        names = opened.layers(encoders[0], layers)
        opened.read_images()
        candidates = opened.split.ids("candidate")
        classes, left_out = None, {}
        if (error := opened.lacking_labels()) is not None:
            left_out["probe"] = error.why if opened.data.classes else "the images have no classes"
        if not opened.data.classes:
            left_out["classmem"] = left_out["probe"]
        elif why := own_labels(opened.data, "candidate").lacking(candidates):
            if place.labels is not None:
                own_labels(opened.data, "candidate").require("candidate", candidates)
            left_out["classmem"] = why
        else:
            classes = own_labels(opened.data, "candidate")
        if dist.rank() == 0:
            for name, why in left_out.items():
                print(f"{name} is left out: {why}")
        study_everything(
            opened,
            encoders,
            names,
            own,
            classes,
            max_forward=place.max_forward,
            tag=results.tag,
            checkpoint=trained.tag,
            labels_file=place.labels,
            probes="probe" not in left_out,
            logger=results.logger,
        )
        if dist.rank() == 0:
            _of_one(run)


def report(run: str | None = None, runs: list[str] | None = None, out: str | None = None) -> None:
    """One self-contained HTML page: of one run everything it holds, of repetitions their mean and spread.

    Args:
        run: run directory; its page is report.html in it.
        runs: two or more run directories of one experiment that differ in seeds alone, in place of --run.
        out: with --runs, directory of the page, its tables and figures; runs/repeats-NAMES if unset.
    """
    if (run is None) == (runs is None):
        raise UserError("run, runs", None, "give either `run` (one run) or `runs` (mean and spread over several)")
    if run is not None:
        if out is not None:
            raise UserError("out", out, "belongs to `runs`; the page of `run` is report.html in its directory")
        _of_one(run)
    elif runs is not None:
        _of_several(runs, out)


def _of_one(run: str) -> None:
    from memlight.analyses.sequence.section import write_sequence_report
    from memlight.report.page import write_report
    from memlight.storage.rundir import RunDir
    from memlight.storage.writing import sweep

    sequences = RunDir(Path(run)).results.is_file()
    opened = RunDir(Path(run)) if sequences else RunDir.open(run)
    opened.require_writable()
    sweep(opened.root)
    print(f"report: {write_sequence_report(opened) if sequences else write_report(opened)}")


def _of_several(runs: list[str], out: str | None) -> None:
    from memlight.report.compare.directory import REPEATS_PAGE, default_directory, is_comparison, require_replaceable
    from memlight.report.compare.repeats_page import write_repeats
    from memlight.report.compare.runs import open_runs

    paths = [path for path in runs if not is_comparison(path)]
    directory = Path(out) if out is not None else default_directory(paths, "repeats")
    require_replaceable(directory, REPEATS_PAGE)
    page = write_repeats(open_runs(paths), directory)
    print(f"{directory}: layers.csv, numbers.csv, agreement.csv, runs.csv, runs_layers.csv, figures")
    print(f"report: {page}")


def compare(runs: list[str], out: str | None = None, by: list[str] | None = None) -> None:
    """Several runs side by side: what differs between them, contrast and UnitMem by depth, headline numbers.

    Args:
        runs: two or more run directories; earlier comparisons among them (as in runs/*) are left out.
        out: directory of the page, its tables and figures; runs/compare-NAMES if unset.
        by: settings to group by, such as repeat or model.temperature; all that differ, the seeds aside, if unset.
    """
    from memlight.report.compare.directory import (
        default_directory,
        is_comparison,
        require_replaceable,
        write_comparison,
    )
    from memlight.report.compare.groups import default_keys
    from memlight.report.compare.runs import open_runs

    paths = [path for path in runs if not is_comparison(path)]
    directory = Path(out) if out is not None else default_directory(paths)
    require_replaceable(directory)
    opened = open_runs(paths)
    page = write_comparison(opened, default_keys(opened) if by is None else by, directory)
    print(f"{directory}: runs.csv, layers.csv, groups.csv, figures")
    print(f"comparison: {page}")
