import json

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from memlight.data import augment
from memlight.data.augment import Views, draw
from memlight.data.color import BRIGHTNESS, CONTRAST, HUE, SATURATION
from memlight.data.geometry import blur_kernel_size
from memlight.data.recipes import VIEW_SETS
from memlight.errors import UserError
from memlight.random import ANALYSIS, uniforms
from tests.close import PIXELS

OPERATIONS = {
    BRIGHTNESS: F.adjust_brightness,
    CONTRAST: F.adjust_contrast,
    SATURATION: F.adjust_saturation,
    HUE: F.adjust_hue,
}


def photos(n, height=32, width=32, channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, height, width), generator=generator, dtype=torch.uint8)


def torchvision_view(recipe, image, params, i, size):
    """One view, one image, torchvision's functions in the order its authors compose them."""
    box = [int(side[i]) for side in params.boxes]
    x = F.resized_crop(image.float() / 255, *box, size=[size, size], antialias=True)
    x = F.horizontal_flip(x) if params.flip[i] else x
    x = F.vertical_flip(x) if params.vertical_flip[i] else x
    if recipe.jitter_probability:
        for operation in params.jitter.order[i].tolist():
            x = OPERATIONS[operation](x, params.jitter.factors[i, operation].item())
    x = F.rgb_to_grayscale(x, num_output_channels=len(x)) if params.gray[i] and len(x) == 3 else x
    if params.blur[i] and size >= recipe.blur_from:
        taps = blur_kernel_size(size)
        x = F.gaussian_blur(x, [taps, taps], [params.sigma[i].item()] * 2)
    x = F.solarize(x, threshold=0.5) if params.solarize[i] else x
    return 1 - x if params.invert[i] else x


@pytest.mark.parametrize("name", sorted(set(VIEW_SETS) - {"clean"}))
@pytest.mark.parametrize("height, width, size, channels", [(32, 32, 32, 3), (50, 70, 64, 3), (28, 28, 28, 1)])
def test_views_are_torchvisions_with_the_same_parameters(name, height, width, size, channels):
    n = 24
    images, ids = photos(n, height, width, channels), torch.arange(n)
    plain = (0.0,) * channels, (1.0,) * channels
    views = Views(name, size, mean=plain[0], std=plain[1])
    for view in (0, 1, 4):
        recipe = VIEW_SETS[name].recipes[view % len(VIEW_SETS[name].recipes)]
        ours = views(images, ids, view=view, epoch=3, seed=8)
        params = draw(recipe, uniforms(8, ids, epoch=3, view=view, draws=augment.NUM_DRAWS), height, width)
        for i in range(n):
            expected = torchvision_view(recipe, images[i], params, i, ours.shape[-1])
            difference = (ours[i] - expected).abs()
            # Solarising jumps at the threshold: a rounding error there is a pixel's flip.
            near_jump = (params.solarize[i]) & ((expected - 0.5).abs() < 1e-4)
            assert difference[~near_jump].max() < 1e-4


@pytest.mark.parametrize("height, width", [(40, 60), (60, 40), (32, 32), (16, 20), (33, 47)])
def test_clean_is_torchvisions_resize_and_centre_crop(height, width):
    images = photos(3, height, width)
    ours = Views("clean", 32)(images, torch.arange(3), view=5, epoch=2, seed=1)
    expected = F.center_crop(F.resize(images.float() / 255, [32], antialias=True), [32, 32])
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", sorted(VIEW_SETS))
def test_a_view_does_not_depend_on_its_batch(name, monkeypatch):
    images, ids = photos(23), torch.arange(100, 123)
    views = Views(name, 32, mean=(0.5,) * 3, std=(0.25,) * 3)
    whole = views(images, ids, view=3, epoch=ANALYSIS, seed=4)
    order = torch.randperm(23, generator=torch.Generator().manual_seed(0))
    shuffled = views(images[order], ids[order], view=3, epoch=torch.full((23,), ANALYSIS), seed=4)
    torch.testing.assert_close(shuffled, whole[order], **PIXELS)
    alone = views(images[9:10], ids[9:10], view=3, epoch=ANALYSIS, seed=4)
    torch.testing.assert_close(alone, whole[9:10], **PIXELS)
    monkeypatch.setattr(augment, "_CPU_CHUNK", 5 * 3 * 32 * 32)
    torch.testing.assert_close(views(images, ids, view=3, epoch=ANALYSIS, seed=4), whole, **PIXELS)


def test_another_id_view_epoch_or_seed_is_another_view():
    image = photos(1).expand(6, -1, -1, -1)
    views = Views("simclr", 32)
    one = torch.tensor([7])
    made = [
        views(image[:1], one),
        views(image[:1], one + 1),
        views(image[:1], one, view=1),
        views(image[:1], one, epoch=1),
        views(image[:1], one, epoch=ANALYSIS),
        views(image[:1], one, seed=1),
    ]
    for i, a in enumerate(made):
        for b in made[i + 1 :]:
            assert (a - b).abs().max() > 0.05
    epochs = views(image[:3], one.expand(3), epoch=torch.tensor([0, 1, ANALYSIS]))
    torch.testing.assert_close(epochs, torch.cat([made[0], made[3], made[4]]), **PIXELS)


def test_autocast_and_random_state_make_no_difference():
    images, ids = photos(8), torch.arange(8)
    before = torch.get_rng_state()
    plain = Views("dino", 64)(images, ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = Views("dino", 64)(images, ids)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["simclr", "dino"])
def test_a_view_is_one_graph_to_the_compiler(name):
    images, params_of = photos(4), uniforms(0, torch.arange(4), epoch=0, view=1, draws=augment.NUM_DRAWS)
    recipe = VIEW_SETS[name].recipes[-1]
    params = draw(recipe, params_of, 32, 32)
    traced = torch.compile(augment.apply, fullgraph=True, backend="eager")(recipe, images, params, 64)
    torch.testing.assert_close(traced, augment.apply(recipe, images, params, 64))


def test_images_are_not_changed():
    images = photos(4)
    before = images.clone()
    for name in VIEW_SETS:
        Views(name, 32)(images, torch.arange(4))
    assert torch.equal(images, before)


def test_normalisation_follows_the_channels():
    images, ids = photos(4), torch.arange(4)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.5])
    plain = Views("simclr", 32)(images, ids)
    normalised = Views("simclr", 32, mean=mean.tolist(), std=std.tolist())(images, ids)
    torch.testing.assert_close(normalised, (plain - mean[:, None, None]) / std[:, None, None])
    assert plain.min() >= 0 and plain.max() <= 1
    own = Views("var", 32)(images, ids)
    assert own.min() < -0.9 and own.max() > 0.9


@pytest.mark.parametrize("size, local", [(224, 96), (32, 16), (96, 40), (8, 8)])
def test_dino_has_two_global_views_and_eight_smaller(size, local):
    views = Views("dino", size)
    sizes = [views(photos(1), torch.arange(1), view=v).shape[-1] for v in range(views.num_views)]
    assert sizes == [size] * 2 + [local] * 8


def test_an_analysis_gets_views_of_one_size():
    images, ids = photos(2), torch.arange(2)
    views, full = Views("dino", 64), Views("dino", 64).full_size()
    assert views.sizes(4) == [64, 64, 24, 24] and full.sizes(4) == [64] * 4
    for view in (0, 1):
        assert torch.equal(full(images, ids, view=view), views(images, ids, view=view))
    third, first = full(images, ids, view=2), full(images, ids, view=0)
    assert third.shape == first.shape and not torch.equal(third, first)
    assert views.sizes(3)[2] == 24, "the set itself is as it was"


def test_spec_builds_the_same_views_again():
    for views in (Views("weak", 24), Views("var", 256), Views("mae", 8, mean=[0.1, 0.2, 0.3], std=(1, 1, 1))):
        again = Views.from_spec(json.loads(json.dumps(views.spec())))
        assert again.spec() == views.spec()
        assert (again.name, again.size, again.mean, again.std) == (views.name, views.size, views.mean, views.std)


@pytest.mark.parametrize(
    "make, flag",
    [
        (lambda: Views("simlcr", 32), "^name='simlcr': .*simclr"),
        (lambda: Views("simclr", 0), "^size=0"),
        (lambda: Views("simclr", 32, mean=(0.5,) * 3), "^mean, std: "),
    ],
)
def test_mistakes_name_their_argument(make, flag):
    with pytest.raises(UserError, match=flag):
        make()


@pytest.mark.parametrize("images", [torch.rand(2, 3, 8, 8), photos(2, channels=4), photos(2)[0]])
def test_only_bytes_of_one_or_three_channels(images):
    with pytest.raises(ValueError, match="uint8"):
        Views("simclr", 8)(images, torch.arange(2))


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(VIEW_SETS))
def test_a_gpu_makes_the_views_of_the_cpu(name):
    images, ids = photos(64, 80, 72), torch.arange(64)
    views = Views(name, 64)
    for view in (0, 1, 5):
        expected = views(images, ids, view=view)
        there = views(images.cuda(), ids.cuda(), view=view).cpu()
        # Solarising jumps at the threshold: a rounding error there is a pixel's flip.
        assert ((there - expected).abs() > 1e-4).double().mean() < (1e-4 if name == "dino" else 1e-12)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            cast = views(images.cuda(), ids.cuda(), view=view).cpu()
        assert torch.equal(cast, there)
