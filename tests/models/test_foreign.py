"""Files as other programs write them: names and shapes are theirs, and what is loaded computes what theirs did."""

import argparse
import os
import warnings
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from lightly.models import ResNetGenerator
from lightly.models.modules import MaskedVisionTransformerTIMM
from safetensors.torch import save_file
from timm.layers import SwiGLUPacked
from torch import nn

from memlight.errors import UserError
from memlight.models.encoders import EncoderSpec, build_encoder, save_encoder
from memlight.models.foreign import load_weights
from memlight.models.weight_files import read_record, read_tensors
from tests.models.foreign_files import State, assert_computes, assert_equal, load, refused, spread, under, vit


def resnet10(*, cifar: bool = False) -> nn.Module:
    """torchvision's class with a block a stage and a classifier; with the CIFAR stem as the SSL libraries make it."""
    network = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=10)
    if cifar:
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return spread(network)


def resnet10_encoder(*, cifar: bool = False) -> nn.Module:
    """The same as an encoder, with other weights."""
    encoder: Any = spread(resnet10(cifar=cifar), seed=9)
    encoder.fc = nn.Identity()
    encoder.spec = EncoderSpec("resnet10", "cifar" if cifar else "imagenet", 3, 512, 32)
    return encoder


def head(prefix: str) -> State:
    return {f"{prefix}.0.weight": torch.ones(4, 4), f"{prefix}.0.bias": torch.ones(4)}


# torchvision, timm


def test_torchvision_file_without_its_classifier(tmp_path):
    theirs = spread(torchvision.models.resnet18())
    encoder = build_encoder("resnet18", stem="imagenet", seed=0)
    loaded = load(encoder, theirs.state_dict(), tmp_path)

    assert loaded.words == "120 tensors from the top level; left out: fc (2)"
    assert_equal(encoder, theirs.state_dict())
    theirs.fc = nn.Identity()
    assert_computes(encoder, theirs, side=64)


@pytest.mark.parametrize(
    ("make", "published"),
    [
        (
            lambda: torchvision.models.VisionTransformer(32, 16, 1, 2, 8, 16),
            {".mlp.0.": ".mlp.linear_1.", ".mlp.3.": ".mlp.linear_2."},
        ),
        (
            lambda: torchvision.models.DenseNet(4, (2, 1), 8),
            {".norm1.": ".norm.1.", ".conv1.": ".conv.1.", ".norm2.": ".norm.2.", ".conv2.": ".conv.2."},
        ),
    ],
)
def test_torchvisions_published_names_of_other_days(make, published, tmp_path):
    theirs, encoder = spread(make()), make()
    encoder.spec = EncoderSpec("torchvision:small", "imagenet", 3, 8, 32)
    for network in (theirs, encoder):
        setattr(network, "heads" if hasattr(network, "heads") else "classifier", nn.Identity())

    def renamed(name: str) -> str:
        for ours, old in published.items():
            name = name.replace(ours, old) if "layer" in name else name
        return name

    saved = {renamed(name): tensor for name, tensor in theirs.state_dict().items()}
    assert saved.keys() != theirs.state_dict().keys()
    load(encoder, saved | head("heads"), tmp_path)
    assert_equal(encoder, theirs.state_dict())


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_convnext", "test_efficientnet"])
def test_timm_file_of_any_of_its_families(name, tmp_path):
    """The classifier is head, fc, head.fc beside head.norm, or classifier."""
    theirs = spread(timm.create_model(name))
    encoder = build_encoder(f"timm:{name}", seed=0)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    loaded = load_weights(encoder, tmp_path / "model.safetensors")

    assert [count for _, count in loaded.left_out] == [2]
    assert_equal(encoder, theirs.state_dict())
    theirs.reset_classifier(0)
    assert_computes(encoder, theirs, side=160)


def test_timm_training_checkpoint_asks_which_of_the_two(tmp_path):
    plain, average = (spread(timm.create_model("test_vit"), seed=seed) for seed in (1, 2))
    saved = {
        "epoch": 3,
        "arch": "test_vit",
        "args": argparse.Namespace(model="test_vit", lr=[0.1]),
        "metric": np.float64(0.5),
        "state_dict": plain.state_dict(),
        "state_dict_ema": average.state_dict(),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]},
    }
    encoder = build_encoder("timm:test_vit", seed=0)
    with pytest.raises(UserError, match=r"2 parts .* fill timm:test_vit completely: .*`prefix` state_dict"):
        load(encoder, saved, tmp_path)
    loaded = load(encoder, saved, tmp_path, prefix="state_dict_ema")
    assert_equal(encoder, average.state_dict())
    assert dict(loaded.left_out) == {
        "state_dict": len(plain.state_dict()),
        "state_dict_ema.head": 2,
        "optimizer": 1,
    }
    load(encoder, saved, tmp_path, prefix="state_dict")
    assert_equal(encoder, plain.state_dict())


# lightly, solo-learn


@pytest.mark.parametrize("cifar", [True, False])
def test_lightly_backbone_of_numbered_children(cifar, tmp_path):
    theirs = nn.Sequential(*list(resnet10(cifar=cifar).children())[:-1]).eval()
    saved = {"state_dict": under("backbone.", theirs.state_dict()) | head("projection_head.layers"), "epoch": 1}
    encoder = resnet10_encoder(cifar=cifar)
    loaded = load(encoder, saved, tmp_path)

    assert loaded.prefix == "state_dict.backbone" and "number" in loaded.words
    assert torch.equal(encoder.layer4[0].bn2.bias, theirs[7][0].bn2.bias)
    assert_computes(encoder, theirs)


def test_lightly_teacher_and_student_of_a_vit(tmp_path):
    student, teacher = (
        spread(MaskedVisionTransformerTIMM(vit=timm.create_model("test_vit")), seed=seed) for seed in (1, 2)
    )
    saved = {
        "state_dict": under("student_backbone.", student.state_dict())
        | under("teacher_backbone.", teacher.state_dict())
        | head("student_head.layers")
    }
    encoder = build_encoder("timm:test_vit", seed=0)
    with pytest.raises(UserError, match=r"2 parts .*student_backbone\.vit .*teacher_backbone\.vit|teacher.*student"):
        load(encoder, saved, tmp_path)
    load(encoder, saved, tmp_path, prefix="teacher_backbone")
    assert_equal(encoder, teacher.vit.state_dict())
    teacher.vit.reset_classifier(0)
    assert_computes(encoder, teacher.vit, side=160)


def test_lightlys_own_resnet(tmp_path):
    theirs = spread(ResNetGenerator("resnet-9"))
    encoder = resnet10_encoder(cifar=True)
    loaded = load(encoder, theirs.state_dict(), tmp_path)

    assert loaded.left_out == [("linear", 2)] and "shortcut" in loaded.words
    theirs.linear = nn.Identity()
    assert_computes(encoder, theirs)


def test_lightlys_own_resnet_in_pieces_is_refused_with_the_reason(tmp_path):
    theirs = nn.Sequential(*list(ResNetGenerator("resnet-9").children())[:-1], nn.AdaptiveAvgPool2d(1))
    saved = {"state_dict": under("backbone.", theirs.state_dict())}
    with pytest.raises(UserError, match=r"ResNetGenerator .* no ReLU after its first norm.*ENCODERS\.md"):
        load(resnet10_encoder(cifar=True), saved, tmp_path)


@pytest.mark.parametrize("name", ["backbone", "encoder"])
def test_solo_learn_checkpoint_with_and_without_momentum(name, tmp_path):
    theirs = resnet10(cifar=True)
    state = under(f"{name}.", theirs.state_dict(), "fc.") | head("classifier") | head("projector")
    saved = {"state_dict": state, "hyper_parameters": {"method": "byol"}, "optimizer_states": [{"state": {}}]}
    encoder = resnet10_encoder(cifar=True)
    loaded = load(encoder, saved, tmp_path)
    assert loaded.words == (
        f"72 tensors from state_dict.{name}; left out: state_dict.classifier (2), state_dict.projector (2)"
    )
    assert_equal(encoder, theirs.state_dict())

    state |= under(f"momentum_{name}.", theirs.state_dict(), "fc.")
    with pytest.raises(UserError, match=rf"state_dict\.momentum_{name} \(72\)"):
        load(encoder, saved, tmp_path)
    assert load(encoder, saved, tmp_path, prefix=name).prefix == f"state_dict.{name}"


# MoCo, DINO, MAE, DINOv2


def test_moco_v2_queries_and_keys(tmp_path):
    theirs = resnet10().state_dict()
    state = {
        **under("module.encoder_q.", theirs, "fc."),
        **head("module.encoder_q.fc"),
        **{f"module.encoder_k.{name}": tensor + 1 for name, tensor in theirs.items()},
        "module.queue": torch.ones(4, 8),
        "module.queue_ptr": torch.zeros(1, dtype=torch.int64),
    }
    encoder = resnet10_encoder()
    loaded = load(encoder, {"epoch": 200, "arch": "resnet50", "state_dict": state}, tmp_path, prefix="encoder_q")
    assert_equal(encoder, theirs)
    assert dict(loaded.left_out) == {
        "state_dict.module.encoder_q.fc": 2,
        "state_dict.module.encoder_k": 74,
        "state_dict.module.queue": 1,
        "state_dict.module.queue_ptr": 1,
    }
    only_q = {name: tensor for name, tensor in state.items() if "encoder_k" not in name}
    assert load(encoder, {"state_dict": only_q}, tmp_path).prefix == "state_dict.module.encoder_q"


def test_moco_v3_vit(tmp_path):
    theirs = spread(vit())
    state = under("module.base_encoder.", theirs.state_dict()) | head("module.base_encoder.head")
    encoder = vit()
    loaded = load(encoder, {"state_dict": state | head("module.predictor")}, tmp_path)
    assert loaded.prefix == "state_dict.module.base_encoder"
    assert_equal(encoder, theirs.state_dict())
    assert_computes(encoder, theirs)


@pytest.mark.parametrize(
    ("prefix", "which", "found"),
    [
        ("teacher.backbone", "teacher", "teacher.backbone"),
        ("teacher", "teacher", "teacher.backbone"),
        ("student", "student", "student.module.backbone"),
        ("module.backbone", "student", "student.module.backbone"),
    ],
)
def test_dino_repository_checkpoint(prefix, which, found, tmp_path):
    networks = {"student": spread(vit(), seed=1), "teacher": spread(vit(), seed=2)}
    states = {name: network.state_dict() for name, network in networks.items()}
    saved = {
        "student": under("module.backbone.", states["student"]) | head("module.head.mlp"),
        "teacher": under("backbone.", states["teacher"]) | head("head.mlp"),
        "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.ones(3)}}, "param_groups": [{"params": [0]}]},
        "epoch": 100,
        "args": argparse.Namespace(arch="vit_small", patch_size=16),
        "dino_loss": {"center": torch.ones(1, 8)},
    }
    encoder = vit()
    loaded = load(encoder, saved, tmp_path, prefix=prefix)
    assert loaded.prefix == found
    assert_equal(encoder, states[which])
    other = ({"student", "teacher"} - {which}).pop()
    assert {group for group, _ in loaded.left_out} == {
        f"{which}.{'module.' * (which == 'student')}head",
        other,
        *(
            "optimizer",
            "dino_loss",
        ),
    }


def test_dino_released_backbone(tmp_path):
    theirs = spread(vit())
    assert load(vit(), dict(theirs.state_dict()), tmp_path).left_out == []


def test_mae_pretraining_checkpoint(tmp_path):
    theirs = spread(vit())
    decoder = {
        "mask_token": torch.ones(1, 1, 8),
        "decoder_pos_embed": torch.ones(1, 17, 8),
        **{f"{name}.weight": torch.ones(8) for name in ("decoder_embed", "decoder_norm", "decoder_pred")},
        "decoder_blocks.0.attn.qkv.weight": torch.ones(24, 8),
    }
    encoder = vit()
    saved = {"model": theirs.state_dict() | decoder, "epoch": 1, "scaler": {}, "args": argparse.Namespace()}
    loaded = load(encoder, saved, tmp_path)
    assert {group for group, _ in loaded.left_out} == {f"model.{name.partition('.')[0]}" for name in decoder}
    assert_computes(encoder, theirs)


def test_dinov2_file(tmp_path):
    theirs = spread(vit(init_values=1e-5))
    encoder = vit(init_values=1e-5)
    loaded = load(encoder, theirs.state_dict() | {"mask_token": torch.ones(1, 16)}, tmp_path)
    assert loaded.left_out == [("mask_token", 1)]
    assert_computes(encoder, theirs)


@pytest.mark.parametrize("gated", [False, True])
def test_dinov2_file_with_registers(gated, tmp_path):
    """Facebook: tokens = [class, patches] + positions, and then the registers come between, without a position."""
    options: dict[str, Any] = {"init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True}
    options |= {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU} if gated else {}
    theirs, encoder = spread(vit(**options)), vit(**options)
    rename = {".mlp.fc1.": ".mlp.w12.", ".mlp.fc2.": ".mlp.w3."} if gated else {}
    saved = {}
    for name, tensor in theirs.state_dict().items():
        for ours, facebooks in rename.items():
            name = name.replace(ours, facebooks)
        saved[name] = tensor
    saved["register_tokens"] = saved.pop("reg_token")
    positions = torch.rand(1, 17, 16)
    saved |= {"pos_embed": positions, "mask_token": torch.ones(1, 16)}
    loaded = load(encoder, saved, tmp_path)
    assert loaded.layout == "DINOv2's names" and loaded.left_out == [("mask_token", 1)]

    views = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        tokens = torch.cat([saved["cls_token"].expand(2, 1, 16), encoder.patch_embed(views)], dim=1) + positions
        tokens = torch.cat([tokens[:, :1], saved["register_tokens"].expand(2, 4, 16), tokens[:, 1:]], dim=1)
        torch.testing.assert_close(encoder._pos_embed(encoder.patch_embed(views)), tokens)
        if gated:
            x = torch.rand(3, 16)
            gate, value = (x @ saved["blocks.0.mlp.w12.weight"].T + saved["blocks.0.mlp.w12.bias"]).chunk(2, dim=-1)
            hidden = nn.functional.silu(gate) * value
            wanted = hidden @ saved["blocks.0.mlp.w3.weight"].T + saved["blocks.0.mlp.w3.bias"]
            torch.testing.assert_close(encoder.blocks[0].mlp(x), wanted)


# memlight's own files, and what is common to all


def test_memlights_own_files(tmp_path):
    student, teacher = (spread(build_encoder("resnet9"), seed=seed) for seed in (1, 2))
    state = under("encoder.", student.state_dict()) | under("teacher.", teacher.state_dict()) | head("head")
    saved = {"state_dict": state, "memlight": {"method": "dino"}, "epoch": 3}
    encoder = build_encoder("resnet9", seed=0)
    load(encoder, saved, tmp_path, prefix="teacher")
    assert_equal(encoder, teacher.state_dict())
    assert read_record(tmp_path / "weights.pth", "memlight") == {"method": "dino"}
    save_encoder(tmp_path / "encoder.safetensors", student, {})
    assert load_weights(encoder, tmp_path / "encoder.safetensors").left_out == []
    assert_equal(encoder, student.state_dict())
    assert read_record(tmp_path / "encoder.safetensors", "memlight")["architecture"]["name"] == "resnet9"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_wrappers_and_missing_counters(dtype, tmp_path):
    theirs = spread(build_encoder("resnet9"))
    saved = {
        f"module._orig_mod.{name}": tensor.to(dtype)
        for name, tensor in theirs.state_dict().items()
        if "num_batches" not in name
    }
    encoder = build_encoder("resnet9", seed=0)
    assert load(encoder, saved, tmp_path).prefix == "module._orig_mod"
    assert_equal(encoder, {n: t.to(dtype).to(t.dtype) for n, t in theirs.state_dict().items()})


@pytest.mark.parametrize("zipped", [True, False])
def test_options_and_scores_beside_the_tensors_are_read_whatever_numpy_wrote_them(zipped, tmp_path):
    path = tmp_path / "weights.pth"
    values = {"best": np.float32(0.5), "step": np.int64(3), "done": np.bool_(True), "args": argparse.Namespace(a=1)}
    torch.save({"model": {"w": torch.ones(2)}, **values}, path, _use_new_zipfile_serialization=zipped)
    if not zipped:  # NumPy 1 called the module so
        path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_tensors(path).keys() == {"model.w"}


# errors


def test_a_deeper_network_is_not_taken_for_the_smaller_one_within_it(tmp_path):
    """Every tensor of a shallower network is in the file of a deeper one, with its shape."""
    theirs = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, [1, 1, 1, 2])
    assert "unexpected: layer4 (10)." in refused(resnet10_encoder(), theirs.state_dict(), tmp_path)
    numbered = nn.Sequential(*list(theirs.children())[:-1])
    assert "unexpected: 7 (10)." in refused(resnet10_encoder(), numbered.state_dict(), tmp_path)
    deeper = vit(depth=3).state_dict()
    assert "unexpected: blocks (12)" in refused(vit(), deeper, tmp_path)
    assert "missing: blocks (12)" in refused(vit(depth=3), vit().state_dict(), tmp_path)


@pytest.mark.parametrize(
    ("theirs", "unexpected"),
    [
        ({"init_values": 1e-5}, "blocks (4)"),
        ({"pre_norm": True}, "norm_pre (2)"),
        ({"qk_norm": True}, "blocks (8)"),
    ],
)
def test_parts_that_the_encoder_would_not_run_are_an_error(theirs, unexpected, tmp_path):
    """Layer scale, a norm before the blocks or of the queries: every tensor is filled, and it is another network."""
    text = refused(vit(), vit(**theirs).state_dict(), tmp_path)
    assert f"unexpected: {unexpected}." in text and "another architecture" in text


def test_registers_for_an_encoder_without_are_an_error(tmp_path):
    text = refused(vit(), vit().state_dict() | {"register_tokens": torch.ones(1, 4, 16)}, tmp_path)
    assert "unexpected: register_tokens (1)" in text


@pytest.mark.parametrize(
    ("make", "saved", "words"),
    [
        (
            lambda: build_encoder("resnet18", stem="cifar", seed=0),
            lambda: torchvision.models.resnet18().state_dict(),
            ["119 of its 120", "other shape: conv1 (1)", "7x7", "`encoder=resnet18` `stem=imagenet`"],
        ),
        (
            resnet10_encoder,
            lambda: resnet10(cifar=True).state_dict(),
            ["3x3: name another `encoder`"],
        ),
        (
            vit,
            lambda: vit(img_size=64).state_dict(),
            ["8x8 patches (64-pixel images)", "4x4 (32-pixel images)", "`image_size=64`"],
        ),
        (vit, lambda: vit(img_size=(32, 64)).state_dict(), ["33 entries", "17", "`encoder`"]),
        (
            lambda: vit(reg_tokens=4, no_embed_class=True),
            lambda: {"register_tokens": torch.ones(1, 4, 16), **vit(img_size=56).state_dict()},
            ["7x7 patches (56-pixel images)", "`image_size=56`"],
        ),
        (vit, lambda: vit(patch_size=16).state_dict(), ["16 pixels wide", "encoder's 8"]),
        (vit, lambda: vit(embed_dim=32).state_dict(), ["0 of its 30", "blocks (24)", "wider or narrower"]),
        (
            vit,
            lambda: resnet10().state_dict(),
            ["none of its tensors", "layer1 (12)", "blocks (24)", "another architecture"],
        ),
        (
            vit,
            lambda: {
                "model": under("enc.", vit().state_dict(), "norm."),
                "ema": under("enc.", vit().state_dict(), "n"),
            },
            ["model.enc of the file has 28 of its 30", "missing: norm (2)", "`prefix`: ema.enc (28)"],
        ),
    ],
)
def test_what_does_not_fit_says_why_and_what_to_change(make, saved, words, tmp_path):
    text = refused(make(), saved(), tmp_path)
    assert [word for word in words if word not in text] == [], text


def test_a_prefix_that_is_not_there_lists_those_that_are(tmp_path):
    saved = {"model": vit().state_dict()}
    assert "`prefix=techer`: no part of that name is like the encoder; others are: model (30)" in refused(
        vit(), saved, tmp_path, prefix="techer"
    )
    assert "it holds a (1)" in refused(vit(), {"a": torch.ones(1)}, tmp_path, prefix="b")


def test_a_prefix_names_a_part_that_does_not_fit(tmp_path):
    saved = {"teacher": vit().state_dict(), "student": vit(depth=1).state_dict()}
    assert load(vit(), saved, tmp_path).prefix == "teacher"
    assert "student of the file has 18 of its 30" in refused(vit(), saved, tmp_path, prefix="student")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = vit().state_dict()
    state["norm.bias"] = torch.full((16,), float("nan"))
    assert "norm.bias holds NaN or infinity" in refused(vit(), state, tmp_path)


def test_code_in_a_file_is_not_run_and_named(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    assert "could run code" in refused(vit(), {"model": vit().state_dict(), "x": Evil()}, tmp_path)
    text = refused(vit(), nn.Linear(2, 2), tmp_path)
    assert "holds a whole model, a torch.nn.modules.linear.Linear" in text and "model.state_dict()" in text
    assert not (tmp_path / "ran").exists()


def test_files_that_cannot_be_read(tmp_path):
    encoder = vit()
    assert "holds no tensor" in refused(encoder, {"epoch": 3, "groups": [torch.ones(2)]}, tmp_path)
    torch.save(encoder.state_dict(), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "script.pt")
    for name, content, words in [
        ("short.pth", whole[:-3000], "truncated"),
        ("tiny.pth", whole[:20], "truncated"),
        ("empty.pth", b"", "truncated"),
        ("text.pth", b"<html>not found</html>", "truncated"),
        ("short.safetensors", b"\x10\x00", "not a safetensors file"),
        ("script.pt", None, "TorchScript"),
        ("none.pth", None, "no such file"),
    ]:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words) as caught:
            load_weights(encoder, tmp_path / name)
        assert str(caught.value).startswith(f"path={tmp_path / name}: ")
        assert "\n" not in str(caught.value)
