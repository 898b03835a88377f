"""What is done of a long UnitMem study, kept on disk: a call after a kill goes on from there.

    DIR/SPLIT-RANK.safetensors   sums, strongest images and ids of the images that one process has seen
    DIR/SPLIT-RANK.npy           their mu, float32 (images of the process, U), where the median is asked for

The first appears whole or not at all; rows of the second that the first does not know of are measured again.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from memlight import dist
from memlight.analyses.unitmem.mu_table import MuTable
from memlight.errors import UserError
from memlight.metrics.unitmem import UnitMemPass
from memlight.storage.shards_writer import difference, readable, write_header
from memlight.storage.tables import atomic_write, sync

SAVE_SECONDS = 30.0
"""So much work may be lost; a study that takes less leaves nothing behind."""

PENDING_BYTES = 1 << 24
"""Rows of the table that may wait in memory."""

FORMAT = 1


class UnitMemProgress:
    """The passes of one study.

    Args:
        directory: where; need not exist.
        made_from: everything that decides the numbers, JSON-able.

    Raises:
        UserError: what is there is of other settings.
    """

    def __init__(self, directory: Path, made_from: Mapping[str, Any]) -> None:
        self.directory = directory
        here = {"format": FORMAT, "processes": dist.world_size(), **made_from}
        self.made_from: dict[str, Any] = json.loads(json.dumps(here))
        for state in sorted(directory.glob("*.safetensors")):
            there = json.loads(_header(state)["made_from"])
            if (found := difference(there, self.made_from)) is not None:
                raise UserError(
                    f"--run: {directory} holds what an interrupted call has measured otherwise ({found}). Repeat its "
                    "flags to go on, keep it apart with another --tag, or delete that directory."
                )

    def of(self, name: str, images: int, *, table: bool) -> "PassProgress":
        """The pass called ``name``.

        Args:
            name: tells the passes of a study apart.
            images: how many this process sees.
            table: also keep mu of every image.
        """
        return PassProgress(self.directory / f"{name}-{dist.rank()}", images, self.made_from, table)

    def table(self, name: str) -> MuTable:
        """Mu of all images of a finished pass, those of all processes.

        Raises:
            UserError: a process does not see what another has written.
        """
        dist.barrier()
        parts = [self.directory / f"{name}-{rank}.npy" for rank in range(dist.world_size())]
        if not all(part.is_file() for part in parts):
            raise UserError(f"--run: {self.directory} is not on a disk that all processes share; choose one that is.")
        return MuTable(parts)

    def clear(self) -> None:
        """Delete everything, when all processes are done with it."""
        dist.barrier()
        if dist.rank() == 0:
            shutil.rmtree(self.directory, ignore_errors=True)


class PassProgress:
    """One pass of one process: the `memlight.metrics.unitmem.PassKeeper` of `measure_unitmem`.

    Args:
        stem: of its files.
        images: how many this process sees.
        made_from: see `UnitMemProgress`.
        table: also keep mu of every image.

    Attributes:
        done: how many of them are done.
    """

    def __init__(self, stem: Path, images: int, made_from: Mapping[str, Any], table: bool) -> None:
        self._state, self._rows = stem.with_name(f"{stem.name}.safetensors"), stem.with_name(f"{stem.name}.npy")
        self._images, self._made_from, self._table = images, made_from, table
        self._pending: list[NDArray[np.float32]] = []
        self._saved = time.monotonic()
        self.done = int(_header(self._state)["done"]) if self._state.is_file() else 0

    def load(self) -> UnitMemPass | None:
        """The sums as they were saved last; None where nothing was."""
        if not self.done:
            return None
        header = _header(self._state)
        running = UnitMemPass(json.loads(header["units"]), **json.loads(header["options"]))
        with safe_open(self._state, framework="pt") as file:
            ids = file.get_tensor("ids")
            for number, metric in enumerate(running.metrics):
                metric.restore(file.get_tensor(f"{number}.top"), file.get_tensor(f"{number}.total"), ids)
        return running

    def add(self, running: UnitMemPass, mu_BU: Tensor) -> None:
        """Note the next images; every `SAVE_SECONDS` what is done reaches the disk.

        Raises:
            UserError: the disk is full, or something else keeps it from being written.
        """
        with self._writing():
            if self._table:
                if self.done == 0:
                    self._begin(mu_BU.shape[1])
                self._pending.append(mu_BU.float().cpu().numpy())
            self.done += len(mu_BU)
            if sum(rows.nbytes for rows in self._pending) >= PENDING_BYTES:
                self._write()
            if time.monotonic() - self._saved >= SAVE_SECONDS:
                self._save(running)

    def finish(self, running: UnitMemPass) -> None:
        """Complete the table; whoever is killed later need not see the images again.

        Raises:
            UserError: as `add`.
        """
        if self._table or self._state.is_file():
            with self._writing():
                self._save(running)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise UserError(f"--run: {self._state.parent} cannot be written ({error}); what is saved stays.") from error

    def _begin(self, units: int) -> None:
        """An empty table, where there is room for a full one."""
        self._rows.parent.mkdir(parents=True, exist_ok=True)
        needed, room = 4 * units * self._images, shutil.disk_usage(self._rows.parent).free
        if needed > room:
            raise UserError(
                f"--reference median: {readable(needed)} are needed in {self._rows.parent}, {readable(room)} are free; "
                "use --reference mean, or a --run on another disk."
            )
        with self._rows.open("wb") as file:
            write_header(file, (self._images, units), "float32")

    def _write(self) -> None:
        """Pending rows to their place; those of an earlier call that no save knew of are written over."""
        if not self._pending:
            return
        rows = np.concatenate(self._pending)
        with self._rows.open("r+b") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            file.seek(rows[0].nbytes * (self.done - len(rows)), os.SEEK_CUR)
            file.write(rows.data)
        self._pending = []

    def _save(self, running: UnitMemPass) -> None:
        if self._table:
            self._write()
            sync(self._rows)
        tensors = {"ids": running.metrics[0].rows("ids")}
        for number, metric in enumerate(running.metrics):
            tensors |= {f"{number}.top": metric.top, f"{number}.total": metric.total}
        header = {
            "made_from": json.dumps(self._made_from),
            "done": str(self.done),
            "units": json.dumps(running.units),
            "options": json.dumps({"num_views": running.num_views, "topk": running.topk}),
        }
        with atomic_write(self._state) as temporary:
            temporary.write_bytes(save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, header))
        self._saved = time.monotonic()


def _header(state: Path) -> dict[str, str]:
    with safe_open(state, framework="pt") as file:
        header: dict[str, str] = file.metadata()
    return header
