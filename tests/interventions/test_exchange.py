"""Exchanged layers are the donor's, norm and statistics included; all else is the recipient's."""

import pytest
import torch

from memlight.errors import UserError
from memlight.interventions import exchange_layers
from memlight.models.encoders import build_encoder
from tests.interventions.nets import Residual, randomised
from tests.tiny_net import assert_unchanged, snapshot


@pytest.mark.parametrize(
    ("layers", "moved"),
    [
        (["stem"], ["stem.weight", "norm."]),
        (["block.conv2"], ["block.conv2.", "block.bn2."]),
        (["block"], ["block."]),
        (["stem", "block.conv1"], ["stem.", "norm.", "block.conv1.", "block.bn1."]),
    ],
)
def test_what_moves_with_a_layer(layers: list[str], moved: list[str]) -> None:
    recipient, donor = randomised(Residual(), 1), randomised(Residual(), 2)
    before = snapshot(recipient), snapshot(donor)
    exchanged = exchange_layers(recipient, donor, layers, 8)
    assert_unchanged(recipient, before[0])
    assert_unchanged(donor, before[1])
    for name, tensor in exchanged.state_dict().items():
        source = donor if name.startswith(tuple(moved)) else recipient
        assert torch.equal(tensor, source.state_dict()[name]), name


def test_all_layers_of_the_donor_make_the_donor_and_its_own_make_the_recipient() -> None:
    recipient, donor = (randomised(build_encoder("resnet9", seed=0), seed) for seed in (1, 2))
    layers = [f"layer{n}" for n in range(1, 9)]
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(exchange_layers(recipient, donor, layers)(images), donor(images))
        assert torch.equal(exchange_layers(recipient, recipient, layers)(images), recipient(images))


def test_bad_layers_and_other_architectures() -> None:
    recipient = build_encoder("resnet9", seed=0)
    with pytest.raises(UserError, match=r"^layers='res2': has no weights of its own"):
        exchange_layers(recipient, recipient, ["res2"])
    with pytest.raises(UserError, match=r"^layers='layer1@in': has no weights of its own"):
        exchange_layers(recipient, recipient, ["layer1@in"])
    with pytest.raises(UserError, match=r"^layers='layer9': no such layer"):
        exchange_layers(recipient, recipient, ["layer9"])
    with pytest.raises(
        UserError, match=r"^donor: layer1.conv.weight is missing there and .*encoders of one architecture"
    ):
        exchange_layers(recipient, build_encoder("resnet18", stem="cifar", seed=0), ["layer1"])
    wider = build_encoder("resnet9", seed=0)
    wider.layer1 = wider.layer2
    with pytest.raises(UserError, match=r"^donor: layer1.conv.weight has shape \(64, 32, 3, 3\) there"):
        exchange_layers(recipient, wider, ["layer1"])
