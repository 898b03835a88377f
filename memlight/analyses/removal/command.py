"""`analyze.py removal`, and the end of `train.py removal`."""

from typing import TYPE_CHECKING

from memlight.analyses.probe.command import ProbeFlags
from memlight.analyses.removal.columns import REMOVAL_WITHOUT
from memlight.errors import UserError
from memlight.runs.flags import Place, Results
from memlight.storage.rundir import RemovalDir

if TYPE_CHECKING:
    from torch import nn

    from memlight.analyses.removal.arms import Arm
    from memlight.runs.opened import OpenedRun


def evaluate_removal(
    run: str,
    studies: list[str] | None = None,
    evaluation: ProbeFlags = ProbeFlags(),  # noqa: B008 - frozen
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """What it costs to train without the most memorised candidates, against random ones: arms of `train.py removal`.

    Every arm that is finished, and the run's own candidate encoder, gets a new probe, trained on the shared images and
    tested on the external ones.

    Args:
        run: run directory.
        studies: which studies, such as 100 for removal-100; all that are there if unset.
        evaluation: how the features are evaluated
        place: data and device
        results: results
    """
    from memlight.analyses.removal import ANALYSIS
    from memlight.analyses.removal.study import study_removal
    from memlight.runs.opened import open_run

    with open_run(run, place) as opened:
        opened.require_images("external")
        opened.require_images(opened.probe_split, at_least=1)
        begun = {study.tag: study for study in opened.run.removals()}
        for tag in studies or ():
            if tag not in begun:
                raise UserError("studies", tag, f"{run} has {', '.join(begun) or 'none'}", "see `train.py removal`")
        if not begun:
            raise UserError("run", run, "no removal study in it", f"make one with `train.py removal --run {run}`")
        none = opened.encoder("candidate")
        trained = [(tag, *_arms(opened, begun[tag])) for tag in studies or begun]
        opened.read_images(labelled=True)
        for study, arms, layer in trained:
            tag = "-".join(filter(None, (study, results.tag)))
            with opened.log(ANALYSIS, tag, results.logger, None) as log:
                study_removal(none, arms, layer, opened.data, evaluation.within(place.max_forward), log)


def _arms(opened: "OpenedRun", study: RemovalDir) -> "tuple[list[tuple[Arm, nn.Module]], str]":
    """The finished arms of a study with their encoders, and the layer by whose score the arms were chosen.

    Raises:
        UserError: none is finished, or one was not trained as the run's candidate without the images of its file.
    """
    from memlight.analyses.removal.arms import Arm
    from memlight.runs.checkpoints import file_sha256
    from memlight.runs.opened import read_run
    from memlight.storage.tables import read_table

    arms, layers = [], set()
    whole, root = opened.metadata["candidate"], opened.run.root
    for name in study.arms():
        place = study.arm(name)
        arm = read_run(str(place.root), root=opened.data.root, device=opened.device)
        made = arm.metadata["candidate"]
        alike = all(
            made.get(key) == whole.get(key)
            for key in ("split_sha256", "epochs", "architecture", "init_seed", "init_from")
        )
        if not alike or made.get("without", {}).get("sha256") != file_sha256(place.without):
            why = f"{place.root} was trained otherwise than the candidate without the images of {place.without}"
            raise UserError("run", root, why, "delete it and run `train.py removal` again")
        table = read_table(place.without, REMOVAL_WITHOUT)
        layers |= set(table["layer"].tolist())
        trial = int(name.removeprefix("random-")) if name.startswith("random-") else 0
        left_out = Arm(name, trial, table["id"], table["score"])
        arms.append((left_out, arm.encoder("candidate")))
        opened.hashes[f"{study.dir.name}/{name}"] = arm.hashes["candidate"]
    if len(layers) != 1 or len({len(arm.ids) for arm, _ in arms}) > 1:
        what = "arms that do not belong together" if arms else "no finished arm"
        raise UserError("run", root, f"{study.dir} holds {what}", "see `train.py removal`")
    return arms, layers.pop()
