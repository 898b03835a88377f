"""Sizes of splits: shares of a data set, and one error with all that is wrong and sizes that fit."""

import re
from dataclasses import astuple

import pytest

from memlight.data.sizes import SplitSizes
from memlight.data.splits import PairSplit
from memlight.errors import UserError


@pytest.mark.parametrize(
    ("shares", "train", "test", "expected"),
    [
        ([0.8, 0.1, 0.1], 1000, 300, (800, 100, 100, 100)),
        ([0.8, 0.1, 0.1], 1000, 60, (800, 100, 100, 60)),
        ([0.8, 0.1, 0.1], 1100, 0, (800, 100, 100, 100)),
        ([0.7, 0.1, 0.1, 0.1], 1000, 0, (700, 100, 100, 100)),
        ([0.5, 0.1, 0.2], 1000, 0, (416, 83, 166, 166)),
        ([0.8, 0.1, 0.1], 97, 0, (73, 8, 8, 8)),
        ([0.0, 0.5, 0.5], 30, 0, (0, 10, 10, 10)),
    ],
)
def test_shares(shares: list[float], train: int, test: int, expected: tuple[int, ...]) -> None:
    sizes = SplitSizes.of_shares(shares, train, test)
    assert astuple(sizes) == expected
    sizes.require(train, test)
    assert sizes.own + (0 if test else sizes.external) <= train


@pytest.mark.parametrize(
    ("shares", "train", "test", "why"),
    [
        ([0.9, 0.1], 100, 0, "three or four shares"),
        ([0.8, 0.3, -0.1], 100, 0, "three or four shares"),
        ([80, 10, 10], 100, 0, "three or four shares"),
        ([float("nan"), 0.1, 0.1], 100, 0, "three or four shares"),
        ([0.8, 0.2, 0.1], 100, 0, r"add up to 1\.1"),
        ([0.7, 0.1, 0.1, 0.1], 100, 50, "external images are among the 50 test images"),
        ([0.8, 0.1, 0.1], 7, 50, r"0\.1 of 7 images is none \(candidate\)"),
    ],
)
def test_shares_that_are_none(shares: list[float], train: int, test: int, why: str) -> None:
    with pytest.raises(UserError, match=rf"^split=.*{why}"):
        SplitSizes.of_shares(shares, train, test)


@pytest.mark.parametrize(("train", "test"), [(500, 0), (500, 40), (30, 0), (30, 3), (9, 1), (60_000, 10)])
@pytest.mark.parametrize("batch_size", [256, 1, None])
def test_one_error_names_all_that_is_wrong_and_sizes_that_fit(train: int, test: int, batch_size: int | None) -> None:
    def epoch(sizes: SplitSizes) -> int:
        return sizes.shared + sizes.candidate

    with pytest.raises(UserError) as raised:
        SplitSizes(40_000, 5_000, 5_000, 5_000).require(train, test, batch_size=batch_size, epoch=epoch)
    said = str(raised.value)
    assert ("batch_size" in raised.value.argument) == (batch_size == 256 and train < 500)
    assert ("external" in raised.value.argument) == (test > 0)
    offered = {
        name: int(number) for name, number in re.findall(r"`(\w+)=(\d+)`", said.partition("these images take")[2])
    }
    batch = offered.pop("batch_size", batch_size)
    fitting = SplitSizes(**offered)
    assert min(fitting.candidate, fitting.independent) >= 2
    fitting.require(train, test, batch_size=batch, epoch=epoch)
    PairSplit.make(train, test, **offered)
