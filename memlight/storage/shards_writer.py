"""Filling a store of features: shards appear whole or not at all, and what is there is not made again."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Full, Queue
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError
from memlight.storage.shards import FORMAT, MANIFEST, Dtype, Ids, Layout, read_manifest
from memlight.storage.tables import atomic_write, write_json

Features = Mapping[str, NDArray[Any]]
"""Layer -> ``(b, ...)`` of the same b images."""

PENDING = 2
"""Batches that may wait to be written."""


class ShardFiles:
    """The files of one shard while it is written, filled from the first image to the last."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], files: Mapping[str, BinaryIO], dtype: str) -> None:
        self._shapes, self._files, self._dtype = shapes, files, np.dtype(dtype)
        self.filled = dict.fromkeys(shapes, 0)

    def append(self, layer: str, features: NDArray[Any]) -> None:
        """Add the features ``(b, ...)`` of the next images.

        Raises:
            ValueError: they are of another shape or type.
        """
        if features.shape[1:] != self._shapes[layer] or features.dtype != self._dtype:
            raise ValueError(f"{layer}: {features.dtype} {features.shape[1:]}, not {self._dtype} {self._shapes[layer]}")
        self._files[layer].write(np.ascontiguousarray(features).data)
        self.filled[layer] += len(features)


class StoreWriter:
    """Fills a directory with shards, or goes on where an earlier call stopped.

    Args:
        root: the directory, which need not exist.
        made_from: everything that the features depend on; JSON-able.
        shapes: layer -> shape of one image's features, in execution order.
        dtype: of the features.
        ids: ``int64 (N,)`` of the images.
        labels: ``int64 (N,)``.
        shard_size: images in a shard.

    Raises:
        UserError: the directory holds something else.
    """

    def __init__(
        self,
        root: Path,
        made_from: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
        dtype: Dtype,
        ids: Ids,
        labels: Ids,
        shard_size: int,
    ) -> None:
        self.layout = Layout(root, shapes, len(ids), shard_size, dtype)
        self.ids, self.labels = ids, labels
        layers = {layer: list(shape) for layer, shape in shapes.items()}
        files = {"dtype": dtype, "images": len(ids), "shard_size": shard_size, "layers": layers}
        self.manifest: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **made_from, **files}))
        self._require_same()

    def missing(self) -> list[int]:
        """Shards that are still to be written."""
        return self.layout.missing()

    def require_room(self, shards: Sequence[int]) -> None:
        """Refuse to start on what the disk cannot hold.

        Raises:
            UserError: it has less free room than these shards take, or nothing can be written there.
        """
        way_out = "choose fewer --layers, --reduce unit, --dtype float16 or another disk"
        require_free(self.layout.root, self.layout.bytes_of(shards), way_out)

    def begin(self) -> None:
        """Write the manifest, and delete what a killed call left half-written."""
        for leftover in [*self.layout.root.glob(".*.npy"), *self.layout.root.glob("*/.*.npy")]:
            leftover.unlink()
        if not (self.layout.root / MANIFEST).exists():
            write_json(self.layout.root / MANIFEST, self.manifest)

    @contextmanager
    def shard(self, index: int) -> Iterator[ShardFiles]:
        """Open the files of one shard; they take their names, synced, when the block succeeds.

        Raises:
            UserError: the disk is full, or something else keeps it from being written.
            ValueError: a layer was not given as many images as the shard has.
        """
        layout = self.layout
        rows, count = layout.rows(index), layout.count(index)
        try:
            with ExitStack() as stack:
                for path, numbers in (
                    (layout.ids_file(index), self.ids[rows]),
                    (layout.labels_file(index), self.labels[rows]),
                ):
                    with stack.enter_context(atomic_write(path)).open("wb") as file:
                        np.save(file, numbers)
                files = {}
                for layer, shape in layout.shapes.items():
                    temporary = stack.enter_context(atomic_write(layout.file(layer, index)))
                    files[layer] = stack.enter_context(temporary.open("wb"))
                    write_header(files[layer], (count, *shape), layout.dtype)
                shard = ShardFiles(layout.shapes, files, layout.dtype)
                yield shard
                short = [layer for layer, filled in shard.filled.items() if filled != count]
                if short:
                    raise ValueError(f"shard {index}: {shard.filled[short[0]]} of {count} images of {short[0]}")
        except OSError as error:
            raise UserError(f"--out {layout.root}: cannot be written ({error}); shards before are whole") from error

    def _require_same(self) -> None:
        root = self.layout.root
        if not root.exists():
            return
        if not root.is_dir():
            raise UserError(f"--out {root}: is a file; name a directory")
        if not (root / MANIFEST).is_file():
            if any(root.iterdir()):
                raise UserError(f"--out {root}: holds something else; name a new directory")
            return
        found = difference(read_manifest(root), self.manifest)
        if found is not None:
            raise UserError(
                f"--out {root}: holds other features ({found}); use the flags it was made with, or another --out"
            )


@contextmanager
def writing_behind(writer: StoreWriter, shards: Sequence[int]) -> Iterator[Callable[[Features], None]]:
    """Fill shards in a thread of their own: forwards go on while files are written and synced.

    Args:
        writer: where to.
        shards: which, in this order.

    Yields:
        What takes the features of the next images, none of which are of two shards, and waits while ``PENDING``
        batches are to be written. When the block ends, the last of them has been.

    Raises:
        UserError: as `StoreWriter.shard`.
        ValueError: the shards were not filled.
    """
    pending: Queue[Features | None] = Queue(PENDING)
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(_fill, writer, shards, pending)

        def put(features: Features | None) -> None:
            while not written.done():
                try:
                    return pending.put(features, timeout=0.1)
                except Full:
                    continue

        def add(features: Features) -> None:
            put(features)
            if written.done():
                written.result()

        try:
            yield add
        finally:
            put(None)
        written.result()


def _fill(writer: StoreWriter, shards: Sequence[int], pending: "Queue[Features | None]") -> None:
    for index in shards:
        with writer.shard(index) as files:
            while min(files.filled.values()) < writer.layout.count(index):
                features = pending.get()
                if features is None:
                    raise ValueError(f"shard {index} was not filled")
                for layer, values in features.items():
                    files.append(layer, values)


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """The first entry in which two manifests differ, in words."""
    for key in dict.fromkeys((*here, *there)):
        a, b = there.get(key), here.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            if (within := difference(a, b)) is not None:
                return f"{key}: {within}"
        elif a != b:
            return f"{key} is {a} there and {b} here"
    return None


def writable_place(root: Path) -> Path:
    """The directory that is there and in which ``root`` is, or would be made.

    Raises:
        UserError: nothing can be written in it.
    """
    nearest = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"--out {root}: nothing can be written in {nearest}; choose another --out")
    return nearest


def require_free(root: Path, needed: int, way_out: str) -> None:
    """Refuse to start on what the disk of ``root`` cannot hold.

    Args:
        root: where the bytes go; need not exist.
        needed: bytes.
        way_out: what to do about it.

    Raises:
        UserError: there is less free room, or nothing can be written there.
    """
    free = shutil.disk_usage(writable_place(root)).free
    if needed > free:
        raise UserError(f"--out {root}: {readable(needed)} are needed and {readable(free)} are free; {way_out}")


def readable(size: float) -> str:
    """A number of bytes for people."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"


def write_header(file: BinaryIO, shape: tuple[int, ...], dtype: str) -> None:
    """Begin an `.npy` file whose values follow in C order."""
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
