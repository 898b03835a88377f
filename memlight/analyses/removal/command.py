"""`analyze.py removal`, and the end of `train.py removal`."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from memlight.analyses.removal.columns import REMOVAL_WITHOUT
from memlight.errors import UserError, named
from memlight.runs.flags import Place, Results, at_least
from memlight.storage.rundir import RemovalDir
from memlight.storage.tables import read_table

if TYPE_CHECKING:
    from torch import nn

    from memlight.analyses.removal.arms import Arm
    from memlight.runs.opened import OpenedRun


def removal(
    run: str,
    studies: list[str] | None = None,
    k: int = 20,
    temperature: float = 0.1,
    l2: float = 1e-3,
    place: Place = Place(),  # noqa: B008 - frozen
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """What it costs to train without the most memorised candidates, against random ones: arms of `train.py removal`.

    Every arm that is finished, and the run's own candidate encoder, gets a new probe, trained on the shared images and
    tested on the external ones.

    Args:
        run: run directory.
        studies: which studies, such as 100 for removal-100; all that are there if unset.
        k: neighbours.
        temperature: of the neighbours' votes.
        l2: penalty of the linear probe.
        place: data and device
        results: results
    """
    at_least(1, k=k)
    at_least(0, l2=l2)
    if temperature <= 0:
        raise UserError(f"--temperature {temperature}: must be above 0.")
    from memlight.analyses.probe.command import ProbeOptions
    from memlight.analyses.removal import ANALYSIS
    from memlight.analyses.removal.study import study_removal
    from memlight.runs.opened import open_run

    options = ProbeOptions(k=k, temperature=temperature, l2=l2, max_forward=place.max_forward)
    with open_run(run, place) as opened:
        opened.require_images("external")
        opened.require_images(opened.probe_split, at_least=1)
        there = {study.tag: study for study in opened.run.removals()}
        for tag in studies or ():
            if tag not in there:
                raise UserError(f"--studies {tag}: {run} has {', '.join(there) or 'none'}; see `train.py removal`.")
        chosen = [there[tag] for tag in studies or there]
        if not chosen:
            raise UserError(f"--run {run}: no removal study in it; make one with `train.py removal --run {run}`.")
        none = opened.encoder("candidate")
        found = [(study, *_arms(opened, study)) for study in chosen]
        opened.read_images(labelled=True)
        for study, arms, layer, encoders in found:
            tag = "-".join(filter(None, (study.tag, results.tag)))
            with opened.log(ANALYSIS, tag, results.logger, None) as log:
                study_removal(none, list(zip(arms, encoders, strict=True)), layer, opened.data, options, log)


def _arms(opened: "OpenedRun", study: RemovalDir) -> "tuple[list[Arm], str, list[nn.Module]]":
    """The finished arms of a study, the layer by whose score they were chosen, and their encoders.

    Raises:
        UserError: none is finished, or one was not trained as the run's candidate without the images of its file.
    """
    from memlight.analyses.removal.arms import Arm
    from memlight.models.encoders import read_metadata
    from memlight.runs.checkpoints import file_sha256

    arms, encoders, layers = [], [], set()
    own = opened.metadata["candidate"]
    for name in study.arms():
        place = study.arm(name)
        with named(path="run"):
            made = read_metadata(place.member("candidate").encoder)
        alike = all(made.get(key) == own.get(key) for key in ("split_sha256", "epochs", "architecture", "init_seed"))
        if not alike or made.get("without", {}).get("sha256") != file_sha256(place.without):
            raise UserError(
                f"--run {opened.run.root}: {place.root} was trained otherwise than the candidate without the images "
                f"of {place.without}; delete it and run `train.py removal` again."
            )
        table = read_table(place.without, REMOVAL_WITHOUT)
        layers |= set(table["layer"].tolist())
        trial = int(name.removeprefix("random-")) if name.startswith("random-") else 0
        arms.append(Arm(name, trial, table["id"], table["score"].astype(np.float64)))
        arm = replace(opened, run=place, metadata={"candidate": made}, hashes={})
        encoders.append(arm.encoder("candidate"))
        opened.hashes[f"{study.dir.name}/{name}"] = arm.hashes["candidate"]
    if len(arms) == 0 or len(layers) > 1 or len({len(arm.ids) for arm in arms}) > 1:
        raise UserError(
            f"--run {opened.run.root}: {study.dir} holds "
            f"{'arms that do not belong together' if arms else 'no finished arm'}; see `train.py removal`."
        )
    return arms, layers.pop(), encoders
