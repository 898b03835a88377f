"""Members shared by two processes: the files are those of one process, and a run goes on with as many as there are."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.strategies import DDPStrategy
from safetensors.torch import load_file
from torch import distributed

from memlight.cli import main
from memlight.dist import barrier
from memlight.errors import UserError
from memlight.modules.sequence.shares import gathered, own_share, require_independent, taken
from memlight.sequences.results import SequenceResults
from memlight.storage.tables import read_json, read_table
from tests.ddp import run_ddp
from tests.training.test_sequences import CONFIG, same

pytestmark = pytest.mark.ddp

PROBE = {"at": [4], "scope": "A", "num_sequences": 6, "criterion": 0.6, "limit": 20, "check_every": 1}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three members, and at the switch a loss that is summed but not logged yet."""
    settings = yaml.safe_load(CONFIG)
    settings["model"]["init_args"]["replicas"] = 3
    settings["trainer"]["log_every_n_steps"] = 4
    settings["trainer"]["callbacks"] += [
        {"class_path": "Freeze", "init_args": {"scope": "A", "at": [8]}},
        {"class_path": "Swap", "init_args": {"scope": "B", "snapshot": 6}},
        {"class_path": "RelearnProbe", "init_args": PROBE},
    ]
    path = tmp_path_factory.mktemp("config") / "shared.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def as_before_the_switch(trained: Path, run: Path) -> Path:
    """A copy of a run, killed after its switch."""
    shutil.copytree(trained, run)
    shutil.copy(run / "checkpoints" / "switch_0.ckpt", run / "checkpoints" / "last.ckpt")
    for name in ("results.npz", "sequences.npz", "summary.json"):
        (run / name).unlink()
    return run


def fit(config: Path, run: Path, *flags: str) -> int:
    return main(["fit", "--config", str(config), "--run", str(run), *flags])


def train_twice(config: Path, folder: Path) -> list[int]:
    """In every process: a whole run, and one that goes on from its switch."""
    os.environ["LOCAL_RANK"] = str(distributed.get_rank())
    whole = fit(config, folder / "shared", "--trainer.devices=2")
    if distributed.get_rank() == 0:
        as_before_the_switch(folder / "shared", folder / "resumed")
    barrier()
    resumed = fit(config, folder / "resumed", "--trainer.devices=2", "--resume=true")
    diverged = fit(config, folder / "diverged", "--trainer.devices=2", "--model.learning_rate=1e38")
    return [whole, resumed, diverged]


def close(one: SequenceResults, two: SequenceResults) -> None:
    arrays = {name: value for name, value in vars(one).items() if isinstance(value, np.ndarray)}
    assert arrays.keys() == {name for name, value in vars(two).items() if isinstance(value, np.ndarray)}
    for name, value in arrays.items():
        assert value.dtype == getattr(two, name).dtype, name
        np.testing.assert_allclose(getattr(two, name), value, rtol=1e-4, atol=1e-5, err_msg=name)
    for step, named in one.weights.items():
        for name, value in named.items():
            np.testing.assert_allclose(two.weights[step][name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert one.events == two.events and one.swap_names == two.swap_names
    assert all(np.array_equal(first, second) for first, second in zip(one.sequences, two.sequences, strict=True))


def test_two_processes_leave_the_files_of_one(config: Path, tmp_path: Path) -> None:
    assert fit(config, tmp_path / "alone") == 0
    assert run_ddp(train_twice, 2, config, tmp_path) == [[0, 0, 2]] * 2
    alone, shared, resumed = (SequenceResults.read(tmp_path / name) for name in ("alone", "shared", "resumed"))
    assert shared.seeds.tolist() == [3, 4, 5]
    close(alone, shared)
    assert same(resumed, shared)
    assert (tmp_path / "resumed" / "metrics.csv").read_text() == (tmp_path / "shared" / "metrics.csv").read_text()

    files = [
        {str(path.relative_to(tmp_path / name)) for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("alone", "shared")
    ]
    assert files[0] == files[1]
    tables = [read_table(tmp_path / name / "metrics.csv") for name in ("alone", "shared")]
    assert list(tables[0]) == list(tables[1]) and "train/loss/seed5" in tables[1]
    for name, column in tables[0].items():
        np.testing.assert_allclose(tables[1][name], column, rtol=1e-4, atol=1e-5, err_msg=name)
    for name in ("last.ckpt", "switch_0.ckpt"):
        states = [
            torch.load(tmp_path / run / "checkpoints" / name, weights_only=True)["state_dict"]
            for run in ("alone", "shared")
        ]
        torch.testing.assert_close(states[1], states[0], rtol=1e-4, atol=1e-5)
    saved = load_file(tmp_path / "shared" / "checkpoints" / "switch_0.safetensors")
    assert np.array_equal(saved["B_logits"].numpy(), shared.weights[6]["B_logits"])
    assert read_json(tmp_path / "shared" / "summary.json", dict)["members"] == 3

    one = as_before_the_switch(tmp_path / "shared", tmp_path / "one")
    assert fit(config, one, "--resume=true") == 0
    close(alone, SequenceResults.read(one))


def _there_and_back(members: int) -> bool:
    whole: dict[str, Any] = {
        "rows": [(3, torch.arange(members)), (4, torch.ones(members, 2))],
        "step": torch.tensor(7),
        "name": "A",
    }
    own = taken(own_share(members), whole)
    back = gathered(own)
    return (
        0 < len(own["rows"][0][1]) < members
        and [step for step, _ in back["rows"]] == [3, 4]
        and all(torch.equal(back["rows"][row][1], whole["rows"][row][1]) for row in range(2))
        and (int(back["step"]), back["name"]) == (7, "A")
    )


def _mixed() -> str:
    with pytest.raises(UserError) as refused:
        require_independent(DDPStrategy())
    return str(refused.value)


def test_a_strategy_that_mixes_members_is_refused() -> None:
    assert all("IndependentMembers()" in words for words in run_ddp(_mixed, 2))


def test_what_is_shared_out_comes_back_in_order() -> None:
    assert run_ddp(_there_and_back, 2, 5) == [True, True]
