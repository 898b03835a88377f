"""Outputs of layers on disk: a store (`memlight.storage.store`) with a file for each layer in every shard.

    DIR/manifest.json           what the features were made from; equal for all shards
    DIR/ids-00000.npy           data set ids of the images of a shard
    DIR/labels-00000.npy        their labels, -1 where there is none
    DIR/<layer>/00000.npy       the layer's features, (images, ...)

Characters of a layer's name that a directory cannot have are written as in a URL.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Full, Queue
from typing import Annotated, Any
from urllib.parse import quote

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from memlight.storage.run_files import Natural
from memlight.storage.store import (
    Dtype,
    Layout,
    ManifestFile,
    RowsFile,
    Shape,
    ShardedArray,
    Store,
    StoreKind,
    StoreWriter,
)

Ids = NDArray[np.int64]
Features = Mapping[str, NDArray[Any]]
"""Layer -> ``(b, ...)`` of the same b images."""

PENDING = 2
"""Batches that may wait to be written."""

_IDS, _LABELS = "ids-", "labels-"


def _prefix(layer: str) -> str:
    return f"{quote(layer, safe='@')}/"


class FeatureManifest(ManifestFile):
    """The manifest of features: besides what every one says, the shape of an image's features in each layer."""

    layers: dict[Annotated[str, Meta(pattern=r"^(?!\.{1,2}$)")], list[Natural]]


def _layout(root: Path, manifest: Mapping[str, Any]) -> Layout:
    layers = {_prefix(layer): (tuple(shape), manifest["dtype"]) for layer, shape in manifest["layers"].items()}
    arrays = {_IDS: ((), "int64"), _LABELS: ((), "int64"), **layers}
    return Layout(root, manifest["images"], manifest["shard_size"], arrays)


FEATURES = StoreKind(
    "features",
    "analyze.py features",
    _layout,
    FeatureManifest,
    "choose fewer `layers`, `reduce='unit'`, `dtype='float16'` or another disk",
)


class FeatureStore(Store):
    """Features that `analyze.py features` wrote.

    Args:
        root: the directory; its shards must all be there.

    Attributes:
        manifest: what they were made from.
        layers: names, in execution order; ``store[name]`` is the layer's `ShardedArray`, ``(N, ...)``.
        ids: ``int64 (N,)`` data set ids, in the order of the rows.
        labels: ``int64 (N,)``; -1 where there is no label.

    Raises:
        UserError: no such store, or some of its shards are missing.
    """

    def __init__(self, root: str | Path) -> None:
        super().__init__(root, FEATURES)
        self.layers: list[str] = list(self.manifest["layers"])
        self.ids: Ids = self.layout.array(_IDS)[:]
        self.labels: Ids = self.layout.array(_LABELS)[:]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, layer: str) -> ShardedArray:
        if layer not in self.layers:
            raise KeyError(f"{layer}: no such layer in {self.root}; it has {', '.join(self.layers)}")
        return self.layout.array(_prefix(layer))

    def read(self, layer: str, ids: Sequence[int] | Ids | None = None) -> NDArray[Any]:
        """A layer's features in memory, ``(n, ...)``.

        Args:
            layer: one of ``layers``.
            ids: of the images, in the order wanted; all in the order of ``self.ids`` if None.

        Raises:
            ValueError: an image is not in the store.
        """
        if ids is None:
            return self[layer][:]
        wanted = np.asarray(ids, dtype=np.int64)
        order = self.ids.argsort()
        places = np.searchsorted(self.ids, wanted, sorter=order).clip(max=len(order) - 1)
        positions = order[places]
        absent = wanted[self.ids[positions] != wanted]
        if absent.size:
            raise ValueError(f"id {absent[0]} is not in {self.root}")
        return self[layer][positions]


class FeatureWriter(StoreWriter):
    """Fills a directory with features, or goes on where an earlier call stopped.

    Args:
        out: the directory, which need not exist.
        made_from: everything that the features depend on; JSON-able.
        shapes: layer -> shape of one image's features, in execution order.
        dtype: of the features.
        ids: ``int64 (N,)`` of the images.
        labels: ``int64 (N,)``.
        shard_size: images in a shard.

    Raises:
        UserError: the directory holds something else, or nothing can be written there.
    """

    def __init__(
        self,
        out: Path,
        made_from: Mapping[str, Any],
        shapes: Mapping[str, Shape],
        dtype: Dtype,
        ids: Ids,
        labels: Ids,
        shard_size: int,
    ) -> None:
        self.shapes, self.ids, self._labels = shapes, ids, labels
        files = {"dtype": dtype, "images": len(ids), "shard_size": shard_size, "layers": shapes}
        super().__init__(out, FEATURES, {**made_from, **files})

    @contextmanager
    def features(self, shard: int) -> Iterator[Mapping[str, RowsFile]]:
        """Open the files of the layers in a shard; see `StoreWriter.shard`."""
        images = self.layout.images_of(shard)
        with self.shard(shard) as files:
            files[_IDS].append(self.ids[images])
            files[_LABELS].append(self._labels[images])
            yield {layer: files[_prefix(layer)] for layer in self.shapes}


@contextmanager
def writing_behind(writer: FeatureWriter, shards: Sequence[int]) -> Iterator[Callable[[Features], None]]:
    """Fill shards in a thread of their own: forwards go on while files are written and synced.

    Args:
        writer: of the store.
        shards: numbers of those to fill, in this order.

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


def _fill(writer: FeatureWriter, shards: Sequence[int], pending: "Queue[Features | None]") -> None:
    for shard in shards:
        with writer.features(shard) as files:
            while min(file.filled for file in files.values()) < len(writer.layout.images_of(shard)):
                features = pending.get()
                if features is None:
                    raise ValueError(f"shard {shard} was not filled")
                for layer, values in features.items():
                    files[layer].append(values)
