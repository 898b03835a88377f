"""Every YAML under configs/ is parsed, built and run for one batch, on images made here."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from memlight.cli import main

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted(ROOT.glob("configs/**/*.yaml"))

SMALL = 32
"""Pixels of the views of those configurations that ask for more."""


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
    sizes = {"num_shared": 32, "num_candidate": 8, "num_independent": 8, "num_external": 8, "batch_size": 8}
    flags = [f"--data.{name}={value}" for name, value in sizes.items()]
    if data["dataset"] != "digits":
        flags += [f"--data.root={class_folders}"]
    if data["view_size"] > SMALL:
        flags += [f"--data.image_size={SMALL}", f"--data.view_size={SMALL}", f"--model.image_size={SMALL}"]
    if "num_classes" in settings["model"]["init_args"]:
        flags += ["--model.num_classes=2"]
    run = tmp_path / "run"
    command = ["fit", f"--config={config}", f"--run={run}", "--trainer.fast_dev_run=1", "--trainer.accelerator=cpu"]
    assert main([*command, *flags]) == 0
    shutil.rmtree(run, ignore_errors=True)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_opens_with_its_command_time_and_expected_result(config: Path) -> None:
    header = "".join(line for line in config.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert f"--config {config.relative_to(ROOT)}" in header
    assert "# Time:" in header
    assert "# Expected:" in header
