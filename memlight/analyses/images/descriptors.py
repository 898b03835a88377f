"""What a picture looks like, in eight numbers: are the images that units memorise sharper, busier, more colourful?

All of it is computed on whatever device the images are, but for the size of a JPEG file, which is made on the CPU by
several threads.
"""

import io
from concurrent.futures import ThreadPoolExecutor

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from memlight.analyses.images.columns import IMAGES_DESCRIBED

JPEG_QUALITY = 90
EDGE_STRENGTH = 0.1
"""A pixel is on an edge where the luminance (0 to 1) changes by more than this from one pixel to the next."""

BORDER_SHARE = 0.1
"""Width of the frame, as a share of the shorter side, whose colours are taken for the background's."""

ROUNDING = 1e-9
"""Numbers that differ by less are taken for equal, so that no machine's last digits decide on which side one falls."""

_LUMA = (0.299, 0.587, 0.114)
_BINS = 256


def describe_images(images_B3HW: Tensor, *, threads: int = 4) -> dict[str, Tensor]:
    """Every descriptor of every image.

    Each image is computed by itself: kernels add up several images otherwise than one, and then an image's last digits,
    and its rank among images that are alike, would depend on the batch and on the number of processes.

    Args:
        images_B3HW: uint8 ``(B, 3, H, W)``, at least 8 pixels on each side.
        threads: that compress.

    Returns:
        Name -> ``(B,)`` float64 on the CPU: ``spectral_slope``, ``high_frequency``, ``edge_density``,
        ``bytes_per_pixel``, ``colourfulness``, ``foreground_share``, ``brightness``, ``rms_contrast``.
    """
    described = [_describe(image) for image in images_B3HW]
    found = {name: torch.cat([one[name] for one in described]).cpu() for name in described[0]}
    sizes = bytes_per_pixel(images_B3HW, threads=threads)
    return {name: sizes if name == "bytes_per_pixel" else found[name] for name in IMAGES_DESCRIBED}


def _describe(image_3HW: Tensor) -> dict[str, Tensor]:
    rgb = image_3HW[None].double() / 255
    grey = luminance(rgb)
    slope, high = spectrum_descriptors(grey)
    return {
        "spectral_slope": slope,
        "high_frequency": high,
        "edge_density": edge_density(grey),
        "colourfulness": colourfulness(rgb),
        "foreground_share": foreground_share(rgb),
        "brightness": grey.mean((1, 2)),
        "rms_contrast": rms_contrast(grey),
    }


def luminance(rgb_B3HW: Tensor) -> Tensor:
    """Luma of ITU-R BT.601, ``(B, H, W)``."""
    return torch.einsum("bchw,c->bhw", rgb_B3HW, rgb_B3HW.new_tensor(_LUMA))


def spectrum_descriptors(grey_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """How the power of an image falls with spatial frequency.

    The mean is removed and a Hann window applied, so that the picture's edges do not count as edges in it. Frequency f
    is the distance from the origin in cycles per pixel, from 0 to 0.5.

    Args:
        grey_BHW: luminance.

    Returns:
        ``(B,)`` slope of log power against log f, by least squares over rings of one cycle per shorter side from the
        second on, as the window mixes the first with the mean (natural images: about -2, Field 1987); and the share of
        the power at f > 0.25. A constant image gives 0 and 0.
    """
    _, height, width = grey_BHW.shape
    window = torch.outer(*(torch.hann_window(n, periodic=False, dtype=grey_BHW.dtype) for n in (height, width)))
    window = window.to(grey_BHW.device)
    centred = grey_BHW - (grey_BHW * window).sum((1, 2), keepdim=True) / window.sum()
    power = torch.fft.fft2(centred * window).abs().square()
    axes = (torch.fft.fftfreq(n, dtype=grey_BHW.dtype, device=grey_BHW.device) for n in (height, width))
    f = torch.hypot(*torch.meshgrid(*axes, indexing="ij"))
    inside = (f > 0) & (f < 0.5 + ROUNDING)
    total = power[:, inside].sum(1)
    varies = total > 1e-18 * height * width
    high = torch.where(varies, power[:, inside & (f > 0.25 + ROUNDING)].sum(1) / total.where(varies, 1), 0)
    ring = (f * min(height, width)).round().long().where(inside, 0)
    rings = int(ring.max())
    sums = power.new_zeros(len(power), rings + 1).index_add_(1, ring.flatten(), power.flatten(1))[:, 2:]
    counts = torch.bincount(ring.flatten(), minlength=rings + 1)[2:]
    x = torch.arange(2, rings + 1, dtype=power.dtype, device=power.device).log()
    y = (sums / counts).clamp(min=torch.finfo(power.dtype).tiny).log()
    x = x - x.mean()
    slope = torch.where(varies, (y * x).sum(1) / x.square().sum(), 0)
    return slope, high


def rms_contrast(grey_BHW: Tensor) -> Tensor:
    """Standard deviation of the luminance over the pixels (Peli 1990)."""
    return grey_BHW.flatten(1).std(1, correction=0)


def edge_density(grey_BHW: Tensor) -> Tensor:
    """Share of pixels, the outermost ones aside, whose Sobel gradient exceeds `EDGE_STRENGTH` a pixel."""
    across = grey_BHW.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    gradients = F.conv2d(grey_BHW[:, None], torch.stack([across, across.T])[:, None])
    return (gradients.square().sum(1) > EDGE_STRENGTH**2 + ROUNDING).to(grey_BHW.dtype).mean((1, 2))


def colourfulness(rgb_B3HW: Tensor) -> Tensor:
    """Hasler & Süsstrunk 2003 (M3), for channels in [0, 1]: 0 for grey images, about 0.4 for very colourful ones."""
    red, green, blue = rgb_B3HW.unbind(1)
    opponent = torch.stack([red - green, (red + green) / 2 - blue]).flatten(2)
    spread = opponent.std(2, correction=0).square().sum(0).sqrt()
    return spread + 0.3 * opponent.mean(2).square().sum(0).sqrt()


def bytes_per_pixel(images_B3HW: Tensor, *, threads: int = 4) -> Tensor:
    """Size of each image as a JPEG file of quality `JPEG_QUALITY`, in bytes a pixel: how much there is to describe."""
    pixels = images_B3HW.permute(0, 2, 3, 1).cpu().contiguous().numpy()

    def size(position: int) -> int:
        file = io.BytesIO()
        Image.fromarray(pixels[position]).save(file, "JPEG", quality=JPEG_QUALITY)
        return file.tell()

    with ThreadPoolExecutor(threads) as pool:
        sizes = list(pool.map(size, range(len(pixels))))
    return torch.tensor(sizes, dtype=torch.float64) / (images_B3HW.shape[2] * images_B3HW.shape[3])


def foreground_share(rgb_B3HW: Tensor) -> Tensor:
    """Share of pixels that do not look like the picture's frame.

    The frame is taken for background (the boundary prior of Wei et al., ECCV 2012): colours are compared with its mean
    and covariance by Mahalanobis distance, and Otsu's threshold divides each image's distances in two. A rough number:
    an object that touches the frame counts as background.
    """
    height, width = rgb_B3HW.shape[2:]
    border = max(1, round(BORDER_SHARE * min(height, width)))
    frame = torch.ones(height, width, dtype=torch.bool, device=rgb_B3HW.device)
    frame[border:-border, border:-border] = False
    colours = rgb_B3HW[:, :, frame]
    mean = colours.mean(2, keepdim=True)
    centred = colours - mean
    covariance = centred @ centred.transpose(1, 2) / colours.shape[2]
    ridge = 1e-3 * torch.eye(3, dtype=covariance.dtype, device=covariance.device)
    offsets = rgb_B3HW.flatten(2) - mean
    distance = (offsets * torch.linalg.solve(covariance + ridge, offsets)).sum(1).clamp(min=0).sqrt()
    distance = (distance / ROUNDING).round() * ROUNDING  # pixels of one colour are equally far from the frame
    share: Tensor = (distance > otsu_threshold(distance)[:, None]).to(rgb_B3HW.dtype).mean(1)
    return share


def otsu_threshold(values_BN: Tensor) -> Tensor:
    """The threshold that divides each row in two with the largest variance between (Otsu 1979), ``(B,)``.

    Values are counted in 256 bins from the row's smallest to its largest; of equal thresholds the lowest is taken, and
    a constant row gives its value.
    """
    low, high = values_BN.aminmax(dim=1, keepdim=True)
    width = ((high - low) / _BINS).clamp(min=torch.finfo(values_BN.dtype).tiny)
    bins = ((values_BN - low) / width).long().clamp(max=_BINS - 1)
    counts = values_BN.new_zeros(len(values_BN), _BINS).scatter_add_(1, bins, torch.ones_like(values_BN))
    share = counts.cumsum(1) / values_BN.shape[1]
    level = torch.arange(_BINS, dtype=values_BN.dtype, device=values_BN.device)
    moment = (counts * level).cumsum(1) / values_BN.shape[1]
    between = (moment[:, -1:] * share - moment).square() / (share * (1 - share)).clamp(min=1e-12)
    best = between.where(share < 1, 0).argmax(1, keepdim=True)
    threshold: Tensor = torch.where(high > low, low + (best + 1) * width, high)
    return threshold.squeeze(1)
