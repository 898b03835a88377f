"""Position embeddings of another grid of patches: refused, or resampled as their authors do where that is asked for."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from tests.models.foreign_files import assert_equal, load, refused, spread, vit, with_spec


def facebooks(positions: Tensor, side: int, *, offset: float, antialias: bool) -> Tensor:
    """What DINO's and DINOv2's models do in every forward, for a class token and square images."""
    patches = positions[:, 1:]
    before = int(math.sqrt(patches.shape[1]))
    size: dict[str, Any] = {"size": (side, side)}
    if offset:
        size = {"scale_factor": ((side + offset) / before, (side + offset) / before)}
    grid = patches.reshape(1, before, before, -1).permute(0, 3, 1, 2)
    made = nn.functional.interpolate(grid, mode="bicubic", antialias=antialias, **size)
    return torch.cat([positions[:, :1], made.permute(0, 2, 3, 1).reshape(1, side * side, -1)], dim=1)


@pytest.mark.parametrize(("before", "now"), [(37, 16), (4, 7), (14, 16)])
@pytest.mark.parametrize("name", ["timm:vit_small_patch14_dinov2.lvd142m", "timm:vit_small_patch8_224.dino"])
def test_dino_and_dinov2(name: str, before: int, now: int, tmp_path: Path) -> None:
    theirs = spread(vit(img_size=8 * before))
    encoder = vit(name, img_size=8 * now)
    loaded = load(encoder, theirs.state_dict() | {"mask_token": torch.ones(1, 16)}, tmp_path, resample=True)
    wanted = facebooks(theirs.state_dict()["pos_embed"], now, offset=0.1, antialias=False)
    torch.testing.assert_close(encoder.pos_embed.detach(), wanted)
    assert f"positions resampled from {before}x{before} to {now}x{now} patches (as DINO" in loaded.words
    assert_equal(encoder, theirs.state_dict() | {"pos_embed": encoder.state_dict()["pos_embed"]})


def test_dinov2_with_registers_has_no_offset_and_antialiasing(tmp_path: Path) -> None:
    options: dict[str, Any] = {"reg_tokens": 4, "no_embed_class": True}
    encoder = vit("timm:vit_small_patch14_reg4_dinov2.lvd142m", img_size=32, **options)
    state = spread(vit(img_size=56, **options)).state_dict()
    class_token, patches = state["cls_token"].clone(), state["pos_embed"]
    positions = torch.cat([torch.rand(1, 1, 16), patches], dim=1)
    saved = {name: tensor for name, tensor in state.items() if name != "reg_token"}
    saved |= {"register_tokens": state["reg_token"], "pos_embed": positions}
    loaded = load(encoder, saved, tmp_path, resample=True)
    wanted = facebooks(positions, 4, offset=0.0, antialias=True)
    torch.testing.assert_close(encoder.pos_embed.detach(), wanted[:, 1:])
    torch.testing.assert_close(encoder.cls_token.detach(), class_token + wanted[:, :1])
    assert "(bicubic, with antialiasing)" in loaded.words


def test_all_others_as_timm_does(tmp_path: Path) -> None:
    theirs = spread(vit(img_size=48))
    encoder = vit(img_size=32)
    load(encoder, theirs.state_dict(), tmp_path, resample=True)
    wanted = resample_abs_pos_embed(theirs.state_dict()["pos_embed"], [4, 4])
    torch.testing.assert_close(encoder.pos_embed.detach(), wanted)

    def torchvisions(side: int) -> Any:
        made: Any = torchvision.models.VisionTransformer(side, 8, 1, 2, 8, 16)
        made.heads = nn.Identity()
        return with_spec(made, "torchvision:small", side)

    old, new = spread(torchvisions(48)), torchvisions(32)
    load(new, old.state_dict(), tmp_path, resample=True)
    wanted = resample_abs_pos_embed(old.state_dict()["encoder.pos_embedding"], [4, 4])
    torch.testing.assert_close(new.encoder.pos_embedding.detach(), wanted)


def test_nothing_is_resampled_unasked_and_only_squares_are(tmp_path: Path) -> None:
    assert "use `image_size=64`" in refused(vit(), vit(img_size=64).state_dict(), tmp_path)
    text = refused(vit(), vit(img_size=(32, 64)).state_dict(), tmp_path, resample=True)
    assert "33 entries, the encoder's 17, and are of no square" in text
    assert "16 pixels wide" in refused(vit(), vit(patch_size=16).state_dict(), tmp_path, resample=True)
