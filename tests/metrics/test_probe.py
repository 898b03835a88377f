import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from memlight.errors import UserError
from memlight.metrics.probe import ProbeResult, linear_probe


def blobs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 7, count)
    z = np.eye(7, 12)[y] * 3 + rng.standard_normal((count, 12)) * np.linspace(0.1, 30, 12)
    z[:, 11] = 4  # a unit without spread
    return torch.tensor(z, dtype=torch.float32), torch.tensor(y)


def test_probe_reaches_the_optimum_sklearn_reaches() -> None:
    (train_z, train_y), (test_z, test_y) = blobs(400, 0), blobs(300, 1)
    result = linear_probe(train_z, train_y, test_z, test_y, l2=1e-2)
    mean, deviation = train_z.mean(0), train_z.std(0, correction=0).clamp(min=1e-9)
    scaled = [((z - mean) / deviation)[:, :11].double().numpy() for z in (train_z, test_z)]
    model = LogisticRegression(C=1 / (1e-2 * 400), tol=1e-8, max_iter=5000).fit(scaled[0], train_y)
    ranked = np.argsort(-model.decision_function(scaled[1]), axis=1)[:, :5]
    assert abs(result.top1 - (ranked[:, 0] == test_y.numpy()).mean()) < 0.005
    assert abs(result.top5 - (ranked == test_y.numpy()[:, None]).any(1).mean()) < 0.005
    assert (result.n_train, result.n_test) == (400, 300)
    assert 0.3 < result.top1 < result.top5 < 1


def assert_same(a: ProbeResult, b: ProbeResult) -> None:
    assert torch.equal(a.right, b.right)
    assert a[:4] == b[:4]


def test_probe_does_not_depend_on_scale_order_or_random_state() -> None:
    (train_z, train_y), test = blobs(200, 0), blobs(100, 1)
    first = linear_probe(train_z, train_y, *test)
    torch.manual_seed(99)
    order = torch.randperm(200)
    state = torch.get_rng_state()
    assert_same(linear_probe(train_z[order], train_y[order], *test), first)
    assert_same(linear_probe(train_z * 1000, train_y, test[0] * 1000, test[1]), first)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        assert_same(linear_probe(train_z, train_y, *test), first)


def test_two_classes_and_missing_labels() -> None:
    z, y = blobs(60, 2)
    result = linear_probe(z, y % 2, z, y % 2)
    assert result.top5 == 1
    with pytest.raises(UserError, match="labelled"):
        linear_probe(z, y - 1, z, y)
