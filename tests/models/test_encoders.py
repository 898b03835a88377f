import io
import json
import os
import pickle

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from memlight.errors import UserError
from memlight.models import encoders
from memlight.models.encoders import (
    build_encoder,
    build_from_metadata,
    encoder_spec,
    load_encoder,
    load_state,
    read_metadata,
    save_encoder,
)

SMALL_TIMM = "timm:test_vit"


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "encoder.safetensors"
    encoder = build_encoder("resnet9", seed=5)
    save_encoder(path, encoder, {"format": 1, "role": "candidate"})
    return path


@pytest.mark.parametrize(
    ("name", "stem", "size"),
    [
        ("resnet9", "cifar", 16),
        ("resnet18", "cifar", 32),
        ("resnet34", "imagenet", 64),
        ("resnet50", "imagenet", 64),
        (SMALL_TIMM, "imagenet", 64),
        ("timm:mobilenetv3_small_050", "imagenet", 64),
        ("vit_tiny_patch4", "imagenet", 32),
        ("vit_tiny_patch16", "imagenet", 64),
        ("torchvision:resnet18", "imagenet", 64),  # fc
        ("torchvision:mobilenet_v3_small", "imagenet", 64),  # classifier[-1], of two Linears
        ("torchvision:squeezenet1_1", "imagenet", 64),  # a convolution gives the class scores
    ],
)
def test_output_is_as_wide_as_the_spec_says(name, stem, size):
    encoder = build_encoder(name, stem=stem, seed=0, image_size=size).eval()
    spec = encoder_spec(encoder)
    with torch.no_grad():
        features = encoder(torch.rand(2, 3, size, size))

    assert features.shape == (2, spec.num_features)
    assert (spec.name, spec.stem, spec.input_size) == (name, stem, size)


def test_cifar_stem_keeps_the_resolution_and_the_paths_stay_torchvisions():
    encoder = build_encoder("resnet18", seed=0)
    sizes = {}
    encoder.layer1.register_forward_hook(lambda _, __, output: sizes.update(layer1=output.shape[-1]))
    encoder(torch.rand(2, 3, 32, 32))

    assert sizes["layer1"] == 32
    assert isinstance(encoder.get_submodule("layer3.1.conv2"), nn.Conv2d)


@pytest.mark.parametrize(
    ("name", "width", "heads", "size"),
    [("vit_tiny_patch4", 192, 3, 32), ("vit_tiny_patch8", 192, 3, 32), ("vit_small_patch16", 384, 6, 224)],
)
def test_vits_are_timms_with_the_widths_of_deit(name, width, heads, size):
    encoder = build_encoder(name, seed=0)
    patch = int(name.rpartition("patch")[2])

    assert isinstance(encoder, VisionTransformer)
    assert encoder_spec(encoder) == encoders.EncoderSpec(name, "imagenet", 3, width, size)
    assert len(encoder.blocks) == 12 and encoder.blocks[0].attn.num_heads == heads
    assert encoder.pos_embed.shape == (1, (size // patch) ** 2 + 1, width)


@pytest.mark.parametrize("name", ["vit_tiny_patch4", SMALL_TIMM, "timm:vit_tiny_patch16_224"])
def test_vits_take_smaller_and_larger_views(name):
    encoder = build_encoder(name, seed=0, image_size=32).eval()
    with torch.no_grad():
        for size in (16, 32, 48):
            assert encoder(torch.rand(2, 3, size, size)).shape == (2, encoder_spec(encoder).num_features)


@pytest.mark.parametrize(
    ("short", "size"),
    [
        ("vit_tiny_patch16_224", 32),
        ("deit_tiny_distilled_patch16_224", 32),
        ("eva02_tiny_patch14_224", 28),
    ],
)
def test_taking_any_size_changes_nothing_at_the_native_one(short, size):
    encoder = build_encoder(f"timm:{short}", seed=0, image_size=size).eval()
    plain = timm.create_model(short, num_classes=0, img_size=size).eval()
    plain.load_state_dict(encoder.state_dict())
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        assert encoder.dynamic_img_size and torch.equal(encoder(x), plain(x))


def test_models_that_take_one_size_start_from_the_same_weights_as_timms(monkeypatch):
    create_model = timm.create_model
    torch.manual_seed(3)
    plain = create_model("resnet10t", num_classes=0).state_dict()
    state = torch.get_rng_state()

    def draws_before_it_refuses(name, **options):
        if "dynamic_img_size" in options:
            torch.rand(7)
        return create_model(name, **options)

    monkeypatch.setattr(timm, "create_model", draws_before_it_refuses)
    torch.manual_seed(3)
    encoder = build_encoder("timm:resnet10t")

    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(plain[key], tensor) for key, tensor in encoder.state_dict().items())


@pytest.mark.parametrize("name", ["vit_tiny_patch8", "torchvision:squeezenet1_1", "timm:test_vit"])
def test_a_stored_spec_builds_the_same_architecture_again(name):
    encoder = build_encoder(name, seed=0, image_size=64)
    again = build_from_metadata({"architecture": encoder_spec(encoder).record()}, seed=0, path="x")
    assert encoder_spec(again) == encoder_spec(encoder)
    state = again.state_dict()
    assert all(torch.equal(state[key], tensor) for key, tensor in encoder.state_dict().items())


@pytest.mark.parametrize("name", ["resnet9", "resnet18", SMALL_TIMM])
def test_initial_weights_are_a_function_of_the_seed_alone(name):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build_encoder(name, seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = build_encoder(name, seed=3).state_dict(), build_encoder(name, seed=4).state_dict()

    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_without_a_seed_the_global_generator_decides():
    torch.manual_seed(1)
    first = build_encoder("resnet9").layer1.conv.weight
    second = build_encoder("resnet9").layer1.conv.weight
    torch.manual_seed(1)

    assert torch.equal(first, build_encoder("resnet9").layer1.conv.weight)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet81", {}, ["name='resnet81'", "nearest: resnet18"]),
        ("timm:resnet_18", {}, ["name='timm:resnet_18'", "timm:resnet18,"]),
        ("torchvision:resnet_18", {}, ["name=", "no such classification model", "torchvision:resnet18"]),
        ("torchvision:fcn_resnet50", {}, ["no such classification model", "torchvision:"]),
        ("torch:resnet18", {}, ["module torch (", "has no resnet18", "torchvision:NAME"]),
        ("vit_tiny", {}, ["name='vit_tiny'", "vit_tiny_patch4"]),
        ("vit_tiny_patch0", {}, ["no such encoder", "vit_tiny_patch4"]),
        ("vit_huge_patch14", {}, ["no such encoder", "vit_tiny_patch"]),
        ("vit_tiny_patch5", {}, ["32-pixel", "5-pixel patches", "`image_size` 30 or 35"]),
        ("vit_tiny_patch16", {"image_size": 8}, ["`image_size` 16"]),
        ("timm:vit_tiny_patch16_224", {"image_size": 40}, ["16-pixel patches", "`image_size` 32 or 48"]),
        ("torchvision:vit_b_16", {"image_size": 40}, ["16-pixel patches", "`image_size` 32 or 48"]),
        ("torchvision:maxvit_t", {"image_size": 100}, ["torchvision cannot build it", "100"]),
        ("timm:resnet18.nobody", {}, ["name=", "nobody"]),
        ("resnet9", {"image_size": 8}, ["8-pixel", "`image_size` 16"]),
        ("resnet18", {"stem": "cifr"}, ["stem='cifr'", "imagenet"]),
    ],
)
def test_what_cannot_be_built_is_refused_with_a_way_out(name, options, words):
    with pytest.raises(UserError) as caught:
        build_encoder(name, **options)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize("name", ["resnet9", "resnet18", SMALL_TIMM])
def test_saved_encoder_comes_back_equal_and_in_eval_mode(name, tmp_path):
    path = tmp_path / "encoder.safetensors"
    encoder = build_encoder(name, seed=5, image_size=32 if name != SMALL_TIMM else 160)
    encoder.to(memory_format=torch.channels_last)
    state = torch.get_rng_state()
    save_encoder(path, encoder, {"format": 1, "layers": ["é"], "init_seed": 5})
    loaded = load_encoder(path)

    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in loaded.modules())
    assert encoder_spec(loaded) == encoder_spec(encoder)
    assert encoder.state_dict().keys() == loaded.state_dict().keys()
    for key, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[key])
    metadata = read_metadata(path)
    assert metadata["layers"] == ["é"] and metadata["architecture"]["name"] == name
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_same_encoder_gives_the_same_file(saved):
    again = saved.with_name("again.safetensors")
    save_encoder(again, load_encoder(saved), {"role": "candidate", "format": 1})
    assert again.read_bytes() == saved.read_bytes()


def test_tensors_shared_by_two_names_are_kept_under_both(tmp_path, monkeypatch):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.b = nn.Linear(4, 4)
            self.b.weight = self.a.weight
            self.spec = encoders.EncoderSpec("tied", "cifar", 3, 4, 32)

    monkeypatch.setitem(encoders._BUILDERS, "tied", lambda *_: Tied())
    encoder, path = Tied(), tmp_path / "tied.safetensors"
    save_encoder(path, encoder, {})
    loaded = load_encoder(path)

    assert torch.equal(loaded.b.weight, encoder.a.weight)
    assert loaded.a.weight is loaded.b.weight


def test_a_failed_save_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def write_half(tensors, path, metadata):
        path.write_bytes(before[:100])
        raise OSError("disk full")

    monkeypatch.setattr(encoders, "save_file", write_half)
    with pytest.raises(OSError, match="disk full"):
        save_encoder(saved, build_encoder("resnet9", seed=6), {})
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("kept", [0, 4, 8, 300, 100_000, -1])
def test_a_truncated_file_is_one_clear_line(saved, kept):
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"^path=.*encoder\.safetensors: truncated") as caught:
        load_encoder(saved)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"^path=.*none.safetensors: no such file"):
        read_metadata(tmp_path / "none.safetensors")


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_a_pickle_is_refused_and_its_code_is_not_run(tmp_path, kind):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "encoder.pth"
    if kind == "plain":
        path.write_bytes(pickle.dumps(Evil()))
    else:
        buffer = io.BytesIO()
        torch.save({"model": Evil()}, buffer, _use_new_zipfile_serialization=kind == "zip")
        path.write_bytes(buffer.getvalue())
    with pytest.raises(UserError, match=r"^path=.*pickle"):
        load_encoder(path)
    assert not (tmp_path / "ran").exists()


def test_a_header_whose_length_looks_like_a_pickle_is_none(saved):
    encoder = load_encoder(saved)
    for padding in range(0, 512, 8):
        save_encoder(saved, encoder, {"note": "x" * padding})
        if saved.read_bytes()[:1] == b"\x80":
            break
    assert saved.read_bytes()[:1] == b"\x80"
    assert load_encoder(saved) is not None


def test_somebody_elses_safetensors_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="not memlight's metadata"):
        load_encoder(path)


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ({"name": "resnet9"}, "field architecture.stem is missing"),
        ({"name": "vgg", "stem": "cifar", "in_channels": 3, "num_features": 9, "input_size": 32}, "no such encoder"),
        (
            {"name": "resnet9", "stem": "cifar", "in_channels": 3, "num_features": 9, "input_size": 32},
            "num_features=9",
        ),
    ],
)
def test_an_architecture_this_version_cannot_build_is_refused(saved, architecture, words):
    record = json.dumps({**read_metadata(saved), "architecture": architecture})
    save_file(load_file(saved), saved, metadata={"memlight": record})
    with pytest.raises(UserError, match=words):
        load_encoder(saved)


def test_weights_of_another_architecture_are_listed_by_module_and_nothing_is_copied():
    encoder = build_encoder("resnet9", seed=0)
    state = build_encoder("resnet9", seed=1).state_dict()
    before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
    del state["layer1.conv.weight"], state["layer2.norm.weight"], state["layer2.norm.bias"]
    state["head.weight"] = torch.zeros(2)
    state["layer8.conv.weight"] = torch.zeros(3)
    with pytest.raises(UserError) as caught:
        load_state(encoder, state, path="w")

    assert str(caught.value) == (
        "path='w': these are not the weights of resnet9. missing: layer1.conv, layer2.norm; "
        "unexpected: head; other shape: layer8.conv."
    )
    assert all(torch.equal(before[key], tensor) for key, tensor in encoder.state_dict().items())


def test_only_encoders_built_here_are_saved(tmp_path):
    with pytest.raises(ValueError, match="build_encoder"):
        save_encoder(tmp_path / "x.safetensors", nn.Linear(2, 2), {})
    with pytest.raises(ValueError, match="not JSON"):
        save_encoder(tmp_path / "x.safetensors", build_encoder("resnet9", seed=0), {"x": object()})
    assert not list(tmp_path.iterdir())
