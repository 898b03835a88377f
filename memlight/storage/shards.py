"""Outputs of layers on disk: `.npy` shards of so many images, and one manifest that says what they are of.

    DIR/manifest.json           what the features were made from; equal for all shards
    DIR/ids-00000.npy           data set ids of the images of a shard
    DIR/labels-00000.npy        their labels, -1 where there is none
    DIR/<layer>/00000.npy       the layer's features, (images, ...)

A shard is the unit of resume: its files appear whole or not at all.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, SupportsIndex
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError, named
from memlight.storage.tables import read_json

Dtype = Literal["float16", "float32"]
Ids = NDArray[np.int64]

MANIFEST = "manifest.json"
FORMAT = 1


class LayerArray:
    """A layer's features of all images: indexed on its first axis like an array, read from the shards as needed.

    Attributes:
        shape: ``(images, ...)``.
        dtype: float16 or float32.
    """

    def __init__(self, shards: Sequence[Path], shard_size: int, shape: tuple[int, ...], dtype: str) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._paths = shards
        self._shard_size = shard_size
        self._mapped: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: SupportsIndex | slice | Sequence[int] | NDArray[Any]) -> NDArray[Any]:
        """One row, or the rows of a slice, of a list of numbers or of a mask, in the order asked for."""
        positions = np.arange(len(self))[rows]
        picked = self._rows(np.atleast_1d(positions))
        return picked[0] if np.ndim(positions) == 0 else picked

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Everything, in memory."""
        return self[:].astype(dtype or self.dtype, copy=False)

    def _rows(self, positions: Ids) -> NDArray[Any]:
        out = np.empty((len(positions), *self.shape[1:]), self.dtype)
        shards, places = np.divmod(positions, self._shard_size)
        for shard in np.unique(shards):
            here = shards == shard
            out[here] = self._shard(int(shard))[places[here]]
        return out

    def _shard(self, index: int) -> NDArray[Any]:
        if index not in self._mapped:
            self._mapped[index] = np.load(self._paths[index], mmap_mode="r")
        return self._mapped[index]


class FeatureStore:
    """Features that `analyze.py features` wrote.

    Args:
        root: the directory; its shards must all be there.

    Attributes:
        manifest: what they were made from.
        layers: names, in execution order; ``store[name]`` is the layer's `LayerArray`.
        ids: ``int64 (N,)`` data set ids, in the order of the rows.
        labels: ``int64 (N,)``; -1 where there is no label.

    Raises:
        UserError: no such store, or some of its shards are missing.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not (self.root / MANIFEST).is_file():
            raise UserError(
                f"--out {root}: no features here ({MANIFEST} is missing); `analyze.py features` writes some"
            )
        self.manifest = read_manifest(self.root)
        layout = Layout.of(self.root, self.manifest)
        missing = layout.missing()
        if missing:
            raise UserError(
                f"--out {root}: {len(missing)} of {layout.shards} shards are missing; type the command that wrote the "
                "others again"
            )
        self.layers = list(layout.shapes)
        self.ids = _joined([layout.ids(shard) for shard in range(layout.shards)])
        self.labels = _joined([layout.labels(shard) for shard in range(layout.shards)])
        self._layout = layout

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, layer: str) -> LayerArray:
        if layer not in self._layout.shapes:
            raise KeyError(f"{layer}: no such layer in {self.root}; it has {', '.join(self.layers)}")
        layout = self._layout
        paths = [layout.file(layer, shard) for shard in range(layout.shards)]
        return LayerArray(paths, layout.shard_size, (len(self), *layout.shapes[layer]), layout.dtype)

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


class Layout:
    """Which files a store consists of.

    Args:
        root: the directory.
        shapes: layer -> shape of one image's features.
        images: number of images.
        shard_size: images in a shard; the last one may have fewer.
        dtype: of the features.
    """

    def __init__(
        self, root: Path, shapes: Mapping[str, tuple[int, ...]], images: int, shard_size: int, dtype: Dtype
    ) -> None:
        self.root = root
        self.shapes = dict(shapes)
        self.images = images
        self.shard_size = shard_size
        self.dtype: Dtype = dtype
        self.shards = -(-images // shard_size)

    @classmethod
    def of(cls, root: Path, manifest: Mapping[str, Any]) -> "Layout":
        """The layout that a manifest describes.

        Raises:
            UserError: it was edited, or is of another version.
        """
        try:
            if manifest["format"] != FORMAT:
                raise KeyError("format")
            shapes = {layer: tuple(shape) for layer, shape in manifest["layers"].items()}
            return cls(root, shapes, manifest["images"], manifest["shard_size"], manifest["dtype"])
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"--out {root}: {MANIFEST} is of another version or was edited ({error})") from error

    def rows(self, shard: int) -> slice:
        """Which of the images are in a shard."""
        start = shard * self.shard_size
        return slice(start, start + self.count(shard))

    def count(self, shard: int) -> int:
        """How many images are in a shard."""
        return min(self.shard_size, self.images - shard * self.shard_size)

    def file(self, layer: str, shard: int) -> Path:
        """Where a layer's features of a shard lie."""
        return self.root / quote(layer, safe="@") / f"{shard:05d}.npy"

    def ids_file(self, shard: int) -> Path:
        """Where a shard's ids lie."""
        return self.root / f"ids-{shard:05d}.npy"

    def labels_file(self, shard: int) -> Path:
        """Where a shard's labels lie."""
        return self.root / f"labels-{shard:05d}.npy"

    def ids(self, shard: int) -> Ids:
        """``int64 (n,)``."""
        ids: Ids = np.load(self.ids_file(shard))
        return ids

    def labels(self, shard: int) -> Ids:
        """``int64 (n,)``."""
        labels: Ids = np.load(self.labels_file(shard))
        return labels

    def missing(self) -> list[int]:
        """Shards that are not there, or not whole."""
        return [shard for shard in range(self.shards) if not self._whole(shard)]

    def bytes_of(self, shards: Sequence[int]) -> int:
        """What shards take on the disk."""
        values = sum(math.prod(shape) for shape in self.shapes.values())
        per_image = values * np.dtype(self.dtype).itemsize + 2 * np.dtype(np.int64).itemsize
        return per_image * sum(self.count(shard) for shard in shards)

    def _whole(self, shard: int) -> bool:
        count = self.count(shard)
        layers = (_holds(self.file(layer, shard), (count, *shape), self.dtype) for layer, shape in self.shapes.items())
        numbers = (_holds(path, (count,), "int64") for path in (self.ids_file(shard), self.labels_file(shard)))
        return all(numbers) and all(layers)


def read_manifest(root: Path) -> dict[str, Any]:
    """What a store says it was made from.

    Raises:
        UserError: the file is damaged.
    """
    with named(run="out"):
        manifest: dict[str, Any] = read_json(root / MANIFEST)
    return manifest


def _joined(parts: Sequence[Ids]) -> Ids:
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def _holds(path: Path, shape: tuple[int, ...], dtype: str) -> bool:
    """Whether a file is a whole array of this kind; a file that was cut short cannot be mapped."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return bool(array.shape == shape and array.dtype == np.dtype(dtype))
