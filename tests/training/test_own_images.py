"""Training on a folder of one's own images: sizes by shares, one error that ends in what works, broken files later."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from memlight.data import ImageDataModule
from memlight.data.splits import PairSplit
from memlight.features import list_layers
from memlight.models.encoders import build_encoder, encoder_spec, read_metadata, save_encoder
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from memlight.training.arguments import lists_in_one_word
from tests.data.test_datasets import break_file
from tests.data.test_own_images import paint
from tests.tiny_pair import analyze, fit

ONE_EPOCH = ("--trainer.max_epochs=1", "--model.optim.warmup_epochs=0", "--data.dataset=auto")


def test_shares_are_trained_and_the_run_keeps_their_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, run = paint(tmp_path / "set", 66, side=16), tmp_path / "run"
    given = [*ONE_EPOCH, f"--data.root={root}", "--data.split", "0.6", "0.2", "0.2"]
    assert fit(run, *given) == 0
    assert "external: 11 of 66 images, held out: none are for tests" in capsys.readouterr().out
    split = PairSplit.load(RunDir(run).splits)
    assert [len(split.ids(name)) for name in ("shared", "candidate", "independent", "external")] == [33, 11, 11, 11]
    assert read_metadata(RunDir(run).member("candidate").encoder)["data"]["num_shared"] == 33
    assert fit(run, *given, "--resume=true") == 0
    assert "is finished; nothing to train" in capsys.readouterr().out


def untrained_pair(run: RunDir, data: ImageDataModule) -> None:
    """A run directory as a training leaves it, with two encoders of random weights."""
    data.open()
    data.split.save(run.splits)
    for role, seed in (("candidate", 1), ("independent", 2)):
        encoder = build_encoder("resnet9", image_size=16, seed=seed)
        record = {
            **{"format": 1, "method": "simclr", "network": "encoder", "layers": list_layers(encoder), "init_seed": 0},
            **{"architecture": asdict(encoder_spec(encoder)), "role": role, "epochs": 1},
            **{"dataset": data.split.dataset, "split_sha256": data.split.sha256, "views": data.views.spec()},
            "data": {**data.options(), "role": role},
        }
        run.member(role).dir.mkdir(parents=True)
        save_encoder(run.member(role).encoder, encoder, record)


def test_a_file_that_broke_after_the_training_is_left_out_and_no_other_changes_its_id(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, run = paint(tmp_path / "set", 40, side=16), RunDir(tmp_path / "run")
    untrained_pair(run, ImageDataModule("auto", str(root), split=[0.4, 0.3, 0.3], view_size=16))
    assert analyze(run.root, "layermem", "--layers", "layer1") == 0
    before = read_table(run.analysis("layermem").table("samples"))
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    lost = int(before["id"][before["split"] == "candidate"][3])
    break_file(root / names[lost])
    capsys.readouterr()
    assert analyze(run.root, "layermem", "--layers", "layer1") == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("leave such files out with --on-error skip.")
    assert analyze(run.root, "layermem", "--layers", "layer1", "--on-error", "skip") == 0
    assert f"left out: 1 of 9 candidate images cannot be decoded: {root / names[lost]}" in capsys.readouterr().out
    after = read_table(run.analysis("layermem").table("samples"))
    own = {name: (table["split"] != "shared") & (table["id"] != lost) for name, table in (("b", before), ("a", after))}
    assert after["id"][own["a"]].tolist() == before["id"][own["b"]].tolist() and lost not in after["id"]
    assert abs(after["score"][own["a"]] - before["score"][own["b"]]).max() < 1e-5


def test_one_error_with_all_that_is_wrong_ends_in_flags_that_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*ONE_EPOCH, f"--data.root={paint(tmp_path / 'set', 40, side=16)}"]
    wrong = ["--data.num_shared=40000", "--data.num_candidate=5000", "--data.num_independent=5000"]
    assert fit(tmp_path / "run", *given, *wrong, "--data.num_external=5000", "--data.batch_size=256") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert (
        line.startswith("error: --data.num_shared, --data.batch_size: ") and not (tmp_path / "run/splits.json").exists()
    )
    offered = re.search(r"these images take ((?:--data\.\w+ \d+ ?)+)\.$", line)
    assert offered is not None
    flags = offered[1].split()
    assert (
        fit(tmp_path / "run", *given, *(f"{flag}={value}" for flag, value in zip(flags[::2], flags[1::2], strict=True)))
        == 0
    )


def test_large_images_are_not_trained_as_small_views_that_nobody_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = paint(tmp_path / "set", 24, side=256)
    given = [*ONE_EPOCH, f"--data.root={root}", "--data.split=[0.6,0.2,0.2]", "--data.image_size=null"]
    assert fit(tmp_path / "run", *given, "--data.view_size=null", "--model.image_size=32") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line.startswith("error: --data.view_size: the images have 256 x 256 pixels, and views would have 32")
    assert "--data.view_size 224" in line and not (tmp_path / "run/splits.json").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--data.split", "0.8", "0.1", "0.1", "--run", "x"], ["--data.split=[0.8, 0.1, 0.1]", "--run", "x"]),
        (["--data.splits", "a=b.txt", "c=d.txt"], ['--data.splits=["a=b.txt", "c=d.txt"]']),
        (["--data.splits", "a.csv", "--run=x"], ["--data.splits", "a.csv", "--run=x"]),
        (["--data.split=[0.8,0.1,0.1]"], ["--data.split=[0.8,0.1,0.1]"]),
        (["--data.split"], ["--data.split"]),
    ],
)
def test_flags_of_several_words(given: list[str], expected: list[str]) -> None:
    assert lists_in_one_word(given) == expected
