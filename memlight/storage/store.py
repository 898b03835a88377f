"""Large results on disk: raw `.npy` files in shards, and one manifest that says what they were made from.

    DIR/manifest.json        everything that the numbers depend on; equal for all shards
    DIR/<prefix>00000.npy    the rows of the first images, a file for each array of the store
    DIR/00000.json           of stores with records: rows and CRC-32 of that shard, and images that were left out

A shard is the unit of resume. Its files appear whole or not at all, a record after its array; a shard that is not
whole is made again. Features (`memlight.storage.shards`) and patches (`memlight.patches.store`) are stored like this.
"""

import json
import math
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, SupportsIndex, TypedDict

import numpy as np
from numpy.typing import DTypeLike, NDArray

from memlight.errors import UserError, named
from memlight.storage.arrays import DAMAGED, map_npy
from memlight.storage.locks import WriterLock
from memlight.storage.records import difference
from memlight.storage.run_files import Natural, Positive
from memlight.storage.rundir import require_writable
from memlight.storage.tables import read_json, write_json
from memlight.storage.writing import atomic_write, lacking, readable, sweep, writing

Dtype = Literal["float16", "float32"]
Shape = tuple[int, ...]
Verify = Literal["fast", "full"]

MANIFEST = "manifest.json"
LOCK = ".lock"
FORMAT = 1
MOST_SHARDS = 1_000_000
"""Of a store; a manifest that names more was edited."""

_BLOCK = 1 << 24


class ShardRecord(TypedDict):
    """The record of a shard."""

    rows: Natural
    crc32: int
    skipped: list[str]


class Versioned(TypedDict):
    """What the manifest of any version says."""

    format: int


class ManifestFile(Versioned):
    """What every manifest of this version says."""

    dtype: Dtype
    images: Natural
    shard_size: Positive


@dataclass(frozen=True)
class Layout:
    """Which files a store consists of.

    Attributes:
        root: the directory.
        images: number of images, broken ones too.
        shard_size: images in a shard; the last one may have fewer.
        arrays: what the names of an array's files begin with -> shape of one row, dtype.
        patches: rows of an image.
        recorded: whether every shard has a record: its ``rows``, ``crc32`` and the names of ``skipped`` images.
    """

    root: Path
    images: int
    shard_size: int
    arrays: Mapping[str, tuple[Shape, str]]
    patches: int = 1
    recorded: bool = False

    @property
    def shards(self) -> range:
        """Numbers of the shards that there are when all are written."""
        return range(-(-self.images // self.shard_size))

    def images_of(self, shard: int) -> range:
        """Positions of the images of a shard among all images."""
        start = shard * self.shard_size
        return range(start, min(start + self.shard_size, self.images))

    def file(self, array: str, shard: int) -> Path:
        """Where an array's rows of a shard lie."""
        return self.root / f"{array}{shard:05d}.npy"

    def record_file(self, shard: int) -> Path:
        """Where a shard's record lies."""
        return self.root / f"{shard:05d}.json"

    def rows(self, shard: int) -> int:
        """How many rows a shard has on the disk."""
        if self.recorded:
            return read_json(self.record_file(shard), ShardRecord)["rows"]
        return len(self.images_of(shard)) * self.patches

    def array(self, array: str) -> "ShardedArray":
        """An array over all shards, which must be there."""
        files, rows = [self.file(array, shard) for shard in self.shards], [self.rows(shard) for shard in self.shards]
        return ShardedArray(files, rows, *self.arrays[array])

    def missing(self) -> list[int]:
        """Shards that are not there, or not whole."""
        return [shard for shard in self.shards if not self._whole(shard)]

    def bytes_of(self, shards: Sequence[int]) -> int:
        """What shards take on the disk if no image is left out."""
        row = sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self.arrays.values())
        return row * self.patches * sum(len(self.images_of(shard)) for shard in shards)

    def _whole(self, shard: int) -> bool:
        if self.recorded and not self.record_file(shard).is_file():
            return False
        rows = self.rows(shard)
        arrays = self.arrays.items()
        return all(_holds(self.file(array, shard), (rows, *shape), dtype) for array, (shape, dtype) in arrays)


@dataclass(frozen=True)
class StoreKind:
    """What tells the stores of one command from those of another.

    Attributes:
        what: what they hold, in the plural.
        command: the command that writes them.
        layout: gives the files of a manifest.
        schema: of a manifest.
        smaller: what to do where the disk is too small.
        beside: names of files that may lie in the directory before the manifest does.
    """

    what: str
    command: str
    layout: Callable[[Path, Mapping[str, Any]], Layout]
    schema: Any
    smaller: str
    beside: tuple[str, ...] = ()

    def require_place(self, out: Path) -> None:
        """Refuse a place where no such store can be written, before anything is written there.

        Raises:
            UserError: it is a file, holds something else, or there is no permission.
        """
        require_writable("out", out)
        others = [] if not out.is_dir() or (out / MANIFEST).is_file() else [path.name for path in out.iterdir()]
        if any(name not in self.beside and not name.startswith(".") for name in others):
            raise UserError("out", out, "holds something else", "name a new directory")


class ShardedArray:
    """An array in shards: indexed on its first axis like an array, read from the disk as needed.

    Attributes:
        shape: ``(rows, ...)`` of the whole.
        dtype: of its numbers.
        starts: number of the first row of each shard.
    """

    def __init__(self, files: Sequence[Path], rows: Sequence[int], shape: Shape, dtype: str) -> None:
        self.shape = (sum(rows), *shape)
        self.dtype = np.dtype(dtype)
        self.starts: NDArray[np.int64] = np.cumsum([0, *rows], dtype=np.int64)[:-1]
        self._files = files
        self._mapped: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: SupportsIndex | slice | Sequence[int] | NDArray[Any]) -> NDArray[Any]:
        """One row, or the rows of a slice, of a list of numbers or of a mask, in the order asked for."""
        positions = np.arange(len(self))[rows]
        picked = self.take(np.atleast_1d(positions))
        return picked[0] if np.ndim(positions) == 0 else picked

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Everything, in memory."""
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, positions: NDArray[np.int64], dtype: DTypeLike | None = None) -> NDArray[Any]:
        """Rows by their numbers, which must be there, in memory: ``(n, ...)``, of the array's own dtype if None."""
        out = np.empty((len(positions), *self.shape[1:]), self.dtype if dtype is None else dtype)
        shards = np.searchsorted(self.starts, positions, side="right") - 1
        for shard in np.unique(shards).tolist():
            of_shard = shards == shard
            out[of_shard] = self.shard(shard)[positions[of_shard] - self.starts[shard]]
        return out

    def shard(self, index: int) -> NDArray[Any]:
        """The rows of one shard, memory-mapped and read-only."""
        if index not in self._mapped:
            self._mapped[index] = map_npy(self._files[index])
        return self._mapped[index]


class Store:
    """A store that was written before.

    Args:
        root: the directory; its shards must all be there.
        kind: what it must hold.
        verify: ``fast`` looks at the shape and type of every file; ``full`` reads all and compares recorded checksums.

    Attributes:
        root: the directory.
        manifest: what the numbers were made from.
        layout: its files.

    Raises:
        UserError: there is no such store, shards are missing, or one is damaged.
    """

    def __init__(self, root: str | Path, kind: StoreKind, verify: Verify = "fast") -> None:
        self.root = Path(root)
        if not (self.root / MANIFEST).is_file():
            why = f"no {kind.what} here ({MANIFEST} is missing)"
            raise UserError("root", root, why, f"`{kind.command}` writes some")
        with named(run="root"):
            if read_json(self.root / MANIFEST, Versioned)["format"] != FORMAT:
                raise UserError("root", root, f"{MANIFEST} is of another version", f"`{kind.command}` makes new ones")
            self.manifest: dict[str, Any] = read_json(self.root / MANIFEST, kind.schema)
        try:
            self.layout = kind.layout(self.root, self.manifest)
            if len(self.layout.shards) > MOST_SHARDS:
                raise KeyError("shard_size")
        except (KeyError, OverflowError) as error:
            raise UserError("root", root, f"{MANIFEST} was edited ({error})") from error
        if missing := self.layout.missing():
            why = f"{len(missing)} of {len(self.layout.shards)} shards are missing"
            raise UserError("root", root, why, "type the command that wrote the others again, which makes only these")
        for shard in self.layout.shards if verify == "full" and self.layout.recorded else ():
            for array in self.layout.arrays:
                path = self.layout.file(array, shard)
                if _crc32(path) != read_json(self.layout.record_file(shard), ShardRecord)["crc32"]:
                    why = f"{path.name} is damaged (its checksum differs)"
                    raise UserError("root", root, why, "delete it, and type the command that wrote it again")


class RowsFile:
    """An `.npy` file of a known shape that is filled from its first row to its last.

    Args:
        path: the file, which is made anew where nothing of it is filled.
        shape: of the whole array.
        dtype: of its numbers.
        filled: number of rows that are there; whatever follows them is written over.
    """

    def __init__(self, path: Path, shape: Shape, dtype: str, filled: int = 0) -> None:
        self.path, self.filled = path, filled
        self._shape, self._dtype = shape[1:], np.dtype(dtype)
        self._file = path.open("r+b" if filled else "wb")
        if filled:
            np.lib.format.read_magic(self._file)
            np.lib.format.read_array_header_1_0(self._file)
            self._file.seek(filled * math.prod(self._shape) * self._dtype.itemsize, os.SEEK_CUR)
        else:
            header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, rows: NDArray[Any]) -> None:
        """Add the next rows; ``ValueError`` where they are of another shape or type."""
        if rows.shape[1:] != self._shape or rows.dtype != self._dtype:
            raise ValueError(f"rows of {rows.dtype} {rows.shape[1:]}, not {self._dtype} {self._shape}")
        self._file.write(np.ascontiguousarray(rows).data)
        self.filled += len(rows)

    def crc32(self) -> int:
        """CRC-32 of the file as it is now."""
        self._file.flush()
        return _crc32(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class StoreWriter:
    """Fills a directory with shards, or goes on where an earlier call stopped.

    Args:
        out: the directory, which need not exist.
        kind: what it is to hold.
        manifest: everything that the numbers depend on; JSON-able.

    Raises:
        UserError: the directory holds something else, or nothing can be written there.
    """

    def __init__(self, out: Path, kind: StoreKind, manifest: Mapping[str, Any]) -> None:
        self.manifest: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **manifest}))
        self.layout = kind.layout(out, self.manifest)
        self._kind = kind
        kind.require_place(out)
        if (out / MANIFEST).is_file():
            with named(run="out"):
                before = read_json(out / MANIFEST, dict[str, Any])
            if before != self.manifest:
                why = f"holds other {kind.what} ({difference('', before, self.manifest)})"
                raise UserError("out", out, why, "use the flags it was made with, or another `out`")

    def require_room(self, shards: Sequence[int]) -> None:
        """Refuse to start on shards that the free room of the disk cannot hold."""
        if words := lacking(self.layout.root, self.layout.bytes_of(shards)):
            raise UserError("out", self.layout.root, words, self._kind.smaller)

    def begin(self) -> None:
        """Write the manifest, and delete what a killed call left half-written."""
        root = self.layout.root
        sweep(root)
        if not (root / MANIFEST).exists():
            write_json(root / MANIFEST, self.manifest)

    @contextmanager
    def begun_together(self, words: str) -> Iterator[list[int]]:
        """Begin in all processes of a group at once, on a disk that all of them see; the only ones that write there.

        Args:
            words: what the store is of, for the line that the first process prints.

        Yields:
            The missing shards that this process is to write. All processes have written theirs when the block ends.

        Raises:
            UserError: the disk is too small, another command is writing the store, or it was removed in the meantime.
        """
        from memlight import dist  # which imports torch

        root, every = self.layout.root, self.layout.shards
        with ExitStack() as held:
            lock = WriterLock(root / LOCK, root, argument="out")
            dist.on_first(partial(held.enter_context, lock), UserError)
            missing = self.layout.missing()
            self.require_room(missing)
            dist.barrier()  # nobody writes before everybody has looked
            if dist.rank() == 0:
                there = len(every) - len(missing)
                resumed = f", {there} of {len(every)} shards are there" if there else ""
                print(f"{root}: {words}, {readable(self.layout.bytes_of(every))}{resumed}", flush=True)
                self.begin()
                held.enter_context(lock.while_in_place())
            dist.barrier()
            yield missing[dist.rank() :: dist.world_size()]
            dist.barrier()

    @contextmanager
    def shard(self, index: int, skipped: Sequence[str] = ()) -> Iterator[dict[str, RowsFile]]:
        """Open the files of one shard, by array; they take their names, synced, when the block succeeds.

        Args:
            index: number of the shard.
            skipped: names of its images that have no rows, for the record.

        Raises:
            UserError: the disk is full, or something else keeps it from being written.
            ValueError: an array was not given as many rows as the shard has.
        """
        layout = self.layout
        rows = (len(layout.images_of(index)) - len(skipped)) * layout.patches
        with writing("out", layout.root, "shards before are whole"):
            with ExitStack() as stack:
                files = {}
                for name, (shape, dtype) in layout.arrays.items():
                    path = stack.enter_context(atomic_write(layout.file(name, index)))
                    files[name] = stack.enter_context(RowsFile(path, (rows, *shape), dtype))
                yield files
                for name, file in files.items():
                    if file.filled != rows:
                        raise ValueError(f"shard {index}: {file.filled} of {rows} rows of {name}*.npy")
                record = {"rows": rows, "crc32": file.crc32() if layout.recorded else 0, "skipped": list(skipped)}
            if layout.recorded:
                write_json(layout.record_file(index), record)


def _holds(path: Path, shape: Shape, dtype: str) -> bool:
    """Whether a file is a whole array of this kind; a file that was cut short cannot be mapped."""
    try:
        array = map_npy(path)
    except DAMAGED:
        return False
    return bool(array.shape == shape and array.dtype == np.dtype(dtype))


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc
