"""Every YAML under configs/ is parsed, built and run for one batch, on images made here."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from memlight.cli import main
from memlight.storage.tables import read_json
from memlight.training import removal
from tests.tiny_pair import TinyPair, analyze

ROOT = Path(__file__).resolve().parent.parent
SWEEP = ROOT / "configs" / "sweep.yaml"
REMOVALS = sorted(ROOT.glob("configs/removal_*.yaml"))
SEQUENCES = sorted(ROOT.glob("configs/sequence/*.yaml"))
CONFIGS = [path for path in sorted(ROOT.glob("configs/**/*.yaml")) if path not in (SWEEP, *REMOVALS, *SEQUENCES)]

IN_FLOAT32 = {
    *("dino_cifar10", "dino_imagenet", "mae_imagenet"),
    *("simclr_imagenet", "simclr_resnet18_cifar10", "supervised_imagenet"),
}
"""Their bfloat16 takes longest on a CPU; a smaller configuration of each method trains in it."""

SMALL = 64
"""Pixels of the views of those configurations that ask for more; half of that is enough for a ViT.

It would leave convolutions one pixel before ResNet-50's last stride, where torch 2.15's bf16 gradient on a CPU reads
memory that nobody wrote.
"""


@pytest.fixture(scope="module")
def class_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 training and 8 test images of 32 pixels in two classes, as CIFAR-10 lies in folders."""
    root = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (56, 32, 32, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        folder = root / ("train" if index < 48 else "test") / ("cat" if index % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:03}.png")
    return root


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_trains_one_batch(config: Path, class_folders: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(config.read_text())
    data = settings["data"]["init_args"]
    sizes = {"num_shared": 32, "num_candidate": 8, "num_independent": 8, "num_external": 2, "batch_size": 2}
    flags = [f"--data.{name}={value}" for name, value in sizes.items()]
    model = settings["model"]["init_args"]
    small = SMALL // 2 if model.get("encoder", "").startswith("vit") else SMALL
    if data["views"] == "dino":
        flags += ["--data.num_views=3"]  # both global ones and one of the local ones, which are all made alike
    if data["dataset"] != "digits":
        flags += [f"--data.root={class_folders}"]
    if data["view_size"] > small:
        flags += [f"--data.image_size={small}", f"--data.view_size={small}", f"--model.image_size={small}"]
    if config.stem in IN_FLOAT32:
        assert settings["trainer"]["precision"] == "bf16-mixed"
        flags += ["--trainer.precision=32-true"]
    if model.get("output_dim", 0) > 4096:
        flags += ["--model.output_dim=4096"]
    if "num_classes" in model:
        flags += ["--model.num_classes=2"]
    run = tmp_path / "run"
    command = ["fit", f"--config={config}", f"--run={run}", "--trainer.fast_dev_run=1", "--trainer.accelerator=cpu"]
    assert main([*command, *flags]) == 0
    shutil.rmtree(run, ignore_errors=True)


FEW = {"replicas": 2, "num_sequences": 20, "num_bits": 8, "batch_size": 4, "criterion": 0.6, "limit": 2}


def hastened(settings: Mapping[str, Any], faster: int) -> dict[str, Any]:
    """A configuration on fewer and shorter sequences, with one gradient step in the place of so many."""
    made: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            made[name] = hastened(value, faster)
        elif name == "callbacks":
            made[name] = [hastened(one, faster) for one in value]
        elif name == "at":
            made[name] = [step // faster for step in value]
        elif name in ("max_steps", "snapshot"):
            made[name] = value // faster
        else:
            made[name] = 1 if name == "every" else FEW.get(name, value)
    return made


@pytest.mark.parametrize("config", SEQUENCES, ids=lambda path: path.stem)
def test_sequence_config_trains_some_steps(config: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(config.read_text())
    quick = tmp_path / config.name
    quick.write_text(yaml.safe_dump(hastened(settings, settings["trainer"]["max_steps"] // 4)))
    run = tmp_path / "run"
    flags = ["--logger=csv", "--trainer.accelerator=cpu", "--trainer.enable_model_summary=false"]
    assert main(["fit", f"--config={quick}", f"--run={run}", *flags]) == 0
    kinds = {event["kind"] for event in read_json(run / "summary.json", dict)["events"]}
    asked = {callback["class_path"].rpartition(".")[2] for callback in settings["trainer"]["callbacks"]}
    assert len(kinds) == len(asked - {"SequenceEvaluation"})


@pytest.fixture(scope="module")
def scored(plain_pair: TinyPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pair whose candidates have scores."""
    run = plain_pair.copy(tmp_path_factory.mktemp("scored") / "run")
    assert analyze(run, "layermem", "--views=2", "--layers", "layer5", "layer8") == 0
    return run


@pytest.mark.parametrize("config", REMOVALS, ids=lambda path: path.stem)
def test_removal_config_trains_one_batch_of_each_arm(
    config: Path, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each arm's command is run here, as a trial run; an exit status then ends the study before its evaluation."""
    trained = []

    def one_batch(commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> int:
        for command in commands:
            trained.append(main([*command[command.index("fit") :], "--trainer.fast_dev_run=1"]))
        return 7

    monkeypatch.setattr(removal, "in_turn", one_batch)
    run = shutil.copytree(scored, tmp_path / "run")
    small = ["--remove=2", "--trials=1", "--logger=csv"]
    assert main(["removal", f"--config={config}", f"--run={run}", *small]) == 7
    assert trained == [0, 0, 0]
    assert len(list(run.glob("removal-2/*/without.csv"))) == len(trained)


@pytest.mark.parametrize(
    ("config", "betas", "lr_end"),
    [
        *((name, [0.9, 0.95], 0.0) for name in ("mae_cifar10", "mae_imagenet")),
        *((name, None, 5e-4) for name in ("dino_cifar10", "dino_imagenet")),
        *((name, None, 0.0) for name in ("simclr_cifar10", "simclr_resnet18_cifar10", "simclr_imagenet")),
        *((name, None, end) for name, end in (("simsiam_cifar10", 0.0), ("vicreg_cifar10", 0.001))),
    ],
)
def test_optimizers_have_what_the_methods_authors_set(
    config: str, betas: list[float] | None, lr_end: float, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["fit", f"--config={ROOT / 'configs' / config}.yaml", "--print_config"])
    optim = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["optim"]
    assert (optim["betas"], optim["lr_end"]) == (betas, lr_end)


@pytest.mark.parametrize("config", [*CONFIGS, *REMOVALS, *SEQUENCES, SWEEP], ids=lambda path: path.stem)
def test_config_opens_with_its_command_time_and_expected_result(config: Path) -> None:
    header = "".join(line for line in config.read_text().splitlines(keepends=True) if line.startswith("#"))
    command = "wandb sweep" if config == SWEEP else "--config"
    assert f"{command} {config.relative_to(ROOT)}" in header
    assert "# Time:" in header
    assert "# Expected:" in header


def test_every_point_of_the_sweep_is_a_command_that_parses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load(SWEEP.read_text())
    assert set(sweep) == {"program", "project", "name", "method", "parameters", "command"}
    assert sweep["method"] == "grid" and Path(sweep["program"]).is_file()
    values = {name: parameter["values"] for name, parameter in sweep["parameters"].items()}
    repeats, seeds = values["data.repeat"], values["seed_everything"]
    for index, config in enumerate(values["config"]):
        point = {"data.repeat": repeats[index], "seed_everything": seeds[-1 - index], "config": config}  # in any order
        filled = create_sweep_command_args({"args": {name: {"value": value} for name, value in point.items()}})
        words = [part for word in create_sweep_command(sweep["command"]) for part in filled.get(word[2:-1], [word])]
        assert words[:4] == ["${env}", "${interpreter}", "${program}", "pair"]  # which the agent fills in
        with pytest.raises(SystemExit) as stopped:
            main(["fit", *words[4:], "--print_config"])
        assert stopped.value.code == 0
        printed = yaml.safe_load(capsys.readouterr().out)
        data = printed["data"]["init_args"]
        assert (data["repeat"], data["root"]) == (point["data.repeat"], "data/cifar10")
        assert (printed["seed_everything"], data["seed"]) == (point["seed_everything"], None)
        assert printed["logger"] == "wandb-online"
        assert printed["model"]["class_path"] == yaml.safe_load(Path(config).read_text())["model"]["class_path"]
