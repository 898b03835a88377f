"""Small pictures of the images that drive units, so that a page far from the data set can show them."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memlight.errors import UserError
from memlight.storage.arrays import DAMAGED, read_npz
from memlight.storage.tables import Table
from memlight.storage.writing import atomic_write

RANKS = 10
"""The strongest images of a unit that are shown; tables may hold more."""

MOST_IMAGES = 10_000
"""More images than this are not kept: they would have to be too small to be recognised."""

BYTES = 15_000_000
"""All thumbnails of one analysis; within a page they are a third longer."""

SIDES = (128, 96, 80, 64, 48, 32)
"""Sides that larger images are reduced to, pixels."""

BYTES_PER_PIXEL = 0.22
"""At this rate a photograph still looks like itself in WebP, quality 50 or so."""

QUALITIES = (85, 70, 55, 40, 25, 10)
"""Of lossy WebP, best first."""


@dataclass(frozen=True)
class Thumbnails:
    """Encoded pictures by image id.

    Attributes:
        ids: ``int64 (N,)``, ascending.
        webp: N files.
    """

    ids: NDArray[np.int64]
    webp: Sequence[bytes]

    def write(self, path: Path) -> None:
        """Write all of them as one ``.npz`` of ids, sizes in bytes, and the files one after another."""
        sizes = np.array([len(data) for data in self.webp], dtype=np.int64)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, ids=self.ids, sizes=sizes, webp=np.frombuffer(b"".join(self.webp), dtype=np.uint8))

    @classmethod
    def read(cls, path: Path) -> "Thumbnails":
        """Read what `write` wrote.

        Raises:
            UserError: the file is damaged.
        """
        try:
            stored = read_npz(path, ("ids", "sizes", "webp"))
            ids, sizes, webp = (stored[name] for name in ("ids", "sizes", "webp"))
            whole = all(array.ndim == 1 and array.dtype.kind in "iu" for array in (ids, sizes, webp))
            if not whole or len(ids) != len(sizes) or (sizes < 0).any() or sizes.sum() != webp.nbytes:
                raise ValueError(f"{ids.shape} ids, {sizes.shape} sizes, {webp.nbytes} bytes")
            ends = sizes.cumsum()
        except DAMAGED as error:
            why = f"{path} cannot be read ({error})"
            raise UserError("run", None, why, "run the command that makes it again") from error
        data = webp.tobytes()
        return cls(ids, [data[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)])


def driving_rows(top: Table) -> Table:
    """The rows of images that drive their unit: among its `RANKS` strongest, and not leaving it silent.

    Args:
        top: columns ``UNITMEM_TOP``.
    """
    drives = (top["rank"] < RANKS) & (top["mu"] > 0)
    return {name: column[drives] for name, column in top.items()}


def driving_images(rows: Table) -> NDArray[np.int64]:
    """The images of such rows, those that matter most first.

    That is by the best rank an image has in any unit, then by how many units give it that rank, then by id: the
    strongest image of some unit comes before all that are merely second.

    Args:
        rows: columns ``rank`` (below `RANKS`) and ``id``.
    """
    ids, positions = np.unique(rows["id"].astype(np.int64), return_inverse=True)
    counts = np.zeros((RANKS, len(ids)), dtype=np.int64)
    np.add.at(counts, (rows["rank"], positions), 1)
    best = (counts > 0).argmax(0)
    ordered: NDArray[np.int64] = ids[np.lexsort((ids, -counts[best, np.arange(len(ids))], best))]
    return ordered


def side_within(most_bytes: int) -> int:
    """The largest of `SIDES` at which a picture of so many bytes is still worth looking at; the smallest if none is."""
    return next((side for side in SIDES if most_bytes >= BYTES_PER_PIXEL * side**2), SIDES[-1])


def encode(image: NDArray[np.uint8], side: int, most_bytes: int) -> bytes:
    """One image as WebP of at most so many bytes.

    An image that is no larger than ``side`` keeps its pixels, exactly where they fit; a larger one is reduced. Quality
    falls until the file fits, and then the size.

    Args:
        image: ``uint8 (H, W, 3)``.
        side: longest side of the picture, pixels.
        most_bytes: at least 100, which one grey pixel needs.
    """
    height, width = image.shape[:2]
    picture = Image.fromarray(image)
    if max(height, width) <= side:
        exact = _webp(picture, lossless=True)
        if len(exact) <= most_bytes:
            return exact
    while True:
        scale = min(1.0, side / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        reduced = picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            data = _webp(reduced, quality=quality)
            if len(data) <= most_bytes:
                return data
        if size == (1, 1):
            raise ValueError(f"one pixel takes {len(data)} bytes, not {most_bytes}")
        side = max(size) // 2


def _webp(picture: Image.Image, *, quality: int = 100, lossless: bool = False) -> bytes:
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=quality, lossless=lossless, method=4)
    return file.getvalue()
