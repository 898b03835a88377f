"""Other programs' names for an encoder's tensors; each file is made by the rule that the program documents."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from timm.layers import SwiGLUPacked
from timm.models.beit import Beit
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from memlight.models.encoders import build_encoder
from memlight.models.weight_files import read_tensors
from tests.models.foreign_files import (
    State,
    assert_computes,
    assert_equal,
    load,
    refused,
    spread,
    under,
    vit,
    with_spec,
)

# Wrappers and chunks within names


@pytest.mark.parametrize("wrapper", ["_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_blocks_that_were_wrapped_one_by_one(wrapper: str, tmp_path: Path) -> None:
    """As ``model.blocks[i] = torch.compile(model.blocks[i])`` names them, and what shards or checkpoints blocks."""
    theirs, encoder = spread(vit()), vit()
    for wrapped in (r"^(blocks\.\d+)\.", r"^(blocks\.\d+\.mlp)\.", r"^(blocks)\."):
        saved = {re.sub(wrapped, rf"\1.{wrapper}.", name): tensor for name, tensor in theirs.state_dict().items()}
        loaded = load(encoder, {"model": under("module._orig_mod.", saved)}, tmp_path)
        assert loaded.prefix == "model.module._orig_mod" and loaded.left_out == []
        assert_equal(encoder, theirs.state_dict())


def test_blocks_in_chunks_as_dinov2s_training_writes_them(tmp_path: Path) -> None:
    """``blocks.CHUNK.NUMBER``; the numbers go on from chunk to chunk."""
    theirs = spread(vit(depth=4, init_values=1e-5))
    chunked = {
        re.sub(r"^blocks\.(\d+)\.", lambda m: f"blocks.{int(m[1]) // 2}.{m[1]}.", name): tensor
        for name, tensor in theirs.state_dict().items()
    }
    assert "blocks.1.3.ls1.gamma" in chunked
    saved = {"teacher": under("backbone.", chunked) | {"dino_head.mlp.0.weight": torch.ones(2, 2)}}
    saved["teacher"] |= {"backbone.mask_token": torch.ones(1, 16)}
    encoder = vit(depth=4, init_values=1e-5)
    loaded = load(encoder, saved, tmp_path)
    assert loaded.prefix == "teacher.backbone"
    assert_equal(encoder, theirs.state_dict())
    assert "unexpected: blocks" in refused(vit(depth=3, init_values=1e-5), saved, tmp_path)


@pytest.mark.parametrize("name", ["masked_embed", "mask_token"])
def test_what_masks_patches_in_pretraining_is_left_out(name: str, tmp_path: Path) -> None:
    theirs = spread(vit())
    loaded = load(
        vit(), {"student": under("module.backbone.", theirs.state_dict() | {name: torch.ones(1, 16)})}, tmp_path
    )
    assert dict(loaded.left_out) == {f"student.module.backbone.{name}": 1}


# transformers


def apart(state: State) -> State:
    """Queries, keys and values by themselves."""
    made: State = {}
    for name, tensor in state.items():
        if ".attn.qkv." in name:
            for which, part in zip("qkv", tensor.chunk(3), strict=True):
                made[name.replace(".qkv.", f".{which}.")] = part
        else:
            made[name] = tensor
    return made


def by(rules: dict[str, str], state: State) -> State:
    made = {}
    for name, tensor in state.items():
        for ours, theirs in rules.items():
            name = re.sub(ours, theirs, name)
        made[name] = tensor.clone()
    return made


EMBEDDINGS = {
    r"^cls_token": "embeddings.cls_token",
    r"^pos_embed": "embeddings.position_embeddings",
    r"^patch_embed\.proj": "embeddings.patch_embeddings.projection",
    r"^reg_token": "embeddings.register_tokens",
    r"^norm\.": "layernorm.",
}
LONG_ATTENTION = {
    r"\.attn\.q\.": ".attention.attention.query.",
    r"\.attn\.k\.": ".attention.attention.key.",
    r"\.attn\.v\.": ".attention.attention.value.",
    r"\.attn\.proj\.": ".attention.output.dense.",
}
SHORT_ATTENTION = {r"\.attn\.([qkv])\.": r".attention.\1_proj.", r"\.attn\.proj\.": ".attention.o_proj."}
SCALES = {r"\.ls([12])\.gamma": r".layer_scale\1.lambda1"}
TRANSFORMERS: dict[str, dict[str, str]] = {
    "ViT": {
        **EMBEDDINGS,
        **LONG_ATTENTION,
        r"\.mlp\.fc1\.": ".intermediate.dense.",
        r"\.mlp\.fc2\.": ".output.dense.",
        r"\.norm1\.": ".layernorm_before.",
        r"\.norm2\.": ".layernorm_after.",
        r"^blocks": "encoder.layer",
    },
    "ViT of version 5 in memory": {
        **EMBEDDINGS,
        **SHORT_ATTENTION,
        r"\.norm1\.": ".layernorm_before.",
        r"\.norm2\.": ".layernorm_after.",
        r"^blocks": "layers",
    },
    "DINOv2": {**EMBEDDINGS, **LONG_ATTENTION, **SCALES, r"^blocks": "encoder.layer"},
    "DINOv2 of version 5 in memory": {**EMBEDDINGS, **SHORT_ATTENTION, **SCALES, r"^blocks": "encoder.layer"},
    "CLIP": {
        r"^cls_token": "embeddings.class_embedding",
        r"^pos_embed": "embeddings.position_embedding.weight",
        r"^patch_embed\.proj": "embeddings.patch_embedding",
        r"^norm_pre": "pre_layrnorm",
        r"^norm\.": "post_layernorm.",
        r"\.attn\.([qkv])\.": r".self_attn.\1_proj.",
        r"\.attn\.proj\.": ".self_attn.out_proj.",
        r"\.norm([12])\.": r".layer_norm\1.",
        r"^blocks": "encoder.layers",
    },
}


@pytest.mark.parametrize("model", TRANSFORMERS)
def test_vision_transformers_of_transformers(model: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {}
    if model.startswith("DINOv2"):
        options = {"init_values": 1e-5}
    if model == "CLIP":
        options = {"pre_norm": True, "norm_layer": partial(nn.LayerNorm, eps=1e-5)}
    theirs, encoder = spread(vit(**options)), vit(**options)
    saved = by(TRANSFORMERS[model], apart(theirs.state_dict()))
    beside = {"pooler.dense.weight": torch.ones(16, 16), "embeddings.mask_token": torch.ones(1, 16)}
    if model == "CLIP":
        saved["embeddings.class_embedding"] = saved["embeddings.class_embedding"].reshape(16)
        saved["embeddings.position_embedding.weight"] = saved["embeddings.position_embedding.weight"][0]
        beside = {"embeddings.position_ids": torch.arange(17)[None]}
    whole = under("vision_model.", saved | beside) | {"classifier.weight": torch.ones(2, 16)}
    loaded = load(encoder, whole, tmp_path)
    assert loaded.prefix == "vision_model" and "transformers' names" in loaded.words
    assert_equal(encoder, theirs.state_dict())
    assert_computes(encoder, theirs)
    load(encoder, saved, tmp_path)
    deeper = refused(vit(**options, depth=1), saved, tmp_path)
    assert "unexpected: " in deeper and "another architecture" in deeper
    assert "missing: blocks" in refused(vit(**options, depth=3), saved, tmp_path)


@pytest.mark.parametrize("gated", ["weights_in", "apart"])
def test_gated_dinov2_of_transformers(gated: str, tmp_path: Path) -> None:
    options = {"init_values": 1e-5, "mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
    theirs, encoder = spread(vit(**options)), vit(**options)
    saved = by(TRANSFORMERS["DINOv2"], apart(theirs.state_dict()))
    if gated == "weights_in":
        saved = by({r"\.mlp\.fc1\.": ".mlp.weights_in.", r"\.mlp\.fc2\.": ".mlp.weights_out."}, saved)
    else:
        for name in [name for name in saved if ".mlp.fc1." in name]:
            gate, up = saved.pop(name).chunk(2)
            saved |= {name.replace("fc1", "gate_proj"): gate, name.replace("fc1", "up_proj"): up}
        saved = by({r"\.mlp\.fc2\.": ".mlp.down_proj."}, saved)
    load(encoder, saved, tmp_path)
    assert_equal(encoder, theirs.state_dict())


def test_dinov2_with_registers_of_transformers(tmp_path: Path) -> None:
    """The first position is the class token's, which timm has in the token itself."""
    options = {"init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True}
    theirs, encoder = spread(vit(**options)), vit(**options)
    saved = by(TRANSFORMERS["DINOv2"], apart(theirs.state_dict()))
    first = torch.rand(1, 1, 16)
    positions = saved["embeddings.position_embeddings"]
    saved["embeddings.position_embeddings"] = torch.cat([first, positions], dim=1)
    saved["embeddings.cls_token"] = saved["embeddings.cls_token"] - first
    load(encoder, saved, tmp_path)
    assert_computes(encoder, theirs)


def eva(**options: Any) -> Any:
    shape: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    return with_spec(Eva(**shape | {"num_classes": 0} | options), "small_eva")


DINOV3 = {
    "init_values": 1e-5,
    "rope_type": "dinov3",
    "rope_rotate_half": True,
    "use_rot_pos_emb": True,
    "use_abs_pos_emb": False,
    "num_reg_tokens": 4,
    "use_fc_norm": False,
}


@pytest.mark.parametrize("biases", [True, False])
def test_dinov3_of_transformers(biases: bool, tmp_path: Path) -> None:
    """Keys have no biases; where those of queries and values are zero, timm has models without."""
    theirs, encoder = spread(eva(**DINOV3, qkv_bias=biases)), eva(**DINOV3, qkv_bias=biases)
    rules = {
        r"^cls_token": "embeddings.cls_token",
        r"^reg_token": "embeddings.register_tokens",
        r"^patch_embed\.proj": "embeddings.patch_embeddings",
        r"\.attn\.([qkv])_bias": r".attention.\1_proj.bias",
        **SHORT_ATTENTION,
        r"\.gamma_([12])": r".layer_scale\1.lambda1",
        r"\.mlp\.fc1\.": ".mlp.up_proj.",
        r"\.mlp\.fc2\.": ".mlp.down_proj.",
        r"^blocks": "layer",
    }
    saved = by(rules, apart(theirs.state_dict())) | {"embeddings.mask_token": torch.ones(1, 1, 16)}
    if not biases:
        zero = {f"layer.{n}.attention.{which}_proj.bias": torch.zeros(16) for n in (0, 1) for which in "qv"}
        assert "unexpected: layer (1)" in refused(
            encoder, saved | zero | {"layer.0.attention.q_proj.bias": torch.ones(16)}, tmp_path
        )
        saved |= zero
    load(encoder, saved, tmp_path)
    assert_equal(encoder, theirs.state_dict())
    assert_computes(encoder, theirs)


@pytest.mark.slow  # transformers takes half a minute to import
def test_models_of_transformers_themselves(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    shape = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    dinov2 = transformers.Dinov2Model(transformers.Dinov2Config(**shape, mlp_ratio=4))
    vit_model = transformers.ViTModel(transformers.ViTConfig(**shape, intermediate_size=64, layer_norm_eps=1e-6))
    clip_config = transformers.CLIPVisionConfig(**shape, intermediate_size=64, hidden_act="gelu")
    clip = transformers.CLIPVisionModel(clip_config)
    views = torch.rand(2, 3, 32, 32)
    for model, encoder in [
        (dinov2, vit(init_values=1e-5)),
        (vit_model, vit()),
        (clip, vit(pre_norm=True, norm_layer=partial(nn.LayerNorm, eps=1e-5))),
    ]:
        spread(model)
        for saved in (model.state_dict(), _written(model, tmp_path)):
            load(encoder, saved, tmp_path)
            with torch.no_grad():
                made = model(pixel_values=views)
                wanted = made.pooler_output if model is clip else made.last_hidden_state[:, 0]
                torch.testing.assert_close(encoder(views), wanted, rtol=1e-4, atol=1e-5)


def _written(model: Any, tmp_path: Path) -> State:
    model.save_pretrained(tmp_path / "written")
    return read_tensors(tmp_path / "written" / "model.safetensors")


# Official names that timm's own functions settle


def official_swin(state: State) -> State:
    """Stages end with the step down that timm begins the next one with."""
    made = {
        re.sub(r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", n): t
        for n, t in state.items()
    }
    buffers = {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.long)}
    return made | buffers | {"layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16), "head.weight": torch.ones(5, 16)}


def official_convnext(state: State) -> State:
    rules = {
        r"^stem\.": "downsample_layers.0.",
        r"^stages\.(\d)\.downsample\.": r"downsample_layers.\1.",
        r"^stages\.(\d)\.blocks\.": r"stages.\1.",
        r"\.conv_dw\.": ".dwconv.",
        r"\.mlp\.fc([12])\.": r".pwconv\1.",
        r"^head\.norm\.": "norm.",
    }
    return by(rules, state) | {"head.weight": torch.ones(5, 64), "head.bias": torch.ones(5)}


def official_deit3(state: State) -> State:
    return by({r"\.ls([12])\.gamma": r".gamma_\1"}, state) | {"head.weight": torch.ones(5, 16)}


def official_beit(state: State) -> State:
    index = {f"blocks.{n}.attn.relative_position_index": torch.zeros(17, 17, dtype=torch.long) for n in (0, 1)}
    return state | index | {"head.weight": torch.ones(5, 16), "head.bias": torch.ones(5)}


def official_eva02(state: State) -> State:
    rules = {
        r"\.mlp\.fc1_g\.": ".mlp.w1.",
        r"\.mlp\.fc1_x\.": ".mlp.w2.",
        r"\.mlp\.fc2\.": ".mlp.w3.",
        r"\.mlp\.norm\.": ".mlp.ffn_ln.",
        r"\.attn\.norm\.": ".attn.inner_attn_ln.",
        r"\.attn\.([qv])_proj\.bias": r".attn.\1_bias",
    }
    rope = {"rope.freqs_cos": torch.ones(16, 8), "rope.freqs_sin": torch.ones(16, 8)}
    return by(rules, state) | rope | {"head.weight": torch.ones(5, 16)}


def official_dinov3(state: State) -> State:
    """One bias for queries, keys and values, and a mask that takes away that of the keys."""
    made = by({r"^reg_token": "storage_tokens", r"\.gamma_([12])": r".ls\1.gamma"}, state)
    for number in (0, 1):
        block = f"blocks.{number}.attn"
        q, v = (made.pop(f"{block}.{which}_bias", torch.zeros(16)) for which in "qv")
        made[f"{block}.qkv.bias"] = torch.cat([q, torch.ones(16), v])
        made[f"{block}.qkv.bias_mask"] = torch.cat([torch.ones(16), torch.zeros(16), torch.ones(16)])
    return made | {"mask_token": torch.ones(1, 16), "rope_embed.periods": torch.ones(4)}


OFFICIAL: dict[str, tuple[Callable[[], nn.Module], Callable[[State], State]]] = {
    "Swin": (
        lambda: SwinTransformer(32, 2, window_size=4, embed_dim=8, depths=(2, 2), num_heads=(1, 2), num_classes=0),
        official_swin,
    ),
    "ConvNeXt": (lambda: ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 16, 32, 64), num_classes=0), official_convnext),
    "DeiT III": (lambda: vit(init_values=1e-5, no_embed_class=True), official_deit3),
    "BEiT": (
        lambda: Beit(32, 8, embed_dim=16, depth=2, num_heads=2, num_classes=0, use_rel_pos_bias=True, init_values=0.1),
        official_beit,
    ),
    "EVA-02": (
        lambda: eva(qkv_fused=False, swiglu_mlp=True, scale_mlp=True, scale_attn_inner=True, use_rot_pos_emb=True),
        official_eva02,
    ),
    "DINOv3": (lambda: eva(**DINOV3, qkv_bias=True), official_dinov3),
    "DINOv3 without biases": (lambda: eva(**DINOV3, qkv_bias=False), official_dinov3),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_files_of_models_that_timm_renames(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, rename = OFFICIAL[name]
    theirs, encoder = spread(make()), with_spec(make(), "small")
    saved = rename({key: tensor.clone() for key, tensor in theirs.state_dict().items()})
    assert saved.keys() != theirs.state_dict().keys()
    loaded = load(encoder, {"model": saved, "optimizer": {"state": {0: torch.ones(3)}}}, tmp_path)
    assert loaded.prefix == "model" and ("optimizer", 1) in loaded.left_out
    assert_equal(encoder, theirs.state_dict())
    assert_computes(encoder, theirs)
    assert capsys.readouterr().out == ""


def test_biases_that_timms_function_would_drop_are_an_error(tmp_path: Path) -> None:
    saved = official_dinov3(spread(eva(**DINOV3, qkv_bias=True)).state_dict())
    assert "unexpected: blocks (2)" in refused(eva(**DINOV3, qkv_bias=False), saved, tmp_path)


def test_timms_function_does_not_resample_unasked(tmp_path: Path) -> None:
    def deit3(side: int) -> Any:
        return vit(init_values=1e-5, no_embed_class=True, img_size=side)

    saved = official_deit3(spread(deit3(64)).state_dict())
    assert "other shape: pos_embed (1)" in refused(deit3(32), saved, tmp_path)
    assert "resampled" in load(deit3(32), saved, tmp_path, resample=True).words


# The files of the authors of LayerMem and UnitMem


class AuthorsBlock(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, pool: bool = False) -> None:
        super().__init__()
        self.conv, self.batch = nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        if pool:
            self.pool = nn.MaxPool2d(2)


class AuthorsResNet9(nn.Module):
    """Their names and their forward, without the classifier, and the mean over what is left of the image."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.prep = AuthorsBlock(channels, 32, True)
        self.layer1_head = AuthorsBlock(32, 64, True)
        self.layer1_residual1, self.layer1_residual2 = AuthorsBlock(64, 64), AuthorsBlock(64, 64)
        self.layer2 = AuthorsBlock(64, 128, True)
        self.layer3_head = AuthorsBlock(128, 256, True)
        self.layer3_residual1, self.layer3_residual2 = AuthorsBlock(256, 256), AuthorsBlock(256, 256)
        self.classifier = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer1_head(self.prep(x))
        x = self.layer1_residual2(self.layer1_residual1(x)) + x
        x = self.layer3_head(self.layer2(x))
        x = self.layer3_residual2(self.layer3_residual1(x)) + x
        return x.mean(dim=(2, 3))


def other_resnet9(theirs: nn.Module, biased: bool) -> State:
    """The names of the usual ResNet9: conv1.0, conv1.1, res1.0.0 ...; in the order of the alphabet, as in files."""
    names = ["conv1", "conv2", "res1.0", "res1.1", "conv3", "conv4", "res2.0", "res2.1"]
    made: State = {}
    blocks = [block for block in theirs.children() if isinstance(block, AuthorsBlock)]
    for name, block in zip(names, blocks, strict=True):
        made |= {
            f"{name}.0.{key}": tensor for key, tensor in block.conv.state_dict().items() if biased or key != "bias"
        }
        made |= {f"{name}.1.{key}": tensor for key, tensor in block.batch.state_dict().items()}
    return {name: made[name] for name in sorted(made)} | {"linear.weight": torch.ones(10, 256)}


@pytest.mark.parametrize("prefix", ["", "module.", "encoder."])
def test_resnet9_of_the_authors_whose_convolutions_have_biases(prefix: str, tmp_path: Path) -> None:
    theirs, encoder = spread(AuthorsResNet9()), build_encoder("resnet9", seed=0)
    saved = under(prefix, theirs.state_dict()) | {"projector.0.weight": torch.ones(4, 4)}
    loaded = load(encoder, saved, tmp_path)
    assert loaded.prefix == prefix.removesuffix(".")
    assert "authors of LayerMem" in loaded.words and "biases of 8 convolutions folded" in loaded.words
    assert_computes(encoder, theirs)
    wide: Any = spread(AuthorsResNet9())
    wide.layer2 = AuthorsBlock(64, 96, True)
    assert "another architecture" in refused(encoder, wide.state_dict(), tmp_path)


@pytest.mark.parametrize("biased", [True, False])
def test_resnet9_of_other_names_by_order_and_shapes(biased: bool, tmp_path: Path) -> None:
    theirs: Any = spread(AuthorsResNet9())
    if not biased:
        for block in theirs.children():
            if isinstance(block, AuthorsBlock):
                block.conv.bias = None
    encoder = build_encoder("resnet9", seed=0)
    pair = {name: other_resnet9(theirs, biased) for name in ("f", "g")}
    loaded = load(encoder, pair, tmp_path, prefix="g")
    assert loaded.prefix == "g" and ("folded" in loaded.words) is biased
    assert_computes(encoder, theirs)
    assert "2 parts of it fill resnet9" in refused(encoder, pair, tmp_path)


class AuthorsMAE(nn.Module):
    """Their encoder with all patches seen: positions for patches alone, blocks without biases of queries and so on."""

    def __init__(self) -> None:
        super().__init__()
        blocks = vit(qkv_bias=False).blocks
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.pos_embedding = nn.Parameter(torch.zeros(16, 1, 16))
        self.patchify = nn.Conv2d(3, 16, 8, 8)
        self.transformer = nn.Sequential(*blocks)
        self.layer_norm = nn.LayerNorm(16, eps=1e-6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.patchify(images).flatten(2).permute(2, 0, 1) + self.pos_embedding
        tokens = torch.cat([self.cls_token.expand(-1, len(images), -1), patches]).transpose(0, 1)
        features: torch.Tensor = self.layer_norm(self.transformer(tokens))
        return features[:, 0]


def test_mae_of_the_authors(tmp_path: Path) -> None:
    theirs, encoder = spread(AuthorsMAE()), vit()
    decoder = {"decoder.mask_token": torch.ones(1, 1, 16), "decoder.pos_embedding": torch.ones(17, 1, 16)}
    loaded = load(encoder, under("encoder.", theirs.state_dict()) | decoder, tmp_path)
    assert "as the MAE of the authors" in loaded.words and "no biases there: zeros" in loaded.words
    assert loaded.prefix == "encoder" and dict(loaded.left_out) == {"decoder": 2}
    assert_computes(encoder, theirs)


# One channel


def test_a_first_convolution_of_one_channel_takes_the_mean_of_three(tmp_path: Path) -> None:
    theirs: Any = torchvision.models.resnet18()
    theirs.conv1, theirs.fc = nn.Conv2d(1, 64, 7, 2, 3, bias=False), nn.Identity()
    spread(theirs)
    encoder = build_encoder("resnet18", stem="imagenet", seed=0)
    loaded = load(encoder, theirs.state_dict(), tmp_path)
    assert "one-channel first convolution takes the mean of the three channels" in loaded.words
    assert_computes(encoder, lambda views: theirs(views.mean(dim=1, keepdim=True)), side=64)
    theirs = spread(AuthorsResNet9(channels=1))
    encoder = build_encoder("resnet9", seed=0)
    load(encoder, theirs.state_dict(), tmp_path)
    assert_computes(encoder, lambda views: theirs(views.mean(dim=1, keepdim=True)))


def test_a_first_convolution_of_six_channels_is_refused(tmp_path: Path) -> None:
    theirs: Any = torchvision.models.resnet18()
    theirs.conv1 = nn.Conv2d(6, 64, 7, 2, 3, bias=False)
    text = refused(build_encoder("resnet18", stem="imagenet", seed=0), theirs.state_dict(), tmp_path)
    assert "Its first convolution takes 6 channels, and images have 3." in text


# Reasons


def test_the_same_shapes_under_other_names_are_not_called_another_architecture(tmp_path: Path) -> None:
    renamed = {f"tower.{name[::-1]}": tensor for name, tensor in vit().state_dict().items()}
    text = refused(vit(), renamed, tmp_path)
    assert "may be the same network" in text and "architecture" not in text
    half = {re.sub(r"^blocks\.1\.", "tail.", name): tensor for name, tensor in vit().state_dict().items()}
    text = refused(vit(), half, tmp_path)
    assert "missing: blocks (12)" in text and "may be the same network" in text
    assert "another architecture" in refused(vit(depth=5), renamed, tmp_path)


def test_a_file_that_lacks_a_part_is_not_called_another_architecture(tmp_path: Path) -> None:
    text = refused(vit(), under("", vit().state_dict(), "norm."), tmp_path)
    assert "missing: norm (2)" in text and "does not hold all of it" in text


def test_fine_tuning_that_pools_patches_is_named(tmp_path: Path) -> None:
    theirs = vit(global_pool="avg").state_dict()
    assert "mean of the patches" in refused(vit(), theirs, tmp_path)
