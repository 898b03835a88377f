"""Exact search against plain loops: every metric, both backends, near-duplicates, ties, pieces, resume."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from memlight.errors import UserError
from memlight.patches import index as index_module
from memlight.patches import nearest as nearest_module
from memlight.patches import search as search_module
from memlight.patches.nearest import SearchProgress
from memlight.patches.search import Backend, nearest_patches
from memlight.patches.space import Metric

METRICS: tuple[Metric, ...] = ("l2", "cosine", "l2_normalized")
Array = NDArray[np.float32]


def oracle(queries: Array, rows: Array, k: int, metric: Metric) -> tuple[Array, NDArray[np.int64]]:
    """Every pair compared in float64, one at a time."""
    distances = np.empty((len(queries), k), np.float32)
    indices = np.empty((len(queries), k), np.int64)
    for i, query in enumerate(queries.astype(np.float64)):
        found = []
        for j, row in enumerate(rows.astype(np.float64)):
            if metric == "l2":
                distance = np.sqrt(((query - row) ** 2).sum())
            else:
                a, b = query / np.sqrt((query**2).sum()), row / np.sqrt((row**2).sum())
                distance = ((a - b) ** 2).sum() / 2 if metric == "cosine" else np.sqrt(((a - b) ** 2).sum())
            found.append((np.float32(distance), j))
        for place, (distance, j) in enumerate(sorted(found)[:k]):
            distances[i, place], indices[i, place] = distance, j
    return distances, indices


@pytest.fixture(scope="module")
def vectors() -> tuple[Array, Array]:
    """Long vectors close together, with near and exact duplicates of rows and of queries among the rows."""
    rng = np.random.default_rng(0)
    rows = (30 + 0.5 * rng.standard_normal((500, 24))).astype(np.float32)
    queries = (30 + 0.5 * rng.standard_normal((40, 24))).astype(np.float32)
    rows[100:140] = rows[0]
    rows[200:210] = queries[:10] + np.float32(0.03 / np.sqrt(24)) * rng.choice([-1, 1], (10, 24)).astype(np.float32)
    queries[10] = rows[0]
    return queries, rows


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("backend", ["torch", "faiss"])
@pytest.mark.parametrize("k", [1, 5])
def test_every_pair_compared(
    metric: Metric, backend: Backend, k: int, vectors: tuple[Array, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "PIECE_ROWS", 128)
    found = nearest_patches(*vectors, k, metric, backend)
    distances, indices = oracle(*vectors, k, metric)
    assert np.array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_a_coarse_product_changes_nothing(metric: Metric, vectors: tuple[Array, Array]) -> None:
    coarse = nearest_patches(*vectors, 5, metric, product=torch.float16)
    fine = nearest_patches(*vectors, 5, metric)
    assert np.array_equal(coarse.indices, fine.indices) and np.array_equal(coarse.distances, fine.distances)
    assert coarse.widened > 0


def test_many_equal_rows_are_searched_again_and_the_lowest_win(vectors: tuple[Array, Array]) -> None:
    found = nearest_patches(*vectors, 3)
    assert found.widened > 0
    assert found.indices[10].tolist() == [0, 100, 101]
    assert found.distances[10].tolist() == [0, 0, 0]


def test_a_near_duplicate_keeps_its_distance(vectors: tuple[Array, Array]) -> None:
    found = nearest_patches(*vectors)
    assert found.indices[:10, 0].tolist() == list(range(200, 210))
    np.testing.assert_allclose(found.distances[:10, 0], 0.03, rtol=1e-3)


def test_groups_blocks_and_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows, queries = rng.standard_normal((3000, 8), np.float32), rng.standard_normal((1030, 8), np.float32)
    whole = nearest_patches(queries, rows, 4)
    distances = ((queries[:, None].astype(np.float64) - rows) ** 2).sum(2)
    assert np.array_equal(whole.indices, distances.argsort(1, kind="stable")[:, :4])
    monkeypatch.setattr(index_module, "PIECE_ROWS", 700)
    monkeypatch.setattr(index_module, "SHARD_ROWS", 1300)
    parts = nearest_patches(torch.from_numpy(queries), torch.from_numpy(rows), 4)
    assert np.array_equal(whole.indices, parts.indices) and np.array_equal(whole.distances, parts.distances)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rows_are_taken_as_they_are(dtype: torch.dtype, vectors: tuple[Array, Array]) -> None:
    queries, rows = (torch.from_numpy(array).to(dtype) for array in vectors)
    found = nearest_patches(queries, rows, 2, "cosine")
    distances, indices = oracle(queries.float().numpy(), rows.float().numpy(), 2, "cosine")
    assert np.array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-6, atol=1e-12)


def test_fewer_rows_than_k() -> None:
    found = nearest_patches(np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32), 4)
    assert found.indices.tolist() == [[0, 1, -1, -1]] * 2
    assert np.isinf(found.distances[:, 2:]).all()


def test_several_devices_share_the_shards(monkeypatch: pytest.MonkeyPatch, vectors: tuple[Array, Array]) -> None:
    monkeypatch.setattr(index_module, "SHARD_ROWS", 90)
    alone = nearest_patches(*vectors, 5)
    monkeypatch.setattr(search_module, "available_devices", lambda: [torch.device("cpu")] * 3)
    together = nearest_patches(*vectors, 5)
    assert np.array_equal(alone.indices, together.indices) and np.array_equal(alone.distances, together.distances)


def test_an_interrupted_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vectors: tuple[Array, Array]
) -> None:
    queries, rows = vectors
    monkeypatch.setattr(index_module, "SHARD_ROWS", 100)
    monkeypatch.setattr(nearest_module, "SAVE_SECONDS", 0)
    read = index_module.Index.read
    searched: list[int] = []
    failures = [OSError()]

    def stopping(self: index_module.Index, piece: index_module.Piece, device: torch.device) -> torch.Tensor:
        if piece.shard == 3 and failures:
            raise failures.pop()
        searched.append(piece.shard)
        return read(self, piece, device)

    def saved(metric: str = "l2") -> SearchProgress:
        return SearchProgress(tmp_path / "progress.npz", {"metric": metric}, len(queries), 2)

    monkeypatch.setattr(index_module.Index, "read", stopping)
    monkeypatch.setattr(index_module.Index, "all", lambda self, device: torch.from_numpy(self._rows))
    with pytest.raises(OSError):
        nearest_patches(queries, rows, 2, saved=saved())
    found = nearest_patches(queries, rows, 2, saved=saved())
    assert searched == [0, 1, 2, 3, 4]
    assert np.array_equal(found.indices, nearest_patches(queries, rows, 2).indices)
    again = len(searched)
    nearest_patches(queries, rows, 2, "cosine", saved=saved("cosine"))
    assert len(searched) == again + 5, "what another search left is not used"


@pytest.mark.parametrize(("value", "says"), [(0.0, "row 3 is zero"), (np.nan, "row 3 holds NaN")])
@pytest.mark.parametrize("where", ["queries", "index"])
def test_rows_that_cannot_be_compared(value: float, says: str, where: Literal["queries", "index"]) -> None:
    arrays = {"queries": np.ones((5, 4), np.float32), "index": np.ones((6, 4), np.float32)}
    arrays[where][3] = value
    with pytest.raises(UserError, match=f"^{where}: {says}"):
        nearest_patches(arrays["queries"], arrays["index"], metric="cosine")
