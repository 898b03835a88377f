"""A plan printed, written as a table, and put beside a run: the study behind `analyze.py plan`."""

from pathlib import Path

from memlight.analyses.plan.chart import plan_chart
from memlight.analyses.plan.columns import PLAN_TABLE
from memlight.analyses.plan.command import PlanOptions
from memlight.analyses.plan.tables import Plan, shown
from memlight.errors import UserError
from memlight.runs.flags import Logger
from memlight.runs.log import AnalysisLog
from memlight.storage.run_files import SplitsFile
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, write_table


def print_plan(plan: Plan, effect: float, options: PlanOptions, out: Path | None) -> None:
    """Say on standard output how many candidates are needed, and write the table where there is a file for it.

    Args:
        plan: what was found.
        effect: the contrast.
        options: what was planned.
        out: CSV file; None for none.

    Raises:
        UserError: the file cannot be written.
    """
    print(f"Candidates that each pair needs, and as many independent images, for a contrast of {effect:g}")
    print(f"with {100 * options.power:g} % power at a family-wise error rate of {100 * options.level:g} %:\n")
    print(f"{shown(plan.table)}\n")
    for sentence in plan.words:
        print(sentence)
    if len(plan.runs["run"]) > 1:
        print("\nHalf of the 95 % interval, as the other runs predict it, and as it is:")
        for run, predicted, realised in zip(*(plan.runs[n] for n in ("run", "predicted", "half_width")), strict=True):
            print(f"  {run}: {predicted:.5f}, {realised:.5f} ({100 * (predicted / realised - 1):+.0f} %)")
    if out is not None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_table(out, plan.table, PLAN_TABLE)
        except OSError as error:
            raise UserError("out", out, f"cannot be written ({error.strerror})", "choose another file") from error
        print(f"{out}: the table")


def study_plan(plan: Plan, effect: float, options: PlanOptions, run: RunDir, logger: Logger, tag: str | None) -> None:
    """Put tables and figure of a plan beside a run, for its report.

    Args:
        plan: what was found, from this run and perhaps others.
        effect: the contrast.
        options: what was planned.
        run: whose results it goes with.
        logger: where numbers go.
        tag: tells several plans apart.
    """
    from memlight.analyses.plan import ANALYSIS

    split = read_json(run.splits, SplitsFile)
    with AnalysisLog(
        run,
        ANALYSIS,
        tag=tag,
        logger=logger,
        seed=split["seed"],
        split_sha256=split["sha256"],
        checkpoints={},
        device="CPU",
    ) as log:
        log.table("table", plan.table)
        log.table("runs", plan.runs)
        log.table("layers", plan.layers)
        caption = (
            f"Left: candidates that a contrast of {effect:g} needs with {100 * options.power:g} % power, all layers "
            "tested at once. Right: the least contrast that this run shows with so much power, by layer."
        )
        log.figure("power", plan_chart(plan.table, plan.layers, effect), caption)
        log.headline({"effect": effect, "power": options.power, "level": options.level, "critical": plan.critical})
        log.headline({f"detectable/{plan.layers['layer'][-1]}": float(plan.layers["detectable"][-1])})
        log.headline({"words": " ".join(plan.words)})
    print(f"{log.final.dir}: tables, figures, summary.json")
