"""Descriptors of images against loops, and on images whose answer is known."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

from memlight.analyses.images.columns import IMAGES_DESCRIBED
from memlight.analyses.images.descriptors import describe_images, foreground_share, otsu_threshold, spectrum_descriptors


def images(count: int = 3, height: int = 16, width: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, height // 4, width // 4, generator=generator)
    fine = torch.rand(count, 3, height, width, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return ((0.8 * smooth + 0.2 * fine) * 255).to(torch.uint8)


def loops(image: np.ndarray) -> dict[str, float]:
    rgb = image.astype(np.float64).transpose(1, 2, 0) / 255
    height, width, _ = rgb.shape
    grey = rgb @ np.array([0.299, 0.587, 0.114])
    window = np.outer(np.hanning(height), np.hanning(width))
    spectrum = np.abs(np.fft.fft2((grey - (grey * window).sum() / window.sum()) * window)) ** 2
    rings: dict[int, list[float]] = {}
    total = high = 0.0
    for i in range(height):
        for j in range(width):
            f = math.hypot(min(i, height - i) / height, min(j, width - j) / width)
            if 0 < f <= 0.5:
                total += spectrum[i, j]
                high += spectrum[i, j] * (f > 0.25)
                rings.setdefault(round(f * min(height, width)), []).append(spectrum[i, j])
    rings = {ring: powers for ring, powers in rings.items() if ring > 1}
    x = np.log(sorted(rings))
    y = [math.log(np.mean(rings[ring])) for ring in sorted(rings)]
    edges = 0
    for i in range(1, height - 1):
        for j in range(1, width - 1):
            near = grey[i - 1 : i + 2, j - 1 : j + 2]
            across = (near[:, 2] - near[:, 0]) @ np.array([1, 2, 1]) / 8
            down = (near[2] - near[0]) @ np.array([1, 2, 1]) / 8
            edges += math.hypot(across, down) > 0.1
    rg, yb = rgb[..., 0] - rgb[..., 1], (rgb[..., 0] + rgb[..., 1]) / 2 - rgb[..., 2]
    file = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(file, "JPEG", quality=90)
    border = round(0.1 * min(height, width))
    frame = np.array(
        [
            rgb[i, j]
            for i in range(height)
            for j in range(width)
            if min(i, j) < border or i >= height - border or j >= width - border
        ]
    )
    inverse = np.linalg.inv(np.cov(frame.T, bias=True) + 1e-3 * np.eye(3))
    offset = rgb.reshape(-1, 3) - frame.mean(0)
    distance = np.array([math.sqrt(row @ inverse @ row) for row in offset])
    return {
        "spectral_slope": np.polyfit(x, y, 1)[0],
        "high_frequency": high / total,
        "edge_density": edges / ((height - 2) * (width - 2)),
        "bytes_per_pixel": len(file.getvalue()) / (height * width),
        "colourfulness": math.hypot(rg.std(), yb.std()) + 0.3 * math.hypot(rg.mean(), yb.mean()),
        "foreground_share": float((distance > otsu(distance)).mean()),
        "brightness": grey.mean(),
        "rms_contrast": math.sqrt(((grey - grey.mean()) ** 2).mean()),
    }


def otsu(values: np.ndarray) -> float:
    """Every one of the 256 thresholds tried."""
    low, high = values.min(), values.max()
    bins = np.minimum(((values - low) / ((high - low) / 256)).astype(int), 255)
    best, threshold = -1.0, 0.0
    for level in range(255):
        below, above = bins[bins <= level], bins[bins > level]
        between = len(below) * len(above) * (below.mean() - above.mean()) ** 2 if len(below) and len(above) else 0
        if between > best * (1 + 1e-9):
            best, threshold = between, low + (level + 1) * (high - low) / 256
    return float(threshold)


@pytest.mark.parametrize("size", [(16, 20), (21, 17)])
def test_descriptors_against_loops(size: tuple[int, int]) -> None:
    batch = images(3, *size)
    found = describe_images(batch, threads=2)
    assert tuple(found) == IMAGES_DESCRIBED
    for position, image in enumerate(batch.numpy()):
        for name, expected in loops(image).items():
            assert float(found[name][position]) == pytest.approx(expected, rel=1e-9, abs=1e-12), name


def test_an_image_is_described_alike_in_any_batch() -> None:
    batch = images(5)
    together = describe_images(batch)
    for position in range(5):
        alone = describe_images(batch[position : position + 1])
        assert all(float(alone[name]) == float(together[name][position]) for name in together)


def test_known_spectra() -> None:
    """Noise of power f^-2 has slope -2; a wave of 0.4 cycles per pixel is all high frequency, one of 0.1 none."""
    size = 128
    f = torch.hypot(*torch.meshgrid(*[torch.fft.fftfreq(size, dtype=torch.float64)] * 2, indexing="ij"))
    noise = torch.randn(8, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shaped = torch.fft.ifft2(torch.fft.fft2(noise) / f.clamp(min=1 / size)).real
    slope, _ = spectrum_descriptors(shaped)
    assert float(slope.mean()) == pytest.approx(-2, abs=0.1)
    x = torch.arange(size, dtype=torch.float64)
    waves = torch.stack([torch.sin(2 * math.pi * 0.4 * x), torch.sin(2 * math.pi * 0.1 * x)])[:, None].expand(
        2, size, size
    )
    _, high = spectrum_descriptors(waves)
    assert high.tolist() == pytest.approx([1, 0], abs=1e-3)


def test_a_disc_on_plain_ground_is_the_foreground() -> None:
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    disc = (y - 30) ** 2 + (x - 34) ** 2 < 15**2
    picture = torch.where(
        disc, torch.tensor([0.9, 0.2, 0.1])[:, None, None], torch.tensor([0.1, 0.3, 0.2])[:, None, None]
    )
    assert float(foreground_share(picture[None].double())) == pytest.approx(float(disc.double().mean()))


def test_constant_and_grey_images_are_no_special_case() -> None:
    flat = describe_images(torch.full((1, 3, 16, 16), 90, dtype=torch.uint8))
    assert all(bool(values.isfinite()) for values in flat.values())
    assert [float(flat[n]) for n in ("spectral_slope", "high_frequency", "edge_density", "foreground_share")] == [0] * 4
    assert float(flat["colourfulness"]) == pytest.approx(0, abs=1e-12)
    assert otsu_threshold(torch.full((1, 5), 3.0)).tolist() == [3]
