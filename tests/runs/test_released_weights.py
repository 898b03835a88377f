"""Weights by name and in other programs' names, through the command line: what is measured, and what is recorded."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from memlight.analyze import main
from memlight.models.encoders import build_encoder
from memlight.runs.flags import EncoderFlags, Place
from memlight.runs.released import open_released
from memlight.storage.run_files import ReleasedFile
from memlight.storage.rundir import RunDir
from memlight.storage.tables import read_json
from tests.models.foreign_files import assert_equal, spread
from tests.models.test_foreign_names import AuthorsResNet9
from tests.models.test_hub import hub, put  # noqa: F401 - a fixture
from tests.quick import without_charts
from tests.runs.test_released import paint


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return paint(tmp_path / "photos", [f"{i}.png" for i in range(4)])


def measured(tmp_path: Path, photos: Path, *flags: str) -> dict[str, Any]:
    """The record of ``analyze.py unitmem`` on an encoder."""
    run = RunDir(tmp_path / "run")
    words = ["unitmem", f"--images={photos}", f"--run={run.root}", "--views=1", "--logger=csv", "--device=cpu", *flags]
    with without_charts("unitmem"):
        assert main(words) == 0
    return dict(read_json(run.released, ReleasedFile))


def test_published_weights_at_another_size(
    hub: Path,  # noqa: F811
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    theirs = spread(timm.create_model("test_vit"))
    put(hub, "timm/test_vit.r160_in1k", "model.safetensors", theirs.state_dict())
    flags = ["--encoder=timm:test_vit", "--weights=hub", "--image-size=32", "--layers", "blocks.0"]
    weights = measured(tmp_path, photos, *flags)["weights"]
    assert weights["file"] == "timm/test_vit.r160_in1k/model.safetensors"
    said = capsys.readouterr().out
    for words in (weights["words"], said):
        assert "positions resampled from 10x10 to 2x2 patches (bicubic, with antialiasing)" in words
    again = EncoderFlags(encoder="timm:test_vit", weights="hub", images=str(photos))
    with open_released(again, run=str(tmp_path / "other"), place=Place(device="cpu")) as opened:
        assert_equal(opened.loaded, theirs.state_dict())
        assert opened.data.view_size == 160


def test_a_repository_at_a_revision(hub: Path, photos: Path, tmp_path: Path) -> None:  # noqa: F811
    put(hub, "lab/net", "best.pth", {"net": spread(build_encoder("resnet9")).state_dict()}, "v2")  # type: ignore[dict-item]
    flags = ["--encoder=resnet9", "--weights=hf:lab/net/best.pth@v2", "--image-size=16", "--layers", "layer1"]
    assert measured(tmp_path, photos, *flags)["weights"]["file"] == "lab/net@v2/best.pth"


def test_a_checkpoint_of_the_authors(photos: Path, tmp_path: Path) -> None:
    torch.save({f"encoder.{n}": t for n, t in spread(AuthorsResNet9()).state_dict().items()}, tmp_path / "c_100.tar")
    flags = ["--encoder=resnet9", f"--weights={tmp_path / 'c_100.tar'}", "--image-size=16", "--layers", "layer1"]
    words = measured(tmp_path, photos, *flags)["weights"]["words"]
    assert "ResNet9 of the authors of LayerMem" in words and "folded" in words


def test_offline_it_says_what_to_fetch_in_one_line(
    hub: Path,  # noqa: F811
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["unitmem", "--encoder=timm:test_vit", "--weights=hub", f"--images={photos}", f"--run={tmp_path / 'run'}"]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --weights hub: model.safetensors of timm/test_vit.r160_in1k is not in the cache")
    assert line.endswith(
        "fetch model.safetensors of timm/test_vit.r160_in1k elsewhere and give that file with --weights."
    )
    assert not (tmp_path / "run").exists()


def test_half_a_pair_with_a_published_reference(
    hub: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(hub, "timm/test_vit.r160_in1k", "model.safetensors", spread(timm.create_model("test_vit")).state_dict())
    torch.save(spread(timm.create_model("test_vit"), seed=3).state_dict(), tmp_path / "mine.pth")
    images = paint(tmp_path / "images", [f"{part}/{i}.png" for part in ("train", "test") for i in range(4)])
    (tmp_path / "splits.csv").write_text("id,split\n0,candidate\n1,candidate\n2,shared\n4,external\n5,external\n")
    flags = ["--encoder=timm:test_vit", f"--candidate={tmp_path / 'mine.pth'}", "--reference=hub", f"--root={images}"]
    run = tmp_path / "run"
    assert main(["adopt", f"--run={run}", f"--splits={tmp_path / 'splits.csv'}", *flags]) == 0, capsys.readouterr().err
    assert "reference: timm/test_vit.r160_in1k/model.safetensors: " in capsys.readouterr().out
