import pytest
import torch
from torch import nn

from memlight.analyses.exchange.study import measure_layermem_of_copies
from memlight.errors import UserError
from memlight.metrics.layermem import measure_layermem
from tests.close import SCORES
from tests.metrics.tiny import LAYERS, TinyEncoder, image_batches, make_views
from tests.tiny_pair import same_tensors


def test_every_copy_scores_what_it_scores_alone() -> None:
    copies = [(TinyEncoder(1), LAYERS[:1]), (TinyEncoder(2), LAYERS[1:3]), (TinyEncoder(1), LAYERS)]
    partner = TinyEncoder(3).train()
    before = [{name: tensor.clone() for name, tensor in net.state_dict().items()} for net, _ in copies]
    batches = image_batches(9, 4)
    results = measure_layermem_of_copies(copies, partner, batches, make_views, num_views=3, max_forward=6)
    assert partner.training
    for (copy, layers), result, state in zip(copies, results, before, strict=True):
        alone = measure_layermem(copy, partner, batches, make_views, layers, num_views=3, progress=False)
        assert list(result) == list(alone) == list(layers)
        for layer in layers:
            assert torch.equal(result[layer].ids, alone[layer].ids)
            torch.testing.assert_close(result[layer].scores, alone[layer].scores, **SCORES)
            assert result[layer].scores.abs().min() > 0
        assert same_tensors(dict(copy.state_dict()), state)


def test_a_diverged_copy_and_no_image_are_refused() -> None:
    broken = TinyEncoder(1)
    nn.init.constant_(broken.stem.weight, torch.nan)
    with pytest.raises(UserError, match="layer stem gives NaN"):
        measure_layermem_of_copies([(broken, LAYERS)], TinyEncoder(2), image_batches(3, 3), make_views, num_views=2)
    with pytest.raises(UserError, match="no image"):
        measure_layermem_of_copies([(TinyEncoder(1), LAYERS)], TinyEncoder(2), [], make_views, num_views=2)
