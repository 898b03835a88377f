"""VAR's encoder from weights in the published format to tables, and what is said of its training data."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from memlight.analyze import COMMANDS, main
from memlight.commands import build_parser
from memlight.data.augment import Views
from memlight.models.encoders import build_encoder
from memlight.models.vqvae import VQVAEEncoder, save_published
from memlight.random import ANALYSIS
from memlight.report.page import write_report
from memlight.runs.flags import EncoderFlags
from memlight.runs.released import open_released, released_words
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json, read_table
from tests.report.test_page import Reader

SIDE = 16


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Four images of two classes."""
    for number in range(4):
        path = tmp_path / "imagenet" / ("cat" if number < 2 else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels // (number + 1)).save(path)
    return tmp_path / "imagenet"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """As published, with a decoder and a quantiser in the file."""
    encoder = build_encoder("var_vqvae_ch32", seed=5, image_size=SIDE)
    file = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    more = {"decoder.conv_in.weight": torch.ones(32, 32, 3, 3), "quantize.embedding.weight": torch.ones(64, 32)}
    torch.save(file | more, tmp_path / "vae_ch32v64z32.pth")
    return tmp_path / "vae_ch32v64z32.pth"


def flags(images: Path, **changed: Any) -> EncoderFlags:
    return EncoderFlags(**{"encoder": "var_vqvae_ch32", "image_size": SIDE, "images": str(images), **changed})


def test_the_command_of_the_page_from_weights_to_tables_and_report(imagenet, weights, tmp_path, capsys):
    run = tmp_path / "run"
    names = ["conv.in", "down.4.attn.1", "norm.out", "norm.out@act"]
    command = ["unitmem", "--encoder=var_vqvae_ch32", f"--weights={weights}", f"--images={imagenet}", "--views=2"]
    more = ["--view-set=var", "--activation=abs", f"--image-size={SIDE}", f"--run={run}", "--logger=csv"]
    assert main([*command, *more, "--layers", *names]) == 0

    said = capsys.readouterr().out
    for words in (
        "132 tensors from encoder; left out: decoder (1), quantize (1)",
        "trained on: OpenImages",
        "warning: the published weights of var_vqvae_ch32 were trained on OpenImages; if imagenet holds other images",
        "views: var unless --view-set names others, 16 pixels, mean (0.5, 0.5, 0.5), std (0.5, 0.5, 0.5)",
    ):
        assert words in said
    table = read_table(RunDir(run).analysis("unitmem").table())
    assert list(dict.fromkeys(table["layer"].tolist())) == names
    encoder = build_encoder("var_vqvae_ch32", seed=5, image_size=SIDE).eval()
    assert isinstance(encoder, VQVAEEncoder)
    mu = []
    for number, path in enumerate(sorted(imagenet.rglob("*.png"))):
        pixels = torch.from_numpy(np.asarray(Image.open(path)).transpose(2, 0, 1).copy())[None]
        values = []
        for view in range(2):
            image = Views("var", SIDE)(pixels, torch.tensor([number]), view=view, epoch=ANALYSIS, seed=0)
            assert image.min() >= -1 and image.max() <= 1 and image.min() < 0
            with torch.no_grad():
                x = encoder.mid(encoder.down[4](_levels(encoder, image)))
                values.append(encoder.norm_out(x).abs().mean((0, 2, 3)))
        mu.append((values[0] + values[1]) / 2)
    of_norm = table["layer"] == "norm.out"
    for unit in range(128):
        column = [float(row[unit]) for row in mu]
        strongest = max(range(4), key=lambda i: column[i])
        rest = (sum(column) - column[strongest]) / 3
        score = (column[strongest] - rest) / (column[strongest] + rest)
        assert table["unitmem"][of_norm][unit] == pytest.approx(score, abs=2e-4)
    record = read_json(RunDir(run).released, dict)
    assert record["weights"]["trained_on"] == "OpenImages" and record["warning"].startswith("the published weights")
    page = Reader(write_report(RunDir.open(run)).read_text(encoding="utf-8"))
    assert "weights, trained on" in page.text and "Warning: the published weights of var_vqvae_ch32" in page.text


def _levels(encoder: VQVAEEncoder, image: torch.Tensor) -> torch.Tensor:
    x = encoder.conv_in(image)
    for level in encoder.down[:4]:
        x = level(x)
    return x


def words(given: EncoderFlags, run: Path) -> str:
    with open_released(given, run=str(run)) as opened:
        assert opened.data.views.name == "var" and opened.data.mean == (0.5, 0.5, 0.5) == opened.data.std
        return "\n".join(released_words(opened.record, opened.split))


def test_random_weights_were_trained_on_nothing(imagenet, tmp_path):
    said = words(flags(imagenet), tmp_path / "run")
    assert "random weights, seed 0: nothing was learned" in said
    assert "warning" not in said and "trained on" not in said


def test_images_called_openimages_are_not_warned_of(imagenet, weights, tmp_path):
    for name in ("OpenImages-v4", "open_images.d"):
        (tmp_path / name).symlink_to(imagenet)
        said = words(flags(tmp_path / name, weights=str(weights)), tmp_path / "run")
        assert "trained on: OpenImages" in said and "warning" not in said


def test_weights_of_ones_own_say_what_they_were_trained_on(imagenet, tmp_path):
    encoder = build_encoder("var_vqvae_ch32", seed=5, image_size=SIDE)
    assert isinstance(encoder, VQVAEEncoder)
    save_published(tmp_path / "own.pth", encoder, trained_on="100 pictures, as an autoencoder")
    said = words(flags(imagenet, weights=str(tmp_path / "own.pth")), tmp_path / "run")
    assert "trained on: 100 pictures, as an autoencoder" in said and "warning" not in said


def test_no_forward_holds_more_than_the_encoder_says(imagenet, tmp_path):
    with open_released(flags(imagenet), run=str(tmp_path / "run")) as opened:
        assert opened.at_once(1024) == 1024  # maps of 32 x 16 x 16 are small
        opened.loaded.max_forward = 5
        assert (opened.at_once(1024), opened.at_once(3)) == (5, 3)
    with open_released(flags(imagenet, encoder="resnet9"), run=str(tmp_path / "other")) as opened:
        assert opened.at_once(2048) == 2048


def test_the_commands_of_the_page_are_commands_and_its_python_runs(tmp_path, monkeypatch):
    text = (Path(__file__).resolve().parents[2] / "docs" / "VQVAE.md").read_text(encoding="utf-8")
    parser = build_parser("analyze.py", "", COMMANDS)
    commands = [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines()]
    training, *others = sorted(commands, key=lambda command: "analyze.py" in command)
    assert training.startswith("python train.py pair --config configs/autoencoder_small.yaml")
    for command in others:
        parser.parse_args(shlex.split(command)[2:])
    (program,) = re.findall(r"```python\n(.*?)```", text, re.S)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert (tmp_path / "vae_ch32_random.pth").is_file()
