import copy

import numpy as np
import pytest
import torch
from torch import distributed

from memlight.errors import UserError
from memlight.metrics.functional import Reference, max_and_rest, unitmem, unitmem_from_extremes
from memlight.metrics.null import TAIL
from memlight.metrics.unitmem import UnitMem, UnitMemResult, measure_unitmem
from tests.close import NETWORK, SCORES
from tests.ddp import run_ddp
from tests.metrics.tiny import LAYERS, TinyEncoder, image_batches, make_views, one_by_one


def tied_table(images: int = 60, units: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations on a coarse grid, so that maxima tie, with a dead unit, and ids in no order."""
    rng = np.random.default_rng(0)
    mu = np.round(rng.gamma(2.0, size=(images, units)) * 2) / 2
    mu[:, 2] = 0
    return torch.tensor(mu, dtype=torch.float32), torch.tensor(rng.permutation(1000)[:images])


def loop_result(mu: np.ndarray, ids: np.ndarray, k: int) -> dict[str, np.ndarray]:
    columns: dict[str, list] = {name: [] for name in ("topk_ids", "topk_mu", "tail_mu", "mu_rest_mean")}
    for unit in range(mu.shape[1]):
        order = sorted(range(len(ids)), key=lambda row: (-mu[row, unit], ids[row]))
        others = mu[order[1:], unit]
        columns["topk_ids"].append([ids[row] for row in order[:k]])
        columns["topk_mu"].append([mu[row, unit] for row in order[:k]])
        columns["mu_rest_mean"].append(others.mean())
        columns["tail_mu"].append([mu[row, unit] for row in order[:TAIL]])
    return {name: np.array(values).T for name, values in columns.items()}


def check_against_loops(result: UnitMemResult, mu: torch.Tensor, ids: torch.Tensor, k: int) -> None:
    for name, expected in loop_result(mu.double().numpy(), ids.numpy(), k).items():
        np.testing.assert_allclose(getattr(result, name).numpy(), expected, rtol=1e-9, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(result.unitmem_mean, unitmem(mu), rtol=1e-12)
    assert torch.equal(result.max_id, result.topk_ids[0]) and torch.equal(result.mu_max, result.topk_mu[0])
    assert result.dead.tolist() == [unit == 2 for unit in range(mu.shape[1])]
    assert torch.equal(result.ids, ids.sort().values) and result.n == len(ids)


@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_streaming_equals_loops_in_any_batch_size(batch_size: int) -> None:
    mu, ids = tied_table()
    metric = UnitMem(9, topk=4)
    for start in range(0, 60, batch_size):
        metric.update(mu[start : start + batch_size], ids[start : start + batch_size])
    check_against_loops(metric.compute(), mu, ids, 4)


def test_repeated_ids_count_once() -> None:
    mu, ids = tied_table()
    metric = UnitMem(9, topk=4)
    metric.update(mu[[0, 1, 1, 2, 0]], ids[[0, 1, 1, 2, 0]])
    metric.update(mu, ids)
    metric.update(mu + 5, ids)
    check_against_loops(metric.compute(), mu, ids, 4)


def test_one_unit_and_fewer_images_than_topk() -> None:
    metric = UnitMem(1, reference="median")
    metric.update(torch.tensor([[1.0], [3.0]]), torch.tensor([8, 4]))
    result = metric.compute()
    assert result.topk_ids.tolist() == [[4], [8]]
    assert result.unitmem.tolist() == result.unitmem_median.tolist() == [0.5]


def test_median_and_table_come_in_the_order_of_ids() -> None:
    mu, ids = tied_table()
    metric = UnitMem(9, reference="median")
    metric.update(mu[:25], ids[:25])
    metric.update(mu[25:], ids[25:])
    result = metric.compute()
    np.testing.assert_allclose(result.unitmem_median, unitmem(mu, "median"), rtol=1e-12)
    np.testing.assert_allclose(result.unitmem_mean, unitmem(mu), rtol=1e-12)
    assert torch.equal(result.mu, mu[ids.argsort()])
    assert UnitMem(9).keep_table is False


@pytest.mark.parametrize("reference", ["mean", "median"])
def test_the_score_has_the_form_that_was_asked_for(reference: Reference) -> None:
    mu, ids = tied_table()
    metric = UnitMem(9, reference=reference)
    metric.update(mu, ids)
    result = metric.compute()
    mu_max, mu_rest, _ = max_and_rest(mu, reference)
    assert result.reference == reference
    np.testing.assert_allclose(result.unitmem, unitmem(mu, reference), rtol=1e-12)
    np.testing.assert_allclose(result.mu_rest, mu_rest, rtol=1e-12)
    np.testing.assert_allclose(result.unitmem, unitmem_from_extremes(mu_max, mu_rest), rtol=1e-12)
    part = result.units(slice(3, 5))
    assert torch.equal(part.unitmem, result.unitmem[3:5]) and torch.equal(part.mu_rest, result.mu_rest[3:5])
    other = unitmem(mu, "median" if reference == "mean" else "mean")
    assert not np.allclose(result.unitmem, other)


def test_float64_sums_keep_small_differences_among_many_large_activations() -> None:
    mu = torch.full((20_000, 1), 1000.0) + torch.rand(20_000, 1, generator=torch.Generator().manual_seed(0)) * 0.1
    metric = UnitMem(1)
    metric.update(mu, torch.arange(20_000))
    np.testing.assert_allclose(metric.compute().unitmem, unitmem(mu), rtol=1e-7)  # 0.1 of 1000


def test_bad_activations_are_refused() -> None:
    ids = torch.arange(3)
    with pytest.raises(UserError, match="NaN"):
        UnitMem(2).update(torch.tensor([[1.0, 2.0], [torch.nan, 1.0], [0.0, 0.0]]), ids)
    signed = UnitMem(2)
    signed.update(torch.tensor([[1.0, -2.0], [0.5, -1.0], [0.0, -3.0]]), ids)
    with pytest.raises(UserError, match="`activation='abs'`"):
        signed.compute()
    single = UnitMem(2)
    single.update(torch.ones(1, 2), ids[:1])
    with pytest.raises(UserError, match="compares images"):
        single.compute()
    with pytest.raises(ValueError, match=r"not \(3, 2\)"):
        UnitMem(2).update(torch.ones(3, 4), ids)
    with pytest.raises(UserError, match=r"^topk=0: "):
        UnitMem(2, topk=0)


def test_reset_forgets_the_images() -> None:
    mu, ids = tied_table()
    metric = UnitMem(9, topk=4)
    metric.update(mu + 3, ids)
    metric.reset()
    metric.update(mu, ids)
    check_against_loops(metric.compute(), mu, ids, 4)


def _share(deal: str) -> tuple[UnitMemResult, int]:
    mu, ids = tied_table()
    rank = distributed.get_rank()
    rows = {
        "interleaved": torch.arange(60)[rank::2],
        "blocked": torch.arange(60)[:50] if rank == 0 else torch.arange(60)[50:],
        "one has none": torch.arange(60) if rank == 1 else torch.arange(0),
    }[deal]
    metric = UnitMem(9, reference="median", topk=4)
    if len(rows):
        metric.update(mu[rows], ids[rows])
    result = metric.compute()
    return result, len(metric.rows("ids"))


@pytest.mark.ddp
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("deal", ["interleaved", "blocked", "one has none"])
def test_processes_merge_to_the_same_result_however_images_are_dealt(deal: str) -> None:
    mu, ids = tied_table()
    for result, own_after in run_ddp(_share, 2, deal):
        check_against_loops(result, mu, ids, 4)
        assert torch.equal(result.mu, mu[ids.argsort()])
        assert own_after <= 60


def _overlap() -> None:
    mu, ids = tied_table()
    metric = UnitMem(9)
    metric.update(
        mu[:40] if distributed.get_rank() == 0 else mu[39:], ids[:40] if distributed.get_rank() == 0 else ids[39:]
    )
    metric.compute()


@pytest.mark.ddp
def test_an_image_on_two_processes_is_refused() -> None:
    with pytest.raises(RuntimeError, match=f"id {int(tied_table()[1][39])} was seen by two processes"):
        run_ddp(_overlap, 2)


def measured(batch_size: int, **options: object) -> dict[str, UnitMemResult]:
    encoder = TinyEncoder()
    return measure_unitmem(
        encoder, image_batches(20, batch_size), make_views, LAYERS, num_views=3, progress=False, **options
    )


@pytest.mark.parametrize(("batch_size", "max_forward"), [(20, 1024), (7, 1), (3, 13)])
def test_measure_equals_one_image_one_view_at_a_time(batch_size: int, max_forward: int) -> None:
    results = measured(batch_size, max_forward=max_forward, keep_table=True)
    assert list(results) == LAYERS
    for layer, outputs in one_by_one(TinyEncoder(), 20, 3).items():
        mu = outputs.abs().flatten(3).mean(3).mean(1) if outputs.ndim == 5 else outputs.abs().mean(1)
        np.testing.assert_allclose(results[layer].mu, mu, **NETWORK)
        np.testing.assert_allclose(results[layer].unitmem, unitmem(mu), **SCORES)
        assert torch.equal(results[layer].max_id, mu.argmax(0) + 1000)
        positions = outputs.abs().flatten(3).mean(3) if outputs.ndim == 5 else outputs.abs()
        for views, scores in zip((slice(0, 1), slice(1, 3)), results[layer].halves, strict=True):
            np.testing.assert_allclose(scores, unitmem(positions[:, views].mean(1)), **SCORES)


def test_measure_leaves_everything_as_it_was() -> None:
    encoder = TinyEncoder().train()
    encoder.body[2].eval()
    before, modes = copy.deepcopy(encoder.state_dict()), [module.training for module in encoder.modules()]
    state = torch.get_rng_state()

    def noisy(batch, view):
        return make_views(batch, view) + torch.rand(())

    measure_unitmem(encoder, image_batches(6, 4), noisy, LAYERS, num_views=2, progress=False)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
    assert [module.training for module in encoder.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks for module in encoder.modules())
    assert torch.is_grad_enabled()


def test_measure_names_what_is_wrong() -> None:
    with pytest.raises(UserError, match=r"^batches: no image"):
        measure_unitmem(TinyEncoder(), [], make_views, LAYERS, progress=False)
    with pytest.raises(UserError, match=r"^layers='stam'"):
        measure_unitmem(TinyEncoder(), image_batches(4, 4), make_views, ["stam"], progress=False)
    with pytest.raises(UserError, match=r"^num_views=0"):
        measure_unitmem(TinyEncoder(), image_batches(4, 4), make_views, LAYERS, num_views=0, progress=False)
    with pytest.raises(UserError, match=r"`activation='abs'`"):
        measured(10, activation="identity")
    broken = TinyEncoder()
    with torch.no_grad():
        broken.body[3].bias[0] = torch.inf
    with pytest.raises(UserError, match=r"body\.3"):
        measure_unitmem(broken, image_batches(4, 4), make_views, LAYERS, progress=False)


def _measure_share() -> dict[str, UnitMemResult]:
    ids = torch.arange(1000, 1020)[distributed.get_rank() :: 2]
    return measure_unitmem(
        TinyEncoder(), image_batches(20, 4, ids), make_views, LAYERS, num_views=3, keep_table=True, progress=False
    )


def _measure_nothing_on_one() -> None:
    batches = image_batches(20, 4) if distributed.get_rank() == 0 else []
    measure_unitmem(TinyEncoder(), batches, make_views, LAYERS, num_views=2, progress=False)


@pytest.mark.ddp
def test_measure_on_two_processes_gives_what_one_gives() -> None:
    alone = measured(20, keep_table=True)
    for results in run_ddp(_measure_share, 2):
        for layer in LAYERS:
            assert torch.equal(results[layer].topk_ids, alone[layer].topk_ids)
            assert torch.equal(results[layer].ids, alone[layer].ids)
            np.testing.assert_allclose(results[layer].unitmem, alone[layer].unitmem, **SCORES)
            np.testing.assert_allclose(results[layer].mu, alone[layer].mu, **NETWORK)
    with pytest.raises(RuntimeError, match="fewer batches than the 2 processes"):
        run_ddp(_measure_nothing_on_one, 2)
