"""train.py and analyze.py as a user meets them: help, configurations, shorthands, places, interruptions."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
import yaml

from memlight import analyze as analyze_module
from memlight.analyze import main as analyze_main
from memlight.cli import main
from memlight.endings import PARENT, Terminated, end_with_parent, told_when_terminated
from memlight.storage.rundir import RunDir
from memlight.training import pair
from memlight.training.arguments import in_one_line, values_of
from tests.said import refused
from tests.tiny_pair import (
    ROOT,
    TinyPair,
    callback_flags,
    checkpoint,
    encoder_state,
    environment,
    fit,
    fit_flags,
    same_tensors,
)

DEMO = ROOT / "configs" / "demo_digits.yaml"


def printed_config(capsys: pytest.CaptureFixture[str], *flags: str, command: str = "fit") -> dict[str, Any]:
    """What ``--print_config`` says."""
    with pytest.raises(SystemExit) as stopped:
        main([command, *flags, "--print_config"])
    assert stopped.value.code == 0
    config: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return config


# Help


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["train.py", "--help"], "train a candidate and an independent encoder"),
        (["train.py", "pair", "--help"], "--parallel"),
        (["train.py", "removal", "--help"], "candidates that each arm leaves out"),
        (["analyze.py", "--help"], "Where a pair memorises"),
        (["analyze.py", "layermem", "--help"], "views of each image"),
        (["analyze.py", "unitmem", "--help"], "the images that drive it"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_explains_without_loading_torch(argv: list[str], words: str) -> None:
    script, *flags = argv
    code = (
        f"import runpy, sys; sys.argv = {[script, *flags]!r}\n"
        f"try: runpy.run_path({script!r}, run_name='__main__')\n"
        "finally: assert not {'torch', 'lightning'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert words in " ".join(done.stdout.split())


def test_no_command_shows_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().out.startswith("usage: train.py {pair,removal,fit,validate}")


def test_fit_help_lists_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--help"])
    assert stopped.value.code == 0
    page = capsys.readouterr().out
    for flag in ("--config", "--run", "--logger", "--keep_every", "--resume", "--trainer.max_epochs", "--ckpt_path"):
        assert flag in page
    with pytest.raises(SystemExit):
        main(["fit", "--data.help=ImageDataModule"])
    assert "--data.num_candidate" in capsys.readouterr().out


# Configurations


def test_a_class_by_its_name_is_the_class_by_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    short = printed_config(capsys, "--model=SimCLR", "--data=ImageDataModule", "--model.encoder=resnet18")
    long = printed_config(
        capsys, "--model=memlight.modules.SimCLR", "--data=memlight.data.ImageDataModule", "--model.encoder=resnet18"
    )
    assert short == long
    assert short["model"]["init_args"]["encoder"] == "resnet18"


def test_flags_win_over_files_and_later_files_over_earlier_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = tmp_path / "more.yaml"
    more.write_text("trainer:\n  max_epochs: 7\nkeep_every: 3\n")
    config = printed_config(capsys, f"--config={DEMO}", "--config", str(more), "--data.role", "independent")
    assert config["trainer"]["max_epochs"] == 7
    assert config["keep_every"] == 3
    data = config["data"]["init_args"]
    assert (data["role"], data["dataset"]) == ("independent", "digits")
    assert config["model"]["init_args"]["image_size"] == 16


def test_pair_prints_the_configuration_once(capsys: pytest.CaptureFixture[str]) -> None:
    flags = [f"--config={DEMO}", "--data.repeat=3"]
    assert printed_config(capsys, *flags, command="pair") == printed_config(capsys, *flags)


def test_a_run_is_named_after_its_last_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lies where the command is typed, not where memlight is."""
    monkeypatch.chdir(tmp_path)
    flags = [flag for flag in fit_flags(Path("unused"))[1:] if not flag.startswith("--run=")]
    Path("mine.yaml").write_text("keep_every: 0\n")
    once = ["--trainer.max_epochs=1", "--trainer.precision=32-true", "--data.num_external=0"]
    assert main(["fit", f"--config={DEMO}", "--config=mine.yaml", *flags, *once]) == 0
    assert {path.name for path in (tmp_path / "runs" / "mine").iterdir()} == {
        "candidate",
        "config.yaml",
        "images.csv",
        "splits.json",
    }
    assert "error" not in capsys.readouterr().err


def test_a_runs_configuration_begins_another_run(run: Path, tmp_path: Path) -> None:
    """How the first one was resumed is not part of it."""
    RunDir(run).member("candidate").encoder.unlink()
    assert fit(run, "--resume=true") == 0
    assert main(["fit", f"--config={run / 'config.yaml'}", f"--run={tmp_path / 'again'}"]) == 0
    assert same_tensors(encoder_state(tmp_path / "again"), encoder_state(run))


def test_a_trial_run_leaves_nothing(tmp_path: Path) -> None:
    assert fit(tmp_path / "run", "--trainer.fast_dev_run=1") == 0
    assert not list(tmp_path.iterdir())


def test_validate_leaves_a_new_run_directory_alone(plain_pair: TinyPair, tmp_path: Path) -> None:
    path = RunDir(plain_pair.root).member("candidate").checkpoints / "last.ckpt"
    assert main(["validate", *fit_flags(tmp_path / "run")[1:], f"--ckpt_path={path}"]) == 0
    assert not list(tmp_path.iterdir())


def test_a_finished_encoder_without_checkpoints_is_not_trained_over(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(RunDir(run).member("candidate").checkpoints)
    assert fit(run) == 2
    assert "already holds checkpoints" in capsys.readouterr().err


def test_libraries_chatter_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Warnings are errors in this suite, so those that a training at its defaults makes would end it."""
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "propagate", True)  # off where pytest 8 imported it
    default = fit_flags(tmp_path / "run", "--trainer.max_epochs=1")
    default.remove("--trainer.log_every_n_steps=1")
    assert main(default) == 0
    lines = [record.getMessage() for record in caplog.records]
    assert "GPU available: False, used: False" in lines
    assert not [line for line in lines if "TPU" in line or "Tip" in line or "to estimate" in line]


# Interruptions


class CtrlC(L.Callback):
    """Somebody presses ctrl-C in the second epoch."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)


class Terminate(L.Callback):
    """A batch system's time is over in the second epoch."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def signals() -> Iterator[None]:
    """Lightning leaves ctrl-C switched off."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_an_interrupted_training_keeps_its_last_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path / "run", *callback_flags("tests.test_cli.CtrlC")) == 130
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("interrupted; finished epochs are saved")
    assert checkpoint(tmp_path / "run")["epoch"] == 0
    assert not RunDir(tmp_path / "run").member("candidate").encoder.exists()


@pytest.mark.usefixtures("signals")
def test_a_terminated_training_does_not_look_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path / "run", *callback_flags("tests.test_cli.Terminate")) == 128 + signal.SIGTERM
    assert capsys.readouterr().err.splitlines()[-1].startswith("terminated; finished epochs are saved")
    assert checkpoint(tmp_path / "run")["epoch"] == 0
    assert not RunDir(tmp_path / "run").member("candidate").encoder.exists()


def test_an_interrupted_analysis(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def report(run: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(analyze_module.COMMANDS, "report", report)
    assert analyze_main(["report", "--run=r"]) == 130
    assert capsys.readouterr().err.startswith("interrupted")


# Pairs


MEMBER = """
import os, signal, sys, time
name, behaviour = sys.argv[1:]
print(name, "starts", flush=True)
if behaviour == "fails":
    sys.exit("error: --data.root: nothing there")
if behaviour == "waits":
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        sys.exit(130)
if behaviour == "says":
    from memlight.endings import Terminated, end_with_parent, told_when_terminated
    end_with_parent()
    try:
        with told_when_terminated():
            print(os.getpid(), flush=True)
            time.sleep(60)
    except Terminated as stopped:
        print("terminated; all is saved", file=sys.stderr)
        sys.exit(stopped.code)
"""


def side_by_side(tmp_path: Path, *behaviours: str) -> subprocess.Popen[str]:
    """A process that runs two stand-ins for members."""
    (tmp_path / "member.py").write_text(MEMBER)
    commands = {
        role: [sys.executable, str(tmp_path / "member.py"), role, behaviour]
        for role, behaviour in zip(pair.MEMBERS, behaviours, strict=True)
    }
    code = (
        "import os; from memlight.training import processes; processes.PATIENCE = 0.2\n"
        f"raise SystemExit(processes.side_by_side({commands!r}, [{{}}, {{}}], processes.own_environment()))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_lines_of_members_carry_their_names_and_one_error_is_one_line(tmp_path: Path) -> None:
    with side_by_side(tmp_path, "fails", "fails") as process:
        out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert sorted(out.splitlines()) == ["candidate   | candidate starts", "independent | independent starts"]
    assert err == "error: --data.root: nothing there\n"


def test_a_member_that_fails_leaves_the_other(tmp_path: Path) -> None:
    with side_by_side(tmp_path, "works", "fails") as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err.splitlines()[1].startswith("independent failed; the same command trains it again")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_stops_the_pair_stops_both_members(tmp_path: Path, number: signal.Signals) -> None:
    with side_by_side(tmp_path, "waits", "waits") as process:
        assert process.stdout is not None
        for _ in pair.MEMBERS:
            assert process.stdout.readline().endswith("starts\n")
        process.send_signal(number)
        assert process.wait(timeout=20) != 0
        # The pipes close when the last member has ended.
        assert process.stdout.read() == ""


def test_a_terminated_pair_passes_it_on_at_once_and_prints_one_line(tmp_path: Path) -> None:
    with side_by_side(tmp_path, "says", "says") as process:
        members_of(process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert err == "terminated; all is saved\n"


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not tell")
def test_members_end_when_the_pair_is_killed(tmp_path: Path) -> None:
    with side_by_side(tmp_path, "says", "says") as process:
        members = members_of(process)
        process.kill()
        process.wait()
        while any(lives(member) for member in members):  # the suite's own limit ends a test that waits for ever
            time.sleep(0.02)


def lives(process: int) -> bool:
    """Whether a process has not ended; one that nobody has asked for its status has."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def members_of(process: subprocess.Popen[str]) -> list[int]:
    """Process ids of members that say theirs, once both have."""
    found: list[int] = []
    assert process.stdout is not None
    while len(found) < len(pair.MEMBERS):
        word = process.stdout.readline().split()[-1]
        found += [int(word)] if word.isdigit() else []
    return found


def test_a_child_of_a_child_does_not_end_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process between the two, a shell for example, is no reason to end; the death of the first is."""
    monkeypatch.setenv(PARENT, "1")
    end_with_parent()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    monkeypatch.setenv(PARENT, str(gone.pid))
    with pytest.raises(Terminated), told_when_terminated():
        end_with_parent()


def started(monkeypatch: pytest.MonkeyPatch, *argv: str) -> dict[str, dict[str, str]]:
    """The environment of each member that `train.py pair --parallel` would start."""
    found: dict[str, dict[str, str]] = {}

    def remember(commands: dict[str, list[str]], shares: list[dict[str, str]], environment: dict[str, str]) -> int:
        found.update({role: environment | share for role, share in zip(commands, shares, strict=True)})
        return 0

    monkeypatch.setattr(pair, "side_by_side", remember)
    assert pair.train_pair(["--parallel", *argv]) == 0
    return found


def test_parallel_gives_each_member_half_of_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    visible = {role: one["CUDA_VISIBLE_DEVICES"] for role, one in started(monkeypatch).items()}
    assert visible == {"candidate": "0,1", "independent": "2,3"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,5,3,1")
    visible = {role: one["CUDA_VISIBLE_DEVICES"] for role, one in started(monkeypatch).items()}
    assert visible == {"candidate": "7,5", "independent": "3,1"}
    with refused(r"--trainer\.devices 4: with --parallel each member has 2 of the 4 GPUs"):
        pair.train_pair(["--parallel", "--trainer.devices=4"])


def test_parallel_needs_two_gpus_or_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert main(["pair", "--parallel", f"--config={DEMO}"]) == 2
    assert capsys.readouterr().err.startswith("error: --parallel: needs at least two GPUs, here is 1")
    assert "OMP_NUM_THREADS" in started(monkeypatch, "--trainer.accelerator=cpu")["candidate"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "OMP_NUM_THREADS" in started(monkeypatch)["independent"]


# The text of a command line


def test_values_of_a_flag() -> None:
    argv = ["--config", "a.yaml", "--run=r", "--config=b=c.yaml", "-c", "d.yaml", "--config"]
    assert values_of(argv, "--config", "-c") == ["a.yaml", "b=c.yaml", "d.yaml", ""]
    assert values_of(argv, "--data.role") == []


def test_what_is_not_understood_is_said_in_full() -> None:
    assert in_one_line("something\n  new", []) == "something new"
    assert in_one_line('Parser key "model":\n  something\n  new', []).startswith("--model: not understood; ")
    assert "something new" in in_one_line('Parser key "model":\n  something\n  new', [])
