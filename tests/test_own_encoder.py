"""An encoder of one's own from its training to its analyses, and the commands that name encoders and layers."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from memlight.analyze import main as analyze_main
from memlight.interventions import exchange_layers, prune_units, restore_units
from memlight.interventions.finetune import finetunable_layers
from memlight.metrics.classmem import measure_classmem
from memlight.metrics.layermem import measure_layermem
from memlight.metrics.unitmem import measure_unitmem
from memlight.models.encoders import build_encoder, encoder_spec, load_encoder, read_metadata
from memlight.runs.flags import read_arguments
from memlight.runs.notebook import open_run
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_table
from tests.metrics.tiny import TinyEncoder, image_batches, make_views
from tests.own_code import in_working_directory, on_another_machine
from tests.quick import without_charts
from tests.said import refused
from tests.tiny_pair import ROLES, analyze, callback_flags, environment, fit

ONE_EPOCH = ["--trainer.max_epochs=1", "--model.optim.warmup_epochs=0", "--keep_every=0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """A pair of an encoder of one's own, and the folder of its code."""
    folder = tmp_path_factory.mktemp("code")
    with in_working_directory(folder):
        run = folder / "run"
        pattern = callback_flags("memlight.callbacks.UnitMemCallback", every_n_epochs=1, num_views=2, layers="[c*,fc]")
        for role in ROLES:
            own = ["--model.encoder=mynets:make", "--model.encoder_args.width=6", *ONE_EPOCH]
            assert fit(run, *own, *(pattern if role == "candidate" else []), role=role) == 0
        yield run, folder


@pytest.fixture
def run(trained: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def error(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_run_keeps_the_name_and_the_arguments(run: Path) -> None:
    architecture = read_metadata(RunDir(run).member("candidate").encoder)["architecture"]
    assert (architecture["name"], architecture["args"]) == ("mynets:make", {"width": 6})
    assert yaml.safe_load((run / "config.yaml").read_text())["model"]["init_args"]["encoder_args"] == {"width": 6}
    table = read_table(RunDir(run).analysis("unitmem", "epoch=0").table("layers"))
    assert table["layer"].tolist() == ["conv", "fc"]


def test_both_members_start_equal_and_a_member_is_not_trained_otherwise(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (build_encoder("mynets:make", seed=0, image_size=16, encoder_args={"width": 6}) for _ in range(2))
    assert all(torch.equal(first.state_dict()[name], value) for name, value in second.state_dict().items())
    assert fit(run, "--model.encoder=mynets:make", "--model.encoder_args.width=7", *ONE_EPOCH) == 2
    assert "trained with another configuration (model.encoder_args.width: 6, now 7)" in error(capsys)


def test_every_later_analysis_builds_it_again(run: Path) -> None:
    assert analyze(run, "layermem", "--layers", "c*") == 0
    assert set(read_table(RunDir(run).analysis("layermem").table())["layer"].tolist()) == {"conv"}
    assert analyze(run, "unitmem", "--member=random", "--no-pair") == 0
    assert analyze(run, "prune", "--layers", "c*", "--trials=1", "--views=2", "--ratios=.5") == 0
    assert analyze(run, "exchange", f"--donor={run}", "--layers", "*") == 0
    layers = read_table(RunDir(run).analysis("exchange").table())["layers"].tolist()
    assert "conv+fc" in layers or "conv,fc" in layers


def test_on_another_machine_the_flag_is_asked_for(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(run.rglob("*"))
    with on_another_machine(tmp_path):
        assert analyze(run, "layermem") == 2
        line = error(capsys)
        assert (
            line.startswith(f"error: --run {run}/") and "was made by mynets:make, code that is not memlight's" in line
        )
        assert "if you trust that code, give --trust mynets:make" in line
        assert sorted(run.rglob("*")) == before
        with refused("--trust mynets:make"):
            open_run(run).encoder()
        assert isinstance(open_run(run, trust=["mynets:make"]).encoder(), nn.Module)
        assert analyze_main(["layers", f"--run={run}", "--trust", "mynets:make"]) == 0
        assert analyze(run, "layermem", "--trust=mynets:make", "--layers=conv") == 0


def renamed(run: Path, name: str, arguments: dict[str, object]) -> None:
    """Make a run's files name other code."""
    from safetensors.torch import load_file, save_file

    for role in ROLES:
        path = RunDir(run).member(role).encoder
        record = read_metadata(path)
        record["architecture"] |= {"name": name, "args": arguments}
        save_file(load_file(path), path, {"memlight": json.dumps(record)})
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["init_args"] |= {"encoder": name, "encoder_args": arguments}
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("command", ["layermem", "unitmem", "probe", "layers", "all", "removal"])
def test_a_run_that_names_a_command_never_runs_it(
    command: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from memlight.cli import main as train_main

    if command == "removal":
        assert analyze(run, "layermem", "--layers=conv") == 0
        capsys.readouterr()
    monkeypatch.setattr(os, "system", lambda *_, **__: pytest.fail("it ran"))
    if command == "removal":  # its encoders are as they were, its configuration is not
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["model"]["init_args"] |= {"encoder": "os:system", "encoder_args": {"command": "true"}}
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        assert train_main(["removal", f"--run={run}", "--remove=2"]) == 2
    else:
        renamed(run, "os:system", {"command": "true"})
        flags = [] if command == "layers" else ["--logger=csv", "--device=cpu"]
        assert analyze_main([command, f"--run={run}", *flags]) == 2
    assert "os:system, code that is not memlight's" in capsys.readouterr().err


def test_its_file_measures_images_without_a_run(
    run: Path, trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np
    from PIL import Image

    images = tmp_path / "photos"
    images.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(256, size=(16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    weights = RunDir(run).member("candidate").encoder
    common = ["unitmem", f"--weights={weights}", f"--images={images}", "--logger=csv", "--device=cpu", "--views=2"]
    with on_another_machine(tmp_path), without_charts("unitmem"):
        assert analyze_main([*common, f"--run={tmp_path / 'a'}"]) == 2
        assert "give --trust mynets:make, or name it here with --encoder mynets:make" in capsys.readouterr().err
        # the file says what it was called with
        assert analyze_main([*common, "--encoder=mynets:make", f"--run={tmp_path / 'b'}", "--layers", "c*"]) == 0
    record = json.loads((tmp_path / "b" / "encoder.json").read_text())
    assert record["architecture"]["args"] == {"width": 6} and record["weights"]["sha256"]
    torch.save({"net": load_encoder(weights).state_dict()}, tmp_path / "plain.pth")
    plain = [f"--weights={tmp_path / 'plain.pth'}", "--encoder=mynets:Net", "--encoder-args", "width=6"]
    more = [f"--images={images}", "--image-size=16", f"--run={tmp_path / 'c'}", "--logger=csv", "--views=2"]
    with without_charts("unitmem"):
        assert analyze_main(["unitmem", *plain, *more, "--device=cpu"]) == 0


def test_layers_are_printed_with_units_and_sizes(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted(run.rglob("*"))
    assert analyze_main(["layers", f"--run={run}"]) == 0
    assert printed(capsys) == [
        "layer  kind    units  output",
        "conv   Conv2d      6  6 x 16 x 16",
        "fc     Linear      5  5",
        "mynets:make: 2 layers, 11 units, 5 features, of 16-pixel images",
    ]
    assert sorted(run.rglob("*")) == files
    own = ["--encoder", "mynets:Net", "--encoder-args", "width=3", "--encoder-args", "norm=instance"]
    assert analyze_main(["layers", *own, "--image-size=8", "--layers", "c*"]) == 0
    assert printed(capsys)[1:] == [
        "conv   Conv2d      3  3 x 8 x 8",
        "mynets:Net: 1 layers, 3 units, 5 features, of 8-pixel images",
    ]
    assert analyze_main(["layers", "--encoder=vit_tiny_patch16", "--image-size=32", "--layers", "blocks.0*"]) == 0
    assert printed(capsys)[:3] == [
        "layer              kind                units  output",
        "blocks.0.attn      Attention             192  5 x 192",
        "blocks.0.norm2@in  input of LayerNorm    192  5 x 192",
    ]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--run, --encoder: neither is given; name a trained run, or an encoder as with --encoder resnet18"),
        (["--run=x", "--encoder=resnet18"], "--run, --encoder: both are given; name a trained run, or an encoder"),
        (["--run=nowhere"], "--run nowhere: "),
        (
            ["--encoder=resnet18", "--layers", "layer9.*"],
            "--layers layer9.*: matches none of the 28 layers; nearest: lay",
        ),
        (["--encoder=resnet18", "--encoder-args", "width=3"], '--encoder-args {"width": 3}: resnet18 takes none'),
        (
            ["--encoder=mynets:Net", "--encoder-args", "width"],
            "--encoder-args width: is not NAME=VALUE; write width=64",
        ),
        (["--encoder=mynets:Net", "--encoder-args", "{a"], "--encoder-args {a: is not a JSON object"),
        (["--encoder=mynets:Net", "--encoder-args", "width=3", '{"width": 4}'], "width is given twice"),
        (["--encoder-args", "width=3"], "--encoder-args: are for a class of one's own; name it with --encoder"),
        (["--encoder=mynets:Fixed"], "say with --image-size which images it takes"),
    ],
)
def test_what_is_wrong_with_the_flags(
    flags: list[str], words: str, trained: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert analyze_main(["layers", *flags]) == 2
    line = error(capsys)
    assert line.startswith("error: --") and words in line


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--model.encoder=mynets:Nett"],
            "--model.encoder mynets:Nett: module mynets (mynets.py) has no Nett; nearest: Net",
        ),
        (["--model.encoder=mynets:fails"], "--model.encoder mynets:fails: fails() raised RuntimeError: no luck"),
        (["--model.encoder=mynets:fails"], "give what it needs with --model.encoder_args"),
        (["--model.encoder=mynets:Gives", '--model.encoder_args={"what": "maps"}'], "gives maps (B, 4, 16, 16)"),
        (["--model.encoder=mynets:Fixed"], "say with --model.image_size which images it takes"),
        (["--model.encoder_args.width=3"], '--model.encoder_args {"width": 3}: resnet9 takes none'),
    ],
)
def test_what_is_wrong_with_a_training(
    flags: list[str], words: str, trained: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tmp_path / "new", *flags) == 2
    line = error(capsys)
    assert line.startswith("error: --model.") and words in line
    assert not (tmp_path / "new").exists()


def test_arguments_are_json_or_words() -> None:
    words = ["width=64", "rate=.5", "rate2=0.5", "on=true", "off=False", "none=null", "act=relu", "sizes=[1, 2]", "e="]
    assert read_arguments([*words, '{"deep": {"er": 1}}']) == {
        **{"width": 64, "rate": ".5", "rate2": 0.5, "on": True, "off": False, "none": None},
        **{"act": "relu", "sizes": [1, 2], "e": "", "deep": {"er": 1}},
    }


# objects in place of names


class Two(nn.Module):
    """A plain module: no description, no names of layers, dropout and statistics that must stay as they are."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.net = TinyEncoder(seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x) * 2


def test_the_functions_of_a_notebook_take_plain_modules() -> None:
    f, g = Two(0), Two(1)
    layers = ["net.stem", "net.head"]
    before = {name: value.clone() for name, value in f.state_dict().items()}
    batches = image_batches(6, 3)
    scores = measure_layermem(f, g, batches, make_views, layers, num_views=3, progress=False)
    units = measure_unitmem(f, batches, make_views, layers, num_views=2, progress=False)
    ids = torch.cat([batch.ids for batch in batches])
    classes = measure_classmem(
        f, batches, make_views, layers, ids=ids, labels=ids % 3, num_classes=3, permutations=1, progress=False
    )
    assert scores["net.head"].scores.shape == (6,)
    assert units["net.stem"].unitmem.shape == classes["net.stem"].classmem.shape == (6,)
    assert f.training and all(torch.equal(before[name], value) for name, value in f.state_dict().items())

    pruned = prune_units(f, {"net.stem": [1, 3]}, image_size=8)
    assert not pruned.state_dict()["net.stem.weight"][[1, 3]].any()
    restored = restore_units(pruned, f, {"net.stem": [1]}, image_size=8)
    assert torch.equal(restored.state_dict()["net.stem.weight"][1], before["net.stem.weight"][1])
    exchanged = exchange_layers(f, g, ["net.body.3"], image_size=8).state_dict()
    assert torch.equal(exchanged["net.body.3.weight"], g.state_dict()["net.body.3.weight"])
    assert torch.equal(exchanged["net.stem.weight"], before["net.stem.weight"])
    assert "net.stem" in finetunable_layers(f, image_size=8)


def test_the_teacher_of_dino_is_another_module_with_the_same_weights(trained: object) -> None:
    from memlight.modules.dino import DINO

    model = DINO("mynets:Net", image_size=16, output_dim=16, encoder_args={"width": 3})
    assert model.teacher is not model.encoder and encoder_spec(model.teacher) == encoder_spec(model.encoder)
    for a, b in zip(model.teacher.parameters(), model.encoder.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = "import sys; from memlight.analyze import main; sys.exit(main(['layers', '--encoder=resnet9']))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, env=environment())
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")
