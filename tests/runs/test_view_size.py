"""Views of a size that an encoder cannot take: refused by every analysis in one line, before anything is measured."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from memlight.analyze import main
from memlight.data import ImageDataModule
from memlight.data.splits import PairSplit
from memlight.errors import UserError
from memlight.features.passes import require_encoder_takes
from memlight.models.encoders import build_encoder
from memlight.runs.opened import OpenedRun
from memlight.storage.rundir import RunDir
from tests.said import refused
from tests.tiny_pair import TinyPair


@pytest.mark.parametrize("name", ["resnet9", "vit_tiny_patch4"])
def test_a_size_is_taken_or_refused_and_the_encoder_stays_as_it_was(name: str) -> None:
    encoder = build_encoder(name, stem="cifar", seed=0, image_size=16).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    state = torch.get_rng_state()
    require_encoder_takes(encoder, 16, UserError)
    with pytest.raises(UserError, match=r"^the encoder cannot take views of this size \("):
        require_encoder_takes(encoder, 6, UserError)
    assert all(torch.equal(value, encoder.state_dict()[key]) for key, value in before.items())
    assert torch.equal(torch.get_rng_state(), state) and encoder.training


@pytest.mark.parametrize("command", ["unitmem", "probe", "images"])
def test_an_analysis_of_an_encoder_names_the_flag(
    command: str, plain_pair: TinyPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train/a/0", "train/b/1", "test/a/2", "test/b/3"):
        (path := tmp_path / "images" / f"{name}.png").parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (int(name[-1]) * 50, 0, 0)).save(path)
    weights = RunDir(plain_pair.root).member("candidate").encoder
    given = [f"--weights={weights}", f"--images={tmp_path / 'images'}", "--device=cpu", "--logger=csv"]
    assert main([command, *given, "--image-size=4", f"--run={tmp_path / 'run'}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --image-size 4: the encoder cannot take views of this size (")
    assert not list(tmp_path.glob("run/*"))


def test_a_run_whose_views_are_too_small_is_named(run: Path) -> None:
    data = ImageDataModule("digits", image_size=16, view_size=4)
    opened = OpenedRun(RunDir(run), PairSplit.load(run / "splits.json"), data, {"candidate": {}}, torch.device("cpu"))
    with refused(r"^--run .*: has views of 4 pixels: the encoder cannot take views of this size \("):
        opened.encoder("candidate")
