"""Embeddings of patches on disk: a store (`memlight.storage.store`) of whole images, with a record for each shard.

    DIR/manifest.json      what the embeddings were made from; equal for all shards
    DIR/images.json        the source of the images, and their names in order
    DIR/00000.npy          the patches of the first images, (rows, dim)
    DIR/00000.json         rows and CRC-32 of that shard, and images left out because they are broken

Row ``id * grid**2 + patch`` is patch ``patch`` (row-major) of image ``id``; ids are positions in the sorted names.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memlight.errors import UserError, named
from memlight.storage.records import difference
from memlight.storage.run_files import Positive, Side
from memlight.storage.store import Dtype, Layout, ManifestFile, ShardRecord, Store, StoreKind, StoreWriter, Verify
from memlight.storage.tables import read_json, write_text

if TYPE_CHECKING:
    from memlight.data.files import Files

IMAGES, INDEX = "images.json", "archive-index.npz"
"""Files of a store; the second keeps the index of a zip or tar, so that it is opened at once."""

Made = Mapping[str, Any]


class _Data(TypedDict):
    names_sha256: str


class _Extraction(TypedDict):
    picture_size: tuple[Side, Side]


class PatchManifest(ManifestFile):
    """The manifest of patches: besides what every one says, their number and size, and what they were made from."""

    grid: Positive
    dim: Positive
    data: _Data
    extraction: _Extraction


class ImageList(TypedDict):
    """``images.json``."""

    images: str
    names: list[str]


def _layout(root: Path, manifest: Made) -> Layout:
    arrays = {"": ((manifest["dim"],), manifest["dtype"])}
    return Layout(root, manifest["images"], manifest["shard_size"], arrays, manifest["grid"] ** 2, recorded=True)


PATCHES = StoreKind(
    "patches",
    "analyze.py patches extract",
    _layout,
    PatchManifest,
    "use a smaller `grid`, `dtype='float16'` or another disk",
    (INDEX, IMAGES),
)


class Shard(NamedTuple):
    """One file of a store.

    Attributes:
        path: the ``.npy`` file.
        first_row: number of its first row in the store.
        rows: number of its rows.
        crc: CRC-32 of the whole file.
    """

    path: Path
    first_row: int
    rows: int
    crc: int


class PatchStore(Store):
    """Embeddings that `analyze.py patches extract` wrote, mapped into memory shard by shard; see `open_store`.

    Attributes:
        root: the directory.
        grid: patches on a side of an image.
        patches: of an image, ``grid ** 2``.
        dim: numbers of a patch.
        dtype: of the shards, float16 or float32.
        names: of the images' files; the position is the id.
        skipped: names of broken files that were left out.
        num_images: how many images there are.
        num_rows: ``num_images * patches``.
        shards: the files, in the order of their rows.
        fingerprint: the manifest. Its ``extraction`` is how patches were embedded (extractor, mode, picture_size, ...),
            its ``data`` of which images, its ``made_with`` by which software.
        images: where the images lie.
    """

    def __init__(self, path: str | Path, verify: Verify = "fast", *, images: str | None = None) -> None:
        super().__init__(path, PATCHES, verify)
        listed = read_json(self.root / IMAGES, ImageList)
        self.images: str = images or listed["images"]
        self.fingerprint = self.manifest
        if names_sha256(listed["names"]) != self.fingerprint["data"]["names_sha256"]:
            why = f"{IMAGES} names other images, or in another order, than the patches are of"
            raise UserError("path", path, why, "copy the store again, or extract again")
        self.grid: int = self.manifest["grid"]
        self.patches = self.layout.patches
        self._array = self.layout.array("")
        self.num_rows, self.dim = self._array.shape
        self.dtype = self._array.dtype
        records = [read_json(self.layout.record_file(shard), ShardRecord) for shard in self.layout.shards]
        self.skipped: list[str] = [name for record in records for name in record["skipped"]]
        broken = set(self.skipped)
        self.names: Sequence[str] = [name for name in listed["names"] if name not in broken]
        self.num_images = len(self.names)
        self.shards = [
            Shard(self.layout.file("", shard), first_row, record["rows"], record["crc32"])
            for shard, (first_row, record) in enumerate(zip(self._array.starts.tolist(), records, strict=True))
        ]

    def require_comparable(self, other: "PatchStore") -> None:
        """Refuse to compare embeddings that were made in two ways; the images may differ, and the machine.

        Raises:
            UserError: names the first difference.
        """
        ours, others = (store.fingerprint["extraction"] for store in (self, other))
        if ours != others:
            raise UserError(
                f"{self.root}: its patches were embedded in another way than those of {other.root} "
                f"({difference('', others, ours)}); extract both with the same flags"
            )

    def shard(self, index: int) -> NDArray[Any]:
        """One shard ``(rows, dim)``, memory-mapped and read-only."""
        return self._array.shard(index)

    def rows(self, indices: ArrayLike) -> NDArray[np.float32]:
        """Some rows in memory, float32 ``(n, dim)``, in the order asked for.

        Raises:
            IndexError: there is no such row.
        """
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        outside = wanted[(wanted < 0) | (wanted >= self.num_rows)]
        if outside.size:
            raise IndexError(f"{self.root} has {self.num_rows} rows, and row {outside[0]} was asked for")
        return self._array.take(wanted, np.float32)

    def image(self, image_id: int) -> NDArray[np.uint8]:
        """A source image ``uint8 (H, W, 3)`` at the size at which it was cut into patches.

        Raises:
            UserError: the images are gone or changed.
        """
        from memlight.data.decode import BROKEN, decode  # which imports torch

        name, (height, width) = self.names[image_id], self.fingerprint["extraction"]["picture_size"]
        try:
            pixels = decode(self._files.read(name), (height, width))
        except (KeyError, *BROKEN) as error:
            raise UserError(
                f"{self.root}: its image {name} cannot be read from {self.images} any more ({error}); put the images "
                "back, or extract again"
            ) from error
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))

    @cached_property
    def _files(self) -> "Files":
        from memlight.data.places import open_files

        try:
            return open_files(self.images, self.root / INDEX)
        except UserError as error:
            raise UserError(
                f"{self.root}: the images it was made from are not at {self.images} any more; put them back, or "
                "extract again"
            ) from error


def names_sha256(names: Sequence[str]) -> str:
    """Hash of the names of a store's images in their order, which its fingerprint has."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()


def open_store(path: str | Path, verify: Verify = "fast", *, images: str | None = None) -> PatchStore:
    """Open the embeddings in a directory.

    Args:
        path: the directory.
        verify: ``fast`` looks at the shape and type of every shard, ``full`` reads everything and compares checksums.
        images: where the images lie now; where they were at extraction if None.

    Raises:
        UserError: no such store, shards are missing, or one is damaged.
    """
    with named(root="path", run="path"):
        return PatchStore(path, verify, images=images)


class PatchWriter(StoreWriter):
    """Fills a directory with shards of patches, or goes on where an earlier call stopped.

    Args:
        out: the directory, which need not exist.
        extraction: how patches are embedded; JSON-able, as the two that follow. Two stores can be compared where it is
            equal.
        data: names and sizes of the images, as hashes.
        made_with: software and machine.
        images: where the images lie.
        names: of the images' files, in the order of their ids.
        grid: patches on a side.
        dim: numbers of a patch.
        dtype: of the numbers on the disk.
        shard_size: images in a shard.

    Attributes:
        dim: as given.
        dtype: as given.

    Raises:
        UserError: the directory holds something else, or nothing can be written there.
    """

    def __init__(
        self,
        out: Path,
        extraction: Made,
        data: Made,
        made_with: Made,
        *,
        images: str,
        names: Sequence[str],
        grid: int,
        dim: int,
        dtype: Dtype,
        shard_size: int,
    ) -> None:
        files = {"grid": grid, "dim": dim, "dtype": dtype, "images": len(names), "shard_size": shard_size}
        super().__init__(out, PATCHES, {**files, "extraction": extraction, "data": data, "made_with": made_with})
        self.dim, self.dtype = dim, dtype
        self._listed = {"images": images, "names": list(names)}

    def begin(self) -> None:
        """Write the names of the images and the manifest, and delete what a killed call left half-written."""
        write_text(self.layout.root / IMAGES, json.dumps(self._listed))
        super().begin()

    def write(self, shard: int, rows: NDArray[Any], skipped: Sequence[str] = ()) -> None:
        """Write one shard, synced.

        Args:
            shard: its number.
            rows: ``(rows, dim)`` of its images in their order, without the skipped ones.
            skipped: names of its images that are broken.

        Raises:
            UserError: the disk is full, or something else keeps it from being written.
            ValueError: they are not the rows of the shard.
        """
        with self.shard(shard, skipped) as files:
            files[""].append(rows)
