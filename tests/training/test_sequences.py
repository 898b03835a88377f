"""`train.py fit` on sequences: the files of a run, resume, forks, and what is refused before anything is written."""

import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import pytest
import torch
import yaml

from memlight.cli import main
from memlight.data import SequenceDataModule
from memlight.errors import UserError
from memlight.modules import SequenceDAM
from memlight.modules.sequence.shares import IndependentMembers
from memlight.runs.settings import sequence_settings
from memlight.runs.wandb_keys import training_keys
from memlight.sequences.evaluation import SequenceEvaluation
from memlight.sequences.results import SequenceResults
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_table
from memlight.training.continuing_sequences import require_sequence_checkpoint

CONFIG = """
seed_everything: 3
model:
  class_path: SequenceDAM
  init_args: {num_heads: 2, capacity: 15, replicas: 2}
data:
  class_path: SequenceDataModule
  init_args: {num_sequences: 20, num_bits: 8, batch_size: 6}
trainer:
  accelerator: cpu
  max_steps: 12
  log_every_n_steps: 3
  enable_model_summary: false
  callbacks:
    - {class_path: SequenceEvaluation, init_args: {every: 4}}
    - {class_path: Snapshot, init_args: {at: [6]}}
    - {class_path: DataSwitch, init_args: {at: [6]}}
logger: csv
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny_switch.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def trained(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run. Shared: read it, or copy it."""
    run = tmp_path_factory.mktemp("runs") / "dam"
    assert main(["fit", "--config", str(config), "--run", str(run)]) == 0
    return run


def same(one: SequenceResults, two: SequenceResults) -> bool:
    names = [name for name, value in vars(one).items() if isinstance(value, np.ndarray)]
    return all(np.array_equal(getattr(one, name), getattr(two, name), equal_nan=True) for name in names)


def checkpoint_of(run: Path, name: str = "last") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def test_the_files_of_a_run(trained: Path) -> None:
    files = {str(path.relative_to(trained)) for path in trained.rglob("*") if path.is_file()}
    assert files == {
        *("config.yaml", "metrics.csv", "results.npz", "sequences.npz", "summary.json"),
        *("checkpoints/last.ckpt", "checkpoints/switch_0.ckpt", "checkpoints/switch_0.safetensors"),
    }
    results = SequenceResults.read(trained)
    assert results.seeds.tolist() == [3, 4] and results.set_seeds.tolist() == [[3, 1000003], [4, 1000004]]
    assert results.train_steps.tolist() == [3, 6, 9, 12]
    assert [bits.shape for bits in results.sequences] == [(2, 20, 8)] * 2
    assert {name for named in results.weights.values() for name in named} == {"A_logits", "B_logits"}
    assert results.args["model"]["init_args"]["init_seed"] == 3 and results.args["data"]["init_args"]["seed"] == 3
    assert [event["kind"] for event in results.events] == ["snapshot", "data_switch"]
    summary = read_json(trained / "summary.json", dict)
    assert summary["sets"][0]["evaluated_at_step"] == 6 and summary["sets"][1]["evaluated_at_step"] == 12
    metrics = read_table(trained / "metrics.csv")
    assert {"train/loss", "train/loss/seed4", "set1/accuracy", "event/data_switch"} <= set(metrics)
    assert metrics["step"].tolist() == [0, 3, 4, 6, 8, 9, 12]
    assert metrics["train/loss"][1] == pytest.approx(results.train_loss[:, 0].mean(), rel=1e-5)


def test_a_killed_run_goes_on_to_the_same_results(trained: Path, config: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    shutil.copy(run / "checkpoints" / "switch_0.ckpt", run / "checkpoints" / "last.ckpt")
    for name in ("results.npz", "sequences.npz", "summary.json"):
        (run / name).unlink()
    again = ["fit", "--config", str(config), "--run", str(run), "--resume", "true"]
    assert main(again) == 0
    assert (run / "metrics.csv").read_bytes() == (trained / "metrics.csv").read_bytes()
    results, whole = (vars(SequenceResults.read(root)) for root in (run, trained))
    for results_of in (results, whole):
        assert results_of["args"].pop("run") in (str(run), str(trained))
    np.testing.assert_equal(results, whole)
    ours, theirs = (checkpoint_of(root) for root in (run, trained))
    assert ours["epoch"] == theirs["epoch"] == 3
    assert ours["loops"] == theirs["loops"]


def test_a_run_of_the_earlier_layout_goes_on(trained: Path, config: Path, tmp_path: Path) -> None:
    """Its configuration has the public class paths; its checkpoint keeps what was measured by attribute."""
    classes = [
        one["class_path"] for one in yaml.safe_load((trained / "config.yaml").read_text())["trainer"]["callbacks"]
    ]
    assert classes == [f"memlight.callbacks.{name}" for name in ("SequenceEvaluation", "Snapshot", "DataSwitch")]
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    checkpoint = torch.load(run / "checkpoints" / "switch_0.ckpt", weights_only=True)
    measured = checkpoint["callbacks"]["SequenceEvaluation"]
    assert list(measured) == ["rows", "swaps", "probes", "drawn_SEK", "weights"]
    checkpoint["callbacks"]["SequenceEvaluation"] = {f"_{name}": value for name, value in measured.items()}
    torch.save(checkpoint, run / "checkpoints" / "last.ckpt")
    (run / "summary.json").unlink()
    assert main(["fit", "--config", str(config), "--run", str(run), "--resume", "true"]) == 0
    assert same(SequenceResults.read(run), SequenceResults.read(trained))
    assert (
        import_module("memlight.modules.sequence_shares").IndependentMembers is IndependentMembers
    )  # a saved strategy


def test_a_finished_run_is_left_alone(trained: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "results.npz").stat().st_mtime_ns
    assert main(["fit", "--config", str(config), "--run", str(trained), "--resume", "true"]) == 0
    assert "nothing to train" in capsys.readouterr().out
    assert (trained / "results.npz").stat().st_mtime_ns == before


def test_an_arm_starts_from_the_switch_of_another_run(trained: Path, config: Path, tmp_path: Path) -> None:
    frozen = yaml.safe_load(config.read_text())
    frozen["trainer"]["callbacks"].append({"class_path": "Freeze", "init_args": {"scope": "A", "at": [6]}})
    arm = tmp_path / "freeze_a.yaml"
    arm.write_text(yaml.safe_dump(frozen))
    past = trained / "checkpoints" / "switch_0.ckpt"
    assert main(["fit", "--config", str(arm), "--run", str(tmp_path / "run"), "--ckpt_path", str(past)]) == 0
    results, base = SequenceResults.read(tmp_path / "run"), SequenceResults.read(trained)
    assert np.array_equal(results.set_accuracy[:, 0, :3], base.set_accuracy[:, 0, :3])
    assert np.array_equal(results.weights[12]["A_logits"], base.weights[6]["A_logits"])
    assert not np.array_equal(results.weights[12]["B_logits"], base.weights[6]["B_logits"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--trainer.max_steps=6"], "--trainer.callbacks Snapshot.at 6: the training ends after --trainer.max_steps 6"),
        (["--data.num_sequences=300"], "--data.num_sequences 300: there are only 256 distinct"),
        (["--model.capacity=0"], "--model.capacity 0"),
        (["--trainer.max_steps=-1"], "--trainer.max_steps -1: say how many"),
        (["--trainer.max_epochs=3"], "--trainer.max_epochs 3: say --trainer.max_steps"),
        (["--trainer.devices=3"], "--model.replicas 2: 3 processes need a member each"),
        (["--trainer.devices=2", "--trainer.strategy=fsdp"], "--trainer.strategy fsdp: members share nothing"),
        (["--trainer.precision=16-mixed"], "--trainer.precision 16-mixed"),
        (["--model.num_bits=9"], "--model.num_bits 9: the sequences have --data.num_bits 8"),
        (["--ckpt_path=nowhere.ckpt"], "--ckpt_path nowhere.ckpt: no such file"),
        (["--trainer.callbacks=[]"], "needs a SequenceEvaluation"),
    ],
)
def test_bad_input(
    flags: list[str], says: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["fit", "--config", str(config), "--run", str(run), *flags]) == 2
    assert says in capsys.readouterr().err
    assert not run.exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ([], "already holds checkpoints. Continue with --resume true"),
        (["--resume=true", "--seed_everything=9"], "trained with another configuration (seed_everything: 3, now 9)"),
        (["--resume=true", "--data.seed=9"], "trained with another configuration (data.seed: 3, now 9)"),
    ],
)
def test_a_run_is_not_trained_otherwise(
    flags: list[str], says: str, trained: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config", str(config), "--run", str(trained), *flags]) == 2
    assert says in capsys.readouterr().err


def test_a_checkpoint_of_images_is_refused(
    config: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = run / "candidate" / "checkpoints" / "last.ckpt"
    assert main(["fit", "--config", str(config), "--run", str(tmp_path / "x"), f"--ckpt_path={last}"]) == 2
    assert "not a checkpoint of a sequence training" in capsys.readouterr().err


def test_results_that_are_missing_or_broken(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run=.*: no results.npz"):
        SequenceResults.read(tmp_path)
    broken = Path(shutil.copytree(trained, tmp_path / "broken"))
    (broken / "results.npz").write_bytes((broken / "results.npz").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"cannot be read"):
        SequenceResults.read(broken)


def test_wandb_shows_one_run_an_experiment(trained: Path) -> None:
    settings = sequence_settings(yaml.safe_load((trained / "config.yaml").read_text()))
    keys = training_keys(RunDir(trained), "sequence", settings)
    assert (keys.name, keys.group, keys.job_type) == ("dam/sequence", "dam", "sequence")
    assert keys.config["method"] == "sequencedam" and keys.config["callbacks"]


def test_an_arm_with_another_rate_is_trained_with_it(trained: Path, config: Path, tmp_path: Path) -> None:
    past = trained / "checkpoints" / "switch_0.ckpt"
    other = ["--model.learning_rate=0.5", "--model.weight_decay=0.25"]
    assert main(["fit", "--config", str(config), "--run", str(tmp_path / "run"), f"--ckpt_path={past}", *other]) == 0
    (state,) = checkpoint_of(tmp_path / "run")["optimizer_states"]
    assert [(group["lr"], group["weight_decay"]) for group in state["param_groups"]] == [(0.5, 0.25)]
    one, two = (SequenceResults.read(root).weights for root in (tmp_path / "run", trained))
    assert np.array_equal(one[6]["A_logits"], two[6]["A_logits"])
    assert not np.array_equal(one[12]["A_logits"], two[12]["A_logits"])


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--model.optimizer=sgd"], "was trained with another optimizer than sgd"),
        (["--model.optimizer=adamw"], "was trained with another optimizer than adamw"),
        (["--model.num_heads=3"], "holds the weights of another method, head or encoder (network.A_logits: 2 x 8 x 2"),
        (["--model.replicas=3"], "--model.replicas 3: the checkpoint was trained with 2"),
        (["--model=SequenceAttention", "--model.replicas=2"], "holds the weights of another method"),
    ],
)
def test_an_arm_of_another_network_is_refused_before_anything_is_written(
    flags: list[str], says: str, trained: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, past = tmp_path / "run", trained / "checkpoints" / "switch_0.ckpt"
    assert main(["fit", "--config", str(config), "--run", str(run), f"--ckpt_path={past}", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not (run / "config.yaml").exists()


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("memlight_sequence", "frozen"), ["nothing"]),
        (("memlight_sequence", "frozen"), 3),
        (("memlight_sequence", "snapshots"), {"x": {}}),
        (("memlight_sequence", "events"), [{}]),
        (("memlight_sequence", "train_log"), [(3, "low")]),
        (("memlight_sequence", "loss_sum"), 3),
        (("memlight_sequence", "loss_steps"), "x"),
        (("memlight_sequence", "identity"), []),
        (("callbacks",), {}),
        (("callbacks", "SequenceEvaluation"), 7),
        (("callbacks", "SequenceEvaluation", "rows"), []),
        (("callbacks", "SequenceEvaluation", "rows"), [{"step": 0}]),
        (("callbacks", "SequenceEvaluation", "rows", 0, "loss"), torch.zeros(2)),
        (("callbacks", "SequenceEvaluation", "drawn_SEK"), [3]),
        (("callbacks", "SequenceEvaluation", "weights"), {6: {"A_logits": 1}}),
        (("loops", "fit_loop", "epoch_loop.manual_optimization.optim_step_progress", "total", "completed"), 99),
        (("optimizer_states",), []),
    ],
)
def test_junk_in_an_experiments_checkpoint_is_a_sentence(trained: Path, keys: tuple[Any, ...], value: Any) -> None:
    module, data = SequenceDAM(8, 2, 15, replicas=2, init_seed=3), SequenceDataModule(20, 8, batch_size=6, seed=3)
    trainer = L.Trainer(
        **{"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "max_epochs": -1, "max_steps": 12},
        callbacks=[SequenceEvaluation(4)],
    )
    content = checkpoint_of(trained)
    path = trained.parent / "junk.ckpt"
    torch.save(content, path)
    require_sequence_checkpoint(path, module, trainer, data)
    inner: Any = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    torch.save(content, path)
    with pytest.raises(UserError, match=r"^ckpt_path="):
        require_sequence_checkpoint(path, module, trainer, data)
