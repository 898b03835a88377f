"""Decoding many files, in as many processes as help."""

import multiprocessing
import os
import sys
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from memlight.data.decode import BROKEN, Pixels, Size, decode
from memlight.data.files import Files

CHUNK = 64
"""Files that a process decodes at a time."""

_WORTH_PROCESSES = 1024
_MOST_PROCESSES = 16

Decoded = tuple[list[str], Pixels, dict[str, str]]
"""Names, their images ``uint8 (n, 3, H, W)`` (zeros for a broken file), and why each broken file is broken."""

_files: Files
_size: Size


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
