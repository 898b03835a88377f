import numpy as np
import pytest
import torch
from torch import distributed

from memlight.errors import UserError
from memlight.metrics.classmem import ClassMem, ClassMemResult
from memlight.metrics.functional import class_means, classmem
from tests.ddp import run_ddp


def labelled() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mu = torch.rand(50, 6, generator=generator)
    mu[:, 1] = 0
    return mu, torch.arange(50) % 4, torch.randperm(90, generator=generator)[:50]


def check(result: ClassMemResult) -> None:
    mu, labels, _ = labelled()
    np.testing.assert_allclose(result.classmem, classmem(mu, labels), rtol=1e-12)
    assert torch.equal(result.max_class, class_means(mu, labels).argmax(0))
    assert result.classmem[1] == 0


def test_streaming_equals_the_function_and_counts_images_once() -> None:
    mu, labels, ids = labelled()
    metric = ClassMem(6, 4)
    metric.update(mu[:30], labels[:30], ids[:30])
    metric.update(mu[20:], labels[20:], ids[20:])
    check(metric.compute())


def _share() -> ClassMemResult:
    mu, labels, ids = labelled()
    part = slice(0, 11) if distributed.get_rank() == 0 else slice(11, 50)
    metric = ClassMem(6, 4)
    metric.update(mu[part], labels[part], ids[part])
    return metric.compute()


@pytest.mark.ddp
def test_two_processes_give_what_one_gives() -> None:
    for result in run_ddp(_share, 2):
        check(result)


def test_missing_labels_and_classes_are_refused() -> None:
    mu, labels, ids = labelled()
    with pytest.raises(UserError, match="a class 0 to 3 for every image"):
        ClassMem(6, 4).update(mu, labels - 1, ids)
    metric = ClassMem(6, 5)
    metric.update(mu, labels, ids)
    with pytest.raises(UserError, match="no image of class 4"):
        metric.compute()
    signed = ClassMem(6, 4)
    signed.update(mu - 3, labels, ids)
    with pytest.raises(UserError, match="--activation abs"):
        signed.compute()
