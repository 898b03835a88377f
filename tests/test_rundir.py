"""Run directories: the names of what lies in them, and errors that name --run."""

from pathlib import Path

import pytest

from memlight.errors import UserError
from memlight.rundir import RunDir
from memlight.tables import write_json


def test_the_layout_is_the_published_one(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "simclr")
    files = [
        run.config,
        run.splits,
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
        "report.html",
        "candidate/checkpoints",
        "independent/encoder.safetensors",
        "candidate/metrics.csv",
        "analysis/unitmem-external/layers.csv",
        "analysis/layermem/summary.json",
        "analysis/layermem/figures",
    ]


def test_a_path_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--run .*gone: no such directory"):
        RunDir.open(tmp_path / "gone")
    with pytest.raises(UserError, match=r"--run .*no splits\.json"):
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
