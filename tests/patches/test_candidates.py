"""The best rows of several tiles, against a full sort."""

import pytest
import torch

from memlight.patches.candidates import best_rows


@pytest.mark.parametrize("order", ["random", "rising", "falling"])
@pytest.mark.parametrize("rows", [3 * 1024, 2500])
def test_the_best_rows_of_a_full_sort(order: str, rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, x = torch.randn(1100, 3, generator=generator), torch.randn(rows, 3, generator=generator)
    bias = torch.randn(rows, generator=generator)
    if order != "random":
        bias = 100 * bias.sort(descending=order == "falling").values
    scores, found = best_rows(q, x, bias, 5, torch.full((1100,), float("-inf")))
    oracle = torch.addmm(bias, q, x.T).topk(5, dim=1)
    torch.testing.assert_close(scores, oracle.values)
    assert (found == oracle.indices).float().mean() > 0.999, "rounding alone may swap two"


def test_only_rows_above_the_floor_count() -> None:
    q, x = torch.ones(2, 1), torch.arange(2048.0)[:, None]
    scores, found = best_rows(q, x, torch.zeros(2048), 3, torch.tensor([2045.0, 5000.0]))
    assert found.tolist() == [[2047, 2046, -1], [-1, -1, -1]]
    assert scores.tolist() == [[2047, 2046, float("-inf")], [float("-inf")] * 3]
