"""The scores against plain loops in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from memlight.errors import UserError
from memlight.metrics.functional import alignment, classmem, contrast, delta, sslmem, sslmem_of_sets, unitmem
from tests.close import DOUBLE


def loop_alignment(z: Tensor, distance: str, normalize: bool, pairs: str) -> list[float]:
    views, images = z.shape[:2]
    means = []
    for b in range(images):
        vectors = []
        for v in range(views):
            vector = z[v, b].double().flatten().numpy()
            norm = np.sqrt((vector**2).sum())
            scaled = normalize or distance in ("cosine", "angular")
            vectors.append(vector / norm if scaled and norm > 0 else vector)
        distances = []
        for i, j in itertools.combinations(range(views), 2):
            if pairs == "clean" and i != 0:
                continue
            difference = vectors[i] - vectors[j]
            chord = np.sqrt((difference**2).sum())
            if distance == "l1":
                distances.append(np.abs(difference).sum())
            elif distance == "cosine":
                distances.append(chord**2 / 2)
            elif distance == "angular":
                distances.append(2 * math.asin(min(1.0, chord / 2)) / math.pi)
            else:
                distances.append(chord)
        means.append(float(np.mean(distances)))
    return means


def features(kind: str, views: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(views * 1000 + width)
    z = torch.randn(views, 4, width, generator=generator)
    noise = torch.randn(views, 4, width, generator=generator)
    if kind == "one near pair among far ones":
        z[1] = z[0] + 1e-4 * noise[0]
    elif kind == "all near":
        z = z[:1] + 1e-4 * noise
    elif kind == "near after scaling":
        z[1] = 3 * z[0] + 1e-4 * noise[0]
    elif kind == "far from the origin":
        z = z + 100
    elif kind == "sparse with dead views":
        z = z.relu() * (noise > 0.5)
        z[0, 0] = 0
        z[:, 1] = 0
    return z


KINDS = (
    *("far apart", "one near pair among far ones", "all near", "near after scaling"),
    *("far from the origin", "sparse with dead views"),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("views", "width"), [(2, 3), (5, 4099), (10, 4096)])
@pytest.mark.parametrize("normalize", [True, False])
def test_alignment_equals_loops(kind: str, views: int, width: int, normalize: bool) -> None:
    z = features(kind, views, width)
    for pairs in ("all", "clean"):
        expected = loop_alignment(z, "l2", normalize, pairs)
        np.testing.assert_allclose(alignment(z, "l2", normalize, pairs).numpy(), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("distance", ["l1", "cosine", "angular"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_distances_equal_loops(distance: str, kind: str) -> None:
    z = features(kind, 4, 257)
    expected = loop_alignment(z, distance, True, "all")
    np.testing.assert_allclose(alignment(z, distance).numpy(), expected, rtol=2e-6, atol=1e-12)


def test_identical_views_align_exactly_and_opposite_ones_are_two_apart() -> None:
    z = torch.randn(1, 3, 50).expand(4, 3, 50)
    assert alignment(z).eq(0).all()
    assert alignment(z, "angular").eq(0).all()
    opposite = torch.stack([z[0], -z[0]])
    torch.testing.assert_close(alignment(opposite), torch.full((3,), 2.0))
    torch.testing.assert_close(alignment(opposite, "angular"), torch.ones(3), atol=1e-3, rtol=0)


def test_alignment_flattens_maps_and_keeps_float64() -> None:
    maps = torch.randn(3, 2, 4, 5, 5, dtype=torch.float64)
    assert alignment(maps).dtype == torch.float64
    torch.testing.assert_close(alignment(maps), alignment(maps.flatten(2)), **DOUBLE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_lose_nothing_more(dtype: torch.dtype) -> None:
    z = torch.randn(4, 3, 300).to(dtype)
    np.testing.assert_allclose(alignment(z).numpy(), loop_alignment(z.float(), "l2", True, "all"), rtol=1e-6)


def test_autocast_and_low_matmul_precision_do_not_reach_alignment() -> None:
    z = features("one near pair among far ones", 5, 512)
    expected = alignment(z)
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(alignment(z), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_features_that_are_not_finite_stay_visible() -> None:
    z = torch.randn(3, 4, 8)
    z[1, 0, 3] = torch.nan
    z[:, 1] = torch.nan
    z[:, 2, 0] = torch.inf
    for distance in ("l2", "l1", "cosine", "angular"):
        assert alignment(z, distance).isfinite().tolist() == [False, False, False, True]


@pytest.mark.parametrize("arguments", [{"distance": "l3"}, {"pairs": "some"}, {"z_VBD": torch.zeros(1, 2, 3)}], ids=str)
def test_alignment_refuses_what_it_does_not_know(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"l2, l1|all or clean|at least 2"):
        alignment(**{"z_VBD": torch.zeros(2, 2, 3), **arguments})


def test_sslmem_scales() -> None:
    f, g = torch.tensor([0.2, 0.5, 0.0]), torch.tensor([0.6, 0.3, 0.0])
    torch.testing.assert_close(sslmem(f, g), torch.tensor([0.5, -0.25, 0.0]))
    torch.testing.assert_close(sslmem(f, g, "none"), torch.tensor([0.4, -0.2, 0.0]))
    torch.testing.assert_close(sslmem(f, g, "range"), torch.tensor([0.4, -0.2, 0.0]) / 0.6)
    sets = [(f, g), (torch.tensor([0.1, 0.2]), torch.tensor([0.9, 0.1]))]
    first, second = sslmem_of_sets(sets, "range")
    torch.testing.assert_close(first, torch.tensor([0.4, -0.2, 0.0]) / 1.0)
    torch.testing.assert_close(second, torch.tensor([0.8, -0.1]) / 1.0)
    for scale in ("ratio", "none"):
        for (of_f, of_g), scores in zip(sets, sslmem_of_sets(sets, scale), strict=True):
            assert torch.equal(scores, sslmem(of_f, of_g, scale))
    assert torch.equal(sslmem_of_sets([(f, g)], "range")[0], sslmem(f, g, "range"))


def test_one_image_far_out_makes_no_contrast() -> None:
    """Nothing is memorised: g is less smooth than f alike on all images. One independent image lies far out."""
    generator = torch.Generator().manual_seed(0)
    f, f2 = (1 + 0.02 * torch.randn(300, generator=generator, dtype=torch.float64) for _ in range(2))
    g, g2 = (of_f + 0.1 + 0.02 * torch.randn(300, generator=generator, dtype=torch.float64) for of_f in (f, f2))
    g2[0] += 0.5
    value, error = contrast(*(sslmem(*pair, "range") for pair in ((f, g), (f2, g2))))
    assert value / error > 10  # each in its own range: two units
    value, error = contrast(*sslmem_of_sets([(f, g), (f2, g2)], "range"))
    assert abs(value / error) < 2
    with pytest.raises(ValueError, match="ratio, range or none"):
        sslmem(f, g, "percent")


def test_delta_starts_with_nan() -> None:
    steps = delta(torch.tensor([0.1, 0.3, 0.2]))
    assert steps[0].isnan()
    torch.testing.assert_close(steps[1:], torch.tensor([0.2, -0.1]))


def test_contrast_cancels_what_both_share() -> None:
    rng = np.random.default_rng(0)
    c, i = rng.normal(0.3, 0.1, 400), rng.normal(0.1, 0.2, 250)
    value, error = contrast(torch.tensor(c), torch.tensor(i))
    shifted, _ = contrast(torch.tensor(c - 5), torch.tensor(i - 5))
    np.testing.assert_allclose(float(value), (c.mean() - i.mean()) / 2)
    np.testing.assert_allclose(float(error), np.sqrt(c.var(ddof=1) / 400 + i.var(ddof=1) / 250) / 2)
    np.testing.assert_allclose(float(shifted), float(value))


def loop_unitmem(mu: np.ndarray, reference: str) -> list[float]:
    scores = []
    for unit in range(mu.shape[1]):
        column = mu[:, unit].tolist()
        strongest = column.index(max(column))
        others = column[:strongest] + column[strongest + 1 :]
        rest = np.mean(others) if reference == "mean" else np.median(others)
        total = column[strongest] + rest
        scores.append(0.0 if total == 0 else (column[strongest] - rest) / total)
    return scores


@pytest.mark.parametrize("reference", ["mean", "median"])
@pytest.mark.parametrize("images", [2, 3, 10, 11])
def test_unitmem_equals_loops(reference: str, images: int) -> None:
    mu = np.random.default_rng(images).gamma(1.0, size=(images, 20)).astype(np.float32)
    mu[:, 3] = 0  # dead
    mu[:, 4] = 0.7  # constant
    mu[:, 5] = 0
    mu[1, 5] = 2  # fires for one image only
    scores = unitmem(torch.from_numpy(mu), reference).numpy()
    np.testing.assert_allclose(scores, loop_unitmem(mu.astype(np.float64), reference), rtol=1e-6, atol=1e-12)
    assert scores[3] == scores[4] == 0 and scores[5] == 1


def test_unitmem_needs_two_images_and_a_known_reference() -> None:
    with pytest.raises(ValueError, match="2 needed"):
        unitmem(torch.ones(1, 3))
    with pytest.raises(ValueError, match="mean or median"):
        unitmem(torch.ones(2, 3), "mode")


@pytest.mark.parametrize("reference", ["mean", "median"])
def test_classmem_equals_loops(reference: str) -> None:
    rng = np.random.default_rng(1)
    mu, labels = rng.gamma(1.0, size=(60, 7)), rng.permutation(np.arange(60) % 5)
    means = np.array([[np.mean([mu[i, u] for i in range(60) if labels[i] == c]) for u in range(7)] for c in range(5)])
    scores = classmem(torch.from_numpy(mu), torch.from_numpy(labels), reference)
    np.testing.assert_allclose(scores.numpy(), loop_unitmem(means, reference), rtol=1e-12)


def test_classmem_names_missing_labels_and_classes() -> None:
    with pytest.raises(UserError, match="label for every image"):
        classmem(torch.ones(3, 2), torch.tensor([0, 1, -1]))
    with pytest.raises(UserError, match="no image of class 1"):
        classmem(torch.ones(3, 2), torch.tensor([0, 2, 2]))
