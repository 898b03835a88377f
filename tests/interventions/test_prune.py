"""Pruned units are exactly 0, all else is what it was, and pruning nothing changes nothing."""

import pytest
import torch
from torch import nn

from memlight.errors import UserError
from memlight.features.hooks import capture
from memlight.interventions import prune_units
from memlight.interventions.parts import prunable_layers, unit_weights
from memlight.models.encoders import build_encoder
from tests.interventions.nets import Odd, Residual, randomised
from tests.tiny_net import assert_unchanged, snapshot

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("encoder", ["resnet9", "vit_tiny_patch16", "resnet18"])
def test_every_prunable_unit_becomes_exactly_zero_also_behind_the_norm(encoder: str) -> None:
    model = randomised(build_encoder(encoder, stem="cifar", image_size=32, seed=0))
    before = snapshot(model)
    units = {layer: [0, 5, 31] for layer in prunable_layers(model)[:: 1 if encoder == "resnet9" else 4]}
    pruned = prune_units(model, units)
    assert_unchanged(model, before)
    places = {layer: unit_weights(model, [layer])[layer].norm for layer in units}
    names = [*units, *(norm for norm in places.values() if norm is not None)]
    with torch.no_grad(), capture(pruned, names, reduce="unit") as captured:
        pruned(IMAGES)
        for layer, norm in places.items():
            for name in filter(None, (layer, norm)):
                dead = (captured[name] == 0).all(0).nonzero().flatten().tolist()
                assert set(units[layer]) <= set(dead)


def test_one_pruned_unit_is_what_masking_its_output_gives_and_other_layers_before_it_do_not_change() -> None:
    """Oracle: multiply the channel behind the norm by 0 in a hook."""
    model = randomised(Residual())
    pruned = prune_units(model, {"block.conv1": [2, 7]}, 8)
    mask = torch.ones(8)
    mask[[2, 7]] = 0
    images = IMAGES[..., :8, :8]
    handle = model.block.bn1.register_forward_hook(lambda _, __, output: output * mask[:, None, None])
    with torch.no_grad():
        expected = model(images)
    handle.remove()
    with torch.no_grad():
        torch.testing.assert_close(pruned(images), expected, rtol=0, atol=0)
        assert not torch.equal(model(images), expected)
    assert all(
        torch.equal(tensor, pruned.state_dict()[name])
        for name, tensor in model.state_dict().items()
        if not name.startswith(("block.conv1", "block.bn1"))
    )


def test_no_units_give_an_equal_copy() -> None:
    model = randomised(Residual())
    for copy in (prune_units(model, {}, 8), prune_units(model, {"stem": []}, 8)):
        assert copy is not model
        assert all(torch.equal(tensor, copy.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_units_behind_a_channels_last_norm_are_zero_and_those_that_cannot_be_are_refused() -> None:
    model = randomised(Odd())
    pruned = prune_units(model, {"depthwise": [4], "wide": [1]}, 8)
    with torch.no_grad(), capture(pruned, ["depthwise", "layer_norm", "wide"]) as captured:
        pruned(IMAGES[..., :8, :8])
        assert not captured["depthwise"][:, 4].any()
        assert not captured["layer_norm"][:, 4].any()
        assert not captured["wide"][:, 1].any()
    with pytest.raises(UserError, match=r"^layers='squash': its units are not 0 when their weights are"):
        prune_units(model, {"squash": [0]}, 8)  # sigmoid of 0
    with pytest.raises(UserError, match=r"^layers='block': its units are not rows"):
        prune_units(Residual(), {"block": [0]}, 8)
    with pytest.raises(UserError, match=r"^layers='head': is the classifier's head"):
        prune_units(Residual(), {"head": [0]}, 8)


def test_an_encoder_with_batchnorm_inside_and_training_mode_stays_in_it() -> None:
    model: nn.Module = Residual().train()
    assert prune_units(model, {"stem": [0]}, 8).training
    assert int(model.norm.num_batches_tracked) == 0
