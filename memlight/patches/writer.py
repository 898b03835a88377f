"""Filling a store of patches: shards appear whole or not at all, and what is there is not made again."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memlight.errors import UserError
from memlight.patches.store import FORMAT, IMAGES, INDEX, MANIFEST, Dtype, Layout, file_crc32
from memlight.storage.shards_writer import difference, require_free, writable_place
from memlight.storage.tables import atomic_write, read_json, write_json, write_text

Made = Mapping[str, Any]


class StoreWriter:
    """Fills a directory with shards, or goes on where an earlier call stopped.

    Args:
        root: the directory, which need not exist.
        extraction: how patches are embedded; JSON-able, as the two that follow. Two stores can be compared where it is
            equal.
        data: which images.
        made_with: software and machine.
        images: where the images lie.
        names: of the images' files, in the order of their ids.
        grid: patches on a side.
        dim: numbers of a patch.
        dtype: of the numbers on the disk.
        shard_size: images in a shard.

    Raises:
        UserError: the directory holds something else.
    """

    def __init__(
        self,
        root: Path,
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
        self.layout = Layout(root, len(names), shard_size, grid**2, dim, dtype)
        self.images = {"images": images, "names": list(names)}
        files = {"grid": grid, "dim": dim, "dtype": dtype, "images": len(names), "shard_size": shard_size}
        made_from = {"extraction": extraction, "data": data, "made_with": made_with}
        self.manifest: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **files, **made_from}))
        require_place(root)
        if (root / MANIFEST).is_file():
            found = difference(read_json(root / MANIFEST), self.manifest)
            if found is not None:
                raise UserError(
                    f"--out {root}: holds other patches ({found}); use the flags it was made with, or another --out"
                )

    def missing(self) -> list[int]:
        """Shards that are still to be written."""
        return self.layout.missing() if self.layout.root.is_dir() else list(range(self.layout.shards))

    def require_room(self, shards: Sequence[int]) -> None:
        """Refuse to start on what the disk cannot hold.

        Raises:
            UserError: it has less free room than these shards take.
        """
        way_out = "use a smaller --grid, --dtype float16 or another disk"
        require_free(self.layout.root, self.bytes_of(shards), way_out)

    def bytes_of(self, shards: Sequence[int]) -> int:
        """What shards take on the disk."""
        layout = self.layout
        of_image = layout.patches * layout.dim * np.dtype(layout.dtype).itemsize
        return of_image * sum(len(layout.listed(shard)) for shard in shards)

    def begin(self) -> None:
        """Write what the store is of, and delete what a killed call left half-written."""
        root = self.layout.root
        for leftover in [*root.glob(".*.npy"), *root.glob(".*.json"), *root.glob(".*.npz")]:
            leftover.unlink()
        write_text(root / IMAGES, json.dumps(self.images))
        if not (root / MANIFEST).exists():
            write_json(root / MANIFEST, self.manifest)

    def write(self, shard: int, rows: NDArray[Any], skipped: Sequence[str] = ()) -> None:
        """Write one shard, synced.

        Args:
            shard: which.
            rows: ``(rows, dim)`` of its images in their order, without the skipped ones.
            skipped: names of its images that are broken.

        Raises:
            UserError: the disk is full, or something else keeps it from being written.
            ValueError: they are not the rows of the shard.
        """
        layout = self.layout
        expected = ((len(layout.listed(shard)) - len(skipped)) * layout.patches, layout.dim)
        if rows.shape != expected or rows.dtype != np.dtype(layout.dtype):
            raise ValueError(f"shard {shard}: {rows.dtype} {rows.shape}, not {layout.dtype} {expected}")
        try:
            with atomic_write(layout.array(shard)) as temporary:
                np.save(temporary, rows)
                crc = file_crc32(temporary)
            record = {"rows": len(rows), "crc32": crc, "skipped": list(skipped)}
            write_json(layout.record(shard), record)
        except OSError as error:
            raise UserError(f"--out {layout.root}: cannot be written ({error}); shards before are whole") from error


def require_place(root: Path) -> None:
    """Refuse a place where no store can be written, before anything is written there.

    Raises:
        UserError: it is a file, holds something else, or there is no permission.
    """
    writable_place(root)
    if root.is_dir() and not (root / MANIFEST).is_file():
        own = {INDEX, IMAGES}
        if any(path.name not in own and not path.name.startswith(".") for path in root.iterdir()):
            raise UserError(f"--out {root}: holds something else; name a new directory")
