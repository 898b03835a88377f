"""Encoded bytes of any image file -> RGB uint8 of one size, of many files in as many processes as help."""

import io
import multiprocessing
import os
import struct
import sys
import zlib
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from memlight.data.files import Files
from memlight.errors import UserError
from memlight.storage.run_files import MOST_SIDE

Pixels = NDArray[np.uint8]

Size = tuple[int, int]
"""(height, width) in pixels."""

Decoded = tuple[list[str], Pixels, dict[str, str]]
"""Names, their images ``uint8 (n, 3, H, W)`` (zeros for a broken file), and why each broken file is broken."""

BROKEN = (OSError, ValueError, EOFError, zlib.error)
"""What reading and decoding a damaged file raises."""

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What images may be, whatever their names end with; AVIF where Pillow has it. No other reader of Pillow's is tried:
some of them start programs (PostScript), and others were never meant for strangers' files."""

_PILLOW_RAISES = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError),
    *(LookupError, TypeError, ArithmeticError, AttributeError, RuntimeError, MemoryError),
)
"""Everything that Pillow raises for a damaged file."""

CHUNK = 64
"""Files that a process decodes at a time."""

_WITH_ALPHA = ("RGBA", "RGBa", "LA", "La", "PA")
_ROTATED = (5, 6, 7, 8)
_ORIENTATION = 0x0112
_WORTH_PROCESSES = 1024
_MOST_PROCESSES = 16
_files: Files
_size: Size


def decode(data: bytes, size: Size) -> Pixels:
    """Decode one image.

    EXIF orientation is applied; transparency is laid over white; 16-bit values are scaled to 8 bits; CMYK, grey and
    palette become RGB. Of an animation the first frame is taken.

    Args:
        data: the file's bytes.
        size: (height, width) of the result; of another shape the centre is kept, see `fit`.

    Returns:
        ``uint8 (3, height, width)``, not contiguous.

    Raises:
        OSError, ValueError and the others of ``BROKEN``: the bytes are not a whole image.
    """
    with _of_pillow(), Image.open(io.BytesIO(data), formats=_formats()) as image:
        _require_size(image)
        image.draft(None, (2 * max(size), 2 * max(size)))
        ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(fit(to_rgb(image), size)).transpose(2, 0, 1)


def header_size(data: bytes) -> Size:
    """(height, width) of an image after its EXIF orientation is applied, without decoding the pixels.

    Raises:
        OSError and the others of ``BROKEN``: the bytes do not begin like an image.
    """
    with _of_pillow(), Image.open(io.BytesIO(data), formats=_formats()) as image:
        _require_size(image)
        rotated = image.getexif().get(_ORIENTATION) in _ROTATED
        return (image.width, image.height) if rotated else (image.height, image.width)


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextmanager
def _of_pillow() -> Iterator[None]:
    """Within this block a file that Pillow cannot read is an ``OSError``, whatever Pillow raises."""
    try:
        yield
    except UnidentifiedImageError as error:
        raise OSError("not an image of a known format") from error
    except _PILLOW_RAISES as error:
        raise OSError(str(error) or type(error).__name__) from error


def _require_size(image: Image.Image) -> None:
    if image.width * image.height > MOST_SIDE**2:
        raise ValueError(f"{image.width} x {image.height} pixels, and {MOST_SIDE**2} are decoded at most")


def require_room(count: int, size: Size, room_gb: float, argument: str = "image_size") -> None:
    """Refuse images of a size of which so many do not fit in memory, before room is made for them.

    Args:
        count: images that are held at once.
        size: (height, width) of each.
        room_gb: in 10^9 bytes.
        argument: that asked for the size.

    Raises:
        UserError: says how much they take.
    """
    needed = count * 3 * size[0] * size[1] / 1e9
    if needed > room_gb:
        why = (
            f"{count} images of {size[0]} x {size[1]} pixels take {needed:.3g} GB, and there is room for {room_gb:.3g}"
        )
        raise UserError(argument, max(size), why, ["choose a smaller one", "raise `memory_limit_gb`"])


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB.

    Raises:
        ValueError: the mode has no fixed range (floating point, whole numbers of 32 bits) or no conversion.
    """
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "I" and image.format == "TIFF":  # 16 bits are "I;16", and of a PNG or PGM "I" where Pillow is old
        raise ValueError("whole numbers of 32 bits have no fixed range; save the file with 8 or 16 bits a channel")
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range; save the file with 8 bits a channel")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def fit(image: Image.Image, size: Size) -> Image.Image:
    """Cut the centre of the shape of ``size`` = (height, width) and resize it (bilinear, antialiased)."""
    height, width = size
    if (image.height, image.width) == size:
        return image
    return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)


def _eight_bits(values: NDArray[Any]) -> Pixels:
    """Pillow keeps 16-bit grey as mode "I;16" or "I"; 65535 is white."""
    return ((values.astype(np.int64).clip(0, 65_535) + 128) // 257).astype(np.uint8)


def decode_chunks(files: Files, names: list[str], size: Size) -> Generator[Decoded, None, None]:
    """Decode files, ``CHUNK`` at a time, in order.

    Args:
        files: where the names are.
        names: what to decode.
        size: (height, width) of every image.
    """
    chunks = [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]
    processes = min(_MOST_PROCESSES, len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    if processes == 1 or len(names) < _WORTH_PROCESSES:
        for chunk in chunks:
            yield decode_chunk(files, chunk, size)
        return
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    executor = ProcessPoolExecutor(processes, context, _start, (files, size))
    try:
        yield from executor.map(_decode_here, chunks)
    finally:
        executor.shutdown(cancel_futures=True)


def decode_chunk(files: Files, names: list[str], size: Size) -> Decoded:
    """Decode files in this process."""
    images = np.zeros((len(names), 3, *size), dtype=np.uint8)
    broken: dict[str, str] = {}
    for image, name in zip(images, names, strict=True):
        try:
            image[...] = decode(files.read(name), size)
        except BROKEN as error:
            broken[name] = str(error) or type(error).__name__
    return names, images, broken


def _start(files: Files, size: Size) -> None:
    """What a new process is given once rather than with every chunk: an archive's index may be large."""
    global _files, _size
    _files, _size = files, size


def _decode_here(names: list[str]) -> Decoded:
    return decode_chunk(_files, names, _size)
