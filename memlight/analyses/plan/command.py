"""`analyze.py plan`."""

from dataclasses import dataclass

from memlight.errors import UserError, at_least, positive
from memlight.runs.flags import Logger, require_name


@dataclass(frozen=True)
class PlanOptions:
    """What is planned.

    Attributes:
        power: chance that an effect of this size is claimed, at least .5.
        level: family-wise error rate, over all layers together.
        views: of each image, every number that is considered.
        seeds: pairs, each trained with another seed, every number that is considered.
        layer: the layer whose contrast it is, of --run; the last one if unset.
        layers_count: layers that are tested together; those of --run if unset, or 10.
        sd: standard deviation of the score over images with 10 views; that of --run if unset, or .025 as in the last
            layer of ResNet9 on CIFAR-10.
    """

    power: float = 0.8
    level: float = 0.05
    views: tuple[int, ...] = (2, 5, 10, 20, 40)
    seeds: tuple[int, ...] = (1, 2, 3, 5, 10)
    layer: str | None = None
    layers_count: int | None = None
    sd: float | None = None

    def __post_init__(self) -> None:
        if not 0.5 <= self.power < 1:
            raise UserError("power", self.power, "must be at least .5 and below 1, such as .8 for 80 %")
        if not 0 < self.level < 1:
            raise UserError("level", self.level, "must be between 0 and 1, such as .05 for 5 %")
        at_least(2, views=min(self.views))
        at_least(1, seeds=min(self.seeds))
        if self.layers_count is not None:
            at_least(1, layers_count=self.layers_count)
        if self.sd is not None:
            positive(sd=self.sd)

    def require_without_runs(self) -> None:
        """Refuse a layer of runs where there are none.

        Raises:
            UserError: there is one.
        """
        if self.layer is not None:
            raise UserError("layer", self.layer, "is a layer of a run", "name the run with `run`")


def plan(
    effect: float,
    run: list[str] | None = None,
    options: PlanOptions = PlanOptions(),
    out: str | None = None,
    logger: Logger = "csv",
    tag: str | None = None,
) -> None:
    """How many candidates, views and seeds show a contrast of this size, before anything is trained.

    Prints the table. With --run, variances and the dependence of layers are those of its layermem results, and the
    plan goes into analysis/plan of the first run, for its report.

    Args:
        effect: the contrast that is to be found, such as .002.
        run: runs like the one that is planned, each with a result of layermem; built-in variances if unset.
        options: what is planned
        out: CSV file for the table.
        logger: with --run: wandb (offline), wandb-online, or csv for files alone.
        tag: with --run: keeps this plan beside others, as analysis/plan-TAG.
    """
    positive(effect=effect)
    require_name("tag", tag)
    if run is None:
        options.require_without_runs()
    from pathlib import Path

    from memlight.analyses.plan.study import print_plan, study_plan
    from memlight.analyses.plan.tables import make_plan
    from memlight.storage.rundir import RunDir

    runs = [RunDir.open(root) for root in run or []]
    made = make_plan(effect, runs, options)
    print_plan(made, effect, options, None if out is None else Path(out))
    if runs:
        study_plan(made, effect, options, runs[0], logger, tag)
