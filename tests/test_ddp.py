import pytest
import torch
from torch import distributed

from tests.ddp import run_ddp

pytestmark = pytest.mark.ddp


def _sum_of_ranks(offset: int) -> torch.Tensor:
    value = torch.tensor([distributed.get_rank() + offset])
    distributed.all_reduce(value)
    return value


def _rank_one_fails() -> int:
    if distributed.get_rank() == 1:
        raise KeyError("the reason")
    return 0


def test_every_rank_returns_what_the_group_computed() -> None:
    assert [int(value) for value in run_ddp(_sum_of_ranks, 2, 10)] == [21, 21]


def test_a_failing_rank_is_reported_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="the reason"):
        run_ddp(_rank_one_fails, 2)
