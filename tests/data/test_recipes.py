import pytest
import torch
from scipy import stats
from torchvision.transforms import ColorJitter

from memlight.data.augment import NUM_DRAWS, draw
from memlight.data.color import BRIGHTNESS, HUE
from memlight.data.recipes import VIEW_SETS, Recipe
from memlight.random import uniforms

N = 20_000


def drawn(recipe: Recipe):
    return draw(recipe, uniforms(0, torch.arange(N), epoch=0, view=0, draws=NUM_DRAWS), 32, 32)


# METHODS of the suite, section 5: flip, vertical flip, jitter and its strengths, gray, invert.
TABLE = {
    "clean": (0, 0, 0, (0, 0, 0, 0), 0, 0),
    "simclr": (0.5, 0, 0.8, (0.8, 0.8, 0.8, 0.2), 0.2, 0),
    "p_normal": (1, 0, 0.8, (0.8, 0.8, 0.8, 0.2), 0.2, 0),
    "weak": (0.5, 0, 0.4, (0.9, 0.9, 0.9, 0.5), 0.1, 0),
    "strong": (1, 1, 0.9, (0.9, 0.9, 0.9, 0.5), 0.5, 0),
    "independent": (0, 1, 0, (0, 0, 0, 0), 0, 0.2),
    "unitmem_code": (0.25, 0, 0.9, (0.9, 0.9, 0.9, 0.1), 0.1, 0),
    "var": (0.25, 0, 0.9, (0.9, 0.9, 0.9, 0.1), 0.1, 0),
    "dino": (0.5, 0, 0.8, (0.4, 0.4, 0.2, 0.1), 0.2, 0),
    "mae": (0.5, 0, 0, (0, 0, 0, 0), 0, 0),
}


@pytest.mark.parametrize("name", sorted(VIEW_SETS))
def test_every_set_does_what_its_row_says_as_often_as_it_says(name):
    flip, vertical_flip, jittered, strengths, gray, invert = TABLE[name]
    params = drawn(VIEW_SETS[name].recipes[0])
    is_jittered = (params.jitter.factors != torch.tensor([1.0, 1.0, 1.0, 0.0])).any(dim=1)
    for happens, probability in (
        (params.flip, flip),
        (params.vertical_flip, vertical_flip),
        (is_jittered, jittered),
        (params.gray, gray),
        (params.invert, invert),
    ):
        assert abs(int(happens.sum()) - N * probability) <= 4 * (N * probability * (1 - probability)) ** 0.5
    low = torch.tensor([max(0.0, 1 - s) for s in strengths[:3]] + [-strengths[HUE]])
    high = torch.tensor([1.0 + s for s in strengths[:3]] + [strengths[HUE]])
    assert (params.jitter.factors >= low - 1e-6).all() and (params.jitter.factors <= high + 1e-6).all()
    if jittered:
        torch.testing.assert_close(params.jitter.factors.amin(dim=0), low, atol=2e-3, rtol=0)
        torch.testing.assert_close(params.jitter.factors.amax(dim=0), high, atol=2e-3, rtol=0)


def test_jitter_is_drawn_as_torchvisions():
    recipe = Recipe(jitter=(0.8, 1.4, 0.3, 0.2), jitter_probability=1.0)
    ours = drawn(recipe).jitter
    transform = ColorJitter(*recipe.jitter)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = [
            ColorJitter.get_params(transform.brightness, transform.contrast, transform.saturation, transform.hue)
            for _ in range(4000)
        ]
    for operation in range(4):
        factors = [params[1 + operation] for params in theirs]
        assert stats.ks_2samp(ours.factors[:, operation].double().numpy(), factors).pvalue > 1e-3
    numbered = (ours.order * torch.tensor([64, 16, 4, 1])).sum(dim=1)
    counts = torch.unique(numbered, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert abs(stats.spearmanr(ours.order[:, 0], ours.factors[:, BRIGHTNESS]).statistic) < 5 / N**0.5


def test_blurs_and_boxes_of_every_kind_of_view():
    sets = {name: VIEW_SETS[name].recipes for name in ("simclr", "independent", "dino", "mae")}
    assert [r.blur for r in sets["simclr"]] == [0.5] and sets["simclr"][0].blur_from == 64
    assert sets["independent"][0].blur == 0.8
    assert [r.blur for r in sets["dino"]] == [1.0, 0.1] + [0.5] * 8
    assert [r.solarize for r in sets["dino"]] == [0.0, 0.2] + [0.0] * 8
    assert [r.crop_scale for r in sets["dino"]] == [(0.4, 1.0)] * 2 + [(0.05, 0.4)] * 8
    assert sets["mae"][0].crop_scale == (0.2, 1.0)
    params = drawn(sets["dino"][5])
    share = params.boxes.height * params.boxes.width / 32**2
    assert share.min() > 0.03 and share.max() < 0.45
    sigma = params.sigma.double().numpy()
    assert stats.kstest(sigma, "uniform", args=(0.1, 1.9)).pvalue > 1e-3


def test_two_sets_that_crop_alike_crop_the_same_box():
    assert torch.equal(
        torch.stack(drawn(VIEW_SETS["simclr"].recipes[0]).boxes),
        torch.stack(drawn(VIEW_SETS["weak"].recipes[0]).boxes),
    )
