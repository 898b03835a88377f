"""Many encoders evaluated in shared passes get the numbers that each gets alone."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from memlight.analyses.probe import accuracy
from memlight.analyses.probe.accuracy import Accuracy, encoders_at_once, measure_accuracy
from memlight.analyses.probe.command import ProbeOptions
from memlight.data.images import ImageDataModule
from memlight.models.encoders import build_encoder, load_encoder, read_metadata
from memlight.storage.rundir import RunDir

OPTIONS = ProbeOptions(k=5)


@pytest.fixture(scope="module")
def data(trained: RunDir) -> ImageDataModule:
    data = ImageDataModule(**read_metadata(trained.member("candidate").encoder)["data"])
    data.setup()
    return data


@pytest.fixture(scope="module")
def encoders(trained: RunDir) -> list[nn.Module]:
    first = load_encoder(trained.member("candidate").encoder)
    return [first, load_encoder(trained.member("independent").encoder), first]


@pytest.fixture(scope="module")
def alone(encoders: list[nn.Module], data: ImageDataModule) -> list[Accuracy]:
    return [next(iter(measure_accuracy([one], data, OPTIONS, progress=False))) for one in encoders]


def assert_same(found: list[Accuracy], expected: list[Accuracy]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert a.linear[:4] == b.linear[:4]
        assert torch.equal(a.linear.right, b.linear.right)
        assert a.knn == b.knn


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_how_many_share_a_pass_changes_no_number(
    encoders: list[nn.Module],
    data: ImageDataModule,
    alone: list[Accuracy],
    at_once: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accuracy, "encoders_at_once", lambda *_: at_once)
    assert_same(list(measure_accuracy(encoders, data, OPTIONS, progress=False)), alone)
    assert_same(alone[2:], alone[:1])


def test_encoders_are_made_when_they_are_needed(
    encoders: list[nn.Module], data: ImageDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accuracy, "encoders_at_once", lambda *_: 2)
    made = 0

    def makes() -> Iterator[nn.Module]:
        nonlocal made
        for encoder in encoders:
            made += 1
            yield encoder

    results = measure_accuracy(makes(), data, OPTIONS, progress=False)
    next(results)
    assert made == 2
    next(results)
    next(results)
    assert made == 3


def test_right_images_are_the_accuracy(alone: list[Accuracy]) -> None:
    for linear, _ in alone:
        assert linear.right.dtype == torch.bool
        assert len(linear.right) == linear.n_test
        assert float(linear.right.float().mean()) == linear.top1


def test_memory_holds_weights_and_features(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build_encoder("resnet9", seed=0)
    weights = sum(t.numel() * t.element_size() for t in encoder.state_dict().values())
    monkeypatch.setattr(accuracy, "BUDGET", 3 * (weights + 4 * 256 * 100) + 1)
    assert encoders_at_once(encoder, 100) == 3
    assert encoders_at_once(encoder, 10**9) == 1
