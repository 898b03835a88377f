import pytest
import torch

from memlight import dist
from tests.ddp import run_ddp


def _gather() -> tuple[torch.Tensor, torch.Tensor, tuple[int, int, bool]]:
    length = [0, 3][dist.rank()]
    rows = torch.arange(2 * length, dtype=torch.int64).view(length, 2) + 10 * dist.rank()
    equal = torch.tensor([float(dist.rank())], requires_grad=True)
    dist.barrier()
    return dist.gather_cat(rows), dist.gather_cat(equal), (dist.rank(), dist.world_size(), dist.is_distributed())


@pytest.mark.ddp
def test_uneven_rows_arrive_in_rank_order_everywhere() -> None:
    for rank, (rows, equal, place) in enumerate(run_ddp(_gather, 2)):
        assert rows.tolist() == [[10, 11], [12, 13], [14, 15]] and rows.dtype == torch.int64
        assert equal.tolist() == [0.0, 1.0] and not equal.requires_grad
        assert place == (rank, 2, True)


def test_one_process_is_the_ordinary_case() -> None:
    rows = torch.ones(2, 3)
    assert dist.gather_cat(rows) is rows
    dist.barrier()
    assert (dist.rank(), dist.world_size(), dist.is_distributed()) == (0, 1, False)
