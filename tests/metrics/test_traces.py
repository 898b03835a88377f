"""What a layer leaves of an image besides its alignment: norm, sketch, units, density and the probe."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from memlight.metrics.functional import alignment
from memlight.metrics.layermem import measure_layermem
from memlight.metrics.traces import FOLDS, Traces, membership_probe, nearest_distance, sketch, tracer
from tests.close import NETWORK
from tests.ddp import run_ddp
from tests.metrics.tiny import LAYERS, TinyEncoder, image_batches, make_views, one_by_one


def test_a_sketch_is_a_signed_sum_by_bucket() -> None:
    z = torch.randn(3, 23, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    signs = sketch(torch.eye(23, dtype=torch.float64), 5).sum(1)
    for row, folded in zip(z, sketch(z, 5), strict=True):
        expected = [0.0] * 5
        for place in range(23):
            expected[place % 5] += float(signs[place] * row[place])
        np.testing.assert_allclose(folded, expected, rtol=1e-12)
    assert set(signs.tolist()) == {-1.0, 1.0}


def test_a_short_vector_keeps_its_inner_products_and_a_long_one_nearly() -> None:
    generator = torch.Generator().manual_seed(1)
    short = torch.randn(6, 512, dtype=torch.float64, generator=generator)
    np.testing.assert_allclose(sketch(short) @ sketch(short).T, short @ short.T, rtol=1e-9)
    long = torch.nn.functional.normalize(torch.randn(40, 20_000, generator=generator), dim=1)
    folded = sketch(long)
    assert float((folded @ folded.T - long @ long.T).std()) < 1.5 / math.sqrt(512)


def test_a_trace_is_alignment_log_norm_and_sketch() -> None:
    z = torch.randn(3, 4, 30, generator=torch.Generator().manual_seed(2))
    traced = tracer(alignment)(z)
    np.testing.assert_allclose(traced[:, 0], alignment(z), rtol=1e-6)
    np.testing.assert_allclose(traced[:, 1], z.norm(dim=2).log().mean(0), rtol=1e-5)
    mean = torch.nn.functional.normalize(z, dim=2).mean(0)
    np.testing.assert_allclose(traced[:, 2:], sketch(mean), rtol=1e-5, atol=1e-6)


def measured(batch_size: int = 5, images: Tensor | None = None) -> dict[str, tuple[Traces, Traces]]:
    batches = image_batches(12, batch_size) if images is None else image_batches(12, batch_size, images)
    encoders = TinyEncoder(0), TinyEncoder(1)
    results = measure_layermem(*encoders, batches, make_views, LAYERS, num_views=4, traces=True, progress=False)
    return {layer: result.traces for layer, result in results.items() if result.traces is not None}


def test_traces_are_those_of_one_image_and_one_view_at_a_time() -> None:
    found = measured()
    assert list(found) == list(LAYERS)
    for encoder in (0, 1):
        outputs = one_by_one(TinyEncoder(encoder), 12, 4)
        for layer in LAYERS:
            z = outputs[layer].transpose(0, 1)
            flat = z.flatten(2)
            traces = found[layer][encoder]
            np.testing.assert_allclose(traces.log_norm, flat.norm(dim=2).log().mean(0), **NETWORK)
            mean = torch.nn.functional.normalize(flat, dim=2).mean(0)
            np.testing.assert_allclose(traces.sketch.float(), sketch(mean), atol=2e-3)
            units = z.abs().flatten(3).mean(3) if z.ndim > 3 else z.abs()
            np.testing.assert_allclose(traces.units, units.mean(0), **NETWORK)


def test_scores_do_not_change_when_traces_are_kept() -> None:
    encoders = TinyEncoder(0), TinyEncoder(1)
    plain, traced = (
        measure_layermem(
            *encoders, image_batches(12, 5), make_views, LAYERS, num_views=4, traces=traces, progress=False
        )
        for traces in (False, True)
    )
    for layer in LAYERS:
        assert torch.equal(plain[layer].scores, traced[layer].scores)
        assert plain[layer].traces is None


def _share() -> dict[str, tuple[Traces, Traces]]:
    rank = torch.distributed.get_rank()
    return measured(4, torch.arange(1000 + 6 * rank - 2 * rank, 1000 + 6 + 6 * rank))


@pytest.mark.ddp
def test_processes_that_see_images_twice_give_what_one_gives() -> None:
    expected = measured()
    for found in run_ddp(_share, 2):
        for layer, of_layer in found.items():
            for traces, alone in zip(of_layer, expected[layer], strict=True):
                np.testing.assert_allclose(traces.log_norm, alone.log_norm, **NETWORK)
                np.testing.assert_allclose(traces.units, alone.units, **NETWORK)


def test_density_is_a_loop_over_sorted_distances() -> None:
    generator = torch.Generator().manual_seed(3)
    query, reference = torch.randn(7, 9, generator=generator), torch.randn(31, 9, generator=generator)
    found = nearest_distance(query, reference, k=4)
    for row, distance in zip(query, found, strict=True):
        distances = sorted(1 - float(torch.cosine_similarity(row, other, dim=0)) for other in reference)
        assert float(distance) == pytest.approx(sum(distances[:4]) / 4, rel=1e-5)
    np.testing.assert_allclose(nearest_distance(query, reference[:2], k=4), nearest_distance(query, reference[:2], k=2))


def traces_of(count: int, shift: float, units: int = 12) -> tuple[Traces, Tensor]:
    generator = torch.Generator().manual_seed(4)
    member = torch.arange(count) % 2 == 0
    values = torch.randn(count, units, generator=generator) + shift * member[:, None]
    return Traces(torch.zeros(count), torch.zeros(count, 5).half(), values), member


def test_the_probe_is_ridge_logistic_regression_on_the_other_folds() -> None:
    traces, member = traces_of(200, 0.3)
    odds, fold = membership_probe(traces, member)
    x = (traces.units - traces.units.mean(0)) / traces.units.std(0, correction=0)
    for number in range(FOLDS):
        held = (fold == number).numpy()
        truth = member.numpy()
        model = LogisticRegression(C=1 / (1e-2 * (~held).sum()), tol=1e-10, max_iter=1000)
        model.fit(x.double().numpy()[~held], truth[~held])
        expected = model.decision_function(x.double().numpy()[held])
        np.testing.assert_allclose(odds.numpy()[held], expected, atol=1e-4)
        assert abs(int(truth[held].sum()) - int(held.sum()) / 2) <= 1


def test_the_probe_sees_members_where_they_differ_and_chance_where_not() -> None:
    for shift, low, high in ((0.0, 0.38, 0.62), (0.8, 0.85, 1.0)):
        traces, member = traces_of(300, shift)
        odds, fold = membership_probe(traces, member)
        areas = [roc_auc_score(member[fold == number], odds[fold == number]) for number in range(FOLDS)]
        assert low <= np.mean(areas) <= high
