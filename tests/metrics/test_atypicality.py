"""Measures of atypicality against plain loops."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from memlight.metrics import atypicality
from memlight.metrics.atypicality import class_distance, neighbour_disagreement


def images(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Nine images, three of them among the 20 reference images."""
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(20, 4, generator=generator)
    reference_labels = torch.arange(20) % 3
    place = torch.tensor([-1, 4, -1, -1, 11, -1, 19, -1, -1])
    z, labels = torch.randn(9, 4, generator=generator), torch.arange(9) % 3
    inside = place >= 0
    z[inside], labels[inside] = reference[place[inside]], reference_labels[place[inside]]
    return z, labels, reference, reference_labels, place


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))


def test_distance_to_the_class_is_that_of_a_loop() -> None:
    z, labels, reference, reference_labels, place = images()
    for row, found in enumerate(class_distance(z, labels, reference, reference_labels, place).tolist()):
        centroid = [0.0] * 4
        for other in range(20):
            if reference_labels[other] == labels[row] and other != place[row]:
                length = math.sqrt(sum(x * x for x in reference[other].tolist()))
                centroid = [c + x / length for c, x in zip(centroid, reference[other].tolist(), strict=True)]
        assert found == pytest.approx(1 - cosine(z[row].tolist(), centroid), abs=1e-6)


def test_a_class_without_other_images_has_no_centroid() -> None:
    z, reference = torch.randn(3, 4), torch.randn(2, 4)
    z[0] = reference[0]
    arguments = (torch.tensor([0, 1, 2]), reference, torch.tensor([0, 1]), torch.tensor([0, -1, -1]))
    assert class_distance(z, *arguments).isnan().tolist() == [True, False, True]


@pytest.mark.parametrize("entries", [1 << 24, 40])
@pytest.mark.parametrize("k", [1, 5, 50])
def test_disagreement_is_that_of_a_loop(k: int, entries: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atypicality, "_ENTRIES", entries)
    z, labels, reference, reference_labels, place = images(1)
    expected = []
    for row in range(9):
        others = [other for other in range(20) if other != place[row]]
        others.sort(key=lambda other: -cosine(z[row].tolist(), reference[other].tolist()))
        nearest = others[: min(k, 19)]
        expected.append(sum(int(reference_labels[other] != labels[row]) for other in nearest) / len(nearest))
    found = neighbour_disagreement(z, labels, reference, reference_labels, place, k)
    np.testing.assert_allclose(found, expected)
