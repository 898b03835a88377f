"""Run directories: the names of what lies in them, and errors that name --run."""

from pathlib import Path

import pytest

from memlight.errors import UserError
from memlight.storage.rundir import RunDir
from memlight.storage.tables import write_json


def test_the_layout_is_the_published_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "simclr")
    files = [
        run.config,
        run.splits,
        run.images,
        run.report,
        run.member("candidate").checkpoints,
        run.member("independent").encoder,
        run.member("candidate").metrics,
        run.analysis("unitmem", "external").table("layers"),
        run.analysis("layermem").summary,
        run.analysis("layermem").figures,
    ]
    assert [path.relative_to(run.root).as_posix() for path in files] == [
        "config.yaml",
        "splits.json",
        "images.csv",
        "report.html",
        "candidate/checkpoints",
        "independent/encoder.safetensors",
        "candidate/metrics.csv",
        "analysis/unitmem-external/layers.csv",
        "analysis/layermem/summary.json",
        "analysis/layermem/figures",
    ]


def test_a_path_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run=.*gone: no such directory"):
        RunDir.open(tmp_path / "gone")
    with pytest.raises(UserError, match=r"run=.*no splits\.json"):
        RunDir.open(tmp_path)
    write_json(tmp_path / "splits.json", {})
    assert RunDir.open(str(tmp_path)).name == tmp_path.name
    with pytest.raises(ValueError, match="role"):
        RunDir(tmp_path).member("teacher")


def test_only_what_is_there_is_listed(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert run.members() == []
    assert list(run.analyses("unitmem")) == []
    run.member("independent").dir.mkdir()
    for tag in (None, "z", "external"):
        write_json(run.analysis("unitmem", tag).summary, {})
    run.analysis("unitmem", "unfinished").dir.mkdir()
    write_json(run.analysis(".unitmem", "killed").summary, {})
    write_json(run.analysis("layermem").summary, {})
    assert [member.role for member in run.members()] == ["independent"]
    assert [analysis.tag for analysis in run.analyses("unitmem")] == [None, "external", "z"]


def test_arms_of_a_removal_study_are_runs_within_a_run(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "simclr")
    assert (run.name, run.group, run.removals()) == ("simclr", "simclr", [])
    study = run.removal(100, "layer5")
    arm = study.arm("random-2")
    assert arm.without == tmp_path / "simclr" / "removal-100-by-layer5" / "random-2" / "without.csv"
    assert (arm.name, arm.group) == ("simclr/removal-100-by-layer5/random-2", "simclr")
    for name in ("random-10", "random-2", "low", "top", "random-1"):
        encoder = run.removal(100).arm(name).member("candidate").encoder
        encoder.parent.mkdir(parents=True)
        if name != "random-1":
            encoder.touch()
    study.dir.mkdir()
    assert run.removal(100).arms() == ["top", "low", "random-2", "random-10"]
    assert [found.tag for found in run.removals()] == ["100", "100-by-layer5"]
    assert run.members() == []
