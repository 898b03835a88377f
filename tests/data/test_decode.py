import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from memlight.data.decode import BROKEN, decode, header_size

HEIGHT, WIDTH = 6, 9
RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) at the file's own size."""
    image = decode(data, header_size(data))
    assert image.dtype == np.uint8
    return image.transpose(1, 2, 0)


def over_white(colour: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.float64]:
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


def in_three(gray: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(gray[..., None], 3, axis=2)


def test_rgb_is_untouched() -> None:
    assert np.array_equal(decoded(encoded(Image.fromarray(RGB))), RGB)


def test_gray_becomes_three_equal_channels() -> None:
    assert np.array_equal(decoded(encoded(Image.fromarray(GRAY))), in_three(GRAY))


def test_one_bit() -> None:
    bits = GRAY > 127
    assert np.array_equal(decoded(encoded(Image.fromarray(bits))), in_three(bits * np.uint8(255)))


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    values = RNG.integers(0, 65_536, (HEIGHT, WIDTH), dtype=np.uint16)
    values[0, :3] = 0, 65_535, 32_768
    expected = np.round(values / 257)
    assert np.array_equal(decoded(encoded(Image.fromarray(values), kind)), in_three(expected))


def test_sixteen_bit_pgm() -> None:
    values = RNG.integers(0, 65_536, (HEIGHT, WIDTH), dtype=np.uint16)
    data = f"P5 {WIDTH} {HEIGHT} 65535\n".encode() + values.astype(">u2").tobytes()
    assert np.array_equal(decoded(data), in_three(np.round(values / 257)))


def test_transparency_lies_over_white() -> None:
    rgba = np.dstack([RGB, ALPHA])
    assert np.abs(decoded(encoded(Image.fromarray(rgba))) - over_white(RGB, ALPHA)).max() <= 1


def test_gray_with_transparency() -> None:
    data = encoded(Image.fromarray(np.dstack([GRAY, ALPHA])))
    assert np.abs(decoded(data) - over_white(in_three(GRAY), ALPHA)).max() <= 1


def test_palette() -> None:
    image = Image.fromarray(RGB).quantize(16)
    assert np.array_equal(decoded(encoded(image)), np.asarray(image.convert("RGB")))


def test_palette_with_a_transparent_colour() -> None:
    image = Image.fromarray(RGB).quantize(16)
    transparent = np.asarray(image) == 3
    expected = np.where(transparent[..., None], 255, np.asarray(image.convert("RGB")))
    assert transparent.any()
    assert np.array_equal(decoded(encoded(image, transparency=3)), expected)


def test_rgb_with_a_transparent_colour() -> None:
    expected = RGB.copy()
    expected[2, 5] = 255
    data = encoded(Image.fromarray(RGB), transparency=tuple(int(value) for value in RGB[2, 5]))
    assert np.array_equal(decoded(data), expected)


def test_cmyk_jpeg() -> None:
    flat = np.zeros((16, 16, 4), dtype=np.uint8)
    flat[:, :8, 0] = 255
    flat[:, 8:, 1] = 255
    image = decoded(encoded(Image.fromarray(flat, "CMYK"), "jpeg", quality=100)).astype(int)
    assert np.abs(image[:, :7] - [0, 255, 255]).max() < 8
    assert np.abs(image[:, 9:] - [255, 0, 255]).max() < 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    """EXIF 2.3, tag 274: where row 0 and column 0 of the stored pixels belong."""
    turned = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    data = encoded(Image.fromarray(RGB), exif=exif)
    assert header_size(data) == turned.shape[:2]
    assert np.array_equal(decoded(data), turned)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (10, 200)]
    assert (decoded(encoded(frames[0], "gif", save_all=True, append_images=frames[1:])) == 10).all()


def test_another_shape_keeps_its_centre() -> None:
    """A square out of a wide image: what lies left and right is gone, and nothing is squeezed."""
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 200
    assert (decode(encoded(Image.fromarray(wide)), (10, 10)) == 200).all()
    assert (decode(encoded(Image.fromarray(wide.transpose(1, 0, 2))), (10, 10)) == 200).all()


def test_resizing_averages_and_does_not_pick() -> None:
    checkered = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    small = decode(encoded(Image.fromarray(checkered)), (16, 16))
    assert np.abs(small[:, 2:-2, 2:-2].astype(int) - 127).max() < 12


def test_upsampling_keeps_flat_areas_and_size() -> None:
    flat = np.full((8, 8), 77, dtype=np.uint8)
    image = decode(encoded(Image.fromarray(flat)), (32, 32))
    assert image.shape == (3, 32, 32)
    assert (image == 77).all()


def test_large_jpeg_decoded_small_stays_close_to_exact() -> None:
    """Pillow may decode a JPEG at a fraction of its size; what is left must still be the image."""
    rows, columns = np.indices((1024, 1536))
    smooth = 127 + 80 * np.sin(rows / 90) * np.cos(columns / 70)
    image = Image.fromarray(in_three(smooth.astype(np.uint8)))
    data = encoded(image, "jpeg", quality=95)
    centre = image.crop((256, 0, 1280, 1024)).resize((64, 64), Image.Resampling.BILINEAR)
    assert np.abs(decode(data, (64, 64)).transpose(1, 2, 0) - np.asarray(centre).astype(int)).max() <= 4


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(OSError, match="no fixed range"):
        decoded(encoded(Image.fromarray(RGB[..., 0].astype(np.float32)), "tiff"))


JPEG = encoded(Image.fromarray(np.repeat(np.repeat(RGB, 8, 0), 8, 1)), "jpeg")
PNG = encoded(Image.fromarray(RGB))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>not found</html>",
        JPEG[: len(JPEG) // 2],
        JPEG[:20],
        PNG[:-60],
        PNG[:40] + b"\xff\xff\xff\xff" + PNG[44:],
        PNG[:8],
    ],
    ids=["empty", "html", "half jpeg", "jpeg header", "png cut", "png data", "png signature"],
)
def test_broken_files_raise_what_is_caught(data: bytes) -> None:
    with pytest.raises(BROKEN):
        decode(data, (8, 8))


@pytest.mark.parametrize("white", [255, 65_535])
def test_whole_numbers_of_32_bits_in_a_tiff_are_refused(white: int) -> None:
    ramp = np.tile(np.linspace(0, 1, 8), (8, 1))
    file = io.BytesIO()
    Image.fromarray((ramp * white).astype(np.int32)).save(file, "tiff")
    with pytest.raises(OSError, match="whole numbers of 32 bits have no fixed range"):
        decode(file.getvalue(), (8, 8))


@pytest.mark.parametrize("kind", ["tiff", "png"])
def test_whole_numbers_of_16_bits_are_scaled(kind: str) -> None:
    ramp = np.tile(np.linspace(0, 1, 8), (8, 1))
    file = io.BytesIO()
    Image.fromarray((ramp * 65_535).astype(np.uint16)).save(file, kind)
    assert np.array_equal(decode(file.getvalue(), (8, 8))[0], (ramp * 255).round())


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000"])
def test_formats_that_not_every_pillow_has(kind: str) -> None:
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow has no {kind}")
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 40, 40)).save(file, kind)
    assert np.abs(decode(file.getvalue(), (8, 8)).reshape(3, -1).mean(1) - [200, 40, 40]).max() < 4
