"""`analyze.py finetune` on a tiny pair; the target is the digits themselves, which need no files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memlight.analyses.finetune.arms import head_arm, named_arms, ranked_arms
from memlight.analyses.finetune.columns import FINETUNE_EFFECTS, FINETUNE_TABLE
from memlight.analyses.finetune.command import TargetFlags
from memlight.analyses.finetune.study import read_target
from memlight.data.images import ImageDataModule
from memlight.errors import UserError
from memlight.storage.rundir import RunDir
from memlight.storage.tables import Table, read_json, read_table, write_table
from tests.ddp import run_ddp
from tests.schemas import schema_of
from tests.synthetic_run import layermem_table
from tests.tiny_pair import analyze, assert_same_tables, table_bytes

TARGET = ["--dataset=digits", "--train-images=64", "--test-images=20"]
QUICK = [*TARGET, "--epochs=1", "--batch-size=32", "--trials=2"]
LAYERS = [f"layer{n}" for n in range(1, 9)]


def finetune(run: RunDir, tag: str, *flags: str) -> int:
    return analyze(run.root, "finetune", *QUICK, f"--tag={tag}", *flags)


@pytest.fixture(scope="module")
def tuned(trained: RunDir) -> RunDir:
    assert finetune(trained, "named", "--layers", "layer6", "layer6,layer8") == 0
    return trained


def test_table_has_the_head_and_each_arm_in_each_trial(tuned: RunDir) -> None:
    table = read_table(tuned.analysis("finetune", "named").table(), FINETUNE_TABLE)
    assert table["arm"].tolist() == ["head", "head", "layer6", "layer6", "layer6,layer8", "layer6,layer8"]
    assert table["layers"].tolist() == ["", "", "layer6", "layer6", "layer6,layer8", "layer6,layer8"]
    assert table["count"].tolist() == [0, 0, 1, 1, 2, 2] and table["trial"].tolist() == [0, 1] * 3
    head, layer6, layer8 = 2570, 9 * 128 * 256 + 512, 9 * 256 * 256 + 512
    assert table["trained_parameters"].tolist() == np.repeat([head, head + layer6, head + layer6 + layer8], 2).tolist()
    assert table["top1"] * 20 == pytest.approx(np.round(table["top1"] * 20))
    np.testing.assert_allclose(table["gain"], table["top1"] - np.tile(table["top1"][:2], 3), atol=1e-12)


def test_summary_says_what_it_was_trained_and_tested_on(tuned: RunDir) -> None:
    analysis = tuned.analysis("finetune", "named")
    effects = read_table(analysis.table("effects"), FINETUNE_EFFECTS)
    summary = read_json(analysis.summary, dict)
    found = {"dataset": "digits", "classes": 10, "train_images": 64, "test_images": 20}
    found |= {f"top1/{arm}": top1 for arm, top1 in zip(effects["arm"], effects["top1"], strict=True)}
    found |= {f"gain/{arm}": gain for arm, gain in zip(effects["arm"][1:], effects["gain"][1:], strict=True)}
    assert summary["headline"] == pytest.approx(found)
    assert summary["images"] == 6 * (64 + 20)


def both(run: str) -> list[int]:
    flags = ["--layers", "layer6", "layer6,layer8"]
    return [finetune(RunDir(Path(run)), "two-processes", *flags, "--max-forward=7")]


@pytest.mark.ddp
def test_two_processes_and_smaller_forwards_give_the_same_tables(tuned: RunDir) -> None:
    assert run_ddp(both, 2, str(tuned.root)) == [[0], [0]]
    one, two = (tuned.analysis("finetune", tag) for tag in ("named", "two-processes"))
    assert_same_tables(one, two, ["effects", "table"])


def test_rankings_are_read_from_the_run_and_a_second_call_gives_the_same_bytes(tuned: RunDir) -> None:
    flags = ["--rank-by", "delta", "random", "--count", "1"]
    assert finetune(tuned, "none", *flags) == 2  # not measured yet
    table = layermem_table()
    write_table(tuned.analysis("layermem").table(), table, schema_of(table))
    for tag in ("ranked", "again"):
        assert finetune(tuned, tag, *flags) == 0
    assert table_bytes(tuned.analysis("finetune", "ranked")) == table_bytes(tuned.analysis("finetune", "again"))
    rows = read_table(tuned.analysis("finetune", "ranked").table(), FINETUNE_TABLE)
    best, highest = "", -np.inf
    for layer, delta in zip(table["layer"], table["delta"], strict=True):
        if layer in LAYERS and delta > highest:
            best, highest = str(layer), float(delta)
    assert rows["layers"][rows["arm"] == "delta-1"].tolist() == [best, best]
    assert set(rows["layers"][rows["arm"] == "random-1"].tolist()) <= set(LAYERS)


def test_rankings_choose_from_the_highest_value_and_pass_over_layers_without_one() -> None:
    table: Table = {
        "layer": np.array(["layer1", "layer2", "res2", "layer3"]),
        "delta": np.array([np.nan, 0.1, 0.9, 0.2]),
        "contrast": np.array([0.5, 0.5, 0.9, 0.6]),
    }
    usable = ["layer1", "layer2", "layer3"]
    arms = ranked_arms(["delta", "contrast"], [1, 2], table, usable, trials=2, seed=0)
    assert [(arm.name, arm.rank_by, arm.count, arm.draws[0]) for arm in arms] == [
        ("delta-1", "delta", 1, ("layer3",)),
        ("delta-2", "delta", 2, ("layer2", "layer3")),
        ("contrast-1", "contrast", 1, ("layer3",)),
        ("contrast-2", "contrast", 2, ("layer1", "layer3")),  # of two equal ones the first to run
    ]
    assert all(arm.draws == (arm.draws[0],) * 2 for arm in arms)
    with pytest.raises(UserError, match="count=3: 2 layers can be ranked by delta"):
        ranked_arms(["delta"], [3], table, usable, trials=1, seed=0)


def test_random_layers_are_drawn_anew_in_each_trial_each_as_often() -> None:
    (arm,) = ranked_arms(["random"], [2], None, LAYERS, trials=400, seed=3)
    (again,) = ranked_arms(["random"], [2], None, LAYERS, trials=2, seed=3)
    assert again.draws == arm.draws[:2]
    assert all(len(set(draw)) == 2 and list(draw) == sorted(draw) for draw in arm.draws)
    for layer in LAYERS:
        assert sum(layer in draw for draw in arm.draws) / 400 == pytest.approx(2 / 8, abs=0.08)


def test_named_layers_make_an_arm_a_word() -> None:
    assert [arm.draws for arm in named_arms(["b,a", "a"], 2)] == [(("b", "a"),) * 2, (("a",),) * 2]
    assert head_arm(3).draws == ((), (), ()) and head_arm(3).count == 0


@pytest.fixture(scope="module")
def digits() -> Iterator[ImageDataModule]:
    yield ImageDataModule("digits", view_size=16, image_size=12, mean=(0.1, 0.2, 0.3), std=(1, 2, 3))


def test_images_are_drawn_from_those_with_labels_and_seen_as_the_encoder_s_own(digits: ImageDataModule) -> None:
    target = read_target(digits, TargetFlags("digits", train_images=50, test_images=10_000), seed=4)
    other = read_target(digits, TargetFlags("digits", train_images=50, test_images=10), seed=5)
    assert target.train.images.shape == (50, 3, 12, 12)
    views = target.data.make_views("clean")
    assert (views.size, views.mean, views.std) == (16, (0.1, 0.2, 0.3), (1, 2, 3))
    first_test = len(target.data.source.train)
    train, test = target.train.ids.numpy(), target.test.ids.numpy()
    assert (np.diff(train) > 0).all() and train.max() < first_test and set(train) != set(other.train.ids.tolist())
    assert test.tolist() == list(range(first_test, len(target.data.source)))
    np.testing.assert_array_equal(target.train.labels.numpy(), target.data.labels_of(train))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--layers, --rank-by: name the layers of each arm, or rank them"),
        (["--layers=layer6", "--rank-by=delta"], "--layers, --rank-by: "),
        (["--layers=layer6", "--count=1"], "--count: belongs to --rank-by"),
        (["--layers=layer9"], "--layers layer9: no such layer"),
        (["--layers=layer6,res2"], "--layers res2: has no weights"),
        (["--layers=layer6,"], "--layers 'layer6,': join the layers"),
        (["--layers", "layer6,layer8", "layer8,layer6"], "--layers layer8,layer6: the same layers are named twice"),
        (["--rank-by", "random", "random"], "--rank-by random random: names one twice"),
        (["--rank-by=random", "--count=9"], "--count 9: 8 layers"),
        (["--rank-by=random", "--count=0"], "--count 0: must be 1 or more"),
        (["--rank-by=layermem", "--checkpoint=epoch=1"], "--rank-by layermem: no "),
        (["--layers=layer6", "--epochs=0"], "--epochs 0: must be 1 or more"),
        (["--layers=layer6", "--lr=0"], "--lr 0.0: must be above 0"),
        (["--layers=layer6", "--head-lr=nan"], "--head-lr nan: must be above 0"),
        (["--layers=layer6", "--batch-size=1"], "--batch-size 1: must be 2 or more"),
        (["--layers=layer6", "--batch-size=65"], "--batch-size 65: there are 64 training images"),
        (["--layers=layer6", "--train-images=3"], "--train-images 3: class "),
        (["--layers=layer6", "--test-images=1"], "--test-images 1: must be 2 or more"),
        (["--layers=layer6", "--view-set=nice"], "--view-set nice: no such augmentation set"),
        (["--layers=layer6", "--dataset=imagenet"], "--dataset imagenet: choose one of digits"),
        (["--layers=layer6", "--dataset=svhn"], "--dataset-root: svhn needs a directory."),
        (["--layers=layer6", "--dataset=folder", "--dataset-root=nowhere"], "--dataset-root nowhere: "),
        (["--layers=layer6", "--member=random", "--checkpoint=last"], "--checkpoint last: the random member"),
    ],
)
def test_refusals_are_one_line_before_any_training(
    trained: RunDir, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune(trained, "refused", *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {words}") and "--data." not in line
    assert not trained.analysis("finetune", "refused").dir.exists()


def test_images_without_classes_are_refused(digits: ImageDataModule, tmp_path: Path) -> None:
    from PIL import Image

    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for number in range(3):
            Image.new("RGB", (16, 16)).save(tmp_path / part / f"{number}.png")
    with pytest.raises(UserError, match="dataset='folder': fine-tuning needs images of two classes or more"):
        read_target(digits, TargetFlags("folder", str(tmp_path), train_images=5, test_images=5), seed=0)


def test_classes_of_a_file_are_those_of_the_images_that_are_fine_tuned_on(
    digits: ImageDataModule, tmp_path: Path
) -> None:
    rows = []
    for number in range(12):
        name = f"{'train' if number < 8 else 'test'}/{number:02}.png"
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (20 * number, 0, 0)).save(tmp_path / name)
        rows.append(f"{name},{'even' if number % 2 == 0 else 'odd'}")
    (tmp_path / "train/07.png").write_bytes(b"broken")
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows, ""]))
    target = TargetFlags("folder", str(tmp_path), train_images=8, test_images=4)
    with pytest.warns(UserWarning, match="1 of 8 images are broken and left out"):
        found = read_target(digits, target, 0, labels=str(tmp_path / "labels.csv"), on_error="skip")
    assert found.data.classes == ["even", "odd"] and found.train.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert found.test.labels.tolist() == [0, 1, 0, 1]
