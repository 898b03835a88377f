"""Result files in the form of the authors' code: their numbers are read, and nothing in them is run."""

import argparse
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from memlight.analyses.sequence.reader import AVERAGED_STEPS, read_authors_results
from memlight.errors import UserError
from memlight.storage.torch_files import load_torch, read_torch

BITS, HEADS, SEQUENCES = 6, 2, 40


def memory_record(before: int = 250, after: int = 230) -> dict[str, Any]:
    """What the authors' attention with associative memory saves."""
    logs = [
        {"step": step, "loss": 0.7 - step / 1000, "accuracy": torch.tensor(0.5 + step / 1000), "phase": phase,
         "A_correlation": torch.zeros(BITS, HEADS, HEADS)}
        for phase, steps in (("train", before), ("eval", after)) for step in range(steps)
    ]  # fmt: skip
    state = OrderedDict(
        A_logits=torch.randn(BITS, HEADS, BITS), B_logits=torch.randn(HEADS, BITS), memory=torch.zeros(3)
    )
    return {"args": argparse.Namespace(N=BITS, eta=10.0, device=None), "logs": logs, "model_state_dict": state}


def transformer_record(switches: str, evaluations: int = 6, *, by_position: bool = False) -> dict[str, Any]:
    """What the authors' transformer saves: every tenth sequence is tested, of the last set or of every one so far."""
    drawn, logs, sets = np.zeros(SEQUENCES), [], 0
    for at in range(evaluations):
        if switches == "Forget" and at % 3 == 0:
            drawn, sets = np.zeros(SEQUENCES), sets + 1
        elif switches == "True" and at == evaluations / 2:
            drawn = np.zeros(SEQUENCES)
        tested = (SEQUENCES // 10) * (sets if switches == "Forget" else 1)
        rank, accuracy = np.zeros((2, SEQUENCES, BITS - 1))
        rank[:tested] = np.arange(tested)[:, None]
        accuracy[:tested] = at / 10 + np.arange(tested)[:, None] / 100
        metrics: dict[str, Any] = defaultdict(list)
        metrics.update(
            sequence_rank=rank[:, 0].astype(np.int64),
            length=50,
            logsoftmaxloss=1 - accuracy.mean(axis=1),
            accuracy=accuracy if by_position else accuracy.mean(axis=1),
        )
        logs.append({"num_apppearances": drawn.copy(), "train_loss": np.float64(0.5), "epoch": at, "lr": 1e-3,
                     "appearances": [np.zeros(4, dtype=np.int64)] * 5, "test_metrics": metrics})  # fmt: skip
        drawn = drawn + np.arange(SEQUENCES)
    args = {"K": SEQUENCES, "is_resample_tasks": switches, "num_iter_per_epoch": 1, "batch_size": 32}
    return {"args": args, "logs": logs, "model": OrderedDict(weight=torch.nn.Parameter(torch.randn(3, 3)))}


def dumped(path: Path, content: object) -> Path:
    with path.open("wb") as file:
        pickle.dump(content, file)
    return path


def test_steps_of_the_memory_model_are_averaged_within_their_phase(tmp_path: Path) -> None:
    record = memory_record()
    torch.save(record, tmp_path / "dam.pt")
    found = read_authors_results(tmp_path / "dam.pt")
    assert found.eval_steps.tolist() == [100, 200, 250, 350, 450, 480] and found.switch_start_iter.tolist() == [250]
    for column, (index, first) in enumerate([(0, 0), (0, 100), (0, 200), (1, 0), (1, 100), (1, 200)]):
        steps = [step for step in range(first, min(first + AVERAGED_STEPS, (250, 230)[index]))]
        np.testing.assert_allclose(found.set_accuracy[0, index, column], 0.5 + np.mean(steps) / 1000, rtol=1e-6)
        np.testing.assert_allclose(found.set_loss[0, index, column], 0.7 - np.mean(steps) / 1000)
        assert np.isnan(found.set_accuracy[0, 1 - index, column])
    assert np.array_equal(found.weights[250]["A_logits"][0], record["model_state_dict"]["A_logits"])
    assert found.args == {"N": BITS, "eta": 10.0, "device": None}


@pytest.mark.parametrize("by_position", [True, False])
def test_test_sequences_of_the_transformer_have_their_ranks(tmp_path: Path, by_position: bool) -> None:
    record = transformer_record("True", by_position=by_position)
    found = read_authors_results(dumped(tmp_path / "run.pkl", record))
    assert found.eval_steps.tolist() == [0, 5, 10, 15, 20, 25] and found.switch_start_iter.tolist() == [15]
    assert found.train_steps.tolist() == [5, 10, 15, 20, 25, 30] and (found.train_loss == 0.5).all()
    assert found.test_rank.tolist() == [0, 10, 20, 30]
    for at in range(6):
        index = int(at >= 3)
        np.testing.assert_allclose(found.test_accuracy[0, index, at], at / 10 + np.arange(4) / 100)
        np.testing.assert_allclose(found.set_loss[0, index, at], 1 - at / 10 - 0.015)
        assert np.isnan(found.test_accuracy[0, 1 - index, at]).all()
    assert found.test_appearances[0, 1, 5].tolist() == [0, 20, 40, 60]


def test_earlier_sets_are_told_apart_where_they_are_tested(tmp_path: Path) -> None:
    found = read_authors_results(dumped(tmp_path / "run.pkl", transformer_record("Forget")))
    assert found.set_accuracy.shape == (1, 2, 6) and found.switch_start_iter.tolist() == [15]
    np.testing.assert_allclose(found.test_accuracy[0, 0, 4], 0.4 + np.arange(4) / 100)
    np.testing.assert_allclose(found.test_accuracy[0, 1, 4], 0.4 + np.arange(4, 8) / 100)
    assert np.isnan(found.test_accuracy[0, 1, :3]).all()


def test_sequences_drawn_uniformly_have_percentages_by_position(tmp_path: Path) -> None:
    filled = {f"test_top1_{n}": 50.0 + n for n in range(BITS - 1)} | {f"test_loss_{n}": 0.6 for n in range(BITS - 1)}
    log = {"num_apppearances": np.zeros(4), "train_loss": 0.5, **filled, "test_top1_5": 0.0, "test_loss_5": 0.0}
    record = {"args": {"num_iter_per_epoch": 1, "batch_size": 300}, "logs": [log] * 3}
    found = read_authors_results(dumped(tmp_path / "run.pkl", record))
    np.testing.assert_allclose(found.set_accuracy[0, 0], 0.52)
    np.testing.assert_allclose(found.set_loss[0, 0], 0.6)
    assert found.eval_steps.tolist() == [0, 4, 8] and found.test_rank.size == 0


class Runs:
    """Unpickling it would leave a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


class Storage:
    """A pickle within a pickle, as tensors have them."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        return (torch.storage._load_from_bytes, (self.data,))


class Attribute:
    def __reduce__(self) -> tuple[Any, ...]:
        return (getattr, (argparse.Namespace(), "x"))


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"logs": [Runs(mark)]}, tmp_path / "evil.pt")
    files = {
        "plain": dumped(tmp_path / "plain.pkl", {"logs": [Runs(mark)]}),
        "inner": dumped(tmp_path / "inner.pkl", Storage((tmp_path / "evil.pt").read_bytes())),
        "torch": tmp_path / "evil.pt",
        "getattr": dumped(tmp_path / "getattr.pkl", Attribute()),
    }
    for path in files.values():
        with pytest.raises(UserError, match=rf"path={path}: .*(could run code|calls what is only named)"):
            read_torch(path, "path", [])
    assert not mark.exists()


def test_tensors_arrays_and_containers_come_back_as_they_were(tmp_path: Path) -> None:
    content = {
        "tensor": torch.arange(6.0).reshape(2, 3).T,
        "array": np.arange(4, dtype=np.int16),
        "scalar": np.float32(0.5),
        "counts": defaultdict(int, {"a": 1}),
        "namespace": argparse.Namespace(x=(1, {2}, None)),
    }
    for protocol in (2, 4, 5):
        with (tmp_path / "content.pkl").open("wb") as file:
            pickle.dump(content, file, protocol=protocol)
        found = load_torch(tmp_path / "content.pkl")
        assert torch.equal(found["tensor"], content["tensor"]) and np.array_equal(found["array"], content["array"])
        assert {name: found[name] for name in ("scalar", "counts", "namespace")} == {
            name: content[name] for name in ("scalar", "counts", "namespace")
        }


def test_other_and_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = dumped(tmp_path / "whole.pkl", transformer_record("True"))
    (tmp_path / "cut.pkl").write_bytes(whole.read_bytes()[:500])
    for path, said in (
        (tmp_path / "cut.pkl", "truncated"),
        (tmp_path / "none.pkl", "no such file"),
        (dumped(tmp_path / "x_all_sequences.pkl", torch.zeros(3, 4)), "without _all_sequences"),
        (dumped(tmp_path / "empty.pkl", {"args": {}}), "holds no logs"),
        (dumped(tmp_path / "other.pkl", {"args": {}, "logs": [{"loss": 1}]}), "not those of the authors' code"),
    ):
        with pytest.raises(UserError, match=said):
            read_authors_results(path)
