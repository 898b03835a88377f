"""The names of a data set's images, and ``images.csv`` of a run, which lists them."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from memlight.data.sources import ImageSource, JoinedSource, MemorySource
from memlight.data.splits import SPLITS, PairSplit
from memlight.storage.image_names import IMAGES, ImageNames
from memlight.storage.rundir import RunDir
from memlight.storage.tables import write_table
from memlight.storage.writing import full_disk_in_words

_AT_ONCE = 4096
"""Images that are hashed together."""


def names_of(source: JoinedSource) -> ImageNames:
    """What every image is called; see `memlight.storage.image_names.ImageNames.paths`."""
    halves = {"train": source.train, "test": source.test}
    paths = [name for half, images in halves.items() for name in _paths(images, half)]
    return ImageNames(paths, are_files=any(images.names for images in halves.values()))


def _paths(images: ImageSource, half: str) -> list[str]:
    return list(images.names) if images.names else [f"{half}/{place}" for place in range(len(images))]


def write_images(run: RunDir, source: JoinedSource, split: PairSplit) -> None:
    """Write ``images.csv``: path, label, split and hash of every image of the data set; see `IMAGES`.

    Training writes it beside splits.json. Of a run that has none, the first analysis that reads its images does.

    Args:
        run: where it goes.
        source: every image, numbered by id.
        split: as splits.json has it.

    Raises:
        UserError: the disk is full.
    """
    splits = np.zeros(len(source), dtype=f"U{max(map(len, SPLITS))}")
    for name in SPLITS:
        splits[split.ids(name)] = name
    ids = np.arange(len(source))
    hashes = np.array([digest for half in (source.train, source.test) for digest in _hashes(half)], dtype=object)
    table = {
        "id": ids,
        "path": names_of(source).path(ids),
        "label": source.labels.numpy(),
        "split": splits,
        "sha256": hashes,
    }
    with full_disk_in_words(run.root):
        write_table(run.images, table, IMAGES)


def _hashes(source: ImageSource) -> Iterator[str]:
    """SHA-256 of the pixels of every image that is in memory; empty for those that are not."""
    if not isinstance(source, MemorySource):
        yield from ("" for _ in range(len(source)))
        return
    pixels = source.images.contiguous().numpy()
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(pixels), _AT_ONCE):
            yield from pool.map(lambda image: hashlib.sha256(image).hexdigest(), pixels[start : start + _AT_ONCE])
