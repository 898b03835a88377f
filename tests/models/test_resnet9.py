import pytest
import torch

from memlight.features.discovery import list_layers
from memlight.features.hooks import capture, count_units
from memlight.models.resnet9 import ResNet9

PAPER_LAYERS = ["layer1", "layer2", "layer3", "layer4", "res2", "layer5", "layer6", "layer7", "layer8", "res6"]


def test_layers_and_units_are_those_of_the_paper():
    model = ResNet9()
    units = count_units(model, PAPER_LAYERS, image_size=32)

    assert list_layers(model) == PAPER_LAYERS
    assert units == dict(zip(PAPER_LAYERS, [32, 64, 64, 64, 64, 128, 256, 256, 256, 256], strict=True))
    assert sum(count for layer, count in units.items() if layer.startswith("layer")) == 1120


def test_declared_order_is_the_order_of_execution():
    model, ran = ResNet9(), []
    for name in PAPER_LAYERS:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    model(torch.rand(2, 3, 32, 32))

    assert ran == PAPER_LAYERS


def test_residual_layers_hold_the_sum_and_pooled_layers_are_read_after_the_pool():
    model = ResNet9().eval()
    with torch.no_grad(), capture(model, PAPER_LAYERS, reduce="none") as out:
        features = model(torch.rand(2, 3, 32, 32))

    assert torch.equal(out["res2"], out["layer2"] + out["layer4"])
    assert torch.equal(out["res6"], out["layer6"] + out["layer8"])
    assert [out[name].shape[-1] for name in PAPER_LAYERS] == [16, 8, 8, 8, 8, 4, 2, 2, 2, 2]
    assert torch.allclose(features, out["res6"].mean((2, 3)))


@pytest.mark.parametrize("size", [16, 28, 32, 64])
def test_image_sizes(size):
    assert ResNet9()(torch.rand(2, 3, size, size)).shape == (2, ResNet9.num_features)
