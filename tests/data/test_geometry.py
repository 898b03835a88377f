import math

import pytest
import torch
from scipy import stats
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from memlight.data.geometry import (
    TRIES,
    blur_kernel_size,
    blur_matrix,
    crop_matrix,
    random_boxes,
    separable,
    whole_boxes,
)
from memlight.random import uniforms

RATIO = (3 / 4, 4 / 3)


def draws(n, seed=0):
    return uniforms(seed, torch.arange(n), epoch=0, view=0, draws=2 * TRIES + 2)


def box_oracle(row, height, width, scale, ratio):
    """torchvision's get_params in plain Python, its random numbers taken from ``row``."""
    for t in range(TRIES):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * row[t])
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(low + (high - low) * row[TRIES + t])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return [math.floor(row[-2] * (height - h + 1)), math.floor(row[-1] * (width - w + 1)), h, w]
    if width / height < ratio[0]:
        w, h = width, round(width / ratio[0])
    elif width / height > ratio[1]:
        w, h = round(height * ratio[1]), height
    else:
        w, h = width, height
    return [(height - h) // 2, (width - w) // 2, h, w]


@pytest.mark.parametrize(
    "height, width, scale",
    [(32, 32, (0.08, 1.0)), (37, 53, (0.2, 1.0)), (10, 200, (0.5, 1.0)), (200, 10, (0.5, 1.0)), (8, 9, (1.0, 1.0))],
)
def test_boxes_are_those_of_the_plain_loop(height, width, scale):
    drawn = draws(3000)
    boxes = torch.stack(random_boxes(drawn, height, width, scale, RATIO), dim=1)
    expected = [box_oracle(row, height, width, scale, RATIO) for row in drawn.double().tolist()]
    # A box can differ where float64 and float32 round a side across .5.
    assert (boxes != torch.tensor(expected, dtype=torch.float32)).any(dim=1).sum() <= 2


@pytest.mark.parametrize("height, width, scale", [(32, 32, (0.08, 1.0)), (60, 90, (0.05, 0.4))])
def test_boxes_are_distributed_as_torchvisions(height, width, scale):
    n = 4000
    ours = torch.stack(random_boxes(draws(n, seed=1), height, width, scale, RATIO), dim=1)
    image = torch.empty(3, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.tensor([RandomResizedCrop.get_params(image, list(scale), list(RATIO)) for _ in range(n)])
    for what in (
        lambda b: b[:, 0],
        lambda b: b[:, 1],
        lambda b: b[:, 2],
        lambda b: b[:, 3],
        lambda b: b[:, 2] * b[:, 3],
        lambda b: b[:, 3] / b[:, 2],
        lambda b: b[:, 0] / (height - b[:, 2] + 1),
    ):
        assert stats.ks_2samp(what(ours.double()).numpy(), what(theirs.double()).numpy()).pvalue > 1e-3


@pytest.mark.parametrize("height, width, size", [(32, 32, 32), (45, 61, 24), (20, 33, 64), (7, 5, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_crops_are_torchvisions_resized_crop(height, width, size, channels):
    n = 40
    images = torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(0))
    boxes = random_boxes(draws(n), height, width, (0.02, 1.0), RATIO)
    flip, vertical_flip = torch.arange(n) % 2 == 0, torch.arange(n) % 3 == 0
    rows = crop_matrix(boxes.top, boxes.height, vertical_flip, height, size)
    columns = crop_matrix(boxes.left, boxes.width, flip, width, size)
    ours = separable(images, rows, columns)
    for i in range(n):
        box = [int(side[i]) for side in boxes]
        expected = F.resized_crop(images[i], *box, size=[size, size], antialias=True)
        expected = F.horizontal_flip(expected) if flip[i] else expected
        expected = F.vertical_flip(expected) if vertical_flip[i] else expected
        torch.testing.assert_close(ours[i], expected, atol=1e-5, rtol=0)


def test_whole_box_at_its_own_size_is_the_image_itself():
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    boxes = whole_boxes(torch.arange(4), 12, 12)
    matrix = crop_matrix(boxes.top, boxes.height, torch.zeros(4, dtype=torch.bool), 12, 12)
    assert torch.equal(separable(images, matrix, matrix), images)


@pytest.mark.parametrize("size", [8, 32, 64, 224])
def test_blur_is_torchvisions_gaussian_blur(size):
    sigmas = torch.tensor([0.1, 0.3, 1.0, 2.0, 1.5])
    blurred = torch.tensor([True, True, True, True, False])
    images = torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(0))
    taps = blur_kernel_size(size)
    matrix = blur_matrix(sigmas, blurred, taps, size)
    ours = separable(images, matrix, matrix)
    for i in range(4):
        expected = F.gaussian_blur(images[i], [taps, taps], [sigmas[i].item()] * 2)
        torch.testing.assert_close(ours[i], expected, atol=1e-5, rtol=0)
    assert torch.equal(ours[4], images[4])


def test_blur_kernel_is_a_tenth_of_the_image_and_odd():
    assert [blur_kernel_size(s) for s in (8, 32, 64, 96, 224)] == [3, 3, 7, 9, 23]
