"""Every kind of architecture is listed, counted and measured, and docs/ARCHITECTURES.md says so.

``python -m tests.models.test_architectures`` prints the table of that page.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from memlight.batch import ImageBatch
from memlight.errors import UserError
from memlight.features.discovery import list_layers
from memlight.features.hooks import capture, count_units
from memlight.features.layers import delta_references, split_layer
from memlight.metrics.unitmem import measure_unitmem
from memlight.models.encoders import build_encoder, encoder_spec
from tests.tiny_net import assert_unchanged, snapshot

PAGE = Path(__file__).resolve().parents[2] / "docs" / "ARCHITECTURES.md"


class Case(NamedTuple):
    title: str
    encoder: str
    size: int
    quick: bool = True


CASES = [
    Case("ResNet", "resnet18", 32),
    Case("ResNeXt", "timm:resnext50_32x4d", 32, quick=False),
    Case("Wide ResNet", "torchvision:wide_resnet50_2", 32, quick=False),
    Case("RegNet", "timm:regnetx_002", 32),
    Case("DenseNet", "torchvision:densenet121", 32, quick=False),
    Case("VGG", "torchvision:vgg11", 32, quick=False),
    Case("SqueezeNet", "torchvision:squeezenet1_1", 32),
    Case("MobileNetV2", "torchvision:mobilenet_v2", 32),
    Case("MobileNetV3", "timm:mobilenetv3_small_050", 32),
    Case("EfficientNet", "timm:efficientnet_b0", 32, quick=False),
    Case("ConvNeXt", "timm:convnext_atto", 32),
    Case("ConvNeXt of torchvision", "torchvision:convnext_tiny", 32, quick=False),
    Case("ConvNeXt V2", "timm:convnextv2_atto", 32),
    Case("ViT", "vit_tiny_patch4", 32),
    Case("ViT of torchvision", "torchvision:vit_b_16", 32, quick=False),
    Case("DeiT, distilled", "timm:deit_tiny_distilled_patch16_224", 32),
    Case("DINOv2, registers", "timm:vit_small_patch14_reg4_dinov2", 28, quick=False),
    Case("DINOv3", "timm:vit_small_patch16_dinov3", 32, quick=False),
    Case("DINOv3, SwiGLU", "timm:vit_small_plus_patch16_dinov3", 32, quick=False),
    Case("EVA-02", "timm:eva02_tiny_patch14_224", 28),
    Case("BEiT", "timm:beit_base_patch16_224", 32, quick=False),
    Case("SigLIP", "timm:vit_base_patch16_siglip_224", 32, quick=False),
    Case("CaiT", "timm:cait_xxs24_224", 32, quick=False),
    Case("XCiT", "timm:xcit_nano_12_p16_224", 32),
    Case("Swin", "timm:swin_tiny_patch4_window7_224", 64, quick=False),
    Case("Swin of torchvision", "torchvision:swin_t", 32, quick=False),
    Case("Swin V2", "timm:swinv2_tiny_window8_256", 64, quick=False),
    Case("PVT v2", "timm:pvt_v2_b0", 32),
    Case("Hiera", "timm:hiera_tiny_224", 224, quick=False),
    Case("MaxViT", "timm:maxvit_pico_rw_256", 64, quick=False),
    Case("CoAtNet", "timm:coatnet_pico_rw_224", 32),
    Case("MLP-Mixer", "timm:mixer_s32_224", 224, quick=False),
    Case("PoolFormer", "timm:poolformer_s12", 32, quick=False),
    Case("CAFormer", "timm:caformer_s18", 64, quick=False),
]


CONSTANT = {"cls_attn_blocks.0.attn.q", "attn_pool.q"}
"""Layers that see nothing of the image: the query of a class token or of a pooling on its way into an attention."""


def cells(case: Case, encoder: nn.Module, units: dict[str, int]) -> tuple[str, ...]:
    """One row of the page's table."""
    try:
        with capture(encoder, list(units)[:1], tokens="cls"):
            class_token = "yes"
    except UserError:
        class_token = "no"
    blocks = sum(split_layer(layer)[0].endswith(("norm2", "ln_2")) for layer in units)
    numbers = (len(units), sum(units.values()), blocks)
    return (case.title, f"`{case.encoder}`", str(case.size), *map(str, numbers), class_token)


def table_of_the_page() -> dict[str, tuple[str, ...]]:
    lines = PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| architecture |")) + 2
    rows = [line.strip("|").split("|") for line in lines[start:] if line.startswith("|")]
    return {row[1].strip(" `"): tuple(cell.strip() for cell in row) for row in rows}


def declared_units(encoder: nn.Module, layer: str) -> int:
    """The width that the modules themselves declare, without running them."""
    path, suffix = split_layer(layer)
    module = encoder.get_submodule(path)
    if isinstance(module, nn.LayerNorm):
        return module.normalized_shape[0]
    if suffix:
        return module.in_features if isinstance(module, nn.Linear) else getattr(module, "num_features")  # noqa: B009
    if not list(module.modules())[1:] and not list(module.parameters()):  # an activation: what comes after it
        parent = encoder.get_submodule(path.rpartition(".")[0])
        later = list(parent.children())[list(parent.children()).index(module) :]
        following = next(child for child in later if isinstance(child, nn.Linear | nn.Conv2d))
        return following.in_features if isinstance(following, nn.Linear) else following.in_channels
    widths = [leaf for leaf in module.modules() if isinstance(leaf, nn.Linear | nn.Conv2d)]
    last = getattr(module, "proj", None) or widths[-1]
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels


def view(batch: ImageBatch, index: int) -> Tensor:
    return batch.images.float() / 255 - 0.5


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.encoder, marks=() if case.quick else pytest.mark.slow) for case in CASES],
)
def test_listed_counted_and_measured(case: Case) -> None:
    encoder = build_encoder(case.encoder, stem="cifar", seed=0, image_size=case.size)
    before = snapshot(encoder)
    layers = list_layers(encoder)
    units = count_units(encoder, layers)
    images = torch.arange(3 * 3 * case.size**2).reshape(3, 3, case.size, case.size).mul(97).remainder(251).byte()
    results = measure_unitmem(
        encoder, [ImageBatch(images, torch.zeros(3), torch.arange(3))], view, layers, num_views=1, progress=False
    )
    assert_unchanged(encoder, before)

    assert layers and len(set(layers)) == len(layers)
    assert units == {layer: declared_units(encoder, layer) for layer in layers}
    assert {layer: result.unitmem.numel() for layer, result in results.items()} == units
    assert {layer for layer, result in results.items() if result.unitmem.max() == 0} <= CONSTANT
    for result in results.values():
        assert result.unitmem.isfinite().all() and (result.unitmem >= 0).all() and (result.unitmem <= 1).all()
    assert [row for row, reference in enumerate(delta_references(layers)) if reference is None] == [0]
    with torch.no_grad():
        assert encoder(view(ImageBatch(images, images, images), 0)).shape == (3, encoder_spec(encoder).num_features)
    assert table_of_the_page()[case.encoder] == cells(case, encoder, units)


def test_the_page_has_a_row_for_each_architecture_and_no_other() -> None:
    assert list(table_of_the_page()) == [case.encoder for case in CASES]
    assert len(CASES) >= 20


def test_the_pages_python_prints_the_layers(capsys: pytest.CaptureFixture[str]) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    exec(program, {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 61 and printed[-1] == "blocks.11 192"


if __name__ == "__main__":
    print("| architecture | `--encoder` | px | layers | units | blocks of five | class token |")
    print("|---|---|---|---|---|---|---|")
    for a_case in CASES:
        an_encoder = build_encoder(a_case.encoder, seed=0, image_size=a_case.size)
        print("|", " | ".join(cells(a_case, an_encoder, count_units(an_encoder, list_layers(an_encoder)))), "|")
