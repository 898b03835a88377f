import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memlight.data.images import ImageDataModule
from memlight.models.encoders import load_encoder, read_metadata
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from tests.tiny_pair import KEPT, analyze, callback_flags, encoder_state, fit, same_tensors, table_bytes

EVALUATE = "OnlineEvaluation"  # by its name, as a user types it


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A candidate that was evaluated at the end of its second epoch, and probed."""
    run = tmp_path_factory.mktemp("evaluated") / "run"
    assert fit(run, *callback_flags(EVALUATE, every_n_epochs=2)) == 0
    return RunDir(run)


def logged(run: RunDir) -> list[float]:
    """``knn/top1`` at each of the twelve steps; NaN where it was not measured."""
    values: list[float] = read_table(run.member("candidate").metrics)["knn/top1"].tolist()
    return values


def test_every_second_epoch_logs_what_analyze_gives_for_its_checkpoint(evaluated: RunDir) -> None:
    measured = {step: top1 for step, top1 in enumerate(logged(evaluated)) if top1 == top1}
    assert list(measured) == [7]  # the last step of the second of three epochs, of four steps each
    flags = ["--members=candidate", f"--checkpoint={KEPT}", "--tag=after"]
    assert analyze(evaluated.root, "probe", *flags) == 0
    table = read_table(evaluated.analysis("probe", "after").table())
    assert table["evaluation"].tolist() == ["linear", "knn"]
    assert measured[7] == pytest.approx(float(table["top1"][1]), rel=1e-6)
    assert 0 < measured[7] < 1


def test_the_trained_encoder_is_probed_as_analyze_does(evaluated: RunDir) -> None:
    assert analyze(evaluated.root, "probe", "--members=candidate", "--tag=finished") == 0
    during, after = (evaluated.analysis("probe", tag) for tag in ("candidate", "finished"))
    assert table_bytes(during) == table_bytes(after)
    assert sorted(table_bytes(during)) == ["table.csv"]


def test_limits_take_evenly_spaced_images(tmp_path: Path) -> None:
    options = {"every_n_epochs": 3, "num_train": 20, "num_test": 10, "probe": "false"}
    assert fit(tmp_path / "run", *callback_flags(EVALUATE, **options)) == 0
    run = RunDir(tmp_path / "run")
    assert not (run.root / "analysis").exists()  # no probe was asked for
    path = run.member("candidate").encoder
    encoder, data = load_encoder(path), ImageDataModule(**read_metadata(path)["data"])
    data.setup()
    features, labels = {}, {}
    for split, limit in (("shared", 20), ("external", 10)):
        of_split = data.split.ids(split)
        ids = np.array([of_split[index * len(of_split) // limit] for index in range(limit)])
        with torch.no_grad():
            z = encoder(data.make_views("clean")(data.images_of(ids), torch.from_numpy(ids))).double().numpy()
        features[split], labels[split] = z / np.linalg.norm(z, axis=1, keepdims=True), data.labels_of(ids)
    right = 0
    for z, label in zip(features["external"], labels["external"], strict=True):
        votes = np.zeros(10)
        for neighbour in range(20):  # all of them: 20 neighbours are asked
            votes[labels["shared"][neighbour]] += np.exp(features["shared"][neighbour] @ z / 0.1)
        right += votes.argmax() == label
    assert logged(run)[11] == pytest.approx(right / 10, rel=1e-6)


def test_a_member_that_was_killed_before_it_was_probed_is_probed(evaluated: RunDir, run: Path) -> None:
    (run / "candidate" / "encoder.safetensors").unlink()
    assert fit(run, "--resume=true", *callback_flags(EVALUATE, every_n_epochs=2)) == 0
    assert same_tensors(encoder_state(run), encoder_state(evaluated.root))
    assert table_bytes(RunDir(run).analysis("probe", "candidate")) == table_bytes(
        evaluated.analysis("probe", "candidate")
    )


def test_a_trial_run_writes_nothing(run: Path) -> None:
    shutil.rmtree(run / "independent")
    before = sorted(run.rglob("*"))
    trial = ["--trainer.fast_dev_run=1", *callback_flags(EVALUATE, every_n_epochs=1)]
    assert fit(run, *trial, role="independent") == 0
    assert sorted(run.rglob("*")) == before


def test_images_without_classes_are_refused_before_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (100, 16, 16, 3), dtype=np.uint8)):
        folder = tmp_path / "images" / ("train" if index < 84 else "test")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    images = ["--data.dataset=folder", f"--data.root={tmp_path / 'images'}"]
    assert fit(tmp_path / "run", *images, *callback_flags(EVALUATE)) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: --data.root {tmp_path / 'images'}: OnlineEvaluation needs images with classes")
    assert not (tmp_path / "run").exists()
    assert fit(tmp_path / "run", *images, "--trainer.max_epochs=1") == 0  # without it they train


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data.num_external=0"], "--data.num_external 0: OnlineEvaluation needs external images"),
        (["--trainer.callbacks.num_test=0"], "--trainer.callbacks.num_test 0: must be 1 or more"),
        (["--trainer.callbacks.network=student"], "--trainer.callbacks.network student: SimCLR has encoder"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_evaluated_is_refused_before_training(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path / "run", *callback_flags(EVALUATE), *flags) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {words}")
    assert not list(tmp_path.rglob("*.ckpt"))
