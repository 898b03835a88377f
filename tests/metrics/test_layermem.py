import copy

import numpy as np
import pytest
import torch
from torch import Tensor, distributed

from memlight.errors import UserError
from memlight.metrics.functional import alignment, sslmem
from memlight.metrics.layermem import LayerMem, LayerMemResult, measure_layermem
from tests.close import NETWORK, SCORES
from tests.ddp import run_ddp
from tests.metrics.tiny import LAYERS, TinyEncoder, image_batches, make_views, one_by_one


def alignments(images: int = 30) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    f, g = torch.rand(2, images, generator=generator)
    return f, g, torch.randperm(500, generator=generator)[:images]


def check(result: LayerMemResult) -> None:
    f, g, ids = alignments()
    order = ids.argsort()
    assert torch.equal(result.ids, ids[order])
    expected = sslmem(f.double(), g.double())[order]
    np.testing.assert_allclose(result.scores, expected, rtol=1e-12)
    np.testing.assert_allclose(float(result.layermem), float(expected.mean()), rtol=1e-12)


def test_each_image_counts_once_by_ascending_id() -> None:
    f, g, ids = alignments()
    metric = LayerMem(num_samples=30)
    metric.update(f[:20], g[:20], ids[:20])
    metric.update(f[10:], g[10:], ids[10:])
    check(metric.compute())


def test_one_image_keeps_its_row() -> None:
    metric = LayerMem(scale="none")
    metric.update(torch.tensor([0.2]), torch.tensor([0.5]), torch.tensor([7]))
    result = metric.compute()
    assert result.scores.shape == result.ids.shape == (1,)
    np.testing.assert_allclose(float(result.layermem), 0.3, rtol=1e-6)


def test_missing_images_and_shapes_are_refused() -> None:
    f, g, ids = alignments()
    metric = LayerMem(num_samples=31)
    metric.update(f, g, ids)
    with pytest.raises(ValueError, match="30 distinct images were seen, not 31"):
        metric.compute()
    with pytest.raises(ValueError, match="differ"):
        LayerMem().update(f, g[:3], ids)


def _padded_share() -> LayerMemResult:
    f, g, ids = alignments()
    rows = torch.arange(0, 17) if distributed.get_rank() == 0 else torch.arange(13, 30)
    metric = LayerMem()
    metric.update(f[rows], g[rows], ids[rows])
    return metric.compute()


@pytest.mark.ddp
def test_processes_that_pad_and_repeat_give_what_one_gives() -> None:
    for result in run_ddp(_padded_share, 2):
        check(result)


def measured(batch_size: int, **options: object) -> dict[str, LayerMemResult]:
    return measure_layermem(
        *(TinyEncoder(seed) for seed in (0, 1)),
        image_batches(12, batch_size),
        make_views,
        LAYERS,
        num_views=4,
        progress=False,
        **options,
    )


@pytest.mark.parametrize(("batch_size", "max_forward"), [(12, 1024), (5, 1), (7, 9)])
def test_measure_equals_one_image_one_view_at_a_time(batch_size: int, max_forward: int) -> None:
    results = measured(batch_size, max_forward=max_forward)
    outputs_f, outputs_g = (one_by_one(TinyEncoder(seed), 12, 4) for seed in (0, 1))
    for layer in LAYERS:
        f, g = (alignment(outputs[layer].transpose(0, 1).flatten(2)) for outputs in (outputs_f, outputs_g))
        np.testing.assert_allclose(results[layer].align_f, f, **NETWORK)
        np.testing.assert_allclose(results[layer].align_g, g, **NETWORK)
        np.testing.assert_allclose(results[layer].scores, sslmem(f, g), **SCORES)
        assert results[layer].ids.tolist() == list(range(1000, 1012))


def test_channels_last_encoders_score_the_same() -> None:
    plain = measured(12)
    encoders = [TinyEncoder(seed).to(memory_format=torch.channels_last) for seed in (0, 1)]

    def views(batch, view):
        return make_views(batch, view).contiguous(memory_format=torch.channels_last)

    results = measure_layermem(*encoders, image_batches(12, 12), views, LAYERS, num_views=4, progress=False)
    for layer in LAYERS:
        np.testing.assert_allclose(results[layer].align_f, plain[layer].align_f, **NETWORK)


def test_the_same_encoder_twice_scores_zero_and_is_left_as_it_was() -> None:
    encoder = TinyEncoder().train()
    before, state = copy.deepcopy(encoder.state_dict()), torch.get_rng_state()
    results = measure_layermem(encoder, encoder, image_batches(5, 5), make_views, LAYERS, num_views=2, progress=False)
    assert all(result.scores.eq(0).all() for result in results.values())
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert all(module.training for module in encoder.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_measure_names_what_is_wrong() -> None:
    pair = (TinyEncoder(0), TinyEncoder(1))
    with pytest.raises(UserError, match=r"^num_views=1"):
        measure_layermem(*pair, image_batches(4, 4), make_views, LAYERS, num_views=1, progress=False)
    with pytest.raises(UserError, match=r"^batches: no image"):
        measure_layermem(*pair, [], make_views, LAYERS, progress=False)
    with pytest.raises(UserError, match=r"^layers='nothing'"):
        measure_layermem(*pair, image_batches(4, 4), make_views, ["nothing"], progress=False)
    with torch.no_grad():
        pair[1].stem.weight[0] = torch.nan
    with pytest.raises(UserError, match="layer stem"):
        measure_layermem(*pair, image_batches(4, 4), make_views, LAYERS, progress=False)


def _measure_share() -> dict[str, LayerMemResult]:
    ids = torch.arange(1000, 1012)[distributed.get_rank() :: 2]
    pair = (TinyEncoder(0), TinyEncoder(1))
    return measure_layermem(*pair, image_batches(12, 5, ids), make_views, LAYERS, num_views=4, progress=False)


@pytest.mark.ddp
def test_measure_on_two_processes_gives_what_one_gives() -> None:
    alone = measured(12)
    for results in run_ddp(_measure_share, 2):
        for layer in LAYERS:
            assert torch.equal(results[layer].ids, alone[layer].ids)
            np.testing.assert_allclose(results[layer].scores, alone[layer].scores, **SCORES)
