"""Weights by name, from a local folder in the place of the hub: there is no network in the tests."""

import urllib.error
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
import torchvision
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import save_file
from torch import Tensor

from memlight.errors import UserError
from memlight.models.encoders import build_encoder
from memlight.models.foreign import load_weights
from memlight.models.hub import find_weights
from tests.models.foreign_files import assert_equal, spread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache and torch's, empty, and no way to any network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))

    def unreachable(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    return tmp_path / "hub"


def put(hub: Path, repo: str, file: str, tensors: dict[str, Tensor], revision: str = "main") -> Path:
    """A file as the hub's client leaves it in its cache."""
    directory = hub / f"models--{repo.replace('/', '--')}"
    (directory / "refs").mkdir(parents=True, exist_ok=True)
    (directory / "refs" / revision).write_text(COMMIT)
    path = directory / "snapshots" / COMMIT / file
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path) if path.suffix == ".safetensors" else torch.save(tensors, path)
    return path


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_what_timm_names(file: str, hub: Path) -> None:
    theirs = spread(timm.create_model("test_vit"))
    path = put(hub, "timm/test_vit.r160_in1k", file, theirs.state_dict())
    for name in ("timm:test_vit", "timm:test_vit.r160_in1k"):
        place = find_weights("hub", name)
        assert place.path == path and place.name == f"timm/test_vit.r160_in1k/{file}"
    encoder = build_encoder("timm:test_vit", seed=0)
    load_weights(encoder, place.path)
    assert_equal(encoder, theirs.state_dict())


def test_what_torchvision_names(hub: Path, tmp_path: Path) -> None:
    path = tmp_path / "torch" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    torch.save(torchvision.models.resnet18().state_dict(), path)
    assert find_weights("hub", "torchvision:resnet18").path == path
    assert find_weights("hub", "resnet18").path == path
    with pytest.raises(UserError, match=r"resnet34-\w+\.pth is not in torch's cache.*elsewhere and give that file"):
        find_weights("hub", "resnet34")


@pytest.mark.parametrize(
    ("given", "file", "revision"),
    [
        ("hf:a-b/c.d", "model.safetensors", "main"),
        ("hf:a-b/c.d/weights/x.bin", "weights/x.bin", "main"),
        ("hf:a-b/c.d@v1", "pytorch_model.bin", "v1"),
        ("hf:a-b/c.d@v1/encoder.safetensors", "encoder.safetensors", "v1"),
        ("hf:a-b/c.d/encoder.safetensors@v1", "encoder.safetensors", "v1"),
    ],
)
def test_a_repository_by_name(given: str, file: str, revision: str, hub: Path) -> None:
    path = put(hub, "a-b/c.d", file, {"w": torch.ones(2)}, revision)
    place = find_weights(given, None)
    assert place.path == path
    assert place.name == f"a-b/c.d{'' if revision == 'main' else '@' + revision}/{file}"


def test_a_file_is_a_file(hub: Path) -> None:
    assert find_weights("dir/x.pth", None).path == Path("dir/x.pth")


def test_without_a_connection_it_says_which_file_to_fetch(hub: Path) -> None:
    for given, encoder, words in [
        ("hub", "timm:test_vit", "model.safetensors of timm/test_vit.r160_in1k"),
        ("hf:a/b/x.bin", None, "x.bin of a/b"),
    ]:
        with pytest.raises(UserError) as caught:
            find_weights(given, encoder)
        text = str(caught.value)
        assert text.startswith(f"weights='{given}': ") and "\n" not in text
        assert f"{words} is not in the cache of the hub, and the hub cannot be reached from here" in text
        assert f"fetch {words} elsewhere and give that file with `weights`" in text


def test_a_file_that_is_not_there_is_looked_for_under_the_next_name(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repo: str, file: str, revision: str | None = None) -> str:
        asked.append(file)
        if file != "encoder.safetensors":
            raise EntryNotFoundError("404")
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert find_weights("hf:a/b", None).path == tmp_path / "encoder.safetensors"
    assert asked == ["model.safetensors", "pytorch_model.bin", "encoder.safetensors"]
    with pytest.raises(UserError, match=r"a/b has no y\.bin; name its file"):
        find_weights("hf:a/b/y.bin", None)


@pytest.mark.parametrize("error", [OSError("disk full"), ValueError("bad name"), LocalEntryNotFoundError("offline")])
def test_a_file_that_does_not_arrive(error: Exception, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*args: object, **kwargs: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError, match=r"fetch model\.safetensors of a/b elsewhere"):
        find_weights("hf:a/b", None)


@pytest.mark.parametrize(
    ("given", "encoder", "words"),
    [
        ("hub", None, "belongs to an encoder's name"),
        ("hub", "resnet9", "nobody has published weights under the name resnet9"),
        ("hub", "vit_tiny_patch4", "timm:NAME or torchvision:NAME"),
        ("hub", "timm:resnet10t_no", "timm names no weights for timm:resnet10t_no"),
        ("hub", "torchvision:nothing", "torchvision has no model called nothing"),
        ("hf:alone", None, "write hf:ORG/NAME"),
        ("hf:a/b@1/c@2", None, "write hf:ORG/NAME"),
        ("hf:", None, "write hf:ORG/NAME"),
    ],
)
def test_names_that_mean_nothing(given: str, encoder: Any, words: str, hub: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_weights(given, encoder)
    assert words in str(caught.value)
