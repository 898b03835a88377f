"""Medians from files, block by block, are those of the whole table in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from memlight.analyses.unitmem import resume, tables
from memlight.analyses.unitmem.resume import MuTable, rest_medians
from memlight.analyses.unitmem.tables import unitmem_curve
from memlight.metrics import functional
from memlight.metrics.unitmem import UnitMem
from tests.ddp import run_ddp

N, U = 11, 7


def write(directory: Path, parts: int) -> tuple[np.ndarray, list[Path]]:
    """A table dealt to so many processes in turn."""
    mu = np.random.default_rng(0).gamma(2.0, size=(N, U)).astype(np.float32)
    mu[:, 2] = 0.5  # ties everywhere
    paths = [directory / f"{part}.npy" for part in range(parts)]
    for part, path in enumerate(paths):
        np.save(path, mu[part::parts])
    return mu, paths


def by_loops(mu: np.ndarray) -> list[float]:
    return [float(np.median(sorted(column.astype(np.float64))[:-1])) for column in mu.T]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("entries", [1, 3 * N, 1 << 20])
def test_blocks_of_any_size(parts: int, entries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mu, paths = write(tmp_path, parts)
    for module in (resume, functional, tables):
        monkeypatch.setattr(module, "BLOCK_ENTRIES", entries)
    table = MuTable(paths)
    assert (table.images, table.units) == (N, U)
    np.testing.assert_array_equal(table.columns(slice(2, 5)), mu[:, 2:5])
    medians = rest_medians(table, torch.device("cpu"))
    assert medians.dtype == torch.float64
    np.testing.assert_array_equal(medians, by_loops(mu))
    in_memory = UnitMem(U, keep_table=True)
    in_memory.update(torch.from_numpy(mu), torch.arange(N))
    result = in_memory.compute()
    curve = unitmem_curve(
        {"a": result.units(slice(0, 3)), "b": result.units(slice(3, U))}, [4, N], columns=table.columns
    )
    whole = unitmem_curve({"a": result.units(slice(0, 3)), "b": result.units(slice(3, U))}, [4, N])
    np.testing.assert_allclose(curve["mean"], whole["mean"], rtol=1e-12)
    order = np.random.default_rng(0).permutation(N)[:4]
    scores = [(max(x) - (sum(x) - max(x)) / 3) / (max(x) + (sum(x) - max(x)) / 3) for x in mu[order][:, :3].T.tolist()]
    np.testing.assert_allclose(whole["mean"][0], np.mean(scores), rtol=1e-6)


def _medians(directory: str) -> np.ndarray:
    paths = [Path(directory) / f"{part}.npy" for part in range(distributed.get_world_size())]
    return rest_medians(MuTable(paths), torch.device("cpu")).numpy()


@pytest.mark.ddp
def test_processes_share_the_units(tmp_path: Path) -> None:
    mu, _ = write(tmp_path, 2)
    for medians in run_ddp(_medians, 2, str(tmp_path)):
        np.testing.assert_array_equal(medians, by_loops(mu))
