"""Retrieval of an image's other corner: ranks against loops, one image at a time, in two processes."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from memlight.metrics import retrieval
from memlight.metrics.retrieval import (
    CORNERS,
    CornerResult,
    CornerRetrieval,
    corner_crop,
    corner_ranks,
    measure_retrieval,
)
from tests.close import NETWORK
from tests.ddp import run_ddp
from tests.metrics.tiny import LAYERS, TinyEncoder, image_batches, make_views, one_by_one

WIDTHS = {"stem": 6, "body.0": 6, "body.3": 8, "head": 5}


def features(images: int = 40, width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    content = torch.randn(images, width, generator=generator)
    first, second = (content + 0.8 * torch.randn(images, width, generator=generator) + 1 for _ in range(2))
    return first, second


def rank_of(query: list[float], own: int, keys: list[list[float]]) -> float:
    """1 + keys that are more similar + half of those that are as similar, by plain loops."""

    def cosine(a: list[float], b: list[float]) -> float:
        lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0

    mine, rank = cosine(query, keys[own]), 1.0
    for other, key in enumerate(keys):
        if other != own:
            theirs = cosine(query, key)
            rank += 0.5 if abs(theirs - mine) < 1e-7 else float(theirs > mine)
    return rank


@pytest.mark.parametrize("entries", [1 << 22, 7])
def test_ranks_are_those_of_a_loop(entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_ENTRIES", entries)
    first, second = features()
    second[7], first[9] = second[3], 0  # two crops that are alike, and one without features
    a, b = first.double().tolist(), second.double().tolist()
    expected = [[rank_of(x[i], i, y) for i in range(40)] for x, y in ((a, b), (b, a))]
    np.testing.assert_allclose(corner_ranks(first, second), expected)


def test_features_that_say_nothing_rank_in_the_middle() -> None:
    ranks = corner_ranks(torch.ones(9, 3), torch.ones(9, 3))
    assert (ranks == 5).all()
    assert (CornerResult(torch.ones(9, 3), torch.ones(9, 3), torch.arange(9)).top1 == 0).all()


def test_crops_that_know_each_other_come_first() -> None:
    first, _ = features()
    result = CornerResult(first, 3 * first, torch.arange(40))
    assert (result.reciprocal_rank == 1).all() and (result.top1 == 1).all()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9)])
def test_corners_have_no_pixel_in_common(height: int, width: int) -> None:
    images = torch.arange(height * width).view(1, 1, height, width)
    first, second = (set(corner_crop(images, corner).flatten().tolist()) for corner in range(CORNERS))
    assert len(first) == len(second) == (height // 2) * (width // 2) and not first & second
    assert 0 in first and height * width - 1 in second


@pytest.mark.parametrize(("batch_size", "max_forward"), [(12, 1024), (5, 1)])
def test_measure_equals_one_image_one_crop_at_a_time(batch_size: int, max_forward: int) -> None:
    encoders = [TinyEncoder(0), TinyEncoder(1)]
    results = measure_retrieval(
        encoders, image_batches(12, batch_size), make_views, WIDTHS, max_forward=max_forward, progress=False
    )
    for encoder, of_encoder in zip(encoders, results, strict=True):
        outputs = one_by_one(encoder, 12, CORNERS)
        assert list(of_encoder) == LAYERS
        for layer, result in of_encoder.items():
            means = outputs[layer].flatten(3).mean(3) if outputs[layer].ndim > 3 else outputs[layer]
            expected = corner_ranks(means[:, 0], means[:, 1])
            np.testing.assert_allclose(result.reciprocal_rank, expected.reciprocal().mean(0), **NETWORK)
            assert result.ids.tolist() == list(range(1000, 1012))


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    first, second = features()
    with pytest.raises(ValueError, match="do not belong together"):
        CornerRetrieval(5).update(first, second[:3], torch.arange(40))


def _padded_share() -> Tensor:
    first, second = features()
    rows = torch.arange(0, 22) if torch.distributed.get_rank() == 0 else torch.arange(18, 40)
    metric = CornerRetrieval(5)
    metric.update(first[rows], second[rows], rows)
    return metric.compute().reciprocal_rank


@pytest.mark.ddp
def test_processes_that_pad_and_repeat_give_what_one_gives() -> None:
    expected = CornerResult(*features(), torch.arange(40)).reciprocal_rank
    for found in run_ddp(_padded_share, 2):
        np.testing.assert_allclose(found, expected)
