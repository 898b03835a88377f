"""A point of a W&B sweep has a directory and one W&B run of its own; the pair's members know nothing of it."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import wandb

from memlight.analyses import probe
from memlight.runs.log import AnalysisLog
from memlight.runs.sweep import VARIABLES, default_run, outside_sweep, sweep_point, without_sweep
from memlight.storage.rundir import RunDir
from memlight.storage.tables import write_text
from memlight.training import pair
from memlight.training.arguments import configs_first
from tests.compared_runs import config, make_run
from tests.wandb_files import read_offline_run

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file.*point.yaml:ResourceWarning")  # W&B leaves it open

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "demo_digits.yaml"


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment in which an agent starts a command, and W&B's session as in a new process."""
    write_text(tmp_path / "point.yaml", "wandb_version: 1\ndata.repeat:\n  value: 4\n")
    monkeypatch.chdir(tmp_path)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "memlight")
    for name, value in zip(VARIABLES, ("sweep1", "point1", str(tmp_path / "point.yaml")), strict=True):
        monkeypatch.setenv(name, value)
    wandb.teardown()
    yield
    wandb.teardown()


def test_a_point_has_a_directory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert (sweep_point(), default_run("configs/simclr.yaml")) == (None, Path("runs/simclr"))
    monkeypatch.setenv("WANDB_RUN_ID", "abc")
    assert (sweep_point(), default_run("configs/simclr.yaml")) == (None, Path("runs/simclr"))  # of no sweep
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    assert (sweep_point(), default_run("configs/simclr.yaml")) == ("abc", Path("runs/simclr-abc"))
    assert without_sweep({"WANDB_RUN_ID": "abc", "WANDB_SWEEP_ID": "s", "HOME": "/root"}) == {"HOME": "/root"}
    with pytest.raises(KeyError), outside_sweep():
        assert sweep_point() is None
        raise KeyError
    assert sweep_point() == "abc"


def test_a_file_comes_before_the_flags_of_its_classes() -> None:
    words = ["--data.repeat=4", "--config", "a.yaml", "--parallel", "-c=b.yaml", "--run", "r", "--config"]
    expected = ["--config", "a.yaml", "-c=b.yaml", "--config", "--data.repeat=4", "--parallel", "--run", "r"]
    assert configs_first(words) == expected


def stand_in(monkeypatch: pytest.MonkeyPatch, status: int) -> list[dict[str, str]]:
    """Members that leave what trainings leave; what was in the environment of each."""
    seen = []

    def members(commands: Sequence[Sequence[str]], environment: dict[str, str]) -> int:
        for command in commands:
            seen.append(environment)
            run = make_run(Path(command[command.index("--run") + 1]), config(repeat=4))
            write_text(run.member(command[command.index("--data.role") + 1]).metrics, "step,a/loss\n4,2.5\n9,\n")
        return status

    monkeypatch.setattr(pair, "in_turn", members)
    return seen


@pytest.mark.usefixtures("agent")
def test_a_pair_answers_for_the_point_and_its_members_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = stand_in(monkeypatch, 0)
    assert pair.train_pair([f"--config={CONFIG}"]) == 0
    assert len(seen) == 2
    assert not any(environment.keys() & set(VARIABLES) for environment in seen)
    (offline,) = Path("runs/demo_digits-point1/wandb").glob("offline-run-*")
    found = read_offline_run(offline)
    assert (found.run_id, found.sweep_id, found.job_type, found.exit_code) == ("point1", "sweep1", "pair", 0)
    assert (found.name, found.group) == ("demo_digits-point1", "demo_digits-point1")
    assert (found.config["data.repeat"], found.config["repeat"], found.config["role"]) == (4, 4, "pair")
    assert found.tags == ["cifar10", "pair", "resnet9", "simclr"]
    last = {name: value for name, value in found.summary.items() if not name.startswith("_")}
    assert last == {f"{role}/{name}": value for role in pair.MEMBERS for name, value in (("step", 9), ("a/loss", 2.5))}


@pytest.mark.usefixtures("agent")
def test_a_pair_that_fails_is_a_failed_point(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, 3)
    assert pair.train_pair([f"--config={CONFIG}", "--run", "runs/mine"]) == 3
    (offline,) = Path("runs/mine/wandb").glob("offline-run-*")
    found = read_offline_run(offline)
    assert (found.run_id, found.exit_code) == ("point1", 3)
    assert "candidate/a/loss" not in found.summary


@pytest.mark.usefixtures("agent")
def test_without_a_logger_a_point_is_its_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, 0)
    assert pair.train_pair([f"--config={CONFIG}", "--logger=csv"]) == 0
    assert not Path("runs/demo_digits-point1/wandb").exists()


@pytest.mark.usefixtures("agent")
def test_an_analysis_is_not_the_point() -> None:
    run = RunDir(Path("runs/mine"))
    with AnalysisLog(run, probe.ANALYSIS, seed=0, split_sha256=None, checkpoints={}, device="CPU"):
        pass
    (offline,) = (run.root / "wandb").glob("offline-run-*")
    found = read_offline_run(offline)
    assert (found.sweep_id, found.job_type, found.config["role"]) == ("", "analyze", "random")
    assert found.run_id != "point1" and "data.repeat" not in found.config
    assert os.environ["WANDB_RUN_ID"] == "point1"
