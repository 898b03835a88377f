"""Embedding every patch of every image into a store, killed and resumed as it pleases."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from memlight import dist
from memlight.data.decode import Size
from memlight.data.sources import require_whole
from memlight.errors import UserError, named
from memlight.patches.embed import Embedder
from memlight.patches.listing import ListedImages
from memlight.patches.loader import Decoded, Part, decode_ahead
from memlight.patches.store import Layout, PatchStore, open_store
from memlight.patches.writer import StoreWriter
from memlight.storage.shards_writer import readable

_NAMED = 5


@dataclass(frozen=True)
class ExtractOptions:
    """How the work is done; none of it changes what is written, but for the last bit of ``batch_size``.

    Attributes:
        picture_size: (height, width) that every image is brought to.
        batch_size: images in one forward.
        skip_broken: leave broken images out rather than stop at the first.
        workers: processes that decode ahead.
    """

    picture_size: Size
    batch_size: int
    skip_broken: bool = False
    workers: int = 0


def extract_patches(
    embedder: Embedder,
    images: ListedImages,
    writer: StoreWriter,
    options: ExtractOptions,
    *,
    progress: bool = True,
) -> PatchStore:
    """Write every shard that is missing.

    With a process group up the processes share the shards, on a disk that all of them see; the files are those that
    one process writes. No batch is of two shards, so that a shard does not depend on which others were made before.

    Args:
        embedder: pictures to vectors.
        images: which.
        writer: where to.
        options: how the work is done.
        progress: show a bar.

    Returns:
        What was written.

    Raises:
        UserError: an image is broken, vectors are not finite or exceed what the store's dtype holds, the disk is too
            small.
    """
    missing = writer.missing()
    writer.require_room(missing)
    dist.barrier()  # nobody writes before everybody has looked
    layout = writer.layout
    if dist.rank() == 0:
        there = layout.shards - len(missing)
        found = f", {there} of {layout.shards} shards are there" if there else ""
        size = readable(writer.bytes_of(range(layout.shards)))
        print(f"{layout.root}: {layout.images} images x {layout.patches} patches x {layout.dim}, {size}{found}")
        writer.begin()
    dist.barrier()
    mine = missing[dist.rank() :: dist.world_size()]
    parts = [Part(shard, batch) for shard in mine for batch in _batches(layout.listed(shard), options.batch_size)]
    batches = decode_ahead(
        images.files,
        images.names,
        parts,
        options.picture_size,
        workers=options.workers if parts else 0,
        pin_memory=torch.cuda.is_available(),
    )
    total = sum(len(part.images) for part in parts)
    hidden = None if progress and parts else True
    with ThreadPoolExecutor(1) as pool, tqdm(total=total, desc="patches", unit="image", disable=hidden) as bar:
        written: Future[None] | None = None
        for shard, shard_batches in groupby(batches, key=lambda batch: batch.shard):
            rows, skipped = _embedded(embedder, images, shard_batches, options, layout, bar)
            if written is not None:
                written.result()
            written = pool.submit(writer.write, shard, rows, skipped)
        if written is not None:
            written.result()
    dist.barrier()
    store = open_store(layout.root)
    if not store.num_images:
        raise UserError(f"--images {images.root}: none of {layout.images} images can be decoded.")
    if store.skipped and dist.rank() == 0:
        named = ", ".join(images.files.where(name) for name in store.skipped[:_NAMED])
        more = ", ..." if len(store.skipped) > _NAMED else ""
        print(f"{len(store.skipped)} of {layout.images} images are broken and left out: {named}{more}")
    return store


def _embedded(
    embedder: Embedder,
    images: ListedImages,
    batches: Iterable[Decoded],
    options: ExtractOptions,
    layout: Layout,
    bar: Any,
) -> tuple[NDArray[Any], list[str]]:
    """The rows of a shard ``(rows, dim)``, and the names of its broken images."""
    dtype = getattr(torch, layout.dtype)
    rows = [np.empty((0, layout.dim), dtype=layout.dtype)]
    skipped: list[str] = []
    for batch in batches:
        if not options.skip_broken:
            with named(root="images"):
                require_whole(images.files, batch.broken)
        skipped.extend(batch.broken)
        if len(batch.images):
            vectors = embedder.embed(batch.images)
            values = vectors.to(dtype)
            rows.append(values.cpu().numpy().reshape(-1, layout.dim))
            if not values.isfinite().all():
                raise UserError(_not_finite(vectors, layout.dtype))
        bar.update(len(batch.images) + len(batch.broken))
    return np.concatenate(rows), skipped


def _not_finite(vectors: Tensor, dtype: str) -> str:
    if vectors.isfinite().all():
        largest = float(vectors.abs().max())
        return f"--dtype {dtype}: the vectors reach {largest:.3g}, more than {dtype} holds; use float32."
    return "--extractor: gives NaN or infinite vectors; use --precision float32, or other --weights."


def _batches(images: range, size: int) -> list[range]:
    return [images[start : start + size] for start in range(0, len(images), size)]
