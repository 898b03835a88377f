"""Restored units are the original's; everything else is as it was trained."""

import pytest
import torch

from memlight.errors import UserError
from memlight.interventions import restore_units
from tests.interventions.nets import Block, Residual, randomised
from tests.tiny_net import assert_unchanged, snapshot


def test_only_the_named_units_are_restored() -> None:
    trained, original = randomised(Residual(), 1), randomised(Residual(), 2)
    before = snapshot(trained), snapshot(original)
    restored = restore_units(trained, original, {"block.conv2": [0, 4]}, 8)
    assert_unchanged(trained, before[0])
    assert_unchanged(original, before[1])
    for name, tensor in restored.state_dict().items():
        of_unit = name.startswith(("block.conv2.", "block.bn2.")) and tensor.ndim > 0
        for row in range(len(tensor)) if of_unit else [...]:
            source = original if of_unit and row in (0, 4) else trained
            assert torch.equal(tensor[row], source.state_dict()[name][row]), (name, row)


def test_units_and_models_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"^units: stem has units 0 to 5"):
        restore_units(Residual(), Residual(), {"stem": [9]}, 8)
    with pytest.raises(ValueError, match=r"stem\.weight is not the same tensor in both models"):
        restore_units(Residual(), Block(), {"stem": [0]}, 8)
