"""Embeddings of patches on disk: `.npy` shards of whole images, and one manifest that says what they are of.

    DIR/manifest.json      what the embeddings were made from; equal for all shards
    DIR/images.json        the source of the images, and their names in order
    DIR/00000.npy          the patches of the first images, (rows, dim)
    DIR/00000.json         rows and CRC-32 of that shard, and images left out because they are broken

Row ``id * grid**2 + patch`` is patch ``patch`` (row-major) of image ``id``; ids are positions in the sorted names.
A shard is the unit of resume: ``00000.json`` is written after ``00000.npy``, and a shard without it is made again.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memlight.errors import UserError
from memlight.storage.shards_writer import difference
from memlight.storage.tables import read_json

if TYPE_CHECKING:
    from memlight.data.files import Files

Dtype = Literal["float16", "float32"]

MANIFEST, IMAGES, INDEX = "manifest.json", "images.json", "archive-index.npz"
"""The file names of a store; the last one keeps the index of a zip or tar, so that it is opened at once."""

FORMAT = 1
_BLOCK = 1 << 24


@dataclass(frozen=True)
class Shard:
    """One file of a store.

    Attributes:
        path: the ``.npy`` file.
        first_row: number of its first row in the store.
        rows: how many it has.
        crc: CRC-32 of the whole file.
    """

    path: Path
    first_row: int
    rows: int
    crc: int


@dataclass(frozen=True)
class Layout:
    """Which files a store consists of.

    Attributes:
        root: the directory.
        images: images that are listed, broken ones too.
        shard_size: of them in a shard; the last one may have fewer.
        patches: of an image.
        dim: numbers of a patch.
        dtype: of the embeddings.
    """

    root: Path
    images: int
    shard_size: int
    patches: int
    dim: int
    dtype: str

    @classmethod
    def of(cls, root: Path, manifest: Mapping[str, Any]) -> "Layout":
        """The layout that a manifest describes.

        Raises:
            UserError: it was edited, or is of another version.
        """
        try:
            if manifest["format"] != FORMAT:
                raise KeyError("format")
            numbers = {name: manifest[name] for name in ("images", "shard_size", "dim", "dtype")}
            return cls(root, patches=manifest["grid"] ** 2, **numbers)
        except (KeyError, TypeError) as error:
            raise UserError(f"{root}: {MANIFEST} is of another version or was edited ({error})") from error

    @property
    def shards(self) -> int:
        """How many shards there are when all are written."""
        return -(-self.images // self.shard_size)

    def listed(self, shard: int) -> range:
        """Positions in the list of names of the images of a shard, broken ones too."""
        start = shard * self.shard_size
        return range(start, min(start + self.shard_size, self.images))

    def array(self, shard: int) -> Path:
        """Where a shard's embeddings lie."""
        return self.root / f"{shard:05d}.npy"

    def record(self, shard: int) -> Path:
        """Where a shard's rows, checksum and skipped images are written down."""
        return self.root / f"{shard:05d}.json"

    def missing(self) -> list[int]:
        """Shards that are not there, or not whole."""
        return [shard for shard in range(self.shards) if not self._whole(shard)]

    def _whole(self, shard: int) -> bool:
        if not self.record(shard).is_file():
            return False
        try:
            array = np.load(self.array(shard), mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return False
        rows = read_json(self.record(shard))["rows"]
        return bool(array.shape == (rows, self.dim) and array.dtype == np.dtype(self.dtype))


class PatchStore:
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

    def __init__(self, root: Path, manifest: Mapping[str, Any], layout: Layout, images: str | None) -> None:
        listed = read_json(root / IMAGES)
        self.root = root
        self.fingerprint: dict[str, Any] = dict(manifest)
        self.grid: int = manifest["grid"]
        self.patches, self.dim, self.dtype = layout.patches, layout.dim, np.dtype(layout.dtype)
        self.images: str = images or listed["images"]
        records = [read_json(layout.record(shard)) for shard in range(layout.shards)]
        self.skipped: list[str] = [name for record in records for name in record["skipped"]]
        broken = set(self.skipped)
        self.names: Sequence[str] = [name for name in listed["names"] if name not in broken]
        self.num_images = len(self.names)
        self.num_rows = self.num_images * self.patches
        ends = np.cumsum([0, *(record["rows"] for record in records)]).tolist()
        self.shards = [
            Shard(layout.array(shard), ends[shard], record["rows"], record["crc32"])
            for shard, record in enumerate(records)
        ]
        self._mapped: dict[int, NDArray[Any]] = {}

    def require_comparable(self, other: "PatchStore") -> None:
        """Refuse to compare embeddings that were made in two ways; the images may differ, and the machine.

        Raises:
            UserError: names the first difference.
        """
        found = difference(other.fingerprint["extraction"], self.fingerprint["extraction"])
        if found is not None:
            raise UserError(
                f"{self.root}: its patches were embedded in another way than those of {other.root} ({found}); extract "
                "both with the same flags"
            )

    def shard(self, index: int) -> NDArray[Any]:
        """One shard ``(rows, dim)``, memory-mapped and read-only."""
        if index not in self._mapped:
            self._mapped[index] = np.load(self.shards[index].path, mmap_mode="r")
        return self._mapped[index]

    def rows(self, indices: ArrayLike) -> NDArray[np.float32]:
        """Some rows in memory, float32 ``(n, dim)``, in the order asked for.

        Raises:
            IndexError: there is no such row.
        """
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        outside = wanted[(wanted < 0) | (wanted >= self.num_rows)]
        if outside.size:
            raise IndexError(f"{self.root} has {self.num_rows} rows, and row {outside[0]} was asked for")
        out = np.empty((len(wanted), self.dim), np.float32)
        starts = [shard.first_row for shard in self.shards]
        owner = np.searchsorted(starts, wanted, side="right") - 1
        for index in np.unique(owner).tolist():
            here = owner == index
            out[here] = self.shard(index)[wanted[here] - starts[index]]
        return out

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
        from memlight.data.files import open_files

        try:
            return open_files(self.images, self.root / INDEX)
        except UserError as error:
            raise UserError(
                f"{self.root}: the images it was made from are not at {self.images} any more; put them back, or "
                "extract again"
            ) from error


def open_store(path: str | Path, verify: Literal["fast", "full"] = "fast", *, images: str | None = None) -> PatchStore:
    """Open the embeddings in a directory.

    Args:
        path: the directory.
        verify: ``fast`` looks at the shape and type of every shard, ``full`` reads everything and compares checksums.
        images: where the images lie now; where they were at extraction if None.

    Raises:
        UserError: no such store, shards are missing, or one is damaged.
    """
    root = Path(path)
    if not (root / MANIFEST).is_file():
        raise UserError(f"{path}: no patches here ({MANIFEST} is missing); `analyze.py patches extract` writes some")
    manifest = read_json(root / MANIFEST)
    layout = Layout.of(root, manifest)
    missing = layout.missing()
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {layout.shards} shards are missing; type the command that wrote the others "
            "again, which makes only these"
        )
    store = PatchStore(root, manifest, layout, images)
    if verify == "full":
        for shard in store.shards:
            if file_crc32(shard.path) != shard.crc:
                raise UserError(
                    f"{path}: {shard.path.name} is damaged (its checksum differs); delete it, and type the command "
                    "that wrote it again"
                )
    return store


def file_crc32(path: Path) -> int:
    """CRC-32 of a file."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc
