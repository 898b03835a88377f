"""Embedding every patch of every image into a store, killed and resumed as it pleases.

Images have ids, which are positions in the sorted list of their names. They are decoded ahead, batch by batch.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from memlight import dist
from memlight.data.datasets import common_size
from memlight.data.decode import Size, decode_chunk
from memlight.data.files import Files
from memlight.data.places import exists, list_training_images, place_of
from memlight.data.sources import require_whole
from memlight.errors import UserError, named
from memlight.patches.embed import Embedder
from memlight.patches.store import PatchStore, PatchWriter, names_sha256, open_store

_NAMED = 5
"""Broken images that are named in a line of the output."""


@dataclass(frozen=True, eq=False)
class ListedImages:
    """The images whose patches are embedded.

    Attributes:
        root: the folder, zip or tar, as an absolute path.
        files: its files.
        names: of the images, by id.
    """

    root: str
    files: Files
    names: list[str]

    def common_size(self) -> Size:
        """(height, width) that all share, or else the square of their median shorter side, 256 at most."""
        with named(root="images"):
            return common_size(self.files, self.names)

    def identity(self) -> dict[str, Any]:
        """Which images these are, by names and sizes of files: the same in a folder and in an archive."""
        sizes = hashlib.sha256()
        for name in self.names:
            sizes.update(f"{self.files.size(name)} ".encode())
        return {
            "images": len(self.names),
            "names_sha256": names_sha256(self.names),
            "sizes_sha256": sizes.hexdigest(),
        }


def open_images(images: str, *, limit: int | None = None, kept_index: Path | None = None) -> ListedImages:
    """List the images of a folder, zip or tar; of one with train/ and val/ (or test/) those in train/.

    Args:
        images: its path.
        limit: at most so many, evenly spaced, since files are often sorted by class; None for all.
        kept_index: a file that keeps the index of an archive.

    Raises:
        UserError: there is no such thing, or no image in it.
    """
    place = place_of(images)
    if not exists(place):
        raise UserError("images", images, "no such directory or archive")
    with named(root="images"):
        files, names = list_training_images(place, kept_index)
    if limit is not None and limit < len(names):
        names = [names[number * len(names) // limit] for number in range(limit)]
    return ListedImages(place, files, names)


def extract_patches(
    embedder: Embedder,
    images: ListedImages,
    writer: PatchWriter,
    *,
    picture_size: Size,
    batch_size: int,
    skip_broken: bool = False,
    workers: int = 0,
    progress: bool = True,
) -> PatchStore:
    """Write every shard that is missing.

    With a process group up the processes share the shards, on a disk that all of them see; the files are those that
    one process writes. No batch is of two shards, so that a shard does not depend on which others were made before.

    Args:
        embedder: pictures to vectors.
        images: those of the store.
        writer: of the store.
        picture_size: (height, width) that every image is brought to.
        batch_size: images in one forward; another size may change the last bit of what is written.
        skip_broken: leave broken images out rather than stop at the first.
        workers: processes that decode ahead; 0 decodes in this one.
        progress: show a bar.

    Returns:
        What was written.

    Raises:
        UserError: an image is broken, vectors are not finite or exceed what the store's dtype holds, the disk is too
            small.
    """
    layout = writer.layout
    with writer.begun_together(f"{layout.images} images x {layout.patches} patches x {writer.dim}") as mine:
        parts = [
            (shard, listed[start : start + batch_size])
            for shard in mine
            for listed in [layout.images_of(shard)]
            for start in range(0, len(listed), batch_size)
        ]
        batches = decode_ahead(images, parts, picture_size, workers if parts else 0)
        total = sum(len(positions) for _, positions in parts)
        hidden = None if progress and parts else True
        with ThreadPoolExecutor(1) as pool, tqdm(total=total, desc="patches", unit="image", disable=hidden) as bar:
            written: Future[None] | None = None
            for shard, shard_batches in groupby(batches, key=lambda batch: batch.shard):
                rows, skipped = _embedded(embedder, images, shard_batches, writer, skip_broken, bar)
                if written is not None:
                    written.result()
                written = pool.submit(writer.write, shard, rows, skipped)
            if written is not None:
                written.result()
    store = open_store(layout.root)
    if not store.num_images:
        raise UserError("images", images.root, f"none of {layout.images} images can be decoded")
    if store.skipped and dist.rank() == 0:
        broken = ", ".join(images.files.where(name) for name in store.skipped[:_NAMED])
        more = ", ..." if len(store.skipped) > _NAMED else ""
        print(f"{len(store.skipped)} of {layout.images} images are broken and left out: {broken}{more}")
    return store


Part = tuple[int, range]
"""A batch: number of its shard, and positions of its images in the list of names."""


class Decoded(NamedTuple):
    """A batch of one shard.

    Attributes:
        shard: its number.
        images: those that are whole, ``uint8 (b, 3, H, W)``.
        broken: name -> what is wrong, of the others.
    """

    shard: int
    images: Tensor
    broken: dict[str, str]


@dataclass(frozen=True, eq=False)
class _Parts(Dataset[Decoded]):
    files: Files
    names: Sequence[str]
    size: Size

    def __getitem__(self, part: Part) -> Decoded:
        shard, positions = part
        names, images, broken = decode_chunk(self.files, [self.names[i] for i in positions], self.size)
        if broken:
            images = images[[name not in broken for name in names]]
        return Decoded(shard, torch.from_numpy(images), broken)


def decode_ahead(images: ListedImages, parts: Sequence[Part], size: Size, workers: int) -> Iterator[Decoded]:
    """Decode batches in order, a few ahead of the one that is asked for; 0 workers decode in this process."""
    loader = DataLoader(
        _Parts(images.files, images.names, size),
        batch_size=None,
        sampler=parts,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )
    return iter(loader)


def _embedded(
    embedder: Embedder,
    images: ListedImages,
    batches: Iterable[Decoded],
    writer: PatchWriter,
    skip_broken: bool,
    bar: Any,
) -> tuple[NDArray[Any], list[str]]:
    """The rows of a shard ``(rows, dim)``, and the names of its broken images."""
    rows = [np.empty((0, writer.dim), dtype=writer.dtype)]
    skipped: list[str] = []
    for batch in batches:
        if not skip_broken:
            with named(root="images"):
                require_whole(images.files, batch.broken)
        skipped.extend(batch.broken)
        if len(batch.images):
            vectors = embedder.embed(batch.images)
            values = vectors.to(getattr(torch, writer.dtype))
            rows.append(values.cpu().numpy().reshape(-1, writer.dim))
            if not values.isfinite().all():
                raise _not_finite(vectors, writer.dtype)
        bar.update(len(batch.images) + len(batch.broken))
    return np.concatenate(rows), skipped


def _not_finite(vectors: Tensor, dtype: str) -> UserError:
    if vectors.isfinite().all():
        why = f"the vectors reach {float(vectors.abs().max()):.3g}, more than {dtype} holds"
        return UserError("dtype", dtype, why, "use float32")
    why = "gives NaN or infinite vectors"
    return UserError("extractor", None, why, "use `precision='float32'`, or other `weights`")
