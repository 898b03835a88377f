import itertools

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from memlight.data.color import BRIGHTNESS, CONTRAST, HUE, SATURATION, Jitter, gray_where, grayscale, jitter, solarize

OPERATIONS = {
    BRIGHTNESS: F.adjust_brightness,
    CONTRAST: F.adjust_contrast,
    SATURATION: F.adjust_saturation,
    HUE: F.adjust_hue,
}
ORDERS = list(itertools.permutations(range(4)))


def awkward_images(n, channels=3):
    """Noise, but also flat, gray, saturated, black, white and nearly gray pixels."""
    images = torch.rand(n, channels, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:, :, 0] = images[:, :1, 0]
    images[:, :, 1] = images[:, :, 1].round()
    images[:, :, 2] = (images[:, :, 2] * 4).round() / 4
    images[:, :, 3] = images[:, :1, 3] + 1e-5 * images[:, :, 3]
    images[:, :, 4, :8], images[:, :, 4, 8:] = 0, 1
    return images


def torchvision_jitter(image, factors, order):
    for operation in order:
        image = OPERATIONS[operation](image, factors[operation])
    return image


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_torchvisions_operations_in_every_order(channels):
    n = 10 * len(ORDERS)
    generator = torch.Generator().manual_seed(1)
    factors = torch.rand(n, 4, generator=generator) * 1.9
    factors[:, HUE] = torch.rand(n, generator=generator) - 0.5
    factors[:2, HUE] = torch.tensor([0.5, -0.5])
    order = torch.tensor(ORDERS).repeat(10, 1)
    images = awkward_images(n, channels)
    expected = torch.stack(
        [torchvision_jitter(x, f.tolist(), o.tolist()) for x, f, o in zip(images, factors, order, strict=True)]
    )
    ours = jitter(images.clone(), Jitter(factors, order))
    # Where an image is nearly gray its hue hangs on the last bit, and saturation then magnifies it.
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_each_operation_alone(operation):
    n = 24
    factors = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(n, 1)
    factors[:, operation] = torch.linspace(-0.5, 0.5, n) if operation == HUE else torch.linspace(0, 2, n)
    images = awkward_images(n)
    expected = [OPERATIONS[operation](x, f) for x, f in zip(images, factors[:, operation].tolist(), strict=True)]
    ours = jitter(images.clone(), Jitter(factors, torch.tensor(ORDERS)))
    torch.testing.assert_close(ours, torch.stack(expected), atol=5e-6, rtol=0)


def test_neutral_factors_change_nothing():
    images = awkward_images(24)
    neutral = Jitter(torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(24, 1), torch.tensor(ORDERS))
    torch.testing.assert_close(jitter(images.clone(), neutral), images, atol=5e-6, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_grayscale_is_torchvisions(channels):
    images = awkward_images(6, channels)
    torch.testing.assert_close(grayscale(images), F.rgb_to_grayscale(images), atol=5e-6, rtol=0)
    on = torch.arange(6) % 2 == 0
    some = gray_where(images.clone(), on)
    expected = F.rgb_to_grayscale(images, num_output_channels=3) if channels == 3 else images
    torch.testing.assert_close(some[on], expected[on], atol=5e-6, rtol=0)
    assert torch.equal(some[~on], images[~on])


def test_solarize_is_torchvisions():
    images = awkward_images(4)
    assert torch.equal(solarize(images), F.solarize(images, threshold=0.5))
