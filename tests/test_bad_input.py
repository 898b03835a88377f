"""What goes wrong is one line that names the flag, exit status 2, before long work, with nothing half-written."""

import io
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from memlight.analyze import main as analyze_main
from memlight.cli import main as train_main
from memlight.data.images import ImageDataModule
from memlight.data.splits import PairSplit
from memlight.models.encoders import build_encoder, load_encoder, read_metadata, save_encoder
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, write_json
from tests.tiny_pair import KEPT, TinyPair, analyze, callback_flags, fit, fit_flags


def only_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def names(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*")}


class Trap:
    """Pickles as a call that leaves a file behind: what a malicious checkpoint would do."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.witness),)


# train.py: mistakes that the command line, or what it names, shows


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--nonsense=3"], "--nonsense: no such option"),
        (["--trainer.max_epoch=3"], "--trainer.max_epoch: no such option; nearest: --trainer.max_epochs"),
        (["--data.batchsize=3"], "--data.batchsize: no such option; nearest: --data.batch_size"),
        (["--model.optim.lrr=3"], "--model.optim.lrr: no such option"),
        (["--data.batch_size=many"], "--data.batch_size many: must be int."),
        (["--model.optim.name=adam"], "--model.optim.name adam: must be one of lars, sgd, adamw."),
        (["--logger=paper"], "--logger paper: must be one of wandb, wandb-online, csv."),
        (["--trainer.precision=8"], "--trainer.precision 8: must be "),
        (["--data.mean=[1,2]"], "--data.mean [1, 2]: must be tuple with 3 elements"),
        (["--model=NoSuch"], "--model NoSuch: no such class"),
        (["--model=torch.nn.Linear"], "--model torch.nn.Linear: no such class, or not one for --model"),
        (["--model=lightning.pytorch.demos.boring_classes.BoringModel"], "--model BoringModel: has no encoder"),
        (["--data=lightning.pytorch.demos.boring_classes.BoringDataModule"], "--data: missing, or without splits"),
        (["--config=nowhere.yaml"], "--config nowhere.yaml: no such file"),
        (["--config="], "--config: name a YAML file"),
        (["--model.encoder=resnet99"], "--model.encoder resnet99: no such encoder; nearest: resnet9"),
        (["--model.optim.lr=0"], "--model.optim.lr 0.0: must be above 0"),
        (["--model.optim.momentum=1"], "--model.optim.momentum 1.0: must be "),
        (["--model.optim.weight_decay=-1"], "--model.optim.weight_decay -1.0: must be 0 or more"),
        (["--model.temperature=0"], "--model.temperature 0.0: must be above 0"),
        (["--model.hidden_dim=-1"], "--model.hidden_dim -1: must be 0 or more"),
        (["--seed_everything=-1"], "--seed_everything -1: must be "),
        (["--run="], "--run: name the run directory"),
        (["--data.views=nice"], "--data.views nice: no such augmentation set; choose from clean, simclr"),
        (["--data.dataset=imagenet"], "--data.dataset imagenet: choose one of digits, cifar10"),
        (["--data.role=both"], "--data.role both: choose one of candidate, independent, all"),
        (["--data.std=[1,1,0]"], "--data.std [1.0, 1.0, 0.0]: must be above 0"),
        (["--data.num_shared=-1"], "--data.num_shared -1: a number of images cannot be negative"),
        (["--data.num_external=9999"], "--data.num_external 9999: there are 300 test images"),
        (["--data.num_shared=9999"], "--data.num_shared 9999: with --data.num_candidate "),
        (["--data.repeat=0"], "--data.repeat 0: "),
        (["--data.num_views=1"], "--data.num_views 1: SimCLR takes 2 views of each image"),
        (["--data.view_size=4"], "--data.view_size 4: the encoder cannot take"),
        (
            ["--model=DINO", "--model.encoder=resnet9", "--data.views=dino", "--data.num_views=3"],
            "--data.view_size 16: the smaller crops of --data.views dino have 8 pixels: the encoder cannot take",
        ),
        (["--model=DINO", "--data.num_views=1"], "--data.num_views 1: DINO takes 2 views of each image, or more"),
        (["--model=DINO", "--model.weight_decay_end=-1"], "--model.weight_decay_end -1.0: must be 0 or more"),
        (
            ["--model=MAE", "--data.num_views=1", "--model.image_size=32"],
            "--data.view_size 16: --model.image_size",
        ),
        (
            ["--model=Supervised", "--model.num_classes=7", "--data.num_views=1"],
            "--model.num_classes 7: the images have 10",
        ),
        (["--data.order=index", "--data.dataset=sorted"], "--data.dataset sorted"),
        (["--data.batch_size=65"], "--data.batch_size 65: an epoch has 64 images"),
        (["--data.batch_size=0"], "--data.batch_size 0: "),
        (["--data.batch_size=15", "--trainer.devices=2"], "--data.batch_size 15: 2 processes cannot share it"),
        (["--data.dataset=cifar10"], "--data.root: cifar10 needs a directory"),
        (["--data.dataset=cifar10", "--data.root=nowhere"], "--data.root nowhere: no cifar10 here"),
        (["--trainer.max_epochs=0"], "--trainer.max_epochs 0: "),
        (["--trainer.max_epochs=-1"], "--trainer.max_epochs -1: "),
        (["--trainer.log_every_n_steps=0"], "--trainer.log_every_n_steps 0: must be 1 or more"),
        (["--trainer.accumulate_grad_batches=0"], "--trainer.accumulate_grad_batches 0: must be 1 or more"),
        (["--trainer.devices=0"], "--trainer: "),
        (["--trainer.limit_train_batches=0"], "--trainer.limit_train_batches 0: "),
        (["--trainer.strategy=magic"], "--trainer: "),
        (["--trainer.logger=true"], "--trainer.logger: "),
        (["--keep_every=-1"], "--keep_every -1: "),
        (["--ckpt_path=nowhere.ckpt"], "--ckpt_path nowhere.ckpt: no such file"),
        (
            callback_flags("memlight.callbacks.UnitMemCallback", layers="[layer99]"),
            "--trainer.callbacks.layers layer99",
        ),
        (callback_flags("memlight.callbacks.LayerMemCallback", num_views=1), "--trainer.callbacks.num_views 1: "),
        (callback_flags("NoSuchCallback"), "--trainer.callbacks NoSuchCallback: no such class"),
    ],
    ids=lambda value: value[0].removeprefix("--") if isinstance(value, list) else "",
)
def test_fit(tmp_path: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tmp_path / "runs" / "new", *flags) == 2
    assert only_line(capsys).startswith(words)
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("accelerator", "devices", "gpus", "words"),
    [
        ("gpu", "1", 0, "--trainer.accelerator gpu: no GPU is visible here"),
        ("gpu", "4", 2, "--trainer.devices 4: 2 GPU(s) are visible here."),
        ("auto", "4", 2, "--trainer.devices 4: 2 GPU(s) are visible here."),
        ("auto", "2", 0, "--trainer.devices 2: 0 GPU(s) are visible here. For as many processes on the CPU"),
    ],
)
def test_more_devices_than_there_are(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    accelerator: str,
    devices: str,
    gpus: int,
    words: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert fit(tmp_path / "run", f"--trainer.accelerator={accelerator}", f"--trainer.devices={devices}") == 2
    assert only_line(capsys).startswith(words)
    assert not names(tmp_path)


@pytest.mark.parametrize("command", ["fit", "pair", "validate"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("model: {a: [1\n  b: 2\n", "not valid YAML in line 2: "),
        ("just words\n", "not a configuration"),
        ("\x00", "not valid YAML"),
        ("a: &a [*a]\n", "*a holds itself"),
        ("a: " + "[" * 100_000, "nest deeper than"),
        ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
        ("a: " + "1" * 5000 + "\n", "without quotes"),
    ],
)
def test_a_broken_configuration(
    command: str, content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "broken.yaml"
    config.write_text(content)
    assert train_main([command, f"--config={config}", f"--run={tmp_path / 'run'}"]) == 2
    line = only_line(capsys)
    assert line.startswith(f"--config {config}: ")
    assert words in line
    assert names(tmp_path) == {"broken.yaml"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("trainer:\n  max_epoch: 3\n", "--trainer.max_epoch: no such option; nearest: --trainer.max_epochs"),
        ("keep_evry: 3\n", "--keep_evry: no such option; nearest: --keep_every"),
        ("model:\n  class_path: SimCLR\n  init_args: {optim: {rate: 1}}\n", "--model.optim.rate: no such option"),
        ("data:\n  class_path: ImageDataModule\n  init_args: {repeat: often}\n", "--data.repeat often: must be int"),
    ],
)
def test_a_mistake_in_a_configuration(
    content: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text(content)
    assert train_main(["fit", f"--config={config}", f"--run={tmp_path / 'run'}"]) == 2
    assert only_line(capsys).startswith(words)
    assert names(tmp_path) == {"wrong.yaml"}


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["fit"], "--model: missing"),
        (["fit", "--model=SimCLR"], "--run: name the run directory"),
        (["fit", "--model=SimCLR", "--run=run"], "--data: missing"),
        (["fit", "extra"], "extra: no such option"),
        (["train"], "train.py train: no such command; choose pair, removal, fit or validate"),
        (["validate", *fit_flags(Path("run"))[1:]], "--ckpt_path: "),
        (
            ["validate", *fit_flags(Path("run"))[1:], "--ckpt_path=x", "--data.num_external=0"],
            "--data.num_external 0: ",
        ),
        (["pair", "--data.role", "all"], "--data.role: "),
        (["pair", "--ckpt_path=x"], "--ckpt_path: "),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_what_is_missing_or_makes_no_sense(
    argv: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train_main(argv) == 2
    assert only_line(capsys).startswith(words)
    assert not names(tmp_path)


def test_images_that_are_none_or_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    (images / "train" / "cat").mkdir(parents=True)
    (images / "test" / "cat").mkdir(parents=True)
    (images / "notes.txt").touch()
    folder = ["--data.dataset=folder", f"--data.root={images}"]
    assert fit(tmp_path / "run", *folder) == 2
    assert only_line(capsys).startswith(f"--data.root {images}: no images in it")
    for index in range(96):
        pixels = np.full((16, 16, 3), index, dtype=np.uint8)
        Image.fromarray(pixels).save(images / ("train" if index < 80 else "test") / "cat" / f"{index:02}.png")
    (images / "train" / "cat" / "03.png").write_bytes(b"no image at all")
    assert fit(tmp_path / "run", *folder) == 2
    line = only_line(capsys)
    assert line.startswith("--data.root: ")
    assert "03.png cannot be decoded" in line
    assert "--data.on_error skip" in line
    assert not (tmp_path / "run").exists()


# train.py: the run directory and checkpoints


@pytest.mark.parametrize("part", ["", "deeper/still"])
def test_a_run_directory_that_is_a_file(tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.touch()
    assert fit(file / part) == 2
    assert only_line(capsys).startswith(f"--run {file / part}: {file} is a file, not a directory")


def test_a_run_directory_without_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert fit(tmp_path / "run") == 2
    assert only_line(capsys).startswith(f"--run {tmp_path / 'run'}: no permission to write in {tmp_path}")
    assert not names(tmp_path)


def test_a_run_with_other_splits(tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of the run was trained yet, or its members were deleted: its splits still bind."""
    for role in ("candidate", "independent"):
        shutil.rmtree(run / role)
    before = names(run)
    assert fit(run, "--data.seed=1") == 2
    line = only_line(capsys)
    assert line.startswith(f"--run: {run}/splits.json holds another split")
    assert "data.seed: 0, now 1" in line
    assert names(run) == before


def test_a_run_whose_configuration_was_edited(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunDir(run).config.write_text("trainer: {}\n")
    assert fit(run, "--resume=true") == 2
    assert only_line(capsys).startswith(f"--run: {run}/config.yaml: field seed_everything is missing")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data.num_shared=32"], "was trained on other images or views (data.num_shared: 48, now 32)"),
        (["--data.views=weak"], "was trained on other images or views (data.views: simclr, now weak)"),
        (["--data.role=independent"], "of the candidate member; give it with --data.role candidate"),
        (["--model.encoder=resnet18"], "these are not the weights of resnet18"),
    ],
)
def test_a_checkpoint_of_another_training(
    plain_pair: TinyPair, tmp_path: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = RunDir(plain_pair.root).member("candidate").checkpoints / f"{KEPT}.ckpt"
    assert fit(tmp_path / "run", f"--ckpt_path={path}", *flags) == 2
    line = only_line(capsys)
    assert line.startswith(f"--ckpt_path {path}: ")
    assert words in line
    assert not names(tmp_path)


def test_a_truncated_checkpoint_to_go_on_from(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    member = RunDir(run).member("candidate")
    member.encoder.unlink()
    last = member.checkpoints / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-5000])
    before = names(run)
    assert fit(run, "--resume=true") == 2
    assert only_line(capsys).startswith(f"--run {last}: truncated")
    assert names(run) == before


@pytest.mark.parametrize("command", ["fit", "validate"])
@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_checkpoint_with_code_is_not_run(
    command: str, save: Callable[[object, Path], object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, witness = tmp_path / "evil.ckpt", tmp_path / "witness"
    save({"state_dict": {"encoder.a": torch.zeros(1)}, "callbacks": Trap(witness)}, path)
    assert train_main([command, *fit_flags(tmp_path / "run")[1:], f"--ckpt_path={path}"]) == 2
    assert only_line(capsys).startswith(f"--ckpt_path {path}: ")
    assert names(tmp_path) == {"evil.ckpt"}


# analyze.py


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the images fails the test: 60 000 of them take long."""

    def setup(self: ImageDataModule, stage: str | None = None) -> None:
        raise AssertionError("the images are read before the mistake is found")

    monkeypatch.setattr(ImageDataModule, "setup", setup)


@pytest.mark.usefixtures("no_reading")
@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        ("layermem", ["--views=1"], "--views 1: must be 2 or more"),
        ("layermem", ["--max-forward=0"], "--max-forward 0: "),
        ("layermem", ["--layers", "layer1", "layer99"], "--layers layer99: no such layer; nearest: layer"),
        ("layermem", ["--layers", "layer1", "layer1"], "--layers layer1: named twice"),
        ("layermem", ["--view-set=nice"], "--view-set nice: no such augmentation set"),
        ("layermem", ["--device=cuda:7"], "--device cuda:7: 0 GPU(s) are visible here"),
        ("layermem", ["--device=meta"], "--device meta: no such device here"),
        ("layermem", ["--root=nowhere"], "--root nowhere: the images are not there"),
        (
            "layermem",
            ["--checkpoint=epoch=99"],
            f"--checkpoint epoch=99: candidate/ has no such checkpoint; it has {KEPT}",
        ),
        ("layermem", ["--checkpoint=../../independent/checkpoints/last"], "--checkpoint ../../independent"),
        ("layermem", ["--tag=a/b"], "--tag 'a/b': "),
        ("unitmem", ["--views=0"], "--views 0: "),
        ("unitmem", ["--topk=0"], "--topk 0: "),
        ("unitmem", ["--checkpoint=last", "--member=random"], "--checkpoint last: the random member was not trained"),
        ("unitmem", ["--member=all"], "--run "),
        ("unitmem", ["--layers", "layr1"], "--layers layr1: no such layer; nearest: layer1"),
        ("probe", ["--k=0"], "--k 0: "),
        ("probe", ["--temperature=0"], "--temperature 0.0: must be above 0"),
        ("probe", ["--l2=-1"], "--l2 -1.0: "),
        ("probe", ["--l2=nan"], "--l2 nan: "),
        ("probe", ["--members", "all"], "--run "),
    ],
    ids=lambda value: value[0].removeprefix("--") if isinstance(value, list) else "",
)
def test_analyses_check_before_they_read(
    plain_pair: TinyPair, command: str, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = names(plain_pair.root)
    assert analyze(plain_pair.root, command, *flags) == 2
    assert only_line(capsys).startswith(words)
    assert names(plain_pair.root) == before


def rewrite(run: Path, role: str, **changed: Any) -> None:
    """Change the metadata of an encoder."""
    path = RunDir(run).member(role).encoder
    save_encoder(path, load_encoder(path), {**read_metadata(path), **changed})


def no_partner(run: Path) -> None:
    shutil.rmtree(run / "independent")


def other_architecture(run: Path) -> None:
    path = RunDir(run).member("independent").encoder
    save_encoder(path, build_encoder("resnet18"), read_metadata(path))


def nan_weights(run: Path) -> None:
    path = RunDir(run).member("candidate").encoder
    encoder = load_encoder(path)
    next(encoder.parameters()).data[0] = torch.nan
    save_encoder(path, encoder, read_metadata(path))


def edited_splits(run: Path) -> None:
    content = read_json(RunDir(run).splits, dict)
    content["candidate"][0] += 1
    write_json(RunDir(run).splits, content)


def edited_splits_and_hash(run: Path) -> None:
    """Candidates that were not in training, with a hash that fits them."""
    content = read_json(RunDir(run).splits, dict)
    unseen = sorted(set(range(content["num_train"])) - {i for s in ("shared", "independent") for i in content[s]})
    split = PairSplit.load(RunDir(run).splits)
    content["candidate"] = unseen[-len(content["candidate"]) :]
    other = PairSplit(**{**vars(split), "candidate": np.array(content["candidate"], dtype=np.int64)})
    other.save(RunDir(run).splits)


def truncated(run: Path) -> None:
    path = RunDir(run).member("candidate").encoder
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_partner(run: Path) -> None:
    shutil.copy(RunDir(run).member("candidate").encoder, RunDir(run).member("independent").encoder)


def pickled(run: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"layer1": Trap(run.parent / "witness")}, buffer)
    RunDir(run).member("candidate").encoder.write_bytes(buffer.getvalue())


def other_version(run: Path) -> None:
    for role in ("candidate", "independent"):
        rewrite(run, role, data={"colour": "blue"})


@pytest.mark.usefixtures("no_reading")
@pytest.mark.parametrize("command", ["layermem", "unitmem"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_architecture, "have different architectures"),
        (nan_weights, "holds NaN or infinity, the training has diverged"),
        (edited_splits, "splits.json was edited or is damaged"),
        (edited_splits_and_hash, "candidate/ was trained with other splits than splits.json holds"),
        (truncated, "truncated"),
        (other_partner, "trained as candidate"),
        (pickled, "this is a pickle (torch.save), which can run code"),
        (other_version, "trained by another version"),
    ],
)
def test_a_spoilt_run(
    run: Path, command: str, spoil: Callable[[Path], None], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(run)
    before = names(run.parent)
    assert analyze(run, command) == 2
    line = only_line(capsys)
    assert line.startswith("--run")
    assert words in line
    assert names(run.parent) == before


@pytest.mark.usefixtures("no_reading")
def test_a_missing_partner(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    no_partner(run)
    assert analyze(run, "layermem") == 2
    assert only_line(capsys).startswith(f"--run {run}: no independent/encoder.safetensors")


@pytest.mark.usefixtures("no_reading")
def test_a_partner_without_the_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (RunDir(run).member("independent").checkpoints / f"{KEPT}.ckpt").unlink()
    assert analyze(run, "unitmem", f"--checkpoint={KEPT}") == 2
    line = only_line(capsys)
    assert line.startswith(f"--checkpoint {KEPT}: independent/ has no such checkpoint; it has last")
    assert "--no-pair" in line


@pytest.mark.usefixtures("no_reading")
@pytest.mark.parametrize("command", ["layermem", "unitmem"])
def test_a_checkpoint_with_code_or_of_another_run(run: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = RunDir(run).member("candidate").checkpoints / "mine.ckpt"
    torch.save({"state_dict": {"encoder.a": torch.zeros(1)}, "loops": Trap(run / "witness")}, path)
    assert analyze(run, command, "--checkpoint=mine") == 2
    assert only_line(capsys).startswith(f"--checkpoint {path}: holds a posix.mkdir, and reading that could run code")
    other = torch.load(path.with_name("last.ckpt"), weights_only=True)
    other["memlight"]["split_sha256"] = "0" * 64
    torch.save(other, path)
    assert analyze(run, command, "--checkpoint=mine") == 2
    assert only_line(capsys).startswith(f"--checkpoint mine: {path} was trained with other splits")
    assert not (run / "witness").exists()
    assert not (run / "analysis").exists()


def test_images_that_are_not_those_of_the_training(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    for index in range(20):
        folder = images / ("train" if index < 16 else "test")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), index, dtype=np.uint8)).save(folder / f"{index:02}.png")
    small = {"num_shared": 8, "num_candidate": 4, "num_independent": 4, "num_external": 4}
    for role in ("candidate", "independent"):
        data = read_metadata(RunDir(run).member(role).encoder)["data"]
        rewrite(run, role, data={**data, **small, "dataset": "folder", "root": str(images)})
    assert analyze(run, "layermem") == 2
    assert only_line(capsys).startswith(
        f"--root {images}: 16 and 4 training and test images; the run was trained on 1497"
    )
    assert not (run / "analysis").exists()


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        ("probe", [], "--run {run}: the external split has 0 images; at least 1 are needed"),
        ("unitmem", ["--split=external"], "--split external: the external split has 0 images"),
    ],
)
def test_a_split_without_images(
    tmp_path: Path, command: str, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert fit(run, "--data.num_external=0", "--trainer.max_epochs=1") == 0
    capsys.readouterr()
    assert analyze(run, command, *flags) == 2
    assert only_line(capsys).startswith(words.format(run=run))


@pytest.mark.parametrize("command", ["layermem", "unitmem", "probe", "report"])
def test_what_is_not_a_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for directory, words in ((tmp_path, "not a run directory"), (tmp_path / "nowhere", "no such directory")):
        assert analyze_main([command, f"--run={directory}"]) == 2
        line = only_line(capsys)
        assert line.startswith(f"--run {directory}: ")
        assert words in line
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["layermem"], "--run"),
        (["layermem", "--run=r", "--distance=far"], "argument --distance: invalid choice"),
        (["layermem", "--run=r", "--views=many"], "argument --views: invalid int value"),
        (["layermem", "--run=r", "--view=3"], "unrecognized arguments: --view=3"),
        (["layermem", "--run=r", "--layers"], "argument --layers: expected at least one argument"),
        (["measure"], "invalid choice: 'measure'"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_flags_that_do_not_parse(argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        analyze_main(argv)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
