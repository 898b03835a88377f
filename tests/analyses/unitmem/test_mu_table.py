"""Medians from files, block by block, are those of the whole table in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from memlight.analyses.unitmem import resume
from memlight.analyses.unitmem.resume import MuTable, rest_medians
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
    monkeypatch.setattr(resume, "_ENTRIES", entries)
    table = MuTable(paths)
    assert (table.images, table.units) == (N, U)
    np.testing.assert_array_equal(table.columns(slice(2, 5)), mu[:, 2:5])
    medians = rest_medians(table, torch.device("cpu"))
    assert medians.dtype == torch.float64
    np.testing.assert_array_equal(medians, by_loops(mu))


def _medians(directory: str) -> np.ndarray:
    paths = [Path(directory) / f"{part}.npy" for part in range(distributed.get_world_size())]
    return rest_medians(MuTable(paths), torch.device("cpu")).numpy()


@pytest.mark.ddp
def test_processes_share_the_units(tmp_path: Path) -> None:
    mu, _ = write(tmp_path, 2)
    for medians in run_ddp(_medians, 2, str(tmp_path)):
        np.testing.assert_array_equal(medians, by_loops(mu))
