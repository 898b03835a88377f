"""The null checked where the answer is known: shuffled views of real images, random weights, planted units."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from memlight.analyses.unitmem import excess as excess_module
from memlight.analyses.unitmem.contrast import relabellings
from memlight.analyses.unitmem.excess import excess_over_other, layer_excess, layer_null, shuffled_views
from memlight.batch import ImageBatch
from memlight.data.images import ImageDataModule
from memlight.metrics.unitmem import UnitMem, UnitMemResult, measure_unitmem
from memlight.stats import Claim, claims, clustered_mean

VIEWS = 4
PLANTED, UNIT = 37, 5


class RandomFilters(nn.Module):
    """Untrained convolutions over digits of 16 pixels, and one layer whose filters see the whole image."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.early = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU())
            self.late = nn.Sequential(nn.Conv2d(64, 128, 5, stride=4), nn.ReLU())
            self.whole = nn.Sequential(nn.Conv2d(3, 48, 16), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.late(self.early(x)).mean((2, 3)) + self.whole(x).sum()


@pytest.fixture(scope="module")
def digits() -> ImageDataModule:
    data = ImageDataModule(
        "digits",
        image_size=16,
        view_size=16,
        num_shared=16,
        num_candidate=400,
        num_independent=16,
        num_external=15,
        seed=0,
    )
    data.setup()
    return data


def measure(encoder: nn.Module, data: ImageDataModule, layers: list[str], shuffle: int | None = None,
            batch_size: int = 100) -> dict[str, UnitMemResult]:  # fmt: skip
    views = data.view_maker(data.make_views("weak"))
    if shuffle is not None:
        views = shuffled_views(views, data.images_of, data.split.candidate, shuffle)
    batches = data.batches("candidate", batch_size)
    return measure_unitmem(encoder, batches, views, layers, num_views=VIEWS, keep_table=True, progress=False)


def test_random_weights_exceed_the_null_by_nothing(digits: ImageDataModule) -> None:
    for layer, result in measure(RandomFilters(), digits, ["early.1", "late.1", "whole.1"]).items():
        excess = layer_excess(result)
        assert abs(excess.value) < 0.01, layer
        assert 0.003 < excess.high - excess.low < 0.03, layer


def test_shuffled_views_exceed_the_null_by_nothing(digits: ImageDataModule) -> None:
    layers = ["early.1", "late.1"]
    runs = [measure(RandomFilters(), digits, layers, seed) for seed in range(3)]
    found = [[layer_excess(run[layer]) for run in runs] for layer in layers]
    assert sum(interval.low <= 0 <= interval.high for row in found for interval in row) >= 4  # of 6
    for row in found:
        assert abs(np.mean([interval.value for interval in row])) < 0.015
    plain = measure(RandomFilters(), digits, layers)
    for layer in layers:  # the same activations, dealt out: means agree and no image keeps its own
        torch.testing.assert_close(runs[0][layer].mu.mean(0), plain[layer].mu.mean(0), rtol=0.2, atol=1e-3)
        assert not torch.equal(runs[0][layer].max_id, plain[layer].max_id)


def test_shuffled_views_are_the_views_of_permuted_images_in_any_batch() -> None:
    ids = np.array([4, 9, 11, 30, 31])

    def batches(size: int) -> Iterator[ImageBatch]:
        tensor = torch.from_numpy(ids)
        for part in tensor.split(size):
            yield ImageBatch(part[:, None, None, None].to(torch.uint8), part, part)

    def shown(size: int) -> np.ndarray:
        make = shuffled_views(
            lambda batch, view: batch.images.flatten() * 10 + view,
            lambda wanted: torch.from_numpy(wanted)[:, None, None, None],
            ids,
        )
        return np.array([[int(value) for batch in batches(size) for value in make(batch, view)] for view in range(3)])

    assert np.array_equal(shown(5), shown(2))
    for view, row in enumerate(shown(5)):
        assert sorted(row) == [id_ * 10 + view for id_ in ids]  # each image's view is used once
    assert len({tuple(row // 10) for row in shown(5)}) == 3


def test_a_unit_planted_in_the_weights_is_found(digits: ImageDataModule) -> None:
    """Its filter is the direction that tells one image from the others best (ridge discriminant)."""
    encoder = RandomFilters()
    target = int(digits.split.candidate[PLANTED])
    views = digits.view_maker(digits.make_views("weak"))
    (batch,) = digits.batches("candidate", 400)
    flat = torch.stack([views(batch, view).flatten(1) for view in range(VIEWS)]).mean(0).double()
    away = flat - flat.mean(0)
    row = int((batch.ids == target).nonzero())
    weights = torch.linalg.solve(away.T @ away / 400 + torch.eye(flat.shape[1]).double(), away[row])
    before = measure(encoder, digits, ["whole.1"])["whole.1"]
    with torch.no_grad():
        conv = encoder.whole[0]
        conv.weight[UNIT] = weights.view(3, 16, 16).float()
        conv.bias[UNIT] = -float((flat @ weights).min())
    result = measure(encoder, digits, ["whole.1"])["whole.1"]
    null, p95 = layer_null(result)
    score = result.unitmem.numpy()
    assert result.max_id[UNIT] == target
    assert score[UNIT] > p95[UNIT] + 0.05
    assert score[UNIT] - null[UNIT] == np.max(score - null)
    assert before.max_id[UNIT] != target


def table(seed: int, images: int = 500, units: int = 400) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, size=(images, units))


def result_of(mu: np.ndarray) -> UnitMemResult:
    metric = UnitMem(mu.shape[1], keep_table=True)
    metric.update(torch.from_numpy(mu), torch.arange(len(mu)))
    return metric.compute()


def test_power_grows_with_the_planted_response() -> None:
    """A response as strong as the strongest is lost in chance; one of twice that is found in nearly every unit."""
    found = {}
    for times in (1.0, 1.5, 2.0):
        mu = table(0)
        mu[PLANTED, :40] = times * mu[:, :40].max(0)
        result = result_of(mu)
        assert (result.max_id[:40] == PLANTED).all() or times == 1.0
        found[times] = (result.unitmem.numpy() > layer_null(result)[1])[:40].mean()
    assert found[1.0] < 0.05 < found[1.5] < found[2.0]
    assert found[2.0] > 0.95


def test_excess_of_a_layer_is_the_clustered_mean_over_living_units() -> None:
    mu = table(1, 60, 12)
    mu[:, 4] = 0
    result = result_of(mu)
    null, p95 = layer_null(result)
    assert np.isnan(null[4]) and np.isnan(p95[4]) and np.isfinite(np.delete(null, 4)).all()
    living = np.delete(np.arange(12), 4)
    expected = clustered_mean((result.unitmem.numpy() - null)[living], mu.argmax(0)[living])
    assert layer_excess(result) == pytest.approx(expected)


def test_excess_over_the_other_images_follows_its_definition() -> None:
    """Every relabelling: both groups measured as two sets of images of their own."""
    mu = {layer: table(seed, 46, units) for layer, seed, units in (("a", 3, 9), ("b", 4, 5))}
    mu["a"][:, 4] = 0  # dead
    mu["b"][:25, 2] = 0  # dead on the member's own images only

    def measured(rows: np.ndarray) -> dict[str, UnitMemResult]:
        return {layer: result_of_rows(values, rows) for layer, values in mu.items()}

    own, other = measured(np.arange(25)), measured(np.arange(25, 46))
    found = excess_over_other(own, other, draws=30, seed=2)
    expected = []
    for row in relabellings(25, 46, 30, 2).numpy():
        groups = [measured(np.flatnonzero(row == mine)) for mine in (True, False)]
        expected.append([layer_excess(groups[0][layer]).value - layer_excess(groups[1][layer]).value for layer in mu])
    expected = np.array(expected)
    for claim, wanted in zip(found.values(), claims(expected[0], expected[1:]), strict=True):
        assert claim.over_other == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    assert found["a"].other == pytest.approx(layer_excess(other["a"]).value, rel=1e-4)
    assert found["a"].over_other.value == pytest.approx(layer_excess(own["a"]).value - found["a"].other, rel=1e-3)


def result_of_rows(mu: np.ndarray, rows: np.ndarray) -> UnitMemResult:
    metric = UnitMem(mu.shape[1], keep_table=True)
    metric.update(torch.from_numpy(mu[rows]).float(), torch.from_numpy(rows))
    return metric.compute()


def pair_of(mu: np.ndarray, layers: int) -> list[dict[str, UnitMemResult]]:
    """Own and other images, half each; the units dealt to layers."""
    half, units = len(mu) // 2, mu.shape[1] // layers
    whole = (result_of_rows(mu, rows) for rows in np.split(np.arange(len(mu)), [half]))
    return [{f"layer{n}": one.units(slice(n * units, (n + 1) * units)) for n in range(layers)} for one in whole]


def test_units_planted_in_own_images_are_found_and_layers_without_any_are_not() -> None:
    mu = table(5, 120, 60)
    mu[np.arange(20), np.arange(20)] = 1.7 * mu[:, :20].max(0)  # 20 units of the first layer, an own image each
    found = excess_over_other(*pair_of(mu, 3))
    assert found["layer0"].over_other.simultaneous_low > 0 and found["layer0"].over_other.p_adjusted <= 0.01
    assert min(found[layer].over_other.p_adjusted for layer in ("layer1", "layer2")) > 0.05


def test_without_memory_a_layer_is_named_in_5_of_100_labellings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units share images and the null misfits: clustered intervals leave out 0, relabelling does not mind."""
    statistics = []

    def kept(values: np.ndarray, null: np.ndarray) -> list[Claim]:
        statistics.append(np.concatenate([values[None], null]))
        return claims(values, null)

    monkeypatch.setattr(excess_module, "claims", kept)
    rng = np.random.default_rng(6)
    common = rng.normal(size=(60, 10, 1))  # what a layer's units have in common
    mu = np.exp(0.5 * (common + rng.normal(size=(60, 10, 6)))).reshape(60, 60)
    excess_over_other(*pair_of(mu, 10))
    (made,) = statistics
    named = [
        min(claim.p_adjusted for claim in claims(made[row], np.delete(made, row, axis=0))) <= 0.05
        for row in range(len(made))
    ]
    assert 0.02 < np.mean(named) <= 0.05
