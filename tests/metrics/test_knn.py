import math

import numpy as np
import pytest
import torch
from torch import distributed

from memlight.errors import UserError
from memlight.metrics.knn import embed, knn_accuracy
from tests.close import NETWORK
from tests.ddp import run_ddp
from tests.metrics.tiny import TinyEncoder, image_batches, make_views


def blobs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    return torch.tensor(np.eye(3, 8)[y] + 0.5 * rng.standard_normal((count, 8)), dtype=torch.float32), torch.tensor(y)


def loop_knn(train_z, train_y, test_z, test_y, k: int, temperature: float) -> float:
    right = 0
    for z, y in zip(test_z.double(), test_y, strict=True):
        cosines = [float(z @ other / z.norm() / other.norm()) for other in train_z.double()]
        votes: dict[int, float] = {}
        for neighbour in sorted(range(len(cosines)), key=lambda n: -cosines[n])[:k]:
            label = int(train_y[neighbour])
            votes[label] = votes.get(label, 0) + math.exp(cosines[neighbour] / temperature)
        right += max(votes, key=votes.get) == int(y)
    return right / len(test_y)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.1), (20, 0.1), (7, 1.0), (500, 0.1)])
def test_knn_equals_loops(k: int, temperature: float) -> None:
    train, test = blobs(80, 0), blobs(50, 1)
    accuracy = knn_accuracy(*train, *test, k=k, temperature=temperature, batch_size=16)
    assert accuracy == loop_knn(*train, *test, k, temperature)
    assert 0.4 < accuracy < 1


def test_knn_needs_labels_and_images() -> None:
    z, y = blobs(10, 0)
    with pytest.raises(UserError, match="labelled"):
        knn_accuracy(z, y - 1, z, y)
    with pytest.raises(UserError, match="labelled"):
        knn_accuracy(z, y, z[:0], y[:0])


def expected_features() -> torch.Tensor:
    encoder = TinyEncoder().eval()
    with torch.no_grad():
        return torch.cat([encoder(make_views(batch, 0)) for batch in image_batches(11, 1)])


def test_embed_gives_ascending_ids_in_any_batch_size_and_leaves_the_encoder() -> None:
    encoder = TinyEncoder().train()
    ids = torch.arange(1000, 1011).flip(0)
    z, labels, out_ids = embed(encoder, image_batches(11, 4, ids), make_views, max_forward=3, progress=False)
    assert out_ids.tolist() == list(range(1000, 1011)) and torch.equal(labels, out_ids % 3)
    torch.testing.assert_close(z, expected_features(), **NETWORK)
    assert encoder.training and not z.requires_grad and not z.is_inference()


def test_embed_refuses_nothing_and_nan() -> None:
    with pytest.raises(UserError, match=r"^batches: no image"):
        embed(TinyEncoder(), [], make_views, progress=False)
    broken = TinyEncoder()
    with torch.no_grad():
        broken.head.bias[0] = torch.nan
    with pytest.raises(UserError, match="NaN"):
        embed(broken, image_batches(3, 3), make_views, progress=False)


def _embed_share() -> tuple[torch.Tensor, ...]:
    ids = torch.arange(1000, 1006) if distributed.get_rank() == 0 else torch.arange(1005, 1011)
    return embed(TinyEncoder(), image_batches(11, 4, ids), make_views, progress=False)


@pytest.mark.ddp
def test_every_process_gets_all_features_once() -> None:
    for z, labels, ids in run_ddp(_embed_share, 2):
        assert ids.tolist() == list(range(1000, 1011)) and torch.equal(labels, ids % 3)
        torch.testing.assert_close(z, expected_features(), **NETWORK)
