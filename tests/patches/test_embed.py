import math
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from memlight.errors import UserError
from memlight.models.encoders import build_encoder
from memlight.patches.embed import Embedder, Mode, deepest_map, embedding
from memlight.patches.grid import patch_boxes
from tests.tiny_net import Toy, assert_unchanged, snapshot

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
IMAGES = torch.randint(0, 256, (5, 3, 24, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def embedded_by(encoder: nn.Module, mode: Mode, grid: int, size: int) -> AbstractContextManager[Embedder]:
    return embedding(encoder, mode, grid, input_size=size, mean=MEAN, std=STD)


def normalised(picture: Tensor) -> Tensor:
    return (picture - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def resized(picture: Tensor, side: int) -> Tensor:
    return interpolate(picture[None], (side, side), mode="bilinear", antialias=True)[0]


@pytest.fixture(scope="module")
def convolutional() -> nn.Module:
    return build_encoder("resnet9", seed=0).eval()


@pytest.mark.parametrize("grid", [2, 3])
def test_crops_are_embedded_alone(convolutional: nn.Module, grid: int) -> None:
    with embedded_by(convolutional, "crop", grid, 16) as embedder:
        found = embedder.embed(IMAGES)
    assert embedder.layer is None
    with torch.no_grad():
        for image, vectors in zip(IMAGES, found, strict=True):
            for box, vector in zip(patch_boxes(24, 20, grid), vectors, strict=True):
                crop = (image[:, box.top : box.bottom, box.left : box.right] / 255).contiguous()
                alone = convolutional(normalised(resized(crop, 16))[None])[0]
                torch.testing.assert_close(vector, alone, rtol=1e-4, atol=1e-5)


def averaged(fine: Tensor, grid: int) -> Tensor:
    """``(C, h, w)`` -> ``(grid ** 2, C)``, each patch from every position that it touches."""
    height, width = fine.shape[1:]
    rows = []
    for i in range(grid):
        for j in range(grid):
            top, bottom = math.floor(i * height / grid), math.ceil((i + 1) * height / grid)
            left, right = math.floor(j * width / grid), math.ceil((j + 1) * width / grid)
            rows.append(fine[:, top:bottom, left:right].mean((1, 2)))
    return torch.stack(rows)


@pytest.mark.parametrize("grid", [1, 2, 3, 4])
def test_tokens_of_a_vit_are_its_last_norm_averaged_over_the_patch(grid: int) -> None:
    vit = build_encoder("vit_tiny_patch8", seed=0).eval()
    with embedded_by(vit, "token", grid, 32) as embedder:
        found = embedder.embed(IMAGES)
    assert (embedder.layer, embedder.dim, found.shape) == ("norm", 192, (5, grid**2, 192))
    with torch.no_grad():
        for image, vectors in zip(IMAGES, found, strict=True):
            tokens = vit.forward_features(normalised(resized(image / 255, 32))[None])[0, 1:]
            torch.testing.assert_close(vectors, averaged(tokens.T.reshape(192, 4, 4), grid), rtol=1e-4, atol=1e-4)


def test_registers_are_no_patches() -> None:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=12, depth=1, num_heads=2, num_classes=0, reg_tokens=4)
    with embedded_by(vit, "token", 4, 32) as embedder:
        found = embedder.embed(IMAGES)
    with torch.no_grad():
        tokens = vit.eval().forward_features(normalised(resized(IMAGES[0] / 255, 32))[None])[0]
    torch.testing.assert_close(found[0], tokens[5:], rtol=1e-4, atol=1e-4)


def test_the_deepest_map_that_is_fine_enough(convolutional: nn.Module) -> None:
    assert deepest_map(convolutional, 2, 32) == "res6"
    assert deepest_map(convolutional, 4, 64) == "res6"
    assert convolutional.get_submodule(deepest_map(convolutional, 4, 32)) is convolutional.layer6.act


def test_channels_last_maps_are_read_as_such() -> None:
    from torchvision.models.swin_transformer import SwinTransformer

    torch.manual_seed(0)
    swin = SwinTransformer([4, 4], 8, [1, 1], [1, 1], [2, 2], num_classes=2).eval()
    with embedded_by(swin, "token", 8, 32) as embedder:
        found = embedder.embed(IMAGES[:1])
    with torch.no_grad():
        first_stage = swin.features[:2](normalised(resized(IMAGES[0] / 255, 32))[None])[0]
    assert first_stage.shape == (8, 8, 8)
    torch.testing.assert_close(found[0], first_stage.flatten(0, 1), rtol=1e-4, atol=1e-4)


def test_too_fine_a_grid_is_refused_with_the_ways_out(convolutional: nn.Module) -> None:
    with (
        pytest.raises(UserError, match=r"grid=40: .*32-pixel images has 32 x 32 .*`image_size`, or `mode='crop'`"),
        embedded_by(convolutional, "token", 40, 32),
    ):
        pass


@pytest.mark.parametrize("mode", ["crop", "token"])
def test_the_encoder_is_left_as_it_was(mode: Mode) -> None:
    model = Toy().train()
    before = snapshot(model)
    with embedded_by(model, mode, 2, 8) as embedder:
        embedder.embed(IMAGES)
    assert_unchanged(model, before)
