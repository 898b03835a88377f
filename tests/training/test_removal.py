"""`train.py removal` on a tiny pair: arms, what they cost, and what is refused. Arms train in this process."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import torch

from memlight.analyses.removal.columns import REMOVAL_WITHOUT
from memlight.cli import main
from memlight.data.images import ImageDataModule
from memlight.errors import UserError
from memlight.models.encoders import read_metadata
from memlight.random import permutation
from memlight.runs.settings import comparable
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_table, read_yaml_config
from memlight.training import removal
from memlight.training.processes import in_turn, own_environment, side_by_side
from tests.quick import short_probes, without_charts
from tests.tiny_pair import TinyPair, analyze, assert_same_tables, encoder_state, fit, same_tensors, table_bytes

REMOVED = 4
ARMS = ["top", "low", "random-1", "random-2"]
ANALYSES = ["arms", "classes", "effects", "table"]


def here(commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> int:
    """Stands for processes: the same commands in this one."""
    torch.set_num_threads(1)
    return max(main(command[command.index("memlight.cli") + 1 :]) for command in commands)


def train(run: Path, *flags: str) -> int:
    return main(["removal", f"--run={run}", f"--remove={REMOVED}", "--trials=2", "--logger=csv", *flags])


@pytest.fixture(scope="module")
def scored(plain_pair: TinyPair, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A pair whose candidates have scores."""
    run = RunDir(plain_pair.copy(tmp_path_factory.mktemp("scored") / "run"))
    assert analyze(run.root, "layermem", "--views=2", "--layers", "layer5", "layer8") == 0
    return run


@pytest.fixture(scope="module")
def studied(scored: RunDir, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDir]:
    """The same after the command."""
    root = shutil.copytree(scored.root, tmp_path_factory.mktemp("studied") / "run")
    with pytest.MonkeyPatch.context() as patched, short_probes(), without_charts("removal"):
        patched.setattr(removal, "in_turn", here)
        assert train(root) == 0
        yield RunDir(root)


def scores_of(run: RunDir, layer: str) -> list[tuple[float, int]]:
    table = read_table(run.analysis("layermem").table("samples"))
    rows = zip(*(table[name].tolist() for name in ("score", "id", "split", "layer")), strict=True)
    return [(score, id_) for score, id_, split, where in rows if (split, where) == ("candidate", layer)]


def test_each_arm_leaves_its_images_out(studied: RunDir) -> None:
    ranked = sorted(scores_of(studied, "layer8"))
    drawn = [permutation(0, trial, 16)[:REMOVED].tolist() for trial in (1, 2)]
    candidates = read_json(studied.splits, dict)["candidate"]
    expected = [
        [id_ for _, id_ in ranked[-REMOVED:]],
        [id_ for _, id_ in ranked[:REMOVED]],
        *([candidates[row] for row in rows] for rows in drawn),
    ]
    study = studied.removal(REMOVED)
    assert study.arms() == ARMS
    for name, ids in zip(ARMS, expected, strict=True):
        table = read_table(study.arm(name).without, REMOVAL_WITHOUT)
        assert table["id"].tolist() == sorted(ids)
        assert dict(zip(table["id"].tolist(), table["score"].tolist(), strict=True)) == {
            id_: score for score, id_ in ranked if id_ in ids
        }
        assert set(table["layer"].tolist()) == {"layer8"}


def test_everything_else_is_equal(studied: RunDir) -> None:
    own = read_metadata(studied.member("candidate").encoder)
    learned = comparable(read_yaml_config(studied.config, dict))
    states = [encoder_state(studied.root)]
    for name in ARMS:
        arm = studied.removal(REMOVED).arm(name)
        made = read_metadata(arm.member("candidate").encoder)
        record = made.pop("without")
        assert made == own
        assert (record["file"], record["count"]) == ("without.csv", REMOVED)
        assert comparable(read_yaml_config(arm.config, dict)) == learned
        assert not list(arm.member("candidate").checkpoints.glob("epoch=*"))
        states.append(encoder_state(arm.root))
    assert not any(same_tensors(a, b) for i, a in enumerate(states) for b in states[:i])


def test_the_tables_say_what_each_arm_lost(studied: RunDir) -> None:
    done = studied.analysis("removal", str(REMOVED))
    assert sorted(name.removesuffix(".csv") for name in table_bytes(done)) == ANALYSES
    table, effects = read_table(done.table()), read_table(done.table("effects"))
    assert table["arm"].tolist() == ["none", "top", "low", "random", "random"]
    assert table["trial"].tolist() == [0, 0, 0, 1, 2]
    assert table["removed"].tolist() == [0, *[REMOVED] * 4]
    assert analyze(studied.root, "probe", "--members", "candidate") == 0
    probed = read_table(studied.analysis("probe").table())
    assert [table["probe_top1"][0], table["knn_top1"][0]] == probed["top1"].tolist()
    assert table["drop"].tolist() == (table["probe_top1"][0] - table["probe_top1"]).tolist()
    assert effects["arm"].tolist() == ["top", "low"]
    for row, arm in enumerate((1, 2)):
        assert effects["drop"][row] == pytest.approx(table["drop"][arm])
        assert effects["random"][row] == pytest.approx(table["drop"][3:].mean())
        assert effects["excess"][row] == pytest.approx(table["drop"][arm] - table["drop"][3:].mean())
        assert effects["draws"][row] == 2
    summary = read_json(done.summary, dict)
    assert summary["headline"]["excess/top"] == pytest.approx(float(effects["excess"][0]))
    assert sorted(summary["checkpoints"]) == ["candidate", *sorted(f"removal-{REMOVED}/{name}" for name in ARMS)]


def test_arms_and_their_classes(studied: RunDir) -> None:
    done, study = studied.analysis("removal", str(REMOVED)), studied.removal(REMOVED)
    arms, classes = read_table(done.table("arms")), read_table(done.table("classes"))
    data = ImageDataModule(**read_metadata(studied.member("candidate").encoder)["data"])
    data.setup()
    labels = dict(zip(data.split.candidate.tolist(), data.labels_of(data.split.candidate).tolist(), strict=True))
    left_out = [read_table(study.arm(name).without)["id"].tolist() for name in ARMS]
    assert arms["in_top"].tolist() == [0, *(len(set(ids) & set(left_out[0])) for ids in left_out)]
    assert arms["images_per_epoch"].tolist() == [64, *[64 - REMOVED] * 4]
    assert arms["steps_per_epoch"].tolist() == [4, 3, 3, 3, 3]
    assert arms["mean_score"][1] == max(arms["mean_score"][1:]) > arms["mean_score"][2]
    expected = [
        (number, sum(labels[id_] == number for id_ in ids), sum(label == number for label in labels.values()))
        for ids in left_out
        for number in range(10)
    ]
    assert list(zip(*(classes[name].tolist() for name in ("class", "removed", "candidates")), strict=True)) == expected


def test_a_second_call_trains_nothing_and_more_trials_train_those_alone(
    studied: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(Path(shutil.copytree(studied.root, tmp_path / "run")))
    shutil.rmtree(run.removal(REMOVED).arm("random-1").root)
    before = {path: path.stat().st_mtime_ns for path in run.root.glob("removal-*/*/candidate/encoder.safetensors")}
    assert train(run.root, "--rank-by=layer8") == 0  # the last layer, named
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert capsys.readouterr().out.count("is finished; nothing to train") == len(before) == 3
    done = [one.analysis("removal", str(REMOVED)) for one in (run, studied)]
    assert table_bytes(done[0]) == table_bytes(done[1])


def test_evaluation_alone_says_the_same_whatever_the_batch(studied: RunDir) -> None:
    assert analyze(studied.root, "removal", "--max-forward=7", "--tag=again") == 0
    done, again = (studied.analysis("removal", tag) for tag in (str(REMOVED), f"{REMOVED}-again"))
    assert_same_tables(done, again, ANALYSES)


def test_what_is_not_there_is_named_with_the_command_that_makes_it(
    plain_pair: TinyPair, scored: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(root: Path, *flags: str) -> str:
        assert train(root, *flags) == 2
        return capsys.readouterr().err.removeprefix("error: ")

    assert "make it with `python analyze.py layermem --run" in refused(plain_pair.root)
    assert refused(scored.root, "--remove=17").startswith("--remove 17: the run has 16 candidates")
    assert refused(scored.root, "--remove=0").startswith("--remove 0: must be 1 or more")
    assert refused(scored.root, "--rank-by=layer1").startswith("--rank-by layer1: ")
    assert refused(scored.root, f"--config={tmp_path / 'gone.yaml'}").startswith("--config ")
    (tmp_path / "study.yaml").write_text("remoev: 3\n")
    assert "remoev: no such key; train.py removal takes run, remove, trials" in refused(
        scored.root, f"--config={tmp_path / 'study.yaml'}"
    )
    assert not list(scored.root.glob("removal-*"))
    assert analyze(scored.root, "removal") == 2
    assert "no removal study in it; make one with `train.py removal" in capsys.readouterr().err
    copied = RunDir(Path(shutil.copytree(scored.root, tmp_path / "run")))
    shutil.copy(copied.member("independent").encoder, copied.member("candidate").encoder)
    assert "is of other encoders than the run has now" in refused(copied.root)


def test_arms_of_other_scores_are_not_mixed(
    studied: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDir(Path(shutil.copytree(studied.root, tmp_path / "run")))
    low, top = (run.removal(REMOVED).arm(name).without for name in ("low", "top"))
    shutil.copy(low, top)
    assert train(run.root) == 2
    assert "was chosen by other scores than analysis/layermem has now" in capsys.readouterr().err
    assert analyze(run.root, "removal") == 2
    assert "was trained otherwise than the candidate without the images of" in capsys.readouterr().err


def test_a_member_goes_on_only_without_the_same_images(
    studied: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arm = RunDir(Path(shutil.copytree(studied.removal(REMOVED).arm("top").root, tmp_path / "arm")))
    other = studied.removal(REMOVED).arm("low").without
    assert fit(arm.root, f"--data.without={arm.without}", "--resume=true") == 0
    for flags in ([], [f"--data.without={other}"]):
        assert fit(arm.root, *flags, "--resume=true") == 2
        assert f"left out {REMOVED} images of without.csv" in capsys.readouterr().err
    arm.member("candidate").encoder.unlink()
    assert fit(arm.root, f"--data.without={other}", "--resume=true") == 2
    assert f"last.ckpt left out {REMOVED} images of without.csv" in capsys.readouterr().err


def test_an_arm_that_fails_ends_the_command(scored: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(shutil.copytree(scored.root, tmp_path / "run"))
    monkeypatch.setattr(removal, "in_turn", lambda commands, environment: 3)
    assert train(root) == 3
    assert not (root / "analysis" / f"removal-{REMOVED}").exists()


def test_parallel_arms_have_shares_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = {"accelerator": "auto", "devices": "auto"}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [share["CUDA_VISIBLE_DEVICES"] for share in removal._shares(trainer, 5, {})] == ["0", "1", "2", "3"]
    two = removal._shares({**trainer, "devices": 2}, 5, {"CUDA_VISIBLE_DEVICES": "7,5,3,1"})
    assert [share["CUDA_VISIBLE_DEVICES"] for share in two] == ["7,5", "3,1"]
    with pytest.raises(UserError, match="parallel: an arm needs 3 of the 4 GPU"):
        removal._shares({**trainer, "devices": "3"}, 5, {})
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert removal._shares({**trainer, "accelerator": "cpu"}, 3, {}) == [{"OMP_NUM_THREADS": "2"}] * 3


WORK = """
import os, sys, time
name, log = sys.argv[1], open(os.environ["LOG"], "ab", buffering=0)
log.write(b"+")
open(os.environ["LOG"] + name, "w").close()
for other in {"a": "b", "b": "a"}.get(name, ""):
    while not os.path.exists(os.environ["LOG"] + other):
        time.sleep(0.01)
log.write(b"-")
print(os.environ["SHARE"])
sys.exit(5 if name == "b" else 0)
"""


def test_more_processes_than_shares_wait_their_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four, two at a time: a and b end once the other has begun, and b fails."""
    (tmp_path / "work.py").write_text(WORK)
    commands = {name: [sys.executable, str(tmp_path / "work.py"), name] for name in "abcd"}
    environment = {**own_environment(), "LOG": str(tmp_path / "log")}
    assert (Path(environment["PYTHONPATH"].split(os.pathsep)[0]) / "memlight" / "cli.py").is_file()
    assert side_by_side(commands, [{"SHARE": "x"}, {"SHARE": "y"}], environment) == 5
    running, most = 0, 0
    for event in (tmp_path / "log").read_text():
        running += 1 if event == "+" else -1
        most = max(most, running)
    assert (running, most) == (0, 2)
    out, err = capsys.readouterr()
    assert sorted(line[:4] for line in out.splitlines()) == ["a | ", "b | ", "c | ", "d | "]
    assert set(out.split()) == {*"abcd|", *"xy"}
    assert err == "b failed; the same command trains it again and leaves the others alone.\n"
    turns = tmp_path / "turns"
    (tmp_path / "turnsa").touch()
    in_order = [commands[name] for name in "cbd"]
    assert in_turn(in_order, {**environment, "SHARE": "x", "LOG": str(turns)}) == 5
    assert turns.read_text() == "+-+-"
